"""GET /v1/limits: what applies to this key's calls, where it comes from, and how full it is now."""

from datetime import datetime
from typing import Any

from django.db import connection
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from common.clock import SYSTEM_CLOCK, from_us
from common.money import format_usd
from common.sql import Sql
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from keys.limit_rows import LimitStatus, read_limits
from keys.limit_values import EndpointClass, LimitKind
from keys.scopes import Scope

_UNITS = {
    LimitKind.REQUESTS: "requests per minute",
    LimitKind.INPUT_TOKENS: "tokens per minute",
    LimitKind.OUTPUT_TOKENS: "tokens per minute",
    LimitKind.CONCURRENCY: "calls in flight",
    LimitKind.INPUT_SIZE: "tokens of one call",
    LimitKind.SPEND_DAY: "USD per UTC day",
    LimitKind.SPEND_MONTH: "USD per UTC month",
    LimitKind.SPEND_TOTAL: "USD in all",
}


class LimitInForceSerializer(serializers.Serializer[Any]):
    """One limit; a call has to fit into all of them. Numbers are exact decimals, as strings."""

    limit_name = serializers.ChoiceField(choices=[kind.value for kind in LimitKind])
    endpoint_class = serializers.ChoiceField(
        choices=[c.value for c in EndpointClass], allow_null=True, help_text="Null: over all classes together."
    )
    owner = serializers.ChoiceField(
        choices=["customer", "key", "maker"],
        help_text="Whose calls are counted together: all keys of the customer; the key with its successors; or a key "
        "that made this one, with all that it made.",
    )
    owner_key = serializers.CharField(allow_null=True, help_text="The first characters of that key, or of the maker.")
    set_by = serializers.ChoiceField(choices=["plan", "customer", "key", "maker"])
    unit = serializers.CharField()
    limit = serializers.CharField()
    used = serializers.CharField(help_text="Calls in flight are counted by what they may use at most.")
    remaining = serializers.CharField()
    at_once = serializers.CharField(help_text="What may be used at once after a pause: the burst.")
    resets_in_seconds = serializers.IntegerField(
        allow_null=True, help_text="Until a rate is full again, or a budget's window ends. Null: not by itself."
    )
    raised_until = serializers.DateTimeField(allow_null=True, help_text="The limit is higher until then.")


class LimitListSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    plan = serializers.CharField(help_text="The name of the customer's plan in declarations.")
    data = LimitInForceSerializer(many=True)  # type: ignore[assignment]


class LimitListView(CustomerView):
    required_scope = Scope.USAGE_READ

    @extend_schema(
        operation_id="list_limits",
        summary="The limits in force for this key",
        tags=["limits"],
        responses=LimitListSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return every limit that applies to this key's calls, who set it, and what is used of it now."""
        principal = principal_of(request)
        found = read_limits(Sql(connection), principal, SYSTEM_CLOCK.now_us())
        return Response({"object": "list", "plan": principal.plan_slug, "data": [_present(limit) for limit in found]})


def _present(status: LimitStatus) -> dict[str, str | int | datetime | None]:
    def shown(value: int) -> str:
        return format_usd(value) if status.is_money else str(value)

    return {
        "limit_name": status.kind.value,
        "endpoint_class": status.endpoint_class.value if status.endpoint_class else None,
        "owner": status.owner,
        "owner_key": status.owner_key or None,
        "set_by": status.source,
        "unit": _UNITS[status.kind],
        "limit": shown(status.limit),
        "used": shown(status.used),
        "remaining": shown(status.remaining),
        "at_once": shown(status.at_once),
        "resets_in_seconds": status.resets_in_seconds,
        "raised_until": None if status.raised_until_us is None else from_us(status.raised_until_us),
    }
