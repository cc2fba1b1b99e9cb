"""GET /v1/models, /v1/usage, /v1/balance."""

from typing import Any

from django.db import connection, transaction
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.accounts import get_balance
from billing.usage_queries import UsageGroup, find_usage, group_usage, list_usage
from common.clock import SYSTEM_CLOCK
from common.ids import make_id
from common.money import format_usd
from common.sql import Sql
from gateway.catalogue import Catalogue, ModelEntry, read_catalogue
from gateway.errors import ModelNotFound
from gateway.rest.authentication import principal_of
from gateway.rest.errors import render_exception
from gateway.rest.serializers import (
    BalanceSerializer,
    ModelListSerializer,
    ModelSerializer,
    UsageFilter,
    UsagePageSerializer,
    UsageSerializer,
    present_limits,
    present_usage,
)
from keys.limit_rows import read_limits
from keys.principals import Principal
from keys.scopes import Scope


class CustomerView(APIView):
    """Base of the customer's endpoints: every answer carries a request id."""

    required_scope: Scope

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the request id to answers that are not errors (errors have theirs)."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers.setdefault("x-request-id", make_id("req"))
        response.headers.setdefault("cache-control", "no-store")
        return response

    def get_exception_handler(self) -> Any:
        """Return the renderer of the one error shape."""
        return render_exception


class ModelListView(CustomerView):
    required_scope = Scope.MODELS_READ

    @extend_schema(
        operation_id="list_models", summary="List the models this key may call", responses=ModelListSerializer
    )
    def get(self, request: Request) -> Response:
        """Return the models that this key may call now, in OpenAI's shape, with context window and prices."""
        catalogue = _read_catalogue()
        principal = principal_of(request)
        now_us = SYSTEM_CLOCK.now_us()
        callable_models = [m for m in catalogue.models.values() if _may_call(m, principal, catalogue, now_us)]
        data = [_present_model(model, catalogue, now_us) for model in callable_models]
        return Response({"object": "list", "data": data})


class ModelView(CustomerView):
    required_scope = Scope.MODELS_READ

    @extend_schema(operation_id="get_model", summary="Get one model", responses=ModelSerializer)
    def get(self, request: Request, name: str) -> Response:
        """Return one model that this key may call; 404 for any other."""
        catalogue = _read_catalogue()
        now_us = SYSTEM_CLOCK.now_us()
        model = catalogue.models.get(name)
        if model is None or not _may_call(model, principal_of(request), catalogue, now_us):
            raise ModelNotFound(model=name[:100])
        return Response(_present_model(model, catalogue, now_us))


class UsageListView(CustomerView):
    required_scope = Scope.USAGE_READ

    @extend_schema(
        operation_id="list_usage",
        summary="The customer's usage: call by call, or summed",
        parameters=[
            UsageFilter,
            OpenApiParameter("from", str, description="Default: 30 days ago."),
            OpenApiParameter("to", str),
        ],
        responses=UsagePageSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return usage records, newest first, a page at a time; or sums by day, model or key."""
        filters = UsageFilter.read(request.query_params)
        customer_id = principal_of(request).customer_id
        if filters.group_by is not UsageGroup.NONE:
            return Response(
                {"object": "list", "data": group_usage(customer_id, filters), "has_more": False, "next": None}
            )
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

    @extend_schema(operation_id="get_usage", summary="One call's usage", responses=UsageSerializer)
    def get(self, request: Request, request_id: str) -> Response:
        """Return the usage of one call of this customer; 404 for anybody else's."""
        return Response(present_usage(find_usage(principal_of(request).customer_id, request_id)))


class BalanceView(CustomerView):
    required_scope = Scope.BILLING_READ

    @extend_schema(operation_id="get_balance", summary="Balance and limits", responses=BalanceSerializer)
    def get(self, request: Request) -> Response:
        """Return the customer's money and the limits in force, with what is used of them now."""
        principal = principal_of(request)
        balance = get_balance(principal.customer_id)
        now_us = SYSTEM_CLOCK.now_us()
        states = read_limits(Sql(connection), principal, now_us)
        return Response(
            {
                "object": "balance",
                "currency": "USD",
                "posted": format_usd(balance.posted_nanousd),
                "held": format_usd(balance.held_nanousd),
                "available": format_usd(balance.available_nanousd),
                "limits": present_limits(states),
            }
        )


def _read_catalogue() -> Catalogue:
    # One transaction: models and prices of the same moment.
    with transaction.atomic():
        return read_catalogue(Sql(connection))


def _may_call(model: ModelEntry, principal: Principal, catalogue: Catalogue, now_us: int) -> bool:
    return (
        bool(model.deployments)
        and principal.may_use_model(model.name)
        and catalogue.prices.find_price(model.name, now_us) is not None
    )


def _present_model(model: ModelEntry, catalogue: Catalogue, now_us: int) -> dict[str, Any]:
    price = catalogue.prices.find_price(model.name, now_us)
    assert price is not None
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_at,
        "owned_by": model.owned_by,
        "description": model.description,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "pricing": {
            "currency": "USD",
            "unit": "1M tokens",
            "input": format_usd(price.rates.input),
            "output": format_usd(price.rates.output),
            "cache_read": format_usd(price.rates.cache_read),
            "cache_write": format_usd(price.rates.cache_write),
        },
    }
