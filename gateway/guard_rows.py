"""What guards decided, kept for whoever asks later, without letting a flood of findings write without bound.

Every finding is counted, exactly, by hour, customer and rule. Rows with their places are kept of the first findings of
a call, and of the first calls of a key in a minute. Both are written in the transaction that books the call or notes
its refusal, inside a savepoint of their own: whatever fails here, the booking stands. What was found before a call was
admitted is kept with its hold, for a call that nobody is left to book.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from common.sql import Sql
from gateway.guards.values import Action, Finding

KEPT_A_CALL = 20
KEPT_A_MINUTE = 60
KEPT_DAYS = 30
COUNTS_KEPT_DAYS = 400
_MINUTE_US = 60_000_000
_HOUR_US = 3_600_000_000
_DAY_US = 86_400_000_000
_PRUNE_LIMIT = 500
_COLUMNS = (
    "request_id",
    "number",
    "created_us",
    "customer_id",
    "api_key_id",
    "policy",
    "rule",
    "action",
    "place",
    "start_offset",
    "end_offset",
    "is_false_positive",
)
_INSERT = (
    f"INSERT INTO gateway_guarddecision ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})"
    " ON CONFLICT (request_id, number) DO NOTHING"
)
_COUNT = (
    "INSERT INTO gateway_guardcount (hour, customer_id, policy, rule, action, findings) VALUES (%s, %s, %s, %s, %s, %s)"
    " ON CONFLICT (hour, customer_id, policy, rule, action)"
    " DO UPDATE SET findings = gateway_guardcount.findings + excluded.findings"
)
_KEPT = "SELECT COUNT(*) FROM gateway_guarddecision WHERE api_key_id = %s AND created_us >= %s"


# Policy, rule, action, and how often.
Counted = tuple[tuple[tuple[str, str, Action], int], ...]


class GuardNotes:
    """The findings of one call, as they come: the first ones whole, all counted."""

    __slots__ = ("counts", "first")

    def __init__(self) -> None:
        self.first: list[Finding] = []
        self.counts: Counter[tuple[str, str, Action]] = Counter()

    def add(self, finding: Finding) -> None:
        """Take a finding in."""
        if len(self.first) < KEPT_A_CALL:
            self.first.append(finding)
        self.counts[finding.policy, finding.rule, finding.action] += 1


class CallFindings(NamedTuple):
    """What the rules found in a call, frozen, and whose call it was."""

    request_id: str
    customer_id: int
    api_key_id: int
    first: tuple[Finding, ...]
    counts: Counted
    # Of the counts, what the call's hold carries: it is written already where that has expired.
    held: Counted = ()


def freeze_notes(
    notes: GuardNotes, *, request_id: str, customer_id: int, api_key_id: int, held: Counted = ()
) -> CallFindings | None:
    """Return what is to be written of a call, or None where nothing was found."""
    if not notes.counts:
        return None
    return CallFindings(request_id, customer_id, api_key_id, tuple(notes.first), tuple(notes.counts.items()), held)


def without_held(call: CallFindings) -> CallFindings:
    """Return what is still to be written of a call whose hold has expired; of its rows those are kept that are new."""
    left = Counter(dict(call.counts)) - Counter(dict(call.held))
    return call._replace(counts=tuple(left.items()), held=())


def pack_notes(notes: GuardNotes) -> dict[str, Any]:
    """Return the findings of a call as JSON, for its hold."""
    return {
        "first": [[*finding._replace(place=_text_of(finding.place))] for finding in notes.first],
        "counts": [[*key, number] for key, number in notes.counts.items()],
    }


def unpack_notes(packed: Mapping[str, Any]) -> GuardNotes:
    """Return what `pack_notes` packed. Raises KeyError, TypeError or ValueError for anything else."""
    notes = GuardNotes()
    for policy, rule, action, place, start, end in packed["first"]:
        notes.first.append(Finding(policy, rule, Action(action), place, start, end))
    for policy, rule, action, number in packed["counts"]:
        notes.counts[policy, rule, Action(action)] = number
    return notes


def write_findings(sql: Sql, calls: Sequence[CallFindings], *, now_us: int) -> None:
    """Count the findings of calls and keep as many as there is room for. Never raises for what goes wrong with them."""
    if not calls:
        return
    with sql.sparing(f"findings of content rules in {len(calls)} calls"):
        _write(sql, calls, now_us)


def prune_findings(sql: Sql, *, now_us: int) -> None:
    """Remove some of the rows that are older than `KEPT_DAYS`, and some counts older than `COUNTS_KEPT_DAYS`."""
    sql.run(
        "DELETE FROM gateway_guarddecision WHERE id IN (SELECT id FROM gateway_guarddecision WHERE created_us <= %s"
        f" ORDER BY created_us LIMIT {_PRUNE_LIMIT})",
        (now_us - KEPT_DAYS * _DAY_US,),
    )
    sql.run(
        "DELETE FROM gateway_guardcount WHERE id IN (SELECT id FROM gateway_guardcount WHERE hour <= %s"
        f" ORDER BY hour LIMIT {_PRUNE_LIMIT})",
        ((now_us - COUNTS_KEPT_DAYS * _DAY_US) // _HOUR_US,),
    )


def _write(sql: Sql, calls: Sequence[CallFindings], now_us: int) -> None:
    # A key may have been deleted since: its foreign key would fail the whole batch at its commit.
    key_ids = {call.api_key_id for call in calls}
    known = {key_id for (key_id,) in sql.rows_where_in("SELECT id FROM keys_apikey", "id", key_ids)}
    counts: Counter[tuple[int, str, str, str]] = Counter()
    room: dict[int, int] = {}
    for call in calls:
        if call.api_key_id not in known:
            continue
        for (policy, rule, action), findings in call.counts:
            counts[call.customer_id, policy, rule, action.value] += findings
        if call.api_key_id not in room:
            ((kept,),) = sql.rows(_KEPT, (call.api_key_id, now_us // _MINUTE_US * _MINUTE_US))
            room[call.api_key_id] = KEPT_A_MINUTE - kept
        for number, finding in enumerate(call.first[: max(0, room[call.api_key_id])]):
            room[call.api_key_id] -= 1
            sql.run(_INSERT, _row(call, number, finding, now_us))
    # In one order: two batches that count the same must not wait for each other.
    for key in sorted(counts):
        sql.run(_COUNT, (now_us // _HOUR_US, *key, counts[key]))


def _row(call: CallFindings, number: int, finding: Finding, now_us: int) -> tuple[object, ...]:
    return (
        call.request_id,
        number,
        now_us,
        call.customer_id,
        call.api_key_id,
        finding.policy,
        finding.rule,
        finding.action.value,
        _text_of(finding.place),
        finding.start,
        finding.end,
        False,
    )


def _text_of(place: str) -> str:
    # Names of a prompt's inputs are the caller's own words; PostgreSQL stores no zero byte.
    return place[:200].replace("\x00", "")
