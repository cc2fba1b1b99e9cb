"""The language of templates: the part of Jinja that needs no trust, told apart before the engine sees a text.

Allowed are expressions with filters, `if`, `for` and `include`. Everything that can bind a growing value (`set`,
`with`, `macro`, `*`) or call what it was given is refused, so that the work of a template is bounded by its length,
its inputs and the engine's fuel: without binding, text cannot be doubled and doubled again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prompts.errors import TemplateInvalid
from prompts.names import PromptReference, parse_reference

MAX_TEMPLATE_CHARACTERS = 100_000
# An expression repeats a value at most once in two characters, so this bounds what one may build.
MAX_TAG_CHARACTERS = 300
# What a loop repeats for one unit of fuel.
MAX_LOOP_TEXT_CHARACTERS = 1_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FILTERS = _words(
    "abs capitalize d default delimited first float indent int items join last length list lower replace "
    "reverse round sort split string title tojson trim truncate unique upper"
)
_TESTS = _words(
    "boolean defined divisibleby endingwith eq even false float ge gt in integer iterable le lower lt "
    "mapping ne none number odd sequence startingwith string true undefined upper"
)
_STATEMENTS = _words("if elif else endif for endfor include break continue")
_WORDS = _words("and or not in is if else true false none True False None")
_OPEN = re.compile(r"\{[{%#]")
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<close>[-+]?%\}|-?\}\})
    |(?P<name>[^\W\d]\w*)
    |(?P<number>\d[\w.]*)
    |(?P<operator>\*\*|//|[=!<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)
_HIDDEN = "names that begin with an underscore cannot be reached"
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Include:
    """An include tag: the reference, and where the tag stands in the source."""

    reference: PromptReference
    start: int
    end: int
    trims_before: bool
    trims_after: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A source that keeps to the language, and what was seen in it."""

    source: str
    includes: tuple[Include, ...]
    # Strings that the author wrote into expressions.
    literals: frozenset[str]
    # Names that loops run over, and names that the template asks about with `is defined` or `default`.
    iterated: frozenset[str]
    optional: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tag:
    opening: str
    start: int
    end: int
    tokens: tuple[_Token, ...]
    trims_before: bool
    trims_after: bool


def parse_template(source: str, *, is_expanded: bool = False) -> Template:
    """Return what `source` says; one that is expanded (its includes are in place) has a length of its own bound.

    Raises TemplateInvalid, naming the line, for what the language does not have.
    """
    if len(source) > MAX_TEMPLATE_CHARACTERS and not is_expanded:
        raise TemplateInvalid(
            f"A message has at most {MAX_TEMPLATE_CHARACTERS:,} characters, this one {len(source):,}. Split it, or "
            "pass long text as an input.",
            param="messages",
        )
    includes: list[Include] = []
    literals: set[str] = set()
    iterated: set[str] = set()
    optional: set[str] = set()
    loops, position = 0, 0
    for tag in _tags(source):
        if loops and tag.start - position > MAX_LOOP_TEXT_CHARACTERS:
            raise _refusal(source, position, f"text inside a loop has at most {MAX_LOOP_TEXT_CHARACTERS:,} characters")
        position = tag.end
        if tag.opening == "{#":
            continue
        _check_tag(source, tag)
        literals.update(_unquoted(token.text) for token in tag.tokens if token.kind == "string")
        optional.update(_optional_names(tag.tokens))
        statement = tag.tokens[0].text if tag.opening == "{%" else ""
        if statement == "for":
            loops += 1
            iterated.update(_iterated_name(tag.tokens))
        elif statement == "endfor":
            loops -= 1
        elif statement == "include":
            includes.append(_include(source, tag))
    return Template(
        source=source,
        includes=tuple(includes),
        literals=frozenset(literals),
        iterated=frozenset(iterated),
        optional=frozenset(optional),
    )


def _tags(source: str) -> Iterator[_Tag]:
    position = 0
    while (opening := _OPEN.search(source, position)) is not None:
        start = opening.start()
        if opening[0] == "{#":
            end = source.find("#}", opening.end())
            if end < 0:
                raise _refusal(source, start, "a comment is not closed with '#}'")
            tag = _Tag(opening="{#", start=start, end=end + 2, tokens=(), trims_before=False, trims_after=False)
        else:
            tag = _read_tag(source, start, opening[0])
        yield tag
        position = tag.end


def _read_tag(source: str, start: int, opening: str) -> _Tag:
    position = start + 2
    trims_before = source[position : position + 1] == "-"
    if source[position : position + 1] in ("-", "+"):
        position += 1
    closing = "}}" if opening == "{{" else "%}"
    tokens: list[_Token] = []
    while (found := _TOKEN.match(source, position)) is not None:
        position = found.end()
        if position - start > MAX_TAG_CHARACTERS:
            raise _refusal(source, start, f"what stands between braces has at most {MAX_TAG_CHARACTERS} characters")
        kind = str(found.lastgroup)
        # "}}" also closes two mappings; those cannot be written, so it always ends the tag.
        if kind == "close":
            if not found[0].endswith(closing):
                raise _refusal(source, start, f"'{opening}' is closed with '{found[0]}'")
            return _Tag(
                opening=opening,
                start=start,
                end=position,
                tokens=tuple(tokens),
                trims_before=trims_before,
                trims_after=found[0].startswith("-"),
            )
        if kind != "space":
            tokens.append(_Token(kind, found[0]))
    raise _refusal(source, start, f"'{opening}' is not closed with '{closing}'")


def _check_tag(source: str, tag: _Tag) -> None:
    tokens = tag.tokens
    if not tokens:
        raise _refusal(source, tag.start, "there is nothing between the braces")
    if tag.opening == "{%" and tokens[0].text not in _STATEMENTS:
        raise _refusal(
            source,
            tag.start,
            f"'{tokens[0].text}' is not part of the language of prompts, which has if, for and include",
        )
    for index, token in enumerate(tokens):
        before = tokens[index - 1].text if index else ""
        after = tokens[index + 1].text if index + 1 < len(tokens) else ""
        problem = _problem(token, before=before, before_that=tokens[index - 2].text if index > 1 else "", after=after)
        if problem:
            raise _refusal(source, tag.start, problem)


def _problem(token: _Token, *, before: str, before_that: str, after: str) -> str:
    if token.kind == "operator":
        return _operator_problem(token.text, before)
    if token.kind == "string":
        return _HIDDEN if token.text[1:2] == "_" and before == "[" else ""
    return _name_problem(token.text, before, before_that, after) if token.kind == "name" else ""


def _operator_problem(text: str, before: str) -> str:
    if text in ("*", "**"):
        return "multiplying is not part of the language of prompts; pass the result as an input"
    if text in ("{", "}"):
        return "mappings cannot be written in a template; pass them as inputs"
    if text == "(" and (before in (")", "]") or before.endswith(('"', "'"))):
        return "calling is not part of the language of prompts; use a filter"
    return ""


def _name_problem(text: str, before: str, before_that: str, after: str) -> str:
    if before == "|":
        return "" if text in FILTERS else f"there is no filter '{text}'; filters are: {', '.join(sorted(FILTERS))}"
    if before == "is" or (before == "not" and before_that == "is"):
        return "" if text in _TESTS or text == "not" else f"there is no test '{text}'"
    if before == "." and text.startswith("_"):
        return _HIDDEN
    if text == "recursive":
        return "loops cannot be recursive"
    if after == "(" and text != "range" and text not in _WORDS and text not in _STATEMENTS:
        return f"'{text}(' would be a call; only range(...) can be called, everything else is a filter"
    return ""


def _include(source: str, tag: _Tag) -> Include:
    tokens = tag.tokens
    if len(tokens) != 2 or tokens[1].kind != "string":
        raise _refusal(source, tag.start, 'an include is written {% include "name@label" %}, with nothing else in it')
    text = _unquoted(tokens[1].text)
    reference = parse_reference(text)
    if reference is None:
        raise _refusal(source, tag.start, f'\'{text}\' names no prompt and version; write "name@label" or "name@2"')
    return Include(
        reference=reference,
        start=tag.start,
        end=tag.end,
        trims_before=tag.trims_before,
        trims_after=tag.trims_after,
    )


def _iterated_name(tokens: tuple[_Token, ...]) -> Iterator[str]:
    """Yield the name that `for a in NAME` or `for a, b in NAME|items` runs over."""
    for index, token in enumerate(tokens):
        if token.text == "in" and index + 1 < len(tokens) and tokens[index + 1].kind == "name":
            after = tokens[index + 2].text if index + 2 < len(tokens) else ""
            if after in ("", "|", "if"):
                yield tokens[index + 1].text
            return


def _optional_names(tokens: tuple[_Token, ...]) -> Iterator[str]:
    texts = [token.text for token in tokens]
    for index, token in enumerate(tokens):
        follows = texts[index + 1 : index + 4]
        asks = follows[:2] in (["is", "defined"], ["is", "undefined"]) or follows == ["is", "not", "defined"]
        if token.kind == "name" and (asks or follows[:2] in (["|", "default"], ["|", "d"])):
            yield token.text


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(r"\1", text[1:-1])


def _refusal(source: str, position: int, reason: str) -> TemplateInvalid:
    line = source.count("\n", 0, position) + 1
    return TemplateInvalid(f"Line {line}: {reason}.", param="messages")
