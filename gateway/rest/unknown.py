"""Whatever else is asked for under /v1/: a 404 in the API's own shape, without a look at the key."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from common.errors import NotFound
from gateway.rest.base import JsonOnly


@extend_schema(exclude=True)
class UnknownPathView(APIView):
    authentication_classes = ()
    permission_classes = ()
    content_negotiation_class = JsonOnly

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse before any method is chosen."""
        raise NotFound(f"There is no endpoint {request.path[:200]}. The API is documented at /docs.")

    def get(self, request: Request) -> Response:
        """Never reached; names the view's one method for the router."""
        return Response(status=404)
