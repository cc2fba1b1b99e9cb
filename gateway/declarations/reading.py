"""From a file's text to checked entries, with every problem named by line and field."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.declarations.document import Data, Document, Path, Problem
from gateway.declarations.entry import Entry
from gateway.declarations.schema import SECTIONS, KeyEntry, PlanEntry, PriceEntry, nested_entry

Identity = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One entry and where it is."""

    entry: Entry
    path: Path


@dataclass(slots=True, kw_only=True)
class Declarations:
    """A file's valid entries by section, and what was wrong with the others."""

    document: Document
    sections: dict[str, list[Declared]] = field(default_factory=lambda: {name: [] for name in SECTIONS})
    problems: list[Problem] = field(default_factory=list)
    # What the file names at all, valid or not: a reference to something whose own entry is wrong is told only there.
    named: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in SECTIONS})

    def report(self, path: Path, message: str) -> None:
        """Add a problem at a place in the file."""
        self.problems.append(self.document.problem(path, message))


def read_declarations(text: str) -> Declarations:
    """Return what `text` declares. Raises DeclarationsInvalid only for what is not YAML at all."""
    document = Document(text)
    found = Declarations(document=document)
    found.problems += document.problems
    for name, items in _sections(document.data, found):
        seen: dict[Identity, Path] = {}
        for index, item in enumerate(items):
            path: Path = (name, index)
            if isinstance(item, dict) and isinstance(item.get(_name_field(name)), str):
                found.named[name].add(str(item[_name_field(name)]))
            entry = _read_entry(SECTIONS[name], item, path, found)
            if entry is None:
                continue
            first = seen.setdefault(_identity(entry), path)
            if first != path:
                line = document.line_of(first)
                found.report(path, f"is declared twice, first in line {line}")
                continue
            found.sections[name].append(Declared(entry=entry, path=path))
    return found


def _sections(data: Data, found: Declarations) -> Iterator[tuple[str, list[Data]]]:
    if data is None:
        return
    if not isinstance(data, dict):
        found.report((), f"a file is a mapping of sections: {', '.join(SECTIONS)}")
        return
    for name in data:
        if name not in SECTIONS:
            found.report((name,), _unknown(name, list(SECTIONS), "section"))
    for name in SECTIONS:
        items = data.get(name)
        if isinstance(items, list):
            yield name, items
        elif items is not None:
            found.report((name,), "must be a list: begin each entry with '- '")


def _read_entry(kind: type[Entry], item: Data, path: Path, found: Declarations) -> Entry | None:
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            found.report((*path, *detail["loc"]), _explain(detail, kind))
        return None


def _explain(detail: ErrorDetails, kind: type[Entry]) -> str:
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return _unknown(str(detail["loc"][-1]), _siblings(detail["loc"], kind), "field")
        case "model_type" | "model_attributes_type":
            return "must be a mapping of fields"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "string_type":
            return "must be text; quote it if it looks like nothing"
    message = detail["msg"]
    return message[0].lower() + message[1:]


def _siblings(location: tuple[int | str, ...], kind: type[Entry]) -> list[str]:
    current = kind
    for step in location[:-1]:
        if isinstance(step, str):
            current = nested_entry(current, step) or current
    return list(current.model_fields)


def _unknown(name: str, known: list[str], what: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown {what}; did you mean '{close[0]}'?" if close else f"unknown {what}; known: {', '.join(known)}"


def _name_field(section: str) -> str:
    return {"plans": "slug", "prices": "model"}.get(section, "name")


def _identity(entry: Entry) -> Identity:
    match entry:
        case KeyEntry():
            return (entry.customer, entry.name)
        case PriceEntry():
            return (entry.price_list, entry.model, str(entry.effective_from))
        case PlanEntry():
            return (entry.slug,)
    return (str(getattr(entry, "name")),)  # noqa: B009 - every other entry has one, which Entry cannot say
