"""The dates of the API: what each changed, and how an answer looked before it.

The code answers in the newest date. An older one is made from that answer by undoing the changes since, the newest
first; each change says how for each kind of document that it touched. To change the shape of an answer: change it, add
a version at the end of `VERSIONS` with the function that undoes it, and give the version before it a sunset (90 days
or more away). A key is pinned to the newest date by its first call (`keys.pinning`); `API-Version` names another for
one call. A change that has a flag is in force for whoever has the flag on, whatever the date of the key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Any

from django.utils.http import http_date

from gateway.errors import ApiVersionUnknown
from keys.features import UNIFORM_NAMES, Feature
from keys.principals import Principal

Json = dict[str, Any]


class Document(StrEnum):
    """A kind of answer that a change can touch."""

    # A whole prompt run: the JSON answer, the data of `done`, `run` in the `done` of a WebSocket.
    RUN = "run"
    # A row of GET /v1/usage?group_by=...
    USAGE_SUM = "usage_sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that became different with a date."""

    title: str
    description: str
    # Where it shows, in words of the documentation.
    applies_to: tuple[str, ...]
    # Puts a document of the newer shape into the older one; the argument is not kept and may be changed.
    undo: Mapping[Document, Callable[[Json], Json]] = field(default_factory=dict)
    feature: Feature | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A date of the API."""

    released_on: date
    changes: tuple[Change, ...] = ()
    # Since when there is a newer one, and from when on it may be refused; None for the newest.
    deprecated_on: date | None = None
    sunset_on: date | None = None

    @property
    def name(self) -> str:
        return self.released_on.isoformat()


def _undo_names_of_run(run: Json) -> Json:
    run["cost"] = {"usd": run.pop("cost_usd"), "balance_usd": run.pop("balance_usd")}
    run["timing"] = run.pop("timing_ms")
    return run


def _undo_name_of_key(row: Json) -> Json:
    if "api_key" in row:
        row["key"] = row.pop("api_key")
    return row


# Oldest first; the last one is what the code answers.
VERSIONS = (
    Version(released_on=date(2026, 9, 1), deprecated_on=date(2026, 11, 21), sunset_on=date(2027, 3, 1)),
    Version(
        released_on=date(2026, 11, 21),
        changes=(
            Change(
                title="One name for one thing",
                description="Prompt runs say `cost_usd`, `balance_usd` and `timing_ms`, as the `tollkeeper` object of "
                "chat completions does; before they said `cost.usd`, `cost.balance_usd` and `timing`. Sums of usage by "
                "key say `api_key`, as usage records do; before they said `key`.",
                applies_to=(
                    "POST /v1/prompts/{name}/runs",
                    "WebSocket /v1/stream (run)",
                    "GET /v1/usage?group_by=key",
                ),
                undo={Document.RUN: _undo_names_of_run, Document.USAGE_SUM: _undo_name_of_key},
                feature=UNIFORM_NAMES,
            ),
        ),
    ),
)
NEWEST = VERSIONS[-1].name
_BY_NAME = {version.name: version for version in VERSIONS}
# What a key that has not called before is pinned to is the newest.
UP_TO_DATE = frozenset((NEWEST, ""))
VERSION_HEADER = b"api-version"


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderShape:
    """How one caller's answers differ from the newest: what is undone, and what its headers say."""

    version: Version
    changes: tuple[Change, ...]
    # Header lines, each with its CRLF; a key or prompt that is itself deprecated says more, and has them instead.
    deprecation_lines: str

    def translate(self, document: Document, body: Json) -> Json:
        """Return a document of the newest shape in the older one; the argument may be changed."""
        for change in self.changes:
            undo = change.undo.get(document)
            if undo is not None:
                body = undo(body)
        return body


def find_older_shape(asked: str | None, principal: Principal, now_us: int) -> OlderShape | None:
    """Return how answers to `principal` differ from the newest shape; None: not at all.

    `asked` is the date that the call itself names. Raises ApiVersionUnknown.
    """
    name = principal.api_version if asked is None else asked
    if name in UP_TO_DATE and name:
        return None
    if asked is not None and name not in _BY_NAME:
        raise ApiVersionUnknown(given=name, known=list(_BY_NAME))
    # A pin that this server does not know was set by a newer one: the newest here is the nearest.
    version = _BY_NAME.get(name)
    if version is None:
        return None
    since = [change for later in VERSIONS if later.released_on > version.released_on for change in later.changes]
    undone = [c for c in reversed(since) if c.feature is None or not principal.has_feature(c.feature, now_us)]
    return OlderShape(version=version, changes=tuple(undone), deprecation_lines=_deprecation_lines(version))


def _deprecation_lines(version: Version) -> str:
    """Return since when a date is deprecated (RFC 9745) and when it ends (RFC 8594), with where to read why."""
    lines = 'link: </v1/changelog>; rel="deprecation"; type="application/json"\r\n'
    if version.deprecated_on is not None:
        lines += f"deprecation: @{_seconds(version.deprecated_on)}\r\n"
    if version.sunset_on is not None:
        lines += f"sunset: {http_date(_seconds(version.sunset_on))}\r\n"
    return lines


def _seconds(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def describe_versions() -> list[Json]:
    """Return all dates for the changelog, the newest first."""
    return [
        {
            "version": version.name,
            "status": "current" if version.name == NEWEST else "deprecated",
            "deprecated_on": version.deprecated_on,
            "sunset_on": version.sunset_on,
            "changes": [
                {
                    "title": change.title,
                    "description": change.description,
                    "applies_to": list(change.applies_to),
                    "feature": change.feature.name if change.feature is not None else None,
                }
                for change in version.changes
            ],
        }
        for version in reversed(VERSIONS)
    ]
