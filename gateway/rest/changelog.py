"""GET /v1/changelog: the dates of the API and what each changed, for everybody."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.rest.base import JsonOnly, RequestIds
from gateway.rest.errors import render_exception
from gateway.versions import NEWEST, describe_versions


class ApiChangeSerializer(serializers.Serializer[Any]):
    title = serializers.CharField()
    description = serializers.CharField()
    applies_to = serializers.ListField(child=serializers.CharField())
    feature = serializers.CharField(allow_null=True, help_text="The flag that puts it in force ahead of its date.")


class ApiVersionSerializer(serializers.Serializer[Any]):
    version = serializers.DateField(help_text="What the header API-Version says.")
    status = serializers.ChoiceField(choices=["current", "deprecated"])
    deprecated_on = serializers.DateField(allow_null=True)
    sunset_on = serializers.DateField(allow_null=True, help_text="From then on it may be refused.")
    changes = ApiChangeSerializer(many=True)


class ChangelogSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    newest = serializers.DateField()
    data = ApiVersionSerializer(many=True)  # type: ignore[assignment]


class ChangelogView(RequestIds, APIView):
    """Open to everybody: it tells what the documents tell."""

    authentication_classes = ()
    permission_classes = ()
    content_negotiation_class = JsonOnly
    http_method_names = ["get", "head"]

    @extend_schema(
        operation_id="get_changelog",
        summary="The dates of the API, newest first",
        tags=["versions"],
        auth=[],
        responses=ChangelogSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return every date that `API-Version` may name, what it changed, and until when it is served."""
        return Response({"object": "list", "newest": NEWEST, "data": describe_versions()})

    def get_exception_handler(self) -> Any:
        """Return the renderer of the one error shape."""
        return render_exception
