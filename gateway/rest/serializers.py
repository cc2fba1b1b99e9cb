"""What the REST endpoints take and give. Amounts are exact decimals, as strings."""

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema_field
from rest_framework import serializers

from billing.funds import Funds
from billing.models import CacheState, UsageRecord, UsageStatus
from billing.pricing import Price
from billing.tokens import TOKEN_CLASSES
from billing.usage_queries import UsageGroup, UsageSelection
from common.errors import InvalidRequest
from common.money import format_usd
from gateway.catalogue import ModelEntry
from gateway.errors import ParameterUnknown
from gateway.rest.pricing import PricingSerializer, present_pricing
from keys.limit_rows import LimitStatus

_DEFAULT_RANGE = timedelta(days=30)
_MOST_RECORDS = 1_000
_LARGEST_ID = 2**63 - 1
# A day away from what datetime can hold: any offset can be taken off without an overflow.
_FIRST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MOMENT = datetime(9999, 1, 1, tzinfo=UTC)


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
    data = ModelSerializer(many=True)  # type: ignore[assignment]


class UsageTokensSerializer(serializers.Serializer[Any]):
    input = serializers.IntegerField()
    cache_read = serializers.IntegerField()
    cache_write = serializers.IntegerField()
    output = serializers.IntegerField()
    reasoning = serializers.IntegerField()
    audio_input = serializers.IntegerField()
    audio_output = serializers.IntegerField()
    image_input = serializers.IntegerField()
    image_output = serializers.IntegerField()


class UsageTimingSerializer(serializers.Serializer[Any]):
    first_token = serializers.IntegerField(allow_null=True)
    upstream = serializers.IntegerField()
    total = serializers.IntegerField()


class UsagePromptSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    version = serializers.CharField(help_text="The version that answered.")
    label = serializers.CharField(allow_null=True, help_text="Null where the caller pinned a number.")  # type: ignore[assignment]


class UsageSerializer(serializers.Serializer[Any]):
    request_id = serializers.CharField()
    sequence = serializers.IntegerField(help_text="1 for an answer that arrived after its call was recorded as lost.")
    started_at = serializers.DateTimeField()
    operation = serializers.CharField()
    model = serializers.CharField()
    api_key = serializers.CharField()
    status = serializers.CharField()
    error_code = serializers.CharField()
    finish_reason = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    stream = serializers.BooleanField()
    tokens = UsageTokensSerializer()
    cost_usd = serializers.CharField()
    charged_usd = serializers.CharField()
    flags = serializers.ListField(child=serializers.CharField())
    end_user = serializers.CharField()
    tags = serializers.DictField()
    prompt = UsagePromptSerializer(allow_null=True, help_text="The prompt that the call ran; null: none.")
    cache = serializers.CharField(
        allow_null=True, help_text="hit, coalesced, miss or bypass; null: the response cache had no part in the call."
    )
    timing_ms = UsageTimingSerializer()


class UsageSumSerializer(serializers.Serializer[Any]):
    """A row of `group_by`: named by one of day, model and api_key."""

    day = serializers.DateField(required=False)
    model = serializers.CharField(required=False)
    api_key = serializers.CharField(required=False, help_text="A key's public id.")
    calls = serializers.IntegerField()
    input_tokens = serializers.IntegerField(help_text="Of all classes of input.")
    output_tokens = serializers.IntegerField(help_text="Of all classes of output.")
    charged_usd = serializers.CharField()


@extend_schema_field(
    PolymorphicProxySerializer(
        component_name="UsageRow",
        serializers=[UsageSerializer, UsageSumSerializer],
        resource_type_field_name=None,
        many=True,
    )
)
class UsageRowsField(serializers.ListField):
    pass


class UsagePageSerializer(serializers.Serializer[Any]):
    """Calls, a page at a time; with `group_by` the sums instead, all in one page."""

    object = serializers.CharField()
    data = UsageRowsField()  # type: ignore[assignment]
    has_more = serializers.BooleanField()
    next = serializers.IntegerField(allow_null=True, help_text="Give it as `before` to get what follows.")


class LimitSerializer(serializers.Serializer[Any]):
    limit_name = serializers.CharField()
    endpoint_class = serializers.CharField(allow_null=True, help_text="Null: over all classes together.")
    owner = serializers.CharField()
    set_by = serializers.CharField()
    limit = serializers.CharField()
    used = serializers.CharField()
    remaining = serializers.CharField()


class GrantLeftSerializer(serializers.Serializer[Any]):
    left = serializers.CharField()
    given = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)


class PlannedGrantSerializer(serializers.Serializer[Any]):
    amount = serializers.CharField()
    starts_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)


class BalanceSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    currency = serializers.CharField()
    posted = serializers.CharField(help_text="Received minus spent. Below zero: owed.")
    held = serializers.CharField(help_text="Reserved by calls in flight.")
    available = serializers.CharField(help_text="posted + credit_limit - held: what a new call may use.")
    prepaid = serializers.CharField(help_text="Paid in and not spent.")
    granted = serializers.CharField(help_text="Given and not spent; calls draw from it first.")
    owed = serializers.CharField(help_text="Spent beyond all money, and not invoiced yet.")
    receivable = serializers.CharField(help_text="On invoices that are not paid yet.")
    credit_limit = serializers.CharField(help_text="The most that may be owed.")
    grants = GrantLeftSerializer(many=True)
    planned_grants = PlannedGrantSerializer(many=True, help_text="Begin later; in no sum until then.")
    limits = LimitSerializer(many=True)


class UsageFilter(serializers.Serializer[Any]):
    """The query of GET /v1/usage; `from` and `to` are read apart, because `from` cannot be an attribute's name."""

    model = serializers.CharField(required=False)
    api_key = serializers.CharField(required=False, help_text="A key's public id, key_...")
    status = serializers.ChoiceField(required=False, choices=UsageStatus.choices)
    prompt = serializers.CharField(required=False, help_text="A prompt's name.")
    cache = serializers.ChoiceField(
        required=False, choices=CacheState.choices, help_text="What the response cache did for the call."
    )
    group_by = serializers.ChoiceField(required=False, choices=[g.value for g in UsageGroup], default="none")
    limit = serializers.IntegerField(required=False, min_value=1, max_value=_MOST_RECORDS, default=100)
    before = serializers.IntegerField(
        required=False, min_value=1, max_value=_LARGEST_ID, help_text="`next` of the page before."
    )

    @classmethod
    def read(cls, query: Any) -> UsageSelection:
        """Return the selection of a query. Raises InvalidRequest or ParameterUnknown with the parameter's name."""
        known = {*cls().fields, "from", "to"}
        unknown = [name[:100] for name in query if name not in known]
        if unknown:
            raise ParameterUnknown(names=unknown[:10])
        fields = cls(data={name: query[name] for name in query if name not in ("from", "to")})
        fields.is_valid(raise_exception=True)
        values = fields.validated_data
        start, end = read_range(query)
        return UsageSelection(
            start=start,
            end=end,
            model=values.get("model"),
            api_key=values.get("api_key"),
            status=values.get("status"),
            prompt=values.get("prompt"),
            cache=values.get("cache"),
            group_by=UsageGroup(values["group_by"]),
            limit=values["limit"],
            before=values.get("before"),
        )


def read_range(query: Any) -> tuple[datetime, datetime]:
    """Return the half-open range of a query's `from` and `to`; 30 days up to now by default. Raises InvalidRequest."""
    # A second more than now: a record of this very moment belongs to "until now".
    end = _moment(query.get("to"), "to") or datetime.now(UTC) + timedelta(seconds=1)
    start = _moment(query.get("from"), "from") or max(end - _DEFAULT_RANGE, _FIRST_MOMENT)
    if start >= end:
        raise InvalidRequest("'from' must lie before 'to'.", param="from" if "from" in query else "to")
    return start, end


RANGE_PARAMETERS = [
    OpenApiParameter(
        "from", str, description="First moment, an ISO date or date-time, UTC unless it says so. Default: 30 days ago."
    ),
    OpenApiParameter("to", str, description="First moment that is out of the range. Default: now."),
]
USAGE_PARAMETERS: list[OpenApiParameter | type[serializers.Serializer[Any]]] = [UsageFilter, *RANGE_PARAMETERS]


def present_model(model: ModelEntry, price: Price) -> dict[str, Any]:
    """Return a model in OpenAI's shape, with its sizes and what it costs a customer."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_at,
        "owned_by": model.owned_by,
        "description": model.description,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "pricing": present_pricing(price),
    }


def present_usage(record: UsageRecord) -> dict[str, Any]:
    """Return a usage record as its customer sees it: without upstream, provider cost or our margins."""
    return {
        "request_id": record.request_id,
        "sequence": record.sequence,
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
        "prompt": _present_prompt(record),
        "cache": record.cache or None,
        "timing_ms": {"first_token": record.ttft_ms, "upstream": record.upstream_ms, "total": record.total_ms},
    }


def _present_prompt(record: UsageRecord) -> dict[str, str | None] | None:
    if not record.prompt:
        return None
    return {"name": record.prompt, "version": record.prompt_version, "label": record.prompt_label or None}


def present_balance(funds: Funds, limits: Iterable[LimitStatus]) -> dict[str, Any]:
    """Return a customer's money and limits, exact."""
    return {
        "object": "balance",
        "currency": "USD",
        "posted": format_usd(funds.posted_nanousd),
        "held": format_usd(funds.held_nanousd),
        "available": format_usd(funds.available_nanousd),
        "prepaid": format_usd(max(0, funds.prepaid_nanousd)),
        "granted": format_usd(funds.granted_nanousd),
        "owed": format_usd(funds.owed_nanousd),
        "receivable": format_usd(funds.receivable_nanousd),
        "credit_limit": format_usd(funds.credit_nanousd),
        "grants": [
            {
                "left": format_usd(grant.rest_nanousd),
                "given": format_usd(grant.amount_nanousd),
                "expires_at": grant.expires_at,
            }
            for grant in funds.grants
        ],
        "planned_grants": [
            {
                "amount": format_usd(grant.amount_nanousd),
                "starts_at": grant.starts_at,
                "expires_at": grant.expires_at,
            }
            for grant in funds.planned
        ],
        "limits": [_present_limit(limit) for limit in limits],
    }


def _present_limit(status: LimitStatus) -> dict[str, str | None]:
    def shown(value: int) -> str:
        return format_usd(value) if status.is_money else str(value)

    return {
        "limit_name": status.kind.value,
        "endpoint_class": status.endpoint_class.value if status.endpoint_class else None,
        "owner": status.owner,
        "set_by": status.source,
        "limit": shown(status.limit),
        "used": shown(status.used),
        "remaining": shown(status.remaining),
    }


def _moment(text: str | None, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = parse_datetime(text)
        if moment is None:
            date = parse_date(text)
            moment = datetime.combine(date, time(), UTC) if date else None
        if moment is not None:
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        moment = None
    if moment is None:
        raise InvalidRequest(
            f"'{name}' must be an ISO date or date-time, e.g. 2026-11-21 or 2026-11-21T08:30:00Z (in a URL write the "
            "+ of an offset as %2B).",
            param=name,
        )
    if not _FIRST_MOMENT <= moment <= _LAST_MOMENT:
        raise InvalidRequest(f"'{name}' must lie between the years 1970 and 9999.", param=name)
    return moment
