"""Includes: the text of another prompt, put in place before a template is compiled.

An include in a message of some role stands for the other prompt's messages of that role, joined by an empty line. They
are put in as text, so nothing is looked up while a call is served, and depth, length and cycles are settled here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prompts.content import MessageTemplate, PromptContent
from prompts.engine import MessageSource
from prompts.errors import TemplateInvalid
from prompts.names import PromptReference
from prompts.templating import parse_template

MAX_INCLUDE_DEPTH = 5
MAX_EXPANDED_CHARACTERS = 400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class IncludedPrompt:
    """A version that a reference leads to."""

    version_id: int
    content: PromptContent


# Returns the version that a reference means now, or None.
FindIncluded = Callable[[PromptReference], IncludedPrompt | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """Messages with their includes in place."""

    messages: tuple[MessageSource, ...]
    # The versions whose text went in, directly or through others.
    included: frozenset[int]


def find_nothing(_: PromptReference) -> None:
    """Answer for texts that are looked at alone: no reference leads anywhere."""


def expand_messages(name: str, messages: tuple[MessageTemplate, ...], find: FindIncluded) -> Expanded:
    """Return the messages of the prompt `name` with all includes replaced by their text.

    Raises TemplateInvalid for text that is not in the language, an include that leads nowhere, a prompt that includes
    itself by whatever way, and more than MAX_INCLUDE_DEPTH levels or MAX_EXPANDED_CHARACTERS characters.
    """
    expansion = _Expansion(find)
    sources = []
    for message in messages:
        literals: set[str] = set()
        text = expansion.expand(message.template, message.role, (name,), literals)
        sources.append(MessageSource(role=message.role.value, source=text, literals=frozenset(literals)))
    return Expanded(messages=tuple(sources), included=frozenset(expansion.included))


def find_references(messages: tuple[MessageTemplate, ...]) -> tuple[PromptReference, ...]:
    """Return what the messages include themselves. Raises TemplateInvalid."""
    return tuple(include.reference for m in messages for include in parse_template(m.template).includes)


class _Expansion:
    def __init__(self, find: FindIncluded) -> None:
        self.included: set[int] = set()
        self._find = find
        self._length = 0

    def expand(self, source: str, role: str, above: tuple[str, ...], literals: set[str]) -> str:
        template = parse_template(source)
        literals |= template.literals
        self._grow(len(source))
        parts, position = [], 0
        for include in template.includes:
            reference = include.reference
            text = self._text_of(reference, role, above, literals)
            before = "{#- #}" if include.trims_before else ""
            after = "{# -#}" if include.trims_after else ""
            parts += [source[position : include.start], before, text, after]
            position = include.end
        return "".join([*parts, source[position:]])

    def _text_of(self, reference: PromptReference, role: str, above: tuple[str, ...], literals: set[str]) -> str:
        if reference.name in above:
            way = " > ".join([*above, reference.name])
            raise TemplateInvalid(f"The include '{reference}' goes round in a circle: {way}.", param="messages")
        if len(above) > MAX_INCLUDE_DEPTH:
            raise TemplateInvalid(
                f"The include '{reference}' is more than {MAX_INCLUDE_DEPTH} levels deep.", param="messages"
            )
        found = self._find(reference)
        if found is None:
            raise TemplateInvalid(
                f"The include '{reference}' leads nowhere: no such prompt, or no published version that answers to it.",
                param="messages",
            )
        self.included.add(found.version_id)
        texts = [
            self.expand(m.template, role, (*above, reference.name), literals).removesuffix("\n")
            for m in found.content.messages
            if m.role == role
        ]
        if not texts:
            raise TemplateInvalid(
                f"The include '{reference}' stands in a {role} message, and that prompt has no {role} message.",
                param="messages",
            )
        return "\n\n".join(texts)

    def _grow(self, characters: int) -> None:
        self._length += characters
        if self._length > MAX_EXPANDED_CHARACTERS:
            raise TemplateInvalid(
                f"With its includes the prompt is longer than {MAX_EXPANDED_CHARACTERS:,} characters.",
                param="messages",
            )
