"""One run over one file: what the steps for its sections share, and how they refuse an entry."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model as Row

from common.errors import TollkeeperError
from gateway.declarations.changes import ChangeLog, FieldChange
from gateway.declarations.document import Path
from gateway.declarations.reading import Declarations
from keys.audit import action_on, command_actor, record_event

AUTHOR = "manage.py apply"
ACTOR = command_actor(AUTHOR)


class EntryRefused(Exception):
    """An entry cannot be applied; `location` is the field inside the entry."""

    def __init__(self, message: str, *location: str | int) -> None:
        super().__init__(message)
        self.message = message
        self.location: Path = location


class ReferenceBroken(Exception):
    """An entry names one of the file that has problems of its own: those are told, this is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """The file, the log of what it changes, and the world that it is applied in."""

    declarations: Declarations
    log: ChangeLog
    now: datetime
    variables: Mapping[str, str] = field(repr=False)

    @contextmanager
    def reporting(self, path: Path) -> Iterator[None]:
        """Turn what is wrong with an entry at `path` into problems, so that the others can still be checked.

        What the entry had written is rolled back.
        """
        report = self.declarations.report
        try:
            with transaction.atomic():
                yield
        except ReferenceBroken:
            pass
        except EntryRefused as error:
            report((*path, *error.location), error.message)
        except TollkeeperError as error:
            report((*path, error.param) if error.param else path, error.message)
        except ValidationError as error:
            for column, messages in error.message_dict.items():
                report(path if column == NON_FIELD_ERRORS else (*path, column), " ".join(messages))
        except IntegrityError as error:
            report(path, f"the database refuses it: {str(error).splitlines()[0]}")

    def record(self, row: Row, changes: Sequence[FieldChange], *, is_new: bool = False) -> None:
        """Tell the audit trail of a saved row; nothing where nothing changed."""
        if not is_new and not changes:
            return
        record_event(
            actor=ACTOR,
            action=action_on(row, "created" if is_new else "changed"),
            target=row,
            before={} if is_new else {change.field: change.old for change in changes},
            after={change.field: change.new for change in changes},
        )

    def refuse_reference(self, section: str, name: str, *location: str | int) -> Exception:
        """Return the error for a name that is not in the database."""
        if name in self.declarations.named[section]:
            return ReferenceBroken()
        kind = section.removesuffix("s")
        return EntryRefused(f"there is no {kind} '{name}', in the file or in the database", *location)

    def secret(self, given: str | None, variable: str | None, location: str) -> str | None:
        """Return the secret of an entry, from the file or the environment; None when it gives none."""
        if variable is None:
            return given
        value = self.variables.get(variable, "").strip()
        if not value:
            raise EntryRefused(f"the environment variable {variable} is not set", location)
        return value
