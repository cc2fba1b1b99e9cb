"""GET /v1/models, /v1/usage, /v1/balance."""

from typing import Any

from django.db import connection
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from billing.funds import read_funds
from billing.usage_queries import UsageGroup, find_usage, group_usage, list_usage
from common.clock import SYSTEM_CLOCK
from common.errors import InvalidRequest, NotFound
from common.sql import Sql
from gateway.catalogue import read_catalogue
from gateway.errors import ModelNotFound, ParameterUnknown
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from gateway.rest.serializers import (
    USAGE_PARAMETERS,
    BalanceSerializer,
    ModelListSerializer,
    ModelSerializer,
    UsageFilter,
    UsagePageSerializer,
    UsageSerializer,
    present_balance,
    present_model,
    present_usage,
)
from gateway.versions import Document
from keys.limit_rows import read_limits
from keys.principals import Principal
from keys.scopes import Scope


class ModelListView(CustomerView):
    required_scope = Scope.MODELS_READ

    @extend_schema(
        operation_id="list_models",
        summary="List the models this key may call",
        tags=["models"],
        responses=ModelListSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return the models that this key may call now, in OpenAI's shape, with context window and prices."""
        return Response({"object": "list", "data": list(_callable_models(principal_of(request)).values())})


class ModelView(CustomerView):
    required_scope = Scope.MODELS_READ
    errors = (ModelNotFound,)

    @extend_schema(operation_id="get_model", summary="Get one model", tags=["models"], responses=ModelSerializer)
    def get(self, request: Request, name: str) -> Response:
        """Return one model that this key may call; 404 for any other."""
        model = _callable_models(principal_of(request)).get(name)
        if model is None:
            raise ModelNotFound(model=name[:100])
        return Response(model)


class UsageListView(CustomerView):
    required_scope = Scope.USAGE_READ
    errors = (InvalidRequest, ParameterUnknown)

    @extend_schema(
        operation_id="list_usage",
        summary="The customer's usage: call by call, or summed",
        tags=["usage"],
        parameters=USAGE_PARAMETERS,
        responses=UsagePageSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return usage records, newest first, a page at a time; or sums by day, model or key."""
        filters = UsageFilter.read(request.query_params)
        customer_id = principal_of(request).customer_id
        if filters.group_by is not UsageGroup.NONE:
            sums = [self.translate(Document.USAGE_SUM, row) for row in group_usage(customer_id, filters)]
            return Response({"object": "list", "data": sums, "has_more": False, "next": None})
        page = list_usage(customer_id, filters)
        return Response(
            {
                "object": "list",
                "data": [present_usage(record) for record in page.records],
                "has_more": page.next_before is not None,
                "next": page.next_before,
            }
        )


class UsageRecordView(CustomerView):
    required_scope = Scope.USAGE_READ
    errors = (NotFound,)

    @extend_schema(operation_id="get_usage", summary="One call's usage", tags=["usage"], responses=UsageSerializer)
    def get(self, request: Request, request_id: str) -> Response:
        """Return the usage of one call of this customer; 404 for anybody else's."""
        return Response(present_usage(find_usage(principal_of(request).customer_id, request_id)))


class BalanceView(CustomerView):
    required_scope = Scope.BILLING_READ

    @extend_schema(
        operation_id="get_balance", summary="Balance and limits", tags=["billing"], responses=BalanceSerializer
    )
    def get(self, request: Request) -> Response:
        """Return the customer's money and the limits in force, with what is used of them now."""
        principal = principal_of(request)
        limits = read_limits(Sql(connection), principal, SYSTEM_CLOCK.now_us())
        return Response(present_balance(read_funds(principal.customer_id), limits))


def _callable_models(principal: Principal) -> dict[str, dict[str, Any]]:
    """Return what a call with this key could name, by name.

    Read without a transaction: on SQLite each one takes the write lock that admission waits for, on PostgreSQL
    it would not make the statements see one moment either. A model whose price is not seen yet is left out.
    """
    catalogue = read_catalogue(Sql(connection))
    now_us = SYSTEM_CLOCK.now_us()
    found = {}
    for model in catalogue.models.values():
        price = catalogue.prices.find_price(
            model.name, now_us, customer_id=principal.customer_id, plan_id=principal.plan_id
        )
        if price is not None and principal.may_use_model(model.name) and model.deployments_for(principal.environment):
            found[model.name] = present_model(model, price)
    return found
