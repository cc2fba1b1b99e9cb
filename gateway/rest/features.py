"""GET /v1/features: which flags there are, and how they stand for this key now."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from common.clock import SYSTEM_CLOCK, from_us
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from keys.features import CUSTOMER, EVERYONE, KEY, Standing
from keys.scopes import Scope


class FeatureSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField()
    declared_on = serializers.DateField()
    enabled = serializers.BooleanField()
    set_by = serializers.ChoiceField(
        choices=[KEY, CUSTOMER, EVERYONE, "default"], help_text="Whose rule decides; `everyone`: a share of customers."
    )
    since = serializers.DateTimeField(allow_null=True)
    until = serializers.DateTimeField(allow_null=True, help_text="Null: no end is set.")


class FeatureListSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = FeatureSerializer(many=True)  # type: ignore[assignment]


class FeatureListView(CustomerView):
    required_scope = Scope.MODELS_READ

    @extend_schema(
        operation_id="list_features",
        summary="The flags of this API, and how they stand for this key",
        tags=["versions"],
        responses=FeatureListSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return every flag, whether it is on for calls of this key now, and by whose rule."""
        standings = principal_of(request).standings_at(SYSTEM_CLOCK.now_us())
        return Response({"object": "list", "data": [_present(standing) for standing in standings]})


def _present(standing: Standing) -> dict[str, Any]:
    return {
        "name": standing.feature.name,
        "description": standing.feature.description,
        "declared_on": standing.feature.declared_on,
        "enabled": standing.is_on,
        "set_by": standing.set_by,
        "since": None if standing.since_us is None else from_us(standing.since_us),
        "until": None if standing.until_us is None else from_us(standing.until_us),
    }
