"""Two contents side by side: messages, schemas and settings, with what changed marked in each."""

from dataclasses import dataclass

from diff_match_patch.diff_match_patch import diff_match_patch

from prompts.content import PromptContent
from prompts.json_values import to_json

# Of one part; past it the library gives a coarser answer, which is still right.
_TIMEOUT_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of text on one side."""

    text: str
    is_changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSection:
    """One part of a content on both sides."""

    title: str
    old: tuple[Segment, ...]
    new: tuple[Segment, ...]

    @property
    def is_changed(self) -> bool:
        return any(segment.is_changed for segment in (*self.old, *self.new))


def diff_contents(old: PromptContent, new: PromptContent) -> tuple[DiffSection, ...]:
    """Return all parts that either side has, in the order of the editor."""
    before, after = dict(_parts(old)), dict(_parts(new))
    titles = sorted({**before, **after}, key=_order)
    return tuple(diff_texts(title, before.get(title, ""), after.get(title, "")) for title in titles)


def diff_texts(title: str, old: str, new: str) -> DiffSection:
    """Return two texts with their differences, in bounded time."""
    engine = diff_match_patch()
    engine.Diff_Timeout = _TIMEOUT_SECONDS
    found = engine.diff_main(old, new)
    engine.diff_cleanupSemantic(found)
    return DiffSection(
        title=title,
        old=tuple(Segment(text=text, is_changed=kind != 0) for kind, text in found if kind <= 0),
        new=tuple(Segment(text=text, is_changed=kind != 0) for kind, text in found if kind >= 0),
    )


def _parts(content: PromptContent) -> list[tuple[str, str]]:
    found = [(f"Message {i}", f"{m.role.value}\n\n{m.template}") for i, m in enumerate(content.messages, start=1)]
    settings = {
        "Inputs": "" if content.input_schema is None else to_json(content.input_schema, is_pretty=True),
        "Output": "text" if content.output_schema is None else to_json(content.output_schema, is_pretty=True),
        "Model": content.model,
        "Parameters": to_json(content.parameters, is_pretty=True) if content.parameters else "",
        "Callers may set": ", ".join(content.allowed_overrides),
    }
    return [*found, *settings.items()]


def _order(title: str) -> tuple[int, int]:
    if title.startswith("Message "):
        return 0, int(title.removeprefix("Message "))
    return 1, ("Inputs", "Output", "Model", "Parameters", "Callers may set").index(title)
