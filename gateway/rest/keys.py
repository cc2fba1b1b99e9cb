"""/v1/keys: customers list, make, rotate and revoke their own keys, none wider than the one that asks."""

from datetime import UTC, datetime, timedelta
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.usage_queries import UsageGroup, UsageSelection, group_usage
from common.errors import InvalidRequest
from common.money import format_usd, parse_usd
from gateway.errors import ParameterUnknown
from gateway.rest.authentication import address_of, principal_of
from gateway.rest.base import CustomerView
from keys.errors import KeyAlreadyRevoked, KeyExceedsMaker, KeyInvalid, KeyNotFound, KeyNotRotatable
from keys.limits import LIMIT_COLUMNS
from keys.models import ApiKey, KeyEnvironment
from keys.overlaps import parse_overlap
from keys.scopes import Scope
from keys.self_service import KeyRequest, get_key, list_keys, make_own_key, revoke_own_key, rotate_own_key

_STATES = ("active", "rotated", "expired", "revoked")
_MOST_USAGE_DAYS = 366


class LimitsField(serializers.DictField):
    """Limits by name; money in USD as a decimal text, the rest as integers."""

    child = serializers.CharField(allow_null=True)

    def to_internal_value(self, data: Any) -> dict[str, int | None]:
        """Return values by column."""
        known = {column.replace("_nanousd", "_usd"): column for column in LIMIT_COLUMNS}
        found: dict[str, int | None] = {}
        for name, value in super().to_internal_value(data).items():
            if name not in known:
                raise serializers.ValidationError(f"unknown limit '{name}'; known: {', '.join(known)}")
            try:
                found[known[name]] = None if value is None else _limit_value(known[name], value)
            except ValueError:
                raise serializers.ValidationError(f"'{name}' cannot be {value!r}") from None
        return found


def _limit_value(column: str, text: str) -> int:
    value = parse_usd(text) if column.endswith("_nanousd") else int(text)
    if value < 0:
        raise ValueError(text)
    return value


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know: a misspelled restriction must not be ignored."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the checked fields. Raises ParameterUnknown."""
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            raise ParameterUnknown(names=unknown)
        return super().to_internal_value(data)


class KeyRequestSerializer(StrictSerializer):
    """What is left out is as the asking key has it, but for keys:manage, which has to be named."""

    name = serializers.CharField(max_length=80)
    environment = serializers.ChoiceField(choices=KeyEnvironment.values, required=False)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=[s.value for s in Scope]), required=False)
    allowed_models = serializers.ListField(child=serializers.CharField(max_length=120), required=False)
    allowed_prompts = serializers.ListField(child=serializers.CharField(max_length=120), required=False)
    allowed_networks = serializers.ListField(child=serializers.CharField(max_length=60), required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    limits = LimitsField(required=False)


class RotationSerializer(StrictSerializer):
    overlap = serializers.CharField(
        default="24h", max_length=40, help_text="now, 1h, 24h, 7d, or a moment until which both keys work."
    )
    reason = serializers.CharField(max_length=200, default="rotated by its owner")


class RevocationSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=200, default="revoked by its owner")


class KeySerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="The first characters of the secret.")
    state = serializers.ChoiceField(choices=_STATES)
    environment = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    allowed_models = serializers.ListField(child=serializers.CharField())
    allowed_prompts = serializers.ListField(child=serializers.CharField())
    allowed_networks = serializers.ListField(child=serializers.CharField())
    limits = serializers.DictField(child=serializers.CharField(allow_null=True))
    api_version = serializers.DateField(
        allow_null=True, help_text="The date of the API that it is answered in; null until its first call."
    )
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    deprecated_at = serializers.DateTimeField(allow_null=True, help_text="When it was rotated.")
    successor = serializers.CharField(allow_null=True, help_text="The id of the key that it was rotated to.")
    maker = serializers.CharField(
        allow_null=True, help_text="The id of the key that made it, whose limits its calls count against too."
    )
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="Written at most once a minute.")
    last_used_address = serializers.CharField(allow_null=True)


class IssuedKeySerializer(KeySerializer):
    secret = serializers.CharField(
        help_text="Shown once, and to a repeat with the same Idempotency-Key; a keyed hash of it is stored."
    )


class KeyListSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = KeySerializer(many=True)  # type: ignore[assignment]


class KeyUsageDaySerializer(serializers.Serializer[Any]):
    day = serializers.DateField(help_text="UTC.")
    calls = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    charged_usd = serializers.CharField()


class KeyUsageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = KeyUsageDaySerializer(many=True)  # type: ignore[assignment]


class KeyListView(CustomerView):
    required_scope = Scope.KEYS_MANAGE
    http_method_names = ["get", "head", "post"]
    errors = (InvalidRequest, ParameterUnknown, KeyInvalid, KeyExceedsMaker)

    @extend_schema(
        operation_id="list_keys",
        summary="List the customer's keys",
        tags=["keys"],
        parameters=[OpenApiParameter("state", str, enum=_STATES)],
        responses=KeyListSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return the customer's keys, newest first. Secrets are never shown again."""
        state = request.query_params.get("state")
        if state not in (None, *_STATES):
            raise InvalidRequest(f"'state' must be one of {', '.join(_STATES)}.", param="state")
        keys = list_keys(principal_of(request), state=state)
        return Response({"object": "list", "data": [present_key(key) for key in keys]})

    @extend_schema(
        operation_id="create_key",
        summary="Make a key, at most as wide as this one",
        tags=["keys"],
        request=KeyRequestSerializer,
        responses={201: IssuedKeySerializer},
    )
    def post(self, request: Request) -> Response:
        """Issue a key and return it with its secret, once. It ends with the key that made it, if that is revoked."""
        body = KeyRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wanted = dict(body.validated_data)
        if wanted.get("environment"):
            wanted["environment"] = KeyEnvironment(wanted["environment"])
        issued = make_own_key(principal_of(request), KeyRequest(**wanted), address=address_of(request))
        return Response({**present_key(issued.key), "secret": issued.token}, status=201)


class KeyView(CustomerView):
    required_scope = Scope.KEYS_MANAGE
    errors = (KeyNotFound,)

    @extend_schema(operation_id="get_key", summary="Get one key", tags=["keys"], responses=KeySerializer)
    def get(self, request: Request, public_id: str) -> Response:
        """Return one key of the customer; 404 for anybody else's."""
        return Response(present_key(get_key(principal_of(request), public_id)))


class KeyRotationView(CustomerView):
    required_scope = Scope.KEYS_MANAGE
    http_method_names = ["post"]
    errors = (KeyNotFound, KeyExceedsMaker, KeyNotRotatable, KeyInvalid)

    @extend_schema(
        operation_id="rotate_key",
        summary="Rotate a key: a successor with the same rights, both working for a time",
        tags=["keys"],
        request=RotationSerializer,
        responses={201: IssuedKeySerializer},
    )
    def post(self, request: Request, public_id: str) -> Response:
        """Issue the successor and return it with its secret, once. The old key answers with Deprecation and Sunset."""
        body = RotationSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        issued = rotate_own_key(
            principal_of(request),
            public_id,
            overlap=parse_overlap(body.validated_data["overlap"]),
            reason=body.validated_data["reason"],
            address=address_of(request),
        )
        return Response({**present_key(issued.key), "secret": issued.token}, status=201)


class KeyRevocationView(CustomerView):
    required_scope = Scope.KEYS_MANAGE
    http_method_names = ["post"]
    errors = (KeyNotFound, KeyExceedsMaker, KeyAlreadyRevoked, KeyInvalid)

    @extend_schema(
        operation_id="revoke_key",
        summary="Revoke a key for good, with the keys that it made",
        tags=["keys"],
        request=RevocationSerializer,
        responses=KeyListSerializer,
    )
    def post(self, request: Request, public_id: str) -> Response:
        """End the key on every server from its next call on; return the keys that were ended."""
        body = RevocationSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        ended = revoke_own_key(
            principal_of(request), public_id, reason=body.validated_data["reason"], address=address_of(request)
        )
        return Response({"object": "list", "data": [present_key(key) for key in ended]})


class KeyUsageView(CustomerView):
    required_scope = Scope.KEYS_MANAGE
    errors = (KeyNotFound, InvalidRequest)

    @extend_schema(
        operation_id="get_key_usage",
        summary="A key's usage by day",
        tags=["keys"],
        parameters=[OpenApiParameter("days", int, description=f"1 to {_MOST_USAGE_DAYS}; default 30.")],
        responses=KeyUsageSerializer,
    )
    def get(self, request: Request, public_id: str) -> Response:
        """Return calls, tokens and charges of a key, a row for each UTC day with any."""
        text = request.query_params.get("days", "30")
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= _MOST_USAGE_DAYS:
            raise InvalidRequest(f"'days' must be 1 to {_MOST_USAGE_DAYS}.", param="days")
        key = get_key(principal_of(request), public_id)
        end = datetime.now(UTC)
        selection = UsageSelection(
            start=end - timedelta(days=int(text)), end=end, api_key=key.public_id, group_by=UsageGroup.DAY
        )
        return Response({"object": "list", "data": group_usage(key.customer_id, selection)})


def present_key(key: ApiKey) -> dict[str, Any]:
    """Return what may be seen of a key."""
    return {
        "id": key.public_id,
        "object": "api_key",
        "name": key.name,
        "prefix": key.prefix,
        "state": key.state(),
        "environment": str(key.environment),
        "scopes": key.scopes,
        "allowed_models": key.allowed_models,
        "allowed_prompts": key.allowed_prompts,
        "allowed_networks": key.allowed_networks,
        "limits": {c.replace("_nanousd", "_usd"): _limit_text(c, getattr(key, c)) for c in LIMIT_COLUMNS},
        "api_version": key.api_version or None,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "deprecated_at": key.deprecated_at,
        "successor": None if key.successor is None else key.successor.public_id,
        "maker": None if key.maker is None else key.maker.public_id,
        "last_used_at": key.last_used_at,
        "last_used_address": key.last_used_address,
    }


def _limit_text(column: str, value: int | None) -> str | None:
    if value is None:
        return None
    return format_usd(value) if column.endswith("_nanousd") else str(value)
