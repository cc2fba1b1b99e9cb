"""/v1/prompts/{name}/tests: run a prompt's test cases from a pipeline."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.kept_answers import Repeats
from gateway.prompt_tests.caller import CallerRevoked
from gateway.rest.authentication import principal_of
from gateway.rest.base import CustomerView
from gateway.rest.keys import StrictSerializer
from keys.scopes import Scope
from prompts.errors import PinInvalid, PromptNotFound, PromptTestInvalid, PromptUnusable
from prompts.reports import run_tests_of


class PromptTestsRequestSerializer(StrictSerializer):
    version = serializers.CharField(max_length=50, default="", help_text="Label, major or number; default: production.")
    model = serializers.CharField(max_length=120, default="", help_text="Another model than the version's own.")


class PromptTestResultSerializer(serializers.Serializer[Any]):
    case = serializers.CharField()
    model = serializers.CharField()
    passed = serializers.BooleanField()
    failures = serializers.ListField(child=serializers.CharField())
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.CharField(help_text="What the calls would have cost a customer; nobody is charged.")
    latency_ms = serializers.IntegerField()


class PromptTestsSerializer(serializers.Serializer[Any]):
    prompt = serializers.CharField()
    version = serializers.CharField()
    passed = serializers.BooleanField(help_text="False also where the prompt has no active test case.")
    results = PromptTestResultSerializer(many=True)


class PromptTestsView(CustomerView):
    required_scope = Scope.PROMPTS_TEST
    http_method_names = ["post"]
    repeats = Repeats.CLAIMED_FIRST
    errors = (PromptNotFound, PinInvalid, PromptTestInvalid, PromptUnusable, CallerRevoked)

    @extend_schema(
        operation_id="run_prompt_tests",
        summary="Run a prompt's test cases",
        tags=["prompts"],
        request=PromptTestsRequestSerializer,
        responses=PromptTestsSerializer,
    )
    def post(self, request: Request, name: str) -> Response:
        """Run the active test cases on a version, store the results and return them."""
        principal = principal_of(request)
        if not principal.may_run_prompt(name):
            raise PromptNotFound(name=name)
        given = PromptTestsRequestSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        wanted = given.validated_data
        report = run_tests_of(
            name=name, pin=wanted["version"], model=wanted["model"], author=f"key {principal.key_prefix}"
        )
        return Response(report.as_json())
