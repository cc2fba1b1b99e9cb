"""prompt + inputs -> ChatCall, by the releases of one generation of the catalogue; other calls pass through.

Done again when a call is planned again: a label that was moved in the meantime counts.
"""

from typing import Any

from gateway.calls import Exchange, PromptMark
from gateway.chat.parameters import check_parameters
from gateway.errors import BodyInvalid
from gateway.prompt_requests import PromptRequest
from gateway.runtime import Runtime
from gateway.stages.parse import accept_body
from gateway.structured.contracts import format_of_schema
from gateway.structured.errors import OutputSchemaInvalid
from gateway.structured.schemas import compile_output_schema
from keys.errors import InsufficientScope
from keys.scopes import Scope
from prompts.errors import PromptNotFound, PromptUnusable
from prompts.json_values import JsonObject
from prompts.parameters import MODEL
from prompts.rendering import render_prompt
from prompts.snapshots import ResolvedPrompt, resolve_prompt

# By id of their version, which is immutable; oldest out first.
_formats: dict[int, dict[str, Any]] = {}
_MOST_FORMATS = 1_000


async def fill(runtime: Runtime, exchange: Exchange) -> None:
    """Fill in call, count and prompt mark of a call that names a prompt.

    Raises InsufficientScope, PromptNotFound (also for a prompt that is not on the key's list), what resolving and
    rendering raise (`prompts.errors`), or BodyInvalid.
    """
    request, principal = exchange.prompt_request, exchange.principal
    if request is None:
        return
    assert principal is not None
    if Scope.PROMPTS_RUN not in principal.scopes:
        raise InsufficientScope(scope=Scope.PROMPTS_RUN)
    if not principal.may_run_prompt(request.name):
        raise PromptNotFound(name=request.name)
    resolved = resolve_prompt(
        runtime.clerk.catalogue.prompts,
        request.name,
        request.pin,
        customer_id=principal.customer_id,
        session_id=request.session_id,
    )
    shown = None if exchange.screening is None else exchange.screening.inputs
    body = _fill_in(resolved, request, shown)
    check_parameters(body)
    exchange.prompt_mark = _mark(resolved)
    await accept_body(runtime, exchange, body)


def _fill_in(resolved: ResolvedPrompt, request: PromptRequest, shown: JsonObject | None) -> dict[str, Any]:
    content = resolved.compiled.content
    overrides, model = _split_model(request.overrides, content.model)
    rendered = render_prompt(resolved.compiled, request.inputs, shown=shown, overrides=overrides)
    model = model or rendered.model
    if not model:
        raise BodyInvalid("This prompt leaves the model to its callers: name one in 'model'.", param="model")
    body = {
        **request.others,
        **rendered.parameters,
        "model": model,
        "messages": [*rendered.message_dicts(), *request.messages],
    }
    if rendered.output_schema is not None:
        body["response_format"] = _format_of(resolved, rendered.output_schema)
    return body


def _split_model(overrides: JsonObject, model: str) -> tuple[JsonObject, str]:
    """Return the overrides that the prompt has to allow, and the model where it is the caller's to name.

    It is where the prompt names none, and naming the prompt's own is no override.
    """
    named = overrides.get(MODEL)
    if isinstance(named, str) and model in ("", named):
        return {name: value for name, value in overrides.items() if name != MODEL}, named
    return overrides, ""


def _format_of(resolved: ResolvedPrompt, schema: JsonObject) -> dict[str, Any]:
    version = resolved.version
    found = _formats.get(version.id)
    if found is None:
        try:
            compiled = compile_output_schema(schema, param="output_schema")
        except OutputSchemaInvalid as error:
            raise PromptUnusable(
                name=version.prompt, number=str(version.number), reason=f"output schema: {error.message}"
            ) from None
        if len(_formats) >= _MOST_FORMATS:
            _formats.pop(next(iter(_formats)), None)
        found = _formats[version.id] = format_of_schema(version.prompt.replace(".", "_"), compiled)
    return found


def _mark(resolved: ResolvedPrompt) -> PromptMark:
    version = resolved.version
    return PromptMark(
        name=version.prompt,
        version=str(version.number),
        label=resolved.label,
        deprecated_us=version.deprecated_us,
        sunset_us=version.sunset_us,
    )
