"""`Idempotency-Key` on the control plane: the same POST sent again gets the first one's answer, and changes nothing.

The answer is written in the transaction of the change: both are there or neither is, whenever the process dies. Of two
that arrive at once the second waits for that transaction, and finds the answer. What takes longer than a transaction
may (test runs of prompts) is claimed first and told to be in flight; should its process die, it may be sent again once
its time is over.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from django.db import transaction
from django.db.models import QuerySet

from common.clock import SYSTEM_CLOCK
from gateway.answer_models import PostAnswer
from gateway.errors import IdempotencyAnswerLost, IdempotencyInFlight, IdempotencyKeyReused
from gateway.idempotency import KEEP_US, MAX_ANSWER_BYTES
from gateway.secrets import decrypt_secret, encrypt_secret

# Far longer than any run of test cases.
_LONGEST_RUN_US = 900_000_000


class Repeats(Enum):
    """How a POST is kept from happening twice."""

    # The answer is kept in the transaction of the change.
    IN_TRANSACTION = auto()
    # It takes too long for a transaction; to do it once more after a crash does no harm.
    CLAIMED_FIRST = auto()
    # It changes nothing, and a fresh answer is better than an old one.
    HARMLESS = auto()


class Post(NamedTuple):
    """What a caller says: this is the POST of that key."""

    customer_id: int
    key: str
    fingerprint: str
    request_id: str


class Answer(NamedTuple):
    """Status and JSON."""

    status: int
    body: str
    is_replayed: bool = False


def answer_once(post: Post, act: Callable[[], Answer], *, repeats: Repeats) -> Answer:
    """Return what `act` answers, or what it answered to the first one of these.

    What `act` raises is not kept: a POST that was refused may be sent again. Raises IdempotencyKeyReused,
    IdempotencyInFlight or IdempotencyAnswerLost.
    """
    return _answer_in_transaction(post, act) if repeats is Repeats.IN_TRANSACTION else _answer_claimed(post, act)


@transaction.atomic
def _answer_in_transaction(post: Post, act: Callable[[], Answer]) -> Answer:
    kept = _claim(post, running_until_us=0)
    if kept is not None:
        return kept
    answer = act()
    _keep(post, answer)
    return answer


def _answer_claimed(post: Post, act: Callable[[], Answer]) -> Answer:
    with transaction.atomic():
        kept = _claim(post, running_until_us=SYSTEM_CLOCK.now_us() + _LONGEST_RUN_US)
    if kept is not None:
        return kept
    try:
        answer = act()
    except BaseException:
        _own(post).delete()
        raise
    _keep(post, answer)
    return answer


def _claim(post: Post, *, running_until_us: int) -> Answer | None:
    """Return the answer that is kept; None: this one is the first, and has the row.

    On PostgreSQL it waits for the transaction of another one that arrived just before.
    """
    now_us = SYSTEM_CLOCK.now_us()
    PostAnswer.objects.filter(customer_id=post.customer_id, key=post.key, expires_us__lte=now_us).delete()
    row, is_new = PostAnswer.objects.get_or_create(
        customer_id=post.customer_id,
        key=post.key,
        defaults={
            "fingerprint": post.fingerprint,
            "request_id": post.request_id,
            "running_until_us": running_until_us,
            "expires_us": now_us + KEEP_US,
        },
    )
    if is_new:
        return None
    if row.fingerprint != post.fingerprint:
        raise IdempotencyKeyReused(request_id=row.request_id)
    if row.status is not None:
        if row.encrypted_body is None:
            raise IdempotencyAnswerLost(request_id=row.request_id)
        return Answer(row.status, decrypt_secret(row.encrypted_body), is_replayed=True)
    dead = PostAnswer.objects.filter(pk=row.pk, request_id=row.request_id, status=None, running_until_us__lte=now_us)
    if not dead.update(request_id=post.request_id, running_until_us=running_until_us):
        raise IdempotencyInFlight(request_id=row.request_id)
    return None


def _keep(post: Post, answer: Answer) -> None:
    is_small = len(answer.body) <= MAX_ANSWER_BYTES
    _own(post).update(status=answer.status, encrypted_body=encrypt_secret(answer.body) if is_small else None)


def _own(post: Post) -> QuerySet[PostAnswer]:
    # By its request as well: it may have counted as dead, and another one have its place.
    return PostAnswer.objects.filter(customer_id=post.customer_id, key=post.key, request_id=post.request_id)
