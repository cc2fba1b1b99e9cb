"""What a call needs of the model behind it, and what an upstream can do; each capability described once.

A capability is a column of upstreams (what the provider can do) and of deployments (where one model differs).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Any


class Capability(IntFlag):
    """What not every model or provider can do."""

    TOOLS = 1
    JSON_SCHEMA = 2
    IMAGES = 4
    LOGPROBS = 8
    CHOICES = 16
    SAMPLING = 32


NO_CAPABILITIES = Capability(0)
_TOOLS, _IMAGES, _LOGPROBS, _CHOICES, _SAMPLING = (
    int(c) for c in (Capability.TOOLS, Capability.IMAGES, Capability.LOGPROBS, Capability.CHOICES, Capability.SAMPLING)
)
# Every set of capabilities by its number.
_SETS = tuple(Capability(number) for number in range(2 * Capability.SAMPLING))
ALL_CAPABILITIES = (
    Capability.TOOLS
    | Capability.JSON_SCHEMA
    | Capability.IMAGES
    | Capability.LOGPROBS
    | Capability.CHOICES
    | Capability.SAMPLING
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A capability in words."""

    # Of upstreams and deployments; in declaration files; in words.
    column: str
    field: str
    label: str
    # The parameter that asks for it, and how a call does without. Empty: it is served without, in another way.
    param: str = ""
    refusal: str = ""


DESCRIPTIONS: dict[Capability, Description] = {
    Capability.TOOLS: Description(
        column="takes_tools",
        field="tools",
        label="Tools",
        param="tools",
        refusal="cannot call tools. Remove 'tools' (and 'functions')",
    ),
    Capability.JSON_SCHEMA: Description(
        column="native_json_schema",
        field="json_schema",
        # Without it the schema is put into the system message, see `gateway.structured`.
        label="JSON schema",
    ),
    Capability.IMAGES: Description(
        column="takes_images",
        field="images",
        label="Images",
        param="messages",
        refusal="reads text only. Remove the images from 'messages'",
    ),
    Capability.LOGPROBS: Description(
        column="gives_logprobs",
        field="logprobs",
        label="Log probabilities",
        param="logprobs",
        refusal="gives no log probabilities. Remove 'logprobs' and 'top_logprobs'",
    ),
    Capability.CHOICES: Description(
        column="takes_several_choices",
        field="several_choices",
        label="Several choices (n)",
        param="n",
        refusal="gives one choice a call. Set 'n' to 1 and call several times",
    ),
    Capability.SAMPLING: Description(
        column="takes_sampling",
        field="sampling",
        label="Temperature, top_p",
        param="temperature",
        refusal="chooses its own sampling. Remove 'temperature' and 'top_p', or set them to 1",
    ),
}
CAPABILITY_COLUMNS = tuple(description.column for description in DESCRIPTIONS.values())


def needs_of(body: Mapping[str, Any], *, images: int) -> Capability:
    """Return what a chat body asks for beyond text in and text out. Neutral values (`n: 1`) ask for nothing."""
    # As plain integers: an operation on flags costs twenty of theirs.
    needs = 0
    if body.get("tools"):
        needs |= _TOOLS
    if images:
        needs |= _IMAGES
    if body.get("logprobs") or body.get("top_logprobs"):
        needs |= _LOGPROBS
    if (body.get("n") or 1) > 1:
        needs |= _CHOICES
    if body.get("temperature") not in (None, 1) or body.get("top_p") not in (None, 1):
        needs |= _SAMPLING
    return _SETS[needs]


def capabilities_of(flags: Iterable[bool | int]) -> Capability:
    """Return the set that the columns of a row stand for, in the order of CAPABILITY_COLUMNS."""
    found = NO_CAPABILITIES
    for capability, is_set in zip(DESCRIPTIONS, flags, strict=True):
        if is_set:
            found |= capability
    return found


def override(base: Capability, flags: Iterable[bool | int | None]) -> Capability:
    """Return `base` with what a deployment says of itself; None leaves a capability as it is."""
    for capability, flag in zip(DESCRIPTIONS, flags, strict=True):
        if flag is not None:
            base = base | capability if flag else base & ~capability
    return base


def first_missing(needs: Capability, capabilities: Capability) -> Capability | None:
    """Return a capability that is needed and not there."""
    if not int(needs) & ~int(capabilities):
        return None
    return next((capability for capability in DESCRIPTIONS if capability & needs & ~capabilities), None)
