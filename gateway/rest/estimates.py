"""POST /v1/estimates: what a chat call would cost, and whether it would be admitted."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.errors import PriceMissing
from billing.tokens import INPUT_CLASSES, OUTPUT_CLASSES
from common.clock import SYSTEM_CLOCK
from common.money import format_usd
from gateway import errors
from gateway.admission.commands import Refused
from gateway.bounds import read_bounds
from gateway.estimating import Estimate, estimate_call
from gateway.kept_answers import Repeats
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from gateway.rest.bodies import read_bounded
from gateway.rest.pricing import PricingSerializer, present_pricing
from keys.scopes import Scope


class EstimatedTokensSerializer(serializers.Serializer[Any]):
    counted = serializers.IntegerField(help_text="The text of the input, by our own count.")
    images = serializers.IntegerField(help_text="Images in the input; each is bounded by the model's figure.")
    input = serializers.IntegerField(help_text="The most that the input can come to: what limits and the hold take.")
    output = serializers.IntegerField(help_text="The most that all answers together can come to.")


class EstimateLineSerializer(serializers.Serializer[Any]):
    part = serializers.ChoiceField(choices=["input", "output", "request"])
    tokens = serializers.IntegerField(allow_null=True)
    usd_per_million_tokens = serializers.CharField(
        allow_null=True, help_text="Of plain text; least and most are of the cheapest and the dearest class."
    )
    least_usd = serializers.CharField()
    most_usd = serializers.CharField()


class EstimateLimitSerializer(serializers.Serializer[Any]):
    limit_name = serializers.CharField()
    limit = serializers.IntegerField()
    remaining = serializers.IntegerField(help_text="After this call, were it made now.")
    reset_seconds = serializers.IntegerField(allow_null=True, help_text="Null: when calls in flight end.")


class EstimateBudgetSerializer(serializers.Serializer[Any]):
    limit_name = serializers.CharField()
    limit_usd = serializers.CharField()
    remaining_usd = serializers.CharField()
    reset_seconds = serializers.IntegerField(allow_null=True, help_text="Null: it never resets.")


class EstimateSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    model = serializers.CharField()
    currency = serializers.CharField()
    tokens = EstimatedTokensSerializer()
    pricing = PricingSerializer()
    lines = EstimateLineSerializer(many=True)
    least_cost_usd = serializers.CharField()
    most_cost_usd = serializers.CharField(help_text="What would be held, and what the call cannot exceed.")
    available_usd = serializers.CharField()
    limits = EstimateLimitSerializer(many=True)
    budgets = EstimateBudgetSerializer(many=True)
    would_be_admitted = serializers.BooleanField()
    refusal = serializers.DictField(
        allow_null=True, help_text="What the call would be refused with now, as `error` of that answer."
    )


class EstimateView(CustomerView):
    required_scope = Scope.CHAT_WRITE
    http_method_names = ["post"]
    repeats = Repeats.HARMLESS
    errors = (
        errors.BodyTooLarge,
        errors.BodyInvalid,
        errors.ParameterUnknown,
        errors.ParametersContradict,
        errors.TagsInvalid,
        errors.MessagesTooMany,
        errors.ModelNotFound,
        errors.ModelUnavailable,
        errors.OutputTooLong,
        errors.InputTooLong,
        errors.ContextLengthExceeded,
        PriceMissing,
    )

    @extend_schema(
        operation_id="create_estimate",
        summary="What a chat call would cost, without making it",
        tags=["billing"],
        request={"application/json": {"$ref": "#/components/schemas/ChatCompletionsRequest"}},
        responses=EstimateSerializer,
    )
    def post(self, request: Request) -> Response:
        """Return tokens, price lines, least and most cost of a chat call, and what limits and balance would say now.

        The body is that of POST /v1/chat/completions. Nothing is held or sent; a call that could never run is refused
        as it would be there.
        """
        estimate = estimate_call(
            # DRF's own stream misses bodies without a length.
            read_bounded(request._request),  # noqa: SLF001
            principal_of(request),
            bounds=read_bounds(),
            now_us=SYSTEM_CLOCK.now_us(),
        )
        return Response(present_estimate(estimate))


def present_estimate(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate, exact. What was counted beyond the largest window is as far as counting went."""
    plan, answer = estimate.plan, estimate.answer
    return {
        "object": "estimate",
        "model": plan.model.name,
        "currency": "USD",
        "tokens": {
            "counted": estimate.counted.text_tokens,
            "images": estimate.counted.images,
            "input": plan.input_tokens,
            "output": plan.output_tokens,
        },
        "pricing": present_pricing(plan.price),
        "lines": _lines(estimate),
        "least_cost_usd": format_usd(estimate.least_nanousd),
        "most_cost_usd": format_usd(estimate.most_nanousd),
        "available_usd": format_usd(estimate.available_nanousd),
        "limits": [
            {
                "limit_name": reading.kind.value,
                "limit": reading.limit,
                "remaining": reading.remaining,
                "reset_seconds": reading.reset_seconds,
            }
            for reading in answer.limits
            if not reading.kind.is_money
        ],
        "budgets": [
            {
                "limit_name": reading.kind.value,
                "limit_usd": format_usd(reading.limit),
                "remaining_usd": format_usd(reading.remaining),
                "reset_seconds": reading.reset_seconds,
            }
            for reading in answer.limits
            if reading.kind.is_money
        ],
        "would_be_admitted": not isinstance(answer, Refused),
        "refusal": answer.error.as_body(request_id=None)["error"] if isinstance(answer, Refused) else None,
    }


def _lines(estimate: Estimate) -> list[dict[str, Any]]:
    rates, plan = estimate.rates, estimate.plan
    dearest_input = max(getattr(rates, token_class) for token_class in INPUT_CLASSES)
    dearest_output = max(getattr(rates, token_class) for token_class in OUTPUT_CLASSES)
    lines: list[dict[str, Any]] = [
        {
            "part": "input",
            "tokens": plan.input_tokens,
            "usd_per_million_tokens": format_usd(rates.input),
            "least_usd": format_usd(estimate.least_nanousd - rates.request),
            "most_usd": format_usd(-(-plan.input_tokens * dearest_input // 1_000_000)),
        },
        {
            "part": "output",
            "tokens": plan.output_tokens,
            "usd_per_million_tokens": format_usd(rates.output),
            "least_usd": format_usd(0),
            "most_usd": format_usd(-(-plan.output_tokens * dearest_output // 1_000_000)),
        },
    ]
    if rates.request:
        price = format_usd(rates.request)
        lines.append(
            {"part": "request", "tokens": None, "usd_per_million_tokens": None, "least_usd": price, "most_usd": price}
        )
    return lines
