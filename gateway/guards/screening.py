"""The guards of one call: what it is checked by, what was found, and what was taken out of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from gateway.guard_rows import GuardNotes
from gateway.guards.combining import Guard, Target
from gateway.guards.errors import ContentBlocked
from gateway.guards.texts import Change, Text
from gateway.guards.values import Surface
from gateway.guards.vault import Vault
from gateway.guards.windows import TextBlocked, Window

if TYPE_CHECKING:
    from gateway.calls import ChatCall
    from gateway.chat.counting import InputCount
    from gateway.prompt_requests import PromptRequest
    from prompts.json_values import JsonObject

_T = TypeVar("_T")


class Screening:
    """Lives as long as its call; a call that is planned again gets a new one."""

    __slots__ = ("call", "count", "guard", "has_judges", "inputs", "judged", "notes", "request", "vault")

    def __init__(
        self, guard: Guard, *, call: "ChatCall | None", count: "InputCount | None", request: "PromptRequest | None"
    ) -> None:
        self.guard = guard
        # As they were before anything was taken out of them.
        self.call = call
        self.count = count
        self.request = request
        # What a prompt is filled in with in place of its inputs.
        self.inputs: JsonObject | None = None
        self.vault = Vault()
        self.notes = GuardNotes()
        self.has_judges = any(surface_guard.judges for surface_guard in guard.values())
        # Texts of the input that models are to judge, as they go on.
        self.judged: list[Text] = []

    @property
    def changes_answers(self) -> bool:
        """Return whether answers are checked, or have something to be put back."""
        return Surface.ANSWER in self.guard or self.vault.restores

    def check(self, change_all: Callable[[Change], _T]) -> _T:
        """Return what `change_all` makes of a call's texts with all that is to be redacted replaced.

        `change_all` hands every text to the function that it is given. Raises ContentBlocked.
        """

        def read_all() -> list[str]:
            texts: list[str] = []
            change_all(lambda text: _remember(texts, text))
            return texts

        self.vault.avoid(read_all)
        return change_all(self._check)

    def _check(self, text: Text) -> str:
        guard = self.guard.get(text.surface)
        if guard is None or not text.text:
            return text.text
        window = Window(guard, place=text.place, note=self.notes.add, mask=self._mask, is_json=text.is_json)
        try:
            checked = window.feed(text.text, is_end=True)
        except TextBlocked as blocked:
            self.notes.add(blocked.finding)
            raise ContentBlocked(finding=blocked.finding) from None
        if guard.judges:
            self.judged.append(text._replace(text=checked))
        return text.text if checked == text.text else checked

    def _mask(self, target: Target, value: str) -> str:
        return self.vault.mask(target.label, value, restores=target.rule.restores)

    def flags(self) -> list[str]:
        """Return what the usage record says of the findings: one word for each action."""
        return sorted({f"guard_{action.value}" for _, _, action in self.notes.counts})

    def summary(self) -> tuple[tuple[str, str, int], ...]:
        """Return what the caller is told of the findings: rule, action, how many."""
        return tuple((rule, action.value, number) for (_, rule, action), number in self.notes.counts.items())


def mask_in_answer(target: Target, _: str) -> str:
    """Return what stands in an answer for what was found there; nobody puts it back."""
    return f"[{target.label}]"


def answer_window(screening: Screening, place: str, *, is_json: bool) -> Window:
    """Return what a text of the answer goes through."""
    return Window(
        screening.guard.get(Surface.ANSWER),
        place=place,
        note=screening.notes.add,
        mask=mask_in_answer,
        vault=screening.vault if screening.vault.restores else None,
        is_json=is_json,
    )


def _remember(texts: list[str], text: Text) -> str:
    texts.append(text.text)
    return text.text
