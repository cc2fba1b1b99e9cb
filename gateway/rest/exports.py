"""GET /v1/exports: a customer's own usage, ledger and invoices as files, and what was in a file that it got."""

from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.errors import ExportInvalid
from billing.export_models import ExportAudience, ExportDataset, ExportRun
from billing.exports import DATASETS, FORMATS, Order, make_order, make_selection, parse_moment, start_download
from billing.exports.running import get_customer_run
from common.errors import InvalidRequest, NotFound
from common.money import format_usd
from common.streaming import stream_file
from gateway.errors import ParameterUnknown
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from keys.errors import InsufficientScope
from keys.principals import Principal
from keys.scopes import Scope

_SCOPES = {
    ExportDataset.USAGE.value: Scope.USAGE_READ,
    ExportDataset.LEDGER.value: Scope.BILLING_READ,
    ExportDataset.INVOICES.value: Scope.BILLING_READ,
}
_FORMATS_OF_CUSTOMERS = [name for name, each in FORMATS.items() if each.is_of_one_customer]
_PARAMETERS = [
    OpenApiParameter(
        "dataset", str, enum=list(DATASETS), default="usage", description="Calls, movements of money, or invoices."
    ),
    OpenApiParameter("format", str, enum=_FORMATS_OF_CUSTOMERS, default="csv"),
    OpenApiParameter(
        "from", str, required=True, description="First moment, an ISO date or date-time, UTC unless it says so."
    ),
    OpenApiParameter("to", str, required=True, description="First moment that is out of the range."),
]
_EXPORT_ID = OpenApiParameter(
    "x-export-id",
    str,
    location=OpenApiParameter.HEADER,
    response=[200],
    description="GET /v1/exports/{export_id} tells rows, sum and SHA-256 of the file, once it is complete.",
)


class ExportManifestSerializer(serializers.Serializer[Any]):
    """What a file holds, to be compared with a copy of it."""

    id = serializers.CharField()
    object = serializers.CharField()
    dataset = serializers.CharField()
    format = serializers.CharField()
    range_start = serializers.DateTimeField()
    range_end = serializers.DateTimeField()
    is_closed = serializers.BooleanField(help_text="No row can join the range any more: it gives the same file again.")
    row_count = serializers.IntegerField()
    total_usd = serializers.CharField()
    byte_count = serializers.IntegerField()
    sha256 = serializers.CharField()
    created_at = serializers.DateTimeField()


class HasDatasetScope(BasePermission):
    """Admits a key that may read the dataset that is asked for; which one an id names is asked by its view."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return True, or raise InsufficientScope with the scope's name."""
        check_scope(principal_of(request), request.query_params.get("dataset", ExportDataset.USAGE.value))
        return True


class ExportView(CustomerView):
    required_scope = Scope.USAGE_READ
    permission_classes = (HasDatasetScope,)
    errors = (ExportInvalid, InvalidRequest, ParameterUnknown)

    @extend_schema(
        operation_id="export",
        summary="Usage, ledger or invoices as a file",
        tags=["billing"],
        parameters=[*_PARAMETERS, _EXPORT_ID],
        responses={
            (200, FORMATS[name].media_type): OpenApiResponse(OpenApiTypes.BINARY, description="The file, as a stream.")
            for name in _FORMATS_OF_CUSTOMERS
        },
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Return the customer's own rows of a range of time; `ledger` and `invoices` need `billing:read`."""
        principal = principal_of(request)
        order = _read_order(request, principal)
        download = start_download(order)
        media_type = order.format.media_type
        answer = stream_file(request._request, download.chunks, filename=order.filename, media_type=media_type)  # noqa: SLF001 - DRF keeps the request that tells the kind of server there
        answer["x-export-id"] = download.public_id
        return answer


class ExportManifestView(CustomerView):
    required_scope = Scope.USAGE_READ
    permission_classes = ()
    errors = (NotFound,)

    @extend_schema(
        operation_id="get_export",
        summary="What was in an exported file",
        tags=["billing"],
        responses=ExportManifestSerializer,
    )
    def get(self, request: Request, export_id: str) -> Response:
        """Return rows, sum and SHA-256 of a file that a key of this customer got whole; 404 for any other."""
        principal = principal_of(request)
        run = get_customer_run(principal.customer_id, export_id)
        check_scope(principal, run.dataset)
        return Response(_present(run))


def check_scope(principal: Principal, dataset: str) -> None:
    """Raise InsufficientScope for a key that may not read the dataset."""
    scope = _SCOPES.get(dataset, Scope.USAGE_READ)
    if scope not in principal.scopes:
        raise InsufficientScope(scope=scope)


def _read_order(request: Request, principal: Principal) -> Order:
    query = request.query_params
    unknown = [name[:100] for name in query if name not in ("dataset", "format", "from", "to")]
    if unknown:
        raise ParameterUnknown(names=unknown[:10])
    for name in ("from", "to"):
        if not query.get(name):
            raise InvalidRequest(
                f"'{name}' is missing: give the range, e.g. from=2026-11-01&to=2026-12-01.", param=name
            )
    selection = make_selection(
        query.get("dataset", ExportDataset.USAGE.value),
        start=parse_moment(query["from"], param="from"),
        end=parse_moment(query["to"], param="to"),
        customer_id=principal.customer_id,
        audience=ExportAudience.CUSTOMER,
    )
    return make_order(selection, format_name=query.get("format", "csv"), author=principal.key_public_id)


def _present(run: ExportRun) -> dict[str, Any]:
    return {
        "id": run.public_id,
        "object": "export",
        "dataset": run.dataset,
        "format": run.format,
        "range_start": run.range_start,
        "range_end": run.range_end,
        "is_closed": run.is_closed,
        "row_count": run.row_count,
        "total_usd": format_usd(run.total_nanousd),
        "byte_count": run.byte_count,
        "sha256": run.sha256,
        "created_at": run.created_at,
    }
