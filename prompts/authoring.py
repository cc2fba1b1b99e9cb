"""Writing prompts: drafts, the number that a change needs, and publishing.

A draft may be anything; a version is whole, compiled and immutable. Numbers follow from what changed
(`prompts.changes`) against the latest version of the same major; an author may ask for a higher level, never for a
lower one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connection, transaction

from common.sql import Sql
from prompts.changes import Reason, find_reasons, required_level
from prompts.content import EMPTY_CONTENT, PromptContent, read_content
from prompts.errors import DraftOutdated, NothingToPublish, PromptExists, PromptInvalid, PromptNotFound
from prompts.models import Prompt, PromptDraft, PromptVersion, VersionDeprecation
from prompts.names import ChangeLevel, VersionNumber, is_valid_name
from prompts.snapshots import read_prompt_book
from prompts.validation import CompiledContent, compile_content

FIRST_NUMBER = VersionNumber(major=1, minor=0, patch=0)
_MAX_TAGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedVersion:
    """What publishing a draft now would make of it."""

    number: VersionNumber
    level: ChangeLevel
    required_level: ChangeLevel
    reasons: tuple[Reason, ...]
    # The version that it was compared with; None: the first one.
    base: PromptVersion | None
    compiled: CompiledContent


def create_prompt(
    *,
    name: str,
    author: str,
    description: str = "",
    owner: str = "",
    tags: Sequence[str] = (),
    content: PromptContent = EMPTY_CONTENT,
) -> Prompt:
    """Create a prompt with a draft and return it. Raises PromptInvalid for the name or tags, PromptExists."""
    if not is_valid_name(name):
        raise PromptInvalid(
            "A name has at most 80 characters: lower-case words and digits, joined by dots, dashes or underscores, "
            "beginning with a letter ('support.answer-mail').",
            param="name",
        )
    _check_tags(tags)
    now = datetime.now(UTC)
    with transaction.atomic():
        prompt, is_new = Prompt.objects.get_or_create(
            name=name,
            defaults={
                "description": description,
                "owner": owner or author,
                "tags": list(tags),
                "created_by": author,
                "created_at": now,
            },
        )
        if not is_new:
            raise PromptExists(name=name)
        PromptDraft.objects.create(prompt=prompt, content=content.as_json(), updated_by=author, updated_at=now)
    return prompt


def change_prompt(
    *,
    prompt_id: int,
    description: str | None = None,
    owner: str | None = None,
    tags: Sequence[str] | None = None,
) -> Prompt:
    """Change what is said about a prompt, not what it says; None leaves a field as it is."""
    with transaction.atomic():
        prompt = lock_prompt(prompt_id)
        if tags is not None:
            _check_tags(tags)
            prompt.tags = list(tags)
        prompt.description = prompt.description if description is None else description
        prompt.owner = prompt.owner if owner is None else owner
        prompt.save(update_fields=["description", "owner", "tags"])
    return prompt


def set_reuse(*, prompt_id: int, seconds: int | None) -> Prompt:
    """Set for how long answers to a prompt may be reused; None leaves it to its model, 0 to its callers."""
    with transaction.atomic():
        prompt = lock_prompt(prompt_id)
        if prompt.cache_seconds != seconds:
            prompt.cache_seconds = seconds
            prompt.save(update_fields=["cache_seconds"])
    return prompt


def save_draft(
    *,
    prompt_id: int,
    content: PromptContent,
    author: str,
    expected_revision: int | None = None,
    based_on_id: int | None = None,
) -> PromptDraft:
    """Replace the draft and return it.

    `expected_revision` is the one that the author has seen; DraftOutdated when there is a newer one. `based_on_id`
    starts the draft from another version's line (a fix for an older major).
    """
    with transaction.atomic():
        lock_prompt(prompt_id)
        draft = PromptDraft.objects.get(prompt_id=prompt_id)
        if expected_revision is not None and draft.revision != expected_revision:
            raise DraftOutdated(author=draft.updated_by)
        if based_on_id is not None:
            if not PromptVersion.objects.filter(pk=based_on_id, prompt_id=prompt_id).exists():
                raise PromptInvalid("That version belongs to another prompt.", param="based_on")
            draft.based_on_id = based_on_id
        draft.content = content.as_json()
        draft.revision += 1
        draft.updated_by = author
        draft.updated_at = datetime.now(UTC)
        draft.save()
    return draft


def restore_version(*, version_id: int, author: str) -> PromptDraft:
    """Put the content of a version into its prompt's draft."""
    version = PromptVersion.objects.get(pk=version_id)
    content = read_content(version.content)
    return save_draft(prompt_id=version.prompt_id, content=content, author=author, based_on_id=version_id)


def plan_version(*, prompt_id: int, behaviour_note: str = "", level: ChangeLevel | None = None) -> PlannedVersion:
    """Return the version that the draft would become, with the reasons for its number.

    Raises PromptInvalid (and below) for a draft that is not whole, NothingToPublish, and PromptInvalid with the param
    "level" for a level below what the change needs.
    """
    draft = PromptDraft.objects.select_related("prompt", "based_on").get(prompt_id=prompt_id)
    compiled = compile_draft(draft.prompt.name, read_content(draft.content))
    latest = _latest_version(prompt_id)
    if latest is None:
        first = ChangeLevel.MAJOR
        return PlannedVersion(
            number=FIRST_NUMBER, level=first, required_level=first, reasons=(), base=None, compiled=compiled
        )
    base = latest if draft.based_on is None else _latest_version(prompt_id, major=draft.based_on.major) or latest
    if base.fingerprint == compiled.content.fingerprint() and not behaviour_note:
        raise NothingToPublish(number=str(base.number))
    reasons = find_reasons(read_content(base.content), compiled.content, behaviour_note=behaviour_note)
    needed = required_level(reasons)
    if level is not None and level < needed:
        raise PromptInvalid(
            f"This change needs a {needed.label} version: {reasons[0].text}. The level can be raised, not lowered.",
            param="level",
        )
    chosen = level or needed
    # A new major comes after all others, whichever line it grew from.
    number = (latest if chosen is ChangeLevel.MAJOR else base).number.next(chosen)
    return PlannedVersion(
        number=number, level=chosen, required_level=needed, reasons=reasons, base=base, compiled=compiled
    )


def publish_version(
    *,
    prompt_id: int,
    author: str,
    note: str,
    behaviour_note: str = "",
    level: ChangeLevel | None = None,
    expected_revision: int | None = None,
) -> PromptVersion:
    """Publish the draft as an immutable version and return it; no label moves.

    Raises what `plan_version` raises, PromptInvalid without a note, DraftOutdated. Locks the prompt's row.
    """
    if not note.strip():
        raise PromptInvalid("Say what changed, and why.", param="note")
    with transaction.atomic():
        lock_prompt(prompt_id)
        draft = PromptDraft.objects.get(prompt_id=prompt_id)
        if expected_revision is not None and draft.revision != expected_revision:
            raise DraftOutdated(author=draft.updated_by)
        planned = plan_version(prompt_id=prompt_id, behaviour_note=behaviour_note, level=level)
        version = PromptVersion.objects.create(
            prompt_id=prompt_id,
            major=planned.number.major,
            minor=planned.number.minor,
            patch=planned.number.patch,
            content=planned.compiled.content.as_json(),
            fingerprint=planned.compiled.content.fingerprint(),
            note=note.strip(),
            behaviour_note=behaviour_note.strip(),
            author=author,
            created_at=datetime.now(UTC),
        )
        PromptDraft.objects.filter(pk=draft.pk).update(based_on=version, revision=draft.revision + 1)
    return version


def deprecate_version(
    *, version_id: int, author: str, sunset_at: datetime | None = None, note: str = ""
) -> VersionDeprecation:
    """Tell callers of a version from now on that they should leave it, and by when it may end."""
    now = datetime.now(UTC)
    if sunset_at is not None and sunset_at < now:
        raise PromptInvalid("The date by which callers should have left lies in the past.", param="sunset_at")
    deprecation, _ = VersionDeprecation.objects.update_or_create(
        version_id=version_id,
        defaults={"sunset_at": sunset_at, "note": note, "author": author},
        create_defaults={"deprecated_at": now, "sunset_at": sunset_at, "note": note, "author": author},
    )
    return deprecation


def withdraw_deprecation(*, version_id: int) -> None:
    """Take a deprecation back."""
    VersionDeprecation.objects.filter(version_id=version_id).delete()


def compile_draft(name: str, content: PromptContent) -> CompiledContent:
    """Return a content compiled with its includes as labels stand now. Raises PromptInvalid and below."""
    return compile_content(name, content, read_prompt_book(Sql(connection)).find_included)


def lock_prompt(prompt_id: int) -> Prompt:
    """Return the prompt, locked until the transaction ends. Every change of a prompt takes this lock first."""
    prompt = Prompt.objects.select_for_update(no_key=True).filter(pk=prompt_id).first()
    if prompt is None:
        raise PromptNotFound(name=f"number {prompt_id}")
    return prompt


def _latest_version(prompt_id: int, *, major: int | None = None) -> PromptVersion | None:
    versions = PromptVersion.objects.filter(prompt_id=prompt_id)
    if major is not None:
        versions = versions.filter(major=major)
    return versions.order_by("-major", "-minor", "-patch").first()


def _check_tags(tags: Sequence[str]) -> None:
    if len(tags) > _MAX_TAGS or any(not tag or len(tag) > 40 for tag in tags):
        raise PromptInvalid(f"At most {_MAX_TAGS} tags of 1 to 40 characters.", param="tags")
