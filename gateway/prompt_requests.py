"""A call that names a prompt: read from the body of a run, or from `prompt` in a chat completion. Nothing is resolved.

What a prompt fixes is not the caller's to say: `response_format` is refused beside one, and messages that a chat
completion appends cannot be system messages.
"""

from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gateway.errors import BodyInvalid, ParameterUnknown
from prompts.json_values import JsonObject
from prompts.parameters import OVERRIDE_NAMES

_MAX_TAGS = 16
_APPENDED_ROLES = ("user", "assistant", "tool", "function")

Tag = Annotated[str, StringConstraints(max_length=512)]
TagName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class PromptChoice(BaseModel):
    """`prompt` in a chat completion."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=80, description="The prompt's name.")
    version: str | int | None = Field(
        default=None,
        description="A label ('production', which is the default), a major ('2'), or a whole number ('2.1.0').",
    )
    inputs: dict[str, Any] = Field(default_factory=dict, description="What the prompt's input schema asks for.")
    session_id: str | None = Field(
        default=None, max_length=200, description="During a rollout, a session stays with one version."
    )


class RunRequest(BaseModel):
    """The body of `POST /v1/prompts/{name}/runs`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: dict[str, Any] = Field(default_factory=dict, description="What the prompt's input schema asks for.")
    version: str | int | None = Field(
        default=None,
        description="A label ('production', which is the default), a major ('2'), or a whole number ('2.1.0').",
    )
    stream: bool | None = Field(default=None, description="Answer with an event stream.")
    session_id: str | None = Field(
        default=None, max_length=200, description="During a rollout, a session stays with one version."
    )
    tags: dict[TagName, Tag] | None = Field(
        default=None, max_length=_MAX_TAGS, description="Kept in the usage record, for attributing costs."
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of the call, as far as the prompt lets callers set them."
    )


class PromptRequest(NamedTuple):
    """Which prompt, with what, and what else the call says."""

    name: str
    pin: str | None
    inputs: JsonObject
    session_id: str | None
    overrides: JsonObject
    # Put behind the prompt's own.
    messages: list[dict[str, Any]]
    # Parameters that are no business of the prompt's: stream, metadata, user, tools, ...
    others: dict[str, Any]
    # As it was sent; by it a repeat is known.
    body: dict[str, Any]


def read_run(body: dict[str, Any], name: str) -> PromptRequest:
    """Return what the body of a run asks for. Raises BodyInvalid or ParameterUnknown."""
    run = _read(RunRequest, body, "")
    others: dict[str, Any] = {"stream": bool(run.stream)}
    if run.tags:
        others["metadata"] = run.tags
    return PromptRequest(
        name=name,
        pin=None if run.version is None else str(run.version),
        inputs=run.inputs,
        session_id=run.session_id,
        overrides=run.parameters,
        messages=[],
        others=others,
        body={"prompt": name, **body},
    )


def read_chat(body: dict[str, Any]) -> PromptRequest:
    """Return what a chat completion with `prompt` asks for; the rest of the body is checked once it is filled in.

    Raises BodyInvalid or ParameterUnknown.
    """
    chosen = _read(PromptChoice, body["prompt"], "prompt")
    messages = body.get("messages")
    if messages is None:
        messages = []
    if not isinstance(messages, list):
        raise BodyInvalid("'messages' must be a list; it may be empty beside 'prompt'.", param="messages")
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _APPENDED_ROLES:
            raise BodyInvalid(
                f"'messages[{index}].role': beside 'prompt' it must be one of {', '.join(_APPENDED_ROLES)}; the system "
                "message is the prompt's.",
                param=f"messages[{index}].role",
            )
    if body.get("response_format") is not None:
        raise BodyInvalid("'response_format' is decided by the prompt; leave it out.", param="response_format")
    rest = {key: value for key, value in body.items() if key not in ("prompt", "messages") and value is not None}
    if "max_tokens" in rest:
        rest["max_completion_tokens"] = rest.pop("max_tokens")
    if not rest.get("model"):
        # The stock SDK cannot leave it out.
        rest.pop("model", None)
    return PromptRequest(
        name=chosen.name,
        pin=None if chosen.version is None else str(chosen.version),
        inputs=chosen.inputs,
        session_id=chosen.session_id,
        overrides={key: value for key, value in rest.items() if key in OVERRIDE_NAMES},
        messages=messages,
        others={key: value for key, value in rest.items() if key not in OVERRIDE_NAMES},
        body=body,
    )


def _read(model: type[RunRequest] | type[PromptChoice], value: Any, where: str) -> Any:
    prefix = f"{where}." if where else ""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        unknown = sorted(f"{prefix}{p['loc'][0]}" for p in problems if p["type"] == "extra_forbidden")
        if unknown:
            raise ParameterUnknown(names=unknown) from None
        place = prefix + ".".join(str(step) for step in problems[0]["loc"] if step not in ("str", "int"))
        message = problems[0]["msg"]
        raise BodyInvalid(f"'{place.rstrip('.')}': {message[0].lower()}{message[1:]}.", param=place) from None
