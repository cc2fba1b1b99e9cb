"""`Idempotency-Key`: the same call sent again gets the first one's answer, and is charged once.

A claim is a row that names customer and key. It is opened in the transaction that takes the hold, and finished (with
the answer) or released (a call that failed may be sent again) in the one that resolves it; a process that dies releases
it with its hold. Whoever reads or writes a customer's claims holds the lock on its account.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import NamedTuple

import orjson

from common.sql import Sql
from gateway.errors import IdempotencyKeyInvalid

KEEP_US = 24 * 3_600 * 1_000_000
# An answer beyond this is not kept: its repeat is told so, and not run again.
MAX_ANSWER_BYTES = 4_000_000
_TABLE = "gateway_idempotencyclaim"
_PRUNE_LIMIT = 500
# Answers of the control plane, see `gateway.kept_answers`.
_POST_TABLE = "gateway_postanswer"
_MOST_KEY_CHARACTERS = 255


class Claim(NamedTuple):
    """What a caller says: this is the call of that key."""

    key: str
    # Of operation and body; a repeat must have the same.
    fingerprint: str


class StoredAnswer(NamedTuple):
    """The answer of a finished call."""

    # JSON of `Receipt`, without the balance.
    receipt: str
    # Of a whole answer its JSON; of a stream its chunks, a line each. None: it was too large to keep.
    body: bytes | None


class KnownClaim(NamedTuple):
    """A row. Without an answer, the call is still running."""

    request_id: str
    fingerprint: str
    expires_us: int
    answer: StoredAnswer | None


class NewClaim(NamedTuple):
    """A claim that a batch opens."""

    customer_id: int
    claim: Claim
    request_id: str


ClaimKey = tuple[int, str]


def check_key(text: str) -> str:
    """Return the key of a header. Raises IdempotencyKeyInvalid."""
    key = text.strip()
    if not 0 < len(key) <= _MOST_KEY_CHARACTERS or not (key.isascii() and key.isprintable()):
        raise IdempotencyKeyInvalid
    return key


def fingerprint_of(operation: str, body: object) -> str:
    """Return the digest of a call: members in any order and any white space give the same."""
    canonical = orjson.dumps([operation, body], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=20).hexdigest()


def read_claims(sql: Sql, wanted: Collection[ClaimKey]) -> dict[ClaimKey, KnownClaim]:
    """Return the rows of (customer id, key) pairs; expired ones as they are."""
    if not wanted:
        return {}
    condition = " OR ".join(["(customer_id = %s AND key = %s)"] * len(wanted))
    rows = sql.rows(
        f"SELECT customer_id, key, request_id, fingerprint, expires_us, receipt, body FROM {_TABLE} WHERE {condition}",
        [value for pair in wanted for value in pair],
    )
    return {
        (row[0], row[1]): KnownClaim(
            request_id=row[2],
            fingerprint=row[3],
            expires_us=row[4],
            answer=None if row[5] is None else StoredAnswer(row[5], None if row[6] is None else bytes(row[6])),
        )
        for row in rows
    }


def open_claims(sql: Sql, claims: Iterable[NewClaim], *, now_us: int) -> None:
    """Insert claims of admitted calls. An expired row in the way is removed first."""
    for new in claims:
        sql.run(
            f"DELETE FROM {_TABLE} WHERE customer_id = %s AND key = %s AND expires_us <= %s",
            (new.customer_id, new.claim.key, now_us),
        )
        sql.run(
            f"INSERT INTO {_TABLE} (customer_id, key, fingerprint, request_id, created_us, expires_us)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (new.customer_id, new.claim.key, new.claim.fingerprint, new.request_id, now_us, now_us + KEEP_US),
        )


def finish_claim(sql: Sql, request_id: str, answer: StoredAnswer) -> None:
    """Keep the answer of a call for its repeats."""
    sql.run(
        f"UPDATE {_TABLE} SET receipt = %s, body = %s WHERE request_id = %s",
        (answer.receipt, answer.body, request_id),
    )


def release_claims(sql: Sql, request_ids: Collection[str]) -> None:
    """Let calls that came to nothing be sent again under their keys."""
    if request_ids:
        condition, parameters = sql.condition_in("request_id", request_ids)
        sql.run(f"DELETE FROM {_TABLE} WHERE receipt IS NULL AND {condition}", parameters)


def prune_claims(sql: Sql, *, now_us: int) -> None:
    """Remove some of the claims and answers that nobody will ask for again."""
    for table in (_TABLE, _POST_TABLE):
        sql.run(
            f"DELETE FROM {table} WHERE id IN"
            f" (SELECT id FROM {table} WHERE expires_us <= %s ORDER BY expires_us LIMIT {_PRUNE_LIMIT})",
            (now_us,),
        )
