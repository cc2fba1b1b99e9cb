"""The request: a chat completion's body as the body of POST /messages."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.calls import ChatCall, Plan
from gateway.capabilities import Capability
from gateway.catalogue import DeploymentEntry
from gateway.upstreams.addresses import endpoint_url, request_headers
from gateway.upstreams.anthropic.messages import translate_conversation, with_cache_control
from gateway.upstreams.anthropic.schemas import close_schema
from gateway.upstreams.dialect import UpstreamRequest

_PATH = "/messages"
_TOOL_CHOICES = {"none": "none", "auto": "auto", "required": "any"}
_NO_PARAMETERS = {"type": "object", "properties": {}}
_SERVICE_TIERS = {"auto": "auto", "default": "standard_only"}


def build_request(deployment: DeploymentEntry, call: ChatCall, plan: Plan, *, is_stream: bool) -> UpstreamRequest:
    """Return the request of a call without obstacles."""
    upstream = deployment.upstream
    body = translate_body(
        call.body,
        model=deployment.upstream_model,
        max_tokens=plan.output_tokens_per_choice,
        is_stream=is_stream,
        takes_sampling=Capability.SAMPLING in deployment.capabilities,
    )
    # The version is a header here, never a query.
    url = endpoint_url(upstream.base_url, _PATH, model=deployment.upstream_model, api_version="")
    return UpstreamRequest(url=url, headers=request_headers(upstream), body=orjson.dumps(body))


def translate_body(
    body: Mapping[str, Any], *, model: str, max_tokens: int, is_stream: bool, takes_sampling: bool
) -> dict[str, Any]:
    """Return the body of a Messages request.

    `max_tokens` is required there, and what is held is what the upstream is told. Without `takes_sampling` temperature
    and top_p are left out: by then they are 1, which is what they are without being said.
    """
    conversation = translate_conversation(body["messages"])
    translated: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "messages": conversation.messages}
    if conversation.system:
        translated["system"] = conversation.system
    if is_stream:
        translated["stream"] = True
    if takes_sampling:
        translated |= {name: body[name] for name in ("temperature", "top_p") if body.get(name) is not None}
    if stop := body.get("stop"):
        translated["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if user := body.get("safety_identifier") or body.get("user"):
        translated["metadata"] = {"user_id": _opaque(user)}
    if tier := _SERVICE_TIERS.get(body.get("service_tier") or ""):
        translated["service_tier"] = tier
    return translated | _tools(body) | _output(body)


def _opaque(user: str) -> str:
    """Return an identifier that tells nothing: Anthropic asks for no names and addresses, and customers send them."""
    return hashlib.sha256(user.encode(errors="replace")).hexdigest()[:32]


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    tools = body.get("tools")
    if not tools:
        return {}
    translated: dict[str, Any] = {"tools": [_tool(tool) for tool in tools]}
    choice = _choice(body.get("tool_choice"))
    if body.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    # "auto" is what goes without saying.
    return translated if choice == {"type": "auto"} else {**translated, "tool_choice": choice}


def _tool(holder: Mapping[str, Any]) -> dict[str, Any]:
    function = holder["function"]
    schema = function.get("parameters") or _NO_PARAMETERS
    tool: dict[str, Any] = {
        "name": function["name"],
        "input_schema": close_schema(schema) if function.get("strict") else schema,
    }
    if function.get("description"):
        tool["description"] = function["description"]
    if function.get("strict") is not None:
        tool["strict"] = function["strict"]
    return with_cache_control(tool, holder)


def _choice(choice: str | Mapping[str, Any] | None) -> dict[str, Any]:
    if isinstance(choice, Mapping):
        return {"type": "tool", "name": choice["function"]["name"]}
    return {"type": _TOOL_CHOICES[choice or "auto"]}


def _output(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the answer is to be made: the schema that it has to fit, the effort, or none at all."""
    config: dict[str, Any] = {}
    translated: dict[str, Any] = {}
    response_format = body.get("response_format")
    if response_format and response_format["type"] == "json_schema":
        config["format"] = {
            "type": "json_schema",
            "schema": close_schema(response_format["json_schema"].get("schema") or {}),
        }
    effort = body.get("reasoning_effort")
    if effort == "none":
        translated["thinking"] = {"type": "disabled"}
    elif effort:
        config["effort"] = "low" if effort == "minimal" else effort
    return {**translated, "output_config": config} if config else translated
