"""GET /v1/invoices: the customer's invoices as JSON and PDF. Drafts are not shown: they may still change."""

from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.invoicing.document import InvoiceState, LineKind
from billing.invoicing.presenting import present_document, present_summary
from billing.invoicing.reading import get_invoice, list_invoices, read_document
from common.errors import InvalidRequest, NotFound
from gateway.errors import ParameterUnknown
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from gateway.rest.invoice_example import EXAMPLE
from keys.scopes import Scope

_MOST_INVOICES = 100
_LARGEST_ID = 2**63 - 1
_STATES = [state.value for state in InvoiceState if state is not InvoiceState.DRAFT]


class PartySerializer(serializers.Serializer[Any]):
    legal_name = serializers.CharField()
    address = serializers.CharField(help_text="In lines.")
    country = serializers.CharField(help_text='ISO 3166-1, or "".')
    tax_id = serializers.CharField()
    email = serializers.CharField()
    payment_details = serializers.CharField(help_text="Of the seller: how to pay.")


class InvoiceLineSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(
        choices=[kind.value for kind in LineKind],
        help_text="tokens and requests are priced; calls is the rounding of each call to the nano-dollar; archived: "
        "older calls, by their sums; uncharged: what calls cost and you do not pay; late: calls of other months.",
    )
    text = serializers.CharField()
    model = serializers.CharField()
    token_class = serializers.CharField(help_text='"" in lines that are not of tokens.')
    quantity = serializers.IntegerField(help_text="Tokens, or calls.")
    rate = serializers.CharField(allow_null=True, help_text="USD per million tokens, or per request.")
    amount = serializers.CharField(help_text="Exact to the nano-dollar; may be negative.")
    price_version = serializers.IntegerField(allow_null=True)
    price_terms = serializers.IntegerField(allow_null=True)


class InvoiceSummarySerializer(serializers.Serializer[Any]):
    """usage = granted + prepaid + net; net + carried + tax = total; due is the total, rounded to cents once."""

    object = serializers.CharField()
    number = serializers.CharField()
    state = serializers.CharField(help_text=f"One of {', '.join(_STATES)}.")
    currency = serializers.CharField()
    customer_id = serializers.CharField()
    month = serializers.CharField(help_text="2026-10")
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField(help_text="Not in the period any more.")
    time_zone = serializers.CharField(help_text="Where the month is a calendar month.")
    issued_on = serializers.DateField()
    due_on = serializers.DateField()
    paid_on = serializers.DateField(allow_null=True)
    voided_on = serializers.DateField(allow_null=True)
    void_reason = serializers.CharField()
    replaces = serializers.CharField(help_text='Number of the void invoice that this one stands for, or "".')
    replaced_by = serializers.CharField(help_text='Number of the invoice that stands for this void one, or "".')
    seller = PartySerializer()
    customer = PartySerializer()
    usage = serializers.CharField(help_text="The sum of the lines.")
    granted = serializers.CharField(help_text="Paid by grants.")
    prepaid = serializers.CharField(help_text="Paid in advance, or credited.")
    net = serializers.CharField(help_text="Left to pay of the usage; the tax is reckoned from it.")
    carried = serializers.CharField(help_text="What rounding to cents has left on earlier invoices.")
    tax_percent = serializers.CharField()
    tax = serializers.CharField(help_text="Whole cents.")
    total = serializers.CharField()
    due = serializers.CharField(help_text="Whole cents.")
    paid = serializers.CharField()
    open = serializers.CharField(help_text="Still to be paid.")


class InvoiceSerializer(InvoiceSummarySerializer):
    lines = InvoiceLineSerializer(many=True)


class InvoicePageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = InvoiceSummarySerializer(many=True)  # type: ignore[assignment]
    has_more = serializers.BooleanField()
    next = serializers.IntegerField(allow_null=True, help_text="Give it as `before` to get what follows.")


class InvoiceFilter(serializers.Serializer[Any]):
    """The query of GET /v1/invoices."""

    state = serializers.ChoiceField(required=False, choices=_STATES)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=_MOST_INVOICES, default=_MOST_INVOICES)
    before = serializers.IntegerField(
        required=False, min_value=1, max_value=_LARGEST_ID, help_text="`next` of the page before."
    )


class InvoiceListView(CustomerView):
    required_scope = Scope.BILLING_READ
    errors = (InvalidRequest, ParameterUnknown)

    @extend_schema(
        operation_id="list_invoices",
        summary="The customer's invoices",
        tags=["billing"],
        parameters=[InvoiceFilter],
        responses=InvoicePageSerializer,
        examples=[
            OpenApiExample(
                "A page",
                value={"object": "list", "data": [present_summary(EXAMPLE)], "has_more": False, "next": None},
                response_only=True,
            )
        ],
    )
    def get(self, request: Request) -> Response:
        """Return invoices without their lines, newest first, a page at a time."""
        unknown = [name[:100] for name in request.query_params if name not in InvoiceFilter().fields]
        if unknown:
            raise ParameterUnknown(names=unknown[:10])
        fields = InvoiceFilter(data=request.query_params)
        fields.is_valid(raise_exception=True)
        values = fields.validated_data
        page = list_invoices(
            principal_of(request).customer_id,
            state=InvoiceState(values["state"]) if "state" in values else None,
            before=values.get("before"),
            limit=values["limit"],
        )
        return Response(
            {
                "object": "list",
                "data": [present_summary(read_document(invoice, with_lines=False)) for invoice in page.invoices],
                "has_more": page.next_before is not None,
                "next": page.next_before,
            }
        )


class InvoiceView(CustomerView):
    required_scope = Scope.BILLING_READ
    errors = (NotFound,)

    @extend_schema(
        operation_id="get_invoice",
        summary="One invoice with its lines",
        tags=["billing"],
        responses=InvoiceSerializer,
        examples=[OpenApiExample("An invoice", value=present_document(EXAMPLE), response_only=True)],
    )
    def get(self, request: Request, number: str) -> Response:
        """Return an invoice of this customer by its number; 404 for anybody else's."""
        return Response(present_document(read_document(get_invoice(principal_of(request).customer_id, number))))


class InvoicePdfView(CustomerView):
    required_scope = Scope.BILLING_READ
    errors = (NotFound,)

    @extend_schema(
        operation_id="get_invoice_pdf",
        summary="One invoice as PDF",
        tags=["billing"],
        responses={(200, "application/pdf"): OpenApiResponse(OpenApiTypes.BINARY, description="The file.")},
    )
    def get(self, request: Request, number: str) -> HttpResponse:
        """Return an invoice of this customer as it is printed; 404 for anybody else's."""
        document = read_document(get_invoice(principal_of(request).customer_id, number))
        from billing.invoicing.pdf import render_pdf  # noqa: PLC0415 - 7 MB, for who asks for a PDF

        answer = HttpResponse(render_pdf(document), content_type="application/pdf")
        answer["Content-Disposition"] = f'attachment; filename="{document.number}.pdf"'
        return answer
