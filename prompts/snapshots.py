"""Every prompt that can be called, frozen, as of one generation of the catalogue: resolving needs no I/O.

Texts of versions are immutable, so a new book takes over what the book before had read and compiled. A version is
compiled when it is first used and kept; one that includes others is compiled again with every book, since labels that
its includes name may have moved.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from common.sql import Sql
from prompts.content import PromptContent, read_content
from prompts.errors import PromptInvalid, PromptNotFound, PromptUnusable
from prompts.includes import IncludedPrompt
from prompts.names import PRODUCTION, Pin, PromptReference, parse_pin
from prompts.release_table import PromptEntry, ReleaseTable, VersionEntry, find_pinned, read_release_table
from prompts.rollout import is_in_rollout
from prompts.validation import CompiledContent, compile_content


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedPrompt:
    """The version that answers a call."""

    entry: PromptEntry
    version: VersionEntry
    compiled: CompiledContent
    pin: Pin
    # True when the caller is among those who get a label's new version.
    is_rollout: bool

    @property
    def label(self) -> str | None:
        """Return the label by which the caller came, or None where it pinned a number."""
        return self.pin.label


class PromptBook:
    """All prompts; safe to share between threads."""

    def __init__(
        self,
        table: ReleaseTable,
        texts: Mapping[int, str],
        compiled: Mapping[int, CompiledContent] | None = None,
    ) -> None:
        self.table = table
        self.texts = texts
        self._compiled = dict(compiled or {})

    def find_prompt(self, name: str) -> PromptEntry | None:
        """Return a prompt with what can be pinned of it, or None."""
        return self.table.prompts.get(name)

    def get_compiled(self, version: VersionEntry) -> CompiledContent:
        """Return a version compiled. Raises PromptUnusable when an include of it leads nowhere any more."""
        found = self._compiled.get(version.id)
        if found is None:
            try:
                found = compile_content(version.prompt, self.get_content(version), self.find_included)
            except PromptInvalid as error:
                raise PromptUnusable(name=version.prompt, number=str(version.number), reason=error.message) from None
            self._compiled[version.id] = found
        return found

    def get_content(self, version: VersionEntry) -> PromptContent:
        """Return what a version says."""
        return read_content(self.texts[version.id])

    def find_included(self, reference: PromptReference) -> IncludedPrompt | None:
        """Return the version whose text stands for an include (`prompts.includes.FindIncluded`)."""
        version = self.table.find_main(reference)
        if version is None:
            return None
        return IncludedPrompt(version_id=version.id, content=self.get_content(version))

    def keep_compiled(self) -> dict[int, CompiledContent]:
        """Return the compiled versions that stay right whatever labels do."""
        # A copy first: another thread may be compiling into it.
        return {i: c for i, c in dict(self._compiled).items() if not c.included}


EMPTY_BOOK = PromptBook(ReleaseTable(prompts={}), {})


def read_prompt_book(sql: Sql, previous: PromptBook = EMPTY_BOOK) -> PromptBook:
    """Return the book of the open transaction; reads the text only of versions that `previous` does not know."""
    table = read_release_table(sql)
    texts = {v.id: previous.texts[v.id] for v in table.versions() if v.id in previous.texts}
    missing = [v.id for v in table.versions() if v.id not in texts]
    for start in range(0, len(missing), 500):
        chunk = missing[start : start + 500]
        texts |= dict(sql.rows_where_in("SELECT id, content FROM prompts_promptversion", "id", chunk))
    compiled = {i: c for i, c in previous.keep_compiled().items() if i in texts}
    return PromptBook(table, texts, compiled)


def resolve_prompt(
    book: PromptBook, name: str, pin: str | None, *, customer_id: int, session_id: str | None = None
) -> ResolvedPrompt:
    """Return the version that answers a caller who pins `pin` ("2", "2.1.0", "staging"; nothing: production).

    Raises PinInvalid, PromptNotFound (never anything else in its place) and PromptUnusable.
    """
    wanted = parse_pin(pin)
    entry = book.find_prompt(name)
    if entry is None:
        raise PromptNotFound(name=name)
    version = find_pinned(entry, wanted)
    if version is None:
        raise PromptNotFound(name=name, pin=str(wanted), reason=_why_missing(wanted))
    new = _rolled_out(entry, wanted, customer_id=customer_id, session_id=session_id)
    chosen = new or version
    return ResolvedPrompt(
        entry=entry, version=chosen, compiled=book.get_compiled(chosen), pin=wanted, is_rollout=new is not None
    )


def _rolled_out(entry: PromptEntry, pin: Pin, *, customer_id: int, session_id: str | None) -> VersionEntry | None:
    """Return the new version of the rollout that the pin takes part in, if the caller is among its share."""
    if pin.number is not None:
        return None
    label = entry.labels.get(pin.label or PRODUCTION)
    if label is None or label.rollout is None or label.version is None:
        return None
    if pin.major is not None and not label.version.number.major == label.rollout.number.major == pin.major:
        # Who pins a major never gets another one, and a rollout to a new major is nothing to who has it already.
        return None
    is_in = is_in_rollout(
        prompt=entry.name,
        label=label.name,
        number=str(label.rollout.number),
        percent=label.percent,
        customer_id=customer_id,
        session_id=session_id,
    )
    return label.rollout if is_in else None


def _why_missing(pin: Pin) -> str:
    if pin.number is not None:
        return "No such version was published."
    if pin.major is not None:
        return "No version of this major is released to production."
    return "The label points at no version."
