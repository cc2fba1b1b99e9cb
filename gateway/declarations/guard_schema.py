"""The part of a declarations file that is about content guards."""

from typing import Annotated

from pydantic import Field

from gateway.declarations.entry import Entry, Slug
from gateway.guard_models import GuardAction, GuardKind, GuardOnFailure
from gateway.guards.checking import MOST_INSTRUCTIONS

_Name = Annotated[str, Field(min_length=1, max_length=120)]


class GuardKeyEntry(Entry):
    """A key, by its customer and its name."""

    customer: _Name
    name: _Name


class GuardRuleEntry(Entry):
    """One rule, known by its name in its policy."""

    name: Annotated[Slug, Field(max_length=60)]
    kind: GuardKind | None = None
    action: GuardAction | None = None
    is_active: bool = True
    on_user: bool = True
    on_tool: bool = True
    on_system: bool = False
    on_answer: bool = False
    entities: list[str] = []
    terms: list[str] = []
    threshold: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    pattern: Annotated[str, Field(max_length=500)] = ""
    languages: list[str] = []
    max_characters: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    judge_model: str | None = None
    judge_key: GuardKeyEntry | None = None
    instructions: Annotated[str, Field(max_length=MOST_INSTRUCTIONS)] = ""
    deadline_ms: int = 2_000
    on_failure: GuardOnFailure = GuardOnFailure.BLOCK


class GuardEntry(Entry):
    """A policy; rules and assignments that are not listed stay."""

    name: Annotated[Slug, Field(max_length=60)]
    description: str = ""
    is_active: bool = True
    is_for_everybody: bool = False
    restores: bool = True
    rules: list[GuardRuleEntry] = []
    plans: list[str] = []
    customers: list[str] = []
    keys: list[GuardKeyEntry] = []
    prompts: list[str] = []
