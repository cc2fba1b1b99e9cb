"""What applying a file changes, as values, and as the text that an operator reads."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Model as Row

from common.money import format_usd


def show_value(value: object) -> str:
    """Return a value as the file would have it."""
    match value:
        case None:
            return "none"
        case "" | []:
            return "empty"
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case list() | tuple():
            return "[" + ", ".join(str(item) for item in value) + "]"
    return str(value)


def show_usd(value: object) -> str:
    """Return an amount in nano-USD as a plain decimal in USD."""
    return format_usd(value) if isinstance(value, int) else show_value(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A column's value as the file declares it, under the name that the file gives it."""

    field: str
    column: str
    value: object
    show: Callable[[object], str] = show_value


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """A field that becomes another; both sides already fit to be shown."""

    field: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that is created, or whose fields change."""

    is_new: bool
    kind: str
    name: str
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedSecret:
    """A key that was made, and its text, which nobody can show again."""

    customer: str
    name: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The outcome of a file that could be applied."""

    changes: tuple[Change, ...]
    unchanged: int
    issued: tuple[IssuedSecret, ...]
    notes: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class ChangeLog:
    """Collects while a file is applied."""

    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0
    issued: list[IssuedSecret] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def created(self, kind: str, name: str, fields: Iterable[FieldChange] = ()) -> None:
        """Note something new, with what is worth seeing of it."""
        self.changes.append(Change(is_new=True, kind=kind, name=name, fields=tuple(fields)))

    def updated(self, kind: str, name: str, fields: Sequence[FieldChange]) -> None:
        """Note what exists: changed where `fields` says so, else unchanged."""
        if fields:
            self.changes.append(Change(is_new=False, kind=kind, name=name, fields=tuple(fields)))
        else:
            self.unchanged += 1

    def finished(self) -> Applied:
        """Return what was collected, frozen."""
        return Applied(
            changes=tuple(self.changes),
            unchanged=self.unchanged,
            issued=tuple(self.issued),
            notes=tuple(self.notes),
        )


def assign(row: Row, wanted: Iterable[Wanted]) -> list[FieldChange]:
    """Give `row` the wanted values (unsaved) and return what that changes."""
    changes = []
    for item in wanted:
        old = getattr(row, item.column)
        if old != item.value:
            changes.append(FieldChange(field=item.field, old=item.show(old), new=item.show(item.value)))
            setattr(row, item.column, item.value)
    return changes


def render(applied: Applied, *, is_dry_run: bool) -> str:
    """Return the diff as text; secrets of new keys only when they are real."""
    lines = []
    for change in applied.changes:
        lines.append(f"{'+' if change.is_new else '~'} {change.kind} {change.name}")
        for item in change.fields:
            shown = item.new if change.is_new else f"{item.old} -> {item.new}"
            lines.append(f"    {item.field}: {shown}")
    lines.append(f"= {applied.unchanged} unchanged")
    lines += [f"! {note}" for note in applied.notes]
    if is_dry_run:
        lines.append("Dry run: nothing was changed.")
        return "\n".join(lines)
    for issued in applied.issued:
        lines.append(f"Key '{issued.name}' of '{issued.customer}' (shown only now): {issued.token}")
    return "\n".join(lines)
