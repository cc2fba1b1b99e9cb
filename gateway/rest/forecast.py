"""GET /v1/forecast: what this month will have cost at its end."""

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.forecast import read_customer_forecast
from common.money import format_usd
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from keys.scopes import Scope


class ForecastSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    currency = serializers.CharField()
    month = serializers.CharField(help_text="The UTC calendar month, 2026-11.")
    spent_usd = serializers.CharField(help_text="Charged for calls that began in it so far, exact.")
    basis_days = serializers.IntegerField(
        help_text="Full days that the average is of: seven, or those since the first call."
    )
    daily_average_usd = serializers.CharField()
    expected_usd = serializers.CharField(help_text="Spent so far, plus the average for the rest of the month.")


class ForecastView(CustomerView):
    required_scope = Scope.USAGE_READ

    @extend_schema(
        operation_id="get_forecast",
        summary="What this month will have cost at its end",
        tags=["billing"],
        responses=ForecastSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return this month's spend so far and what to expect: the average of the last seven full days goes on."""
        found = read_customer_forecast(principal_of(request).customer_id, datetime.now(UTC))
        return Response(
            {
                "object": "forecast",
                "currency": "USD",
                "month": f"{found.month_start:%Y-%m}",
                "spent_usd": format_usd(found.spent_nanousd),
                "basis_days": found.basis_days,
                "daily_average_usd": format_usd(found.daily_average_nanousd),
                "expected_usd": format_usd(found.expected_nanousd),
            }
        )
