"""Which versions there are and where labels point, read in five small queries; what the pins of callers mean.

A label means what it points at, and during a rollout one of two. A major number means the version of that major that
`production` points at, or pointed at last; so publishing alone changes nothing for anybody, and a rollback counts for
those who pin a major too. A full number means that published version. Nothing ever falls back to something else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from common.clock import to_us
from common.sql import Row, Sql
from prompts.names import PRODUCTION, Pin, PromptReference, VersionNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionEntry:
    """A published version, without its content."""

    id: int
    prompt_id: int
    prompt: str
    number: VersionNumber
    fingerprint: str
    deprecated_us: int | None = None
    sunset_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEntry:
    """Where a label points; `rollout` gets `percent` of the callers."""

    name: str
    version: VersionEntry | None
    rollout: VersionEntry | None
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEntry:
    """A prompt with everything that can be pinned of it."""

    id: int
    name: str
    description: str
    by_number: dict[VersionNumber, VersionEntry]
    labels: dict[str, LabelEntry]
    # The version of each major that production pointed at last; empty when production was taken back.
    majors: dict[int, VersionEntry]
    # For how long answers to it may be reused; None: as its model says.
    cache_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTable:
    """All prompts by name."""

    prompts: dict[str, PromptEntry]

    def find_main(self, reference: PromptReference) -> VersionEntry | None:
        """Return the version that a reference means for everybody: during a rollout still the old one."""
        prompt = self.prompts.get(reference.name)
        return None if prompt is None else find_pinned(prompt, reference.pin)

    def versions(self) -> Iterable[VersionEntry]:
        """Yield every published version."""
        for prompt in self.prompts.values():
            yield from prompt.by_number.values()


def find_pinned(prompt: PromptEntry, pin: Pin) -> VersionEntry | None:
    """Return the version that a pin means apart from rollouts, or None."""
    if pin.number is not None:
        return prompt.by_number.get(pin.number)
    if pin.major is not None:
        return prompt.majors.get(pin.major)
    label = prompt.labels.get(str(pin.label))
    return None if label is None else label.version


def read_release_table(sql: Sql) -> ReleaseTable:
    """Return the table as of the open transaction."""
    deprecations = {
        row[0]: (_us(row[1]), _us(row[2]))
        for row in sql.rows("SELECT version_id, deprecated_at, sunset_at FROM prompts_versiondeprecation")
    }
    prompts = {
        row[0]: PromptEntry(
            id=row[0], name=row[1], description=row[2], by_number={}, labels={}, majors={}, cache_seconds=row[3]
        )
        for row in sql.rows("SELECT id, name, description, cache_seconds FROM prompts_prompt ORDER BY name")
    }
    versions: dict[int, VersionEntry] = {}
    for row in sql.rows(
        "SELECT id, prompt_id, major, minor, patch, fingerprint FROM prompts_promptversion ORDER BY id"
    ):
        entry = _version(row, prompts[row[1]].name, deprecations.get(row[0], (None, None)))
        versions[entry.id] = entry
        prompts[entry.prompt_id].by_number[entry.number] = entry
    for prompt_id, name, version_id, rollout_id, percent in sql.rows(
        "SELECT prompt_id, name, version_id, rollout_version_id, rollout_percent FROM prompts_label"
    ):
        prompts[prompt_id].labels[name] = LabelEntry(
            name=name, version=versions.get(version_id), rollout=versions.get(rollout_id), percent=percent
        )
    for prompt_id, version_id in sql.rows(_MAJOR_LINES, (PRODUCTION,)):
        entry = versions[version_id]
        production = prompts[prompt_id].labels[PRODUCTION]
        if production.version is not None:
            prompts[prompt_id].majors[entry.number.major] = entry
    for prompt in prompts.values():
        _add_rolled_out_major(prompt)
    return ReleaseTable(prompts={prompt.name: prompt for prompt in prompts.values()})


_MAJOR_LINES = (
    "SELECT l.prompt_id, m.version_id FROM prompts_labelmove m JOIN prompts_label l ON l.id = m.label_id"
    " WHERE m.id IN (SELECT max(m2.id) FROM prompts_labelmove m2 JOIN prompts_label l2 ON l2.id = m2.label_id"
    " JOIN prompts_promptversion v2 ON v2.id = m2.version_id WHERE l2.name = %s GROUP BY l2.prompt_id, v2.major)"
)


def _add_rolled_out_major(prompt: PromptEntry) -> None:
    """Let callers pin a major whose first version is just being rolled out: they ask for it by name."""
    production = prompt.labels.get(PRODUCTION)
    if production is not None and production.rollout is not None:
        prompt.majors.setdefault(production.rollout.number.major, production.rollout)


def _version(row: Row, prompt: str, dates: tuple[int | None, int | None]) -> VersionEntry:
    version_id, prompt_id, major, minor, patch, fingerprint = row
    return VersionEntry(
        id=version_id,
        prompt_id=prompt_id,
        prompt=prompt,
        number=VersionNumber(major=major, minor=minor, patch=patch),
        fingerprint=fingerprint,
        deprecated_us=dates[0],
        sunset_us=dates[1],
    )


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)
