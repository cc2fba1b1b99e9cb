"""GET /v1/prompts and /v1/prompts/{name}: what a key may run, and what it has to send.

A caller sees names, numbers, labels and schemas: what its calls depend on. Never a template, and no prompt that its
key may not run.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from common.sql import Sql
from gateway.errors import ParameterUnknown
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from gateway.rest.prompt_examples import example_of_run
from keys.principals import Principal
from keys.scopes import Scope
from prompts.errors import PinInvalid, PromptNotFound, PromptUnusable
from prompts.release_table import LabelEntry, PromptEntry, VersionEntry
from prompts.snapshots import read_prompt_book, resolve_prompt

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PromptRolloutSerializer(serializers.Serializer[Any]):
    version = serializers.CharField()
    percent = serializers.IntegerField(help_text="Share of the label's callers that get this version.")


class PromptLabelSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    version = serializers.CharField(help_text="During a rollout, the version of those who are not in it.")
    rollout = PromptRolloutSerializer(allow_null=True)


class PromptVersionSerializer(serializers.Serializer[Any]):
    version = serializers.CharField()
    deprecated_at = serializers.DateTimeField(allow_null=True)
    sunset_at = serializers.DateTimeField(allow_null=True)


class PromptSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    labels = PromptLabelSerializer(many=True)
    versions = PromptVersionSerializer(many=True, help_text="Newest first; each can be pinned.")


class PromptListSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = PromptSerializer(many=True)  # type: ignore[assignment]


class PromptDetailSerializer(PromptSerializer):
    version = serializers.CharField(help_text="The version that `version` of the query means for this key.")
    label = serializers.CharField(allow_null=True, help_text="Null where the query pins a number.")  # type: ignore[assignment]
    input_schema = serializers.DictField(help_text="JSON Schema of `inputs`.")
    output_schema = serializers.DictField(allow_null=True, help_text="JSON Schema of `output`; null: text.")
    model = serializers.CharField(allow_null=True, help_text="Null: the caller names it in `parameters`.")
    parameters = serializers.ListField(child=serializers.CharField(), help_text="What callers may set in `parameters`.")
    example = serializers.DictField(allow_null=True, help_text="A body of a run that fits the input schema.")


class PromptListView(CustomerView):
    required_scope = Scope.PROMPTS_RUN

    @extend_schema(
        operation_id="list_prompts",
        summary="List the prompts this key may run",
        tags=["prompts"],
        responses=PromptListSerializer,
    )
    def get(self, request: Request) -> Response:
        """Return the prompts that this key may run, by name, with their labels and versions."""
        principal = principal_of(request)
        book = read_prompt_book(Sql(connection))
        entries = sorted(book.table.prompts.values(), key=lambda entry: entry.name)
        shown = [_present(entry) for entry in entries if entry.by_number and principal.may_run_prompt(entry.name)]
        return Response({"object": "list", "data": shown})


class PromptView(CustomerView):
    required_scope = Scope.PROMPTS_RUN
    errors = (PromptNotFound, PinInvalid, PromptUnusable, ParameterUnknown)

    @extend_schema(
        operation_id="get_prompt",
        summary="Get one prompt with its schemas",
        tags=["prompts"],
        parameters=[
            OpenApiParameter("version", str, description="Label, major or number, as in a run. Default: production."),
            OpenApiParameter("session_id", str, description="During a rollout, the session whose version is meant."),
        ],
        responses=PromptDetailSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        """Return a prompt, and what the version that this key would get asks for and answers with."""
        unknown = [key[:100] for key in request.query_params if key not in ("version", "session_id")]
        if unknown:
            raise ParameterUnknown(names=unknown[:10])
        return Response(_describe(name, principal_of(request), request))


def _describe(name: str, principal: Principal, request: Request) -> dict[str, Any]:
    if not principal.may_run_prompt(name):
        raise PromptNotFound(name=name)
    resolved = resolve_prompt(
        read_prompt_book(Sql(connection)),
        name,
        request.query_params.get("version"),
        customer_id=principal.customer_id,
        session_id=request.query_params.get("session_id"),
    )
    content = resolved.compiled.content
    return {
        **_present(resolved.entry),
        "version": str(resolved.version.number),
        "label": resolved.label,
        "input_schema": resolved.compiled.input_schema,
        "output_schema": content.output_schema,
        "model": content.model or None,
        "parameters": [*content.allowed_overrides],
        "example": example_of_run(resolved.compiled, pin=str(resolved.pin), principal=principal),
    }


def _present(entry: PromptEntry) -> dict[str, Any]:
    labels = sorted(entry.labels.values(), key=lambda label: label.name)
    return {
        "object": "prompt",
        "name": entry.name,
        "description": entry.description,
        "labels": [_present_label(label) for label in labels if label.version is not None],
        "versions": [_present_version(entry.by_number[number]) for number in sorted(entry.by_number, reverse=True)],
    }


def _present_label(label: LabelEntry) -> dict[str, Any]:
    assert label.version is not None
    rollout = None
    if label.rollout is not None:
        rollout = {"version": str(label.rollout.number), "percent": label.percent}
    return {"name": label.name, "version": str(label.version.number), "rollout": rollout}


def _present_version(version: VersionEntry) -> dict[str, Any]:
    return {
        "version": str(version.number),
        "deprecated_at": _moment(version.deprecated_us),
        "sunset_at": _moment(version.sunset_us),
    }


def _moment(us: int | None) -> datetime | None:
    return None if us is None else _EPOCH + timedelta(microseconds=us)
