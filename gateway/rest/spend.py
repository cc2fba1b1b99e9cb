"""GET /v1/spend: what was spent on what, over time."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.errors import SpendInvalid
from billing.spend import SpendGroup, SpendInterval, SpendQuestion, SpendRow, parse_group, read_spend
from common.errors import InvalidRequest
from common.money import format_usd
from gateway.errors import ParameterUnknown
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from gateway.rest.serializers import RANGE_PARAMETERS, read_range
from keys.scopes import Scope


class SpendFilter(serializers.Serializer[Any]):
    """The query of GET /v1/spend; `from` and `to` are read apart, because `from` cannot be an attribute's name."""

    group_by = serializers.CharField(
        required=False, default="none", help_text="none, key, model, end_user, or tag:<name> for the values of a tag."
    )
    interval = serializers.ChoiceField(required=False, choices=[i.value for i in SpendInterval], default="day")
    model = serializers.CharField(required=False)
    api_key = serializers.CharField(required=False, help_text="A key's public id, key_...")


class SpendRowSerializer(serializers.Serializer[Any]):
    start = serializers.DateTimeField(allow_null=True, help_text="First moment of the interval; null for `none`.")
    group = serializers.CharField(help_text="Model, key id, end user or tag's value; empty where a call has none.")
    label = serializers.CharField(help_text="The key's name, else the group itself.")  # type: ignore[assignment]
    calls = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    charged_usd = serializers.CharField()


class SpendTotalSerializer(serializers.Serializer[Any]):
    calls = serializers.IntegerField()
    charged_usd = serializers.CharField()


class SpendSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    currency = serializers.CharField()
    group_by = serializers.CharField()
    interval = serializers.CharField()
    data = SpendRowSerializer(many=True)  # type: ignore[assignment]
    total = SpendTotalSerializer()


class SpendView(CustomerView):
    required_scope = Scope.USAGE_READ
    errors = (InvalidRequest, ParameterUnknown, SpendInvalid)

    @extend_schema(
        operation_id="list_spend",
        summary="The customer's spend over time, by what it was for",
        tags=["billing"],
        parameters=[SpendFilter, *RANGE_PARAMETERS],
        responses=SpendSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return calls, tokens and exact spend for each interval and group, dearest group first."""
        fields, question = read_question(request)
        rows = read_spend(question)
        return Response(
            {
                "object": "spend",
                "currency": "USD",
                "group_by": fields["group_by"],
                "interval": question.interval.value,
                "data": [_present(row) for row in rows],
                "total": {
                    "calls": sum(row.calls for row in rows),
                    "charged_usd": format_usd(sum(row.charged_nanousd for row in rows)),
                },
            }
        )


def read_question(request: Request) -> tuple[dict[str, Any], SpendQuestion]:
    """Return the query's fields, and the question about the caller's own customer.

    Raises InvalidRequest, ParameterUnknown or SpendInvalid with the parameter's name.
    """
    query = request.query_params
    unknown = [name[:100] for name in query if name not in {*SpendFilter().fields, "from", "to"}]
    if unknown:
        raise ParameterUnknown(names=unknown[:10])
    found = SpendFilter(data={name: query[name] for name in query if name not in ("from", "to")})
    found.is_valid(raise_exception=True)
    fields = found.validated_data
    group, tag = parse_group(fields["group_by"])
    if group is SpendGroup.CUSTOMER:
        raise SpendInvalid(
            "A key sees one customer only; there are key, model, end_user and tag:<name>.", param="group_by"
        )
    start, end = read_range(query)
    return fields, SpendQuestion(
        start=start,
        end=end,
        customer_id=principal_of(request).customer_id,
        interval=SpendInterval(fields["interval"]),
        group=group,
        tag=tag,
        model=fields.get("model"),
        api_key=fields.get("api_key"),
    )


def _present(row: SpendRow) -> dict[str, Any]:
    return {
        "start": row.start,
        "group": row.group,
        "label": row.label,
        "calls": row.calls,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "charged_usd": format_usd(row.charged_nanousd),
    }
