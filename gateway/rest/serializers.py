"""What the REST endpoints take and give. Amounts are exact decimals, as strings."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.utils.dateparse import parse_date, parse_datetime
from rest_framework import serializers

from billing.models import UsageRecord, UsageStatus
from billing.tokens import TOKEN_CLASSES
from billing.usage_queries import UsageGroup, UsageSelection
from common.errors import InvalidRequest
from common.money import format_usd
from keys.limit_rows import LimitStatus

_DEFAULT_RANGE = timedelta(days=30)
_MOST_RECORDS = 1_000


class PricingSerializer(serializers.Serializer[Any]):
    currency = serializers.CharField()
    unit = serializers.CharField()
    input = serializers.CharField()
    output = serializers.CharField()
    cache_read = serializers.CharField()
    cache_write = serializers.CharField()


class ModelSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    created = serializers.IntegerField()
    owned_by = serializers.CharField()
    description = serializers.CharField()
    context_window = serializers.IntegerField()
    max_output_tokens = serializers.IntegerField()
    pricing = PricingSerializer()


class ModelListSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = ModelSerializer(many=True)


class UsageTokensSerializer(serializers.Serializer[Any]):
    input = serializers.IntegerField()
    cache_read = serializers.IntegerField()
    cache_write = serializers.IntegerField()
    output = serializers.IntegerField()
    reasoning = serializers.IntegerField()
    audio_input = serializers.IntegerField()
    audio_output = serializers.IntegerField()


class UsageTimingSerializer(serializers.Serializer[Any]):
    first_token = serializers.IntegerField(allow_null=True)
    upstream = serializers.IntegerField()
    total = serializers.IntegerField()


class UsageSerializer(serializers.Serializer[Any]):
    request_id = serializers.CharField()
    started_at = serializers.DateTimeField()
    operation = serializers.CharField()
    model = serializers.CharField()
    api_key = serializers.CharField()
    status = serializers.CharField()
    error_code = serializers.CharField()
    finish_reason = serializers.CharField()
    source = serializers.CharField()
    stream = serializers.BooleanField()
    tokens = UsageTokensSerializer()
    cost_usd = serializers.CharField()
    charged_usd = serializers.CharField()
    flags = serializers.ListField(child=serializers.CharField())
    end_user = serializers.CharField()
    tags = serializers.DictField()
    timing_ms = UsageTimingSerializer()


class UsagePageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = UsageSerializer(many=True)
    has_more = serializers.BooleanField()
    next = serializers.IntegerField(allow_null=True)


class LimitSerializer(serializers.Serializer[Any]):
    limit_name = serializers.CharField()
    owner = serializers.CharField()
    set_by = serializers.CharField()
    limit = serializers.CharField()
    used = serializers.CharField()
    remaining = serializers.CharField()


class BalanceSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    currency = serializers.CharField()
    posted = serializers.CharField()
    held = serializers.CharField()
    available = serializers.CharField()
    limits = LimitSerializer(many=True)


class UsageFilter(serializers.Serializer[Any]):
    """The query of GET /v1/usage; `from` and `to` are ISO dates or date-times, half-open, UTC unless they say so."""

    model = serializers.CharField(required=False)
    api_key = serializers.CharField(required=False, help_text="A key's public id, key_...")
    status = serializers.ChoiceField(required=False, choices=UsageStatus.choices)
    group_by = serializers.ChoiceField(required=False, choices=[g.value for g in UsageGroup], default="none")
    limit = serializers.IntegerField(required=False, min_value=1, max_value=_MOST_RECORDS, default=100)
    before = serializers.IntegerField(required=False, min_value=1, help_text="`next` of the page before.")

    @classmethod
    def read(cls, query: Any) -> UsageSelection:
        """Return the selection of a query. Raises InvalidRequest with the parameter's name for a bad or unknown one."""
        known = {*cls().fields, "from", "to"}
        for name in query:
            if name not in known:
                raise InvalidRequest(f"Unknown parameter '{name}'. Known: {', '.join(sorted(known))}.", param=name)
        fields = cls(data={name: query[name] for name in query if name not in ("from", "to")})
        fields.is_valid(raise_exception=True)
        values = fields.validated_data
        end = _moment(query.get("to"), "to") or datetime.now(UTC) + timedelta(seconds=1)
        start = _moment(query.get("from"), "from") or end - _DEFAULT_RANGE
        if start >= end:
            raise InvalidRequest("'from' must lie before 'to'.", param="from")
        return UsageSelection(
            start=start,
            end=end,
            model=values.get("model"),
            api_key=values.get("api_key"),
            status=values.get("status"),
            group_by=UsageGroup(values["group_by"]),
            limit=values["limit"],
            before=values.get("before"),
        )


def present_usage(record: UsageRecord) -> dict[str, Any]:
    """Return a usage record as its customer sees it: without upstream, provider cost or our margins."""
    return {
        "request_id": record.request_id,
        "started_at": record.started_at,
        "operation": record.operation,
        "model": record.model,
        "api_key": record.api_key.public_id,
        "status": record.status,
        "error_code": record.error_code,
        "finish_reason": record.finish_reason,
        "source": record.source,
        "stream": record.is_stream,
        "tokens": {name: getattr(record, f"{name}_tokens") for name in TOKEN_CLASSES},
        "cost_usd": format_usd(record.cost_nanousd),
        "charged_usd": format_usd(record.charged_nanousd),
        "flags": [flag for flag in record.flags.split(",") if flag],
        "end_user": record.end_user,
        "tags": record.tags,
        "timing_ms": {"first_token": record.ttft_ms, "upstream": record.upstream_ms, "total": record.total_ms},
    }


def present_limits(statuses: list[LimitStatus]) -> list[dict[str, Any]]:
    """Return limits with what is used of them; money in USD."""

    def shown(status: LimitStatus, value: int) -> str:
        return format_usd(value) if status.is_money else str(value)

    return [
        {
            "limit_name": status.kind.value,
            "owner": status.owner,
            "set_by": status.source,
            "limit": shown(status, status.limit),
            "used": shown(status, status.used),
            "remaining": shown(status, max(0, status.limit - status.used)),
        }
        for status in statuses
    ]


def _moment(text: str | None, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = parse_datetime(text)
        if moment is None:
            date = parse_date(text)
            moment = datetime.combine(date, time(), UTC) if date else None
    except ValueError:
        moment = None
    if moment is None:
        raise InvalidRequest(f"'{name}' must be an ISO date or date-time, e.g. 2026-11-21.", param=name)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
