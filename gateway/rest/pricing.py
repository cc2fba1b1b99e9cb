"""A price as its customer sees it: what it pays, never what the platform pays or which markup is in it."""

from typing import Any

from rest_framework import serializers

from billing.pricing import Price
from billing.rates import RateBand, Rates
from billing.tokens import TOKEN_CLASSES
from common.money import format_usd

_RATE_NAMES = (*TOKEN_CLASSES, "request")


class RatesSerializer(serializers.Serializer[Any]):
    """Plain decimals: USD per million tokens of each class, and USD per call."""

    input = serializers.CharField()
    cache_read = serializers.CharField()
    cache_write = serializers.CharField()
    output = serializers.CharField()
    reasoning = serializers.CharField()
    audio_input = serializers.CharField()
    audio_output = serializers.CharField()
    image_input = serializers.CharField()
    image_output = serializers.CharField()
    request = serializers.CharField(help_text="USD per call, whatever its tokens.")


class BandSerializer(RatesSerializer):
    """Rates of a whole call whose input has more tokens than this."""

    above_input_tokens = serializers.IntegerField()


class PricingSerializer(RatesSerializer):
    """What the caller's customer pays now; rates of long inputs and of batches (flex) where they differ."""

    currency = serializers.CharField()
    unit = serializers.CharField()
    long_input = BandSerializer(many=True)
    batch = BandSerializer(many=True, help_text="Where the provider processed a call with `service_tier: flex`.")


def present_pricing(price: Price) -> dict[str, Any]:
    """Return a price, exact."""
    return {
        "currency": "USD",
        "unit": "1M tokens",
        **present_rates(price.rates),
        "long_input": [_present_band(band) for band in price.table.standard[1:]],
        "batch": [_present_band(band) for band in price.table.batch],
    }


def present_rates(rates: Rates) -> dict[str, str]:
    """Return the rates of every class, exact."""
    return {name: format_usd(getattr(rates, name)) for name in _RATE_NAMES}


def _present_band(band: RateBand) -> dict[str, Any]:
    return {"above_input_tokens": band.above_input_tokens, **present_rates(band.rates)}
