"""GET /v1/statement: what moved the customer's wallet, and why."""

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.statement import StatementLine, read_statement
from common.errors import InvalidRequest
from common.money import format_usd
from gateway.errors import ParameterUnknown
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from gateway.rest.serializers import RANGE_PARAMETERS, read_range
from keys.scopes import Scope

_MOST_DAYS = 366


class StatementLineSerializer(serializers.Serializer[Any]):
    day = serializers.DateField()
    text = serializers.CharField(help_text="What happened, in a sentence.")
    amount = serializers.CharField(help_text="What it did to the balance: negative for charges.")
    balance = serializers.CharField(help_text="The balance after it.")
    calls = serializers.IntegerField(help_text="Calls of the day that the line sums up; 0 for any other movement.")


class StatementSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    currency = serializers.CharField()
    opening = serializers.CharField()
    closing = serializers.CharField(help_text="`opening` and the lines' amounts, added up. Below zero: owed.")
    data = StatementLineSerializer(many=True)  # type: ignore[assignment]


class StatementView(CustomerView):
    required_scope = Scope.BILLING_READ
    errors = (InvalidRequest, ParameterUnknown)

    @extend_schema(
        operation_id="get_statement",
        summary="The customer's statement: balance before, movements, balance then",
        tags=["billing"],
        parameters=RANGE_PARAMETERS,
        responses=StatementSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return what moved the customer's money: payments and grants one by one, calls summed by UTC day."""
        unknown = [name[:100] for name in request.query_params if name not in ("from", "to")]
        if unknown:
            raise ParameterUnknown(names=unknown[:10])
        start, end = read_range(request.query_params)
        if end - start > timedelta(days=_MOST_DAYS):
            raise InvalidRequest(f"A statement is of at most {_MOST_DAYS} days; ask for fewer.", param="from")
        statement = read_statement(principal_of(request).customer_id, start=start, end=end)
        return Response(
            {
                "object": "statement",
                "currency": "USD",
                "opening": format_usd(statement.opening_nanousd),
                "closing": format_usd(statement.closing_nanousd),
                "data": [_present(line) for line in statement.lines],
            }
        )


def _present(line: StatementLine) -> dict[str, Any]:
    return {
        "day": line.day,
        "text": line.text,
        "amount": format_usd(line.amount_nanousd),
        "balance": format_usd(line.balance_nanousd),
        "calls": line.calls,
    }
