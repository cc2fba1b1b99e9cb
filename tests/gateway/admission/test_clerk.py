"""The clerk, in a thread and in a process of its own: exact under a crowd, closed when the database fails, and no
settlement is lost.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from billing.accounts import get_balance
from billing.models import Hold, UsageRecord
from billing.tokens import TokenCounts
from common.clock import FrozenClock
from common.errors import InternalError
from gateway.admission import desk as desk_module
from gateway.admission.batch import run_batch
from gateway.admission.clerk import Clerk
from gateway.admission.commands import Admitted, FindPrincipal, NoteProgress, Refused, Settled
from gateway.admission.front import ClerkFront
from gateway.errors import AdmissionUnavailable, ServerOverloaded
from gateway.models import Worker
from tests.admitting import assert_books_agree
from tests.factories import FundedCall, funded_call
from tests.gateway.admission.offices import open_remote_clerk

OffLoop = Callable[..., Awaitable[Any]]
CROWD = 200

# Each lets exactly ten calls of 10 input tokens, 20 output tokens and 100 nano-USD pass, however many ask at once.
TEN_CALLS: dict[str, dict[str, Any]] = {
    "money": {"credit_nanousd": 1_099},
    "requests of the plan": {"plan_limits": {"requests_per_minute": 10}},
    "input tokens of the customer": {"customer_limits": {"input_tokens_per_minute": 109}},
    "output tokens of the key": {"key_limits": {"output_tokens_per_minute": 219}},
    "places of the key": {"key_limits": {"concurrency": 10}},
    "day's budget of the key": {"key_limits": {"spend_per_day_nanousd": 1_099}},
    "month's budget of the customer": {"customer_limits": {"spend_per_month_nanousd": 1_099}},
    "total budget of the plan": {"plan_limits": {"spend_total_nanousd": 1_099}},
    "burst of the key": {"key_limits": {"requests_per_minute": 60, "burst_seconds": 10}},
    "raised places of the key": {"key_limits": {"concurrency": 1}, "key_raise": ("concurrency", 10)},
}


@pytest.fixture(params=["thread", "process"])
def make_clerk(request: pytest.FixtureRequest, transactional_db: None) -> Callable[..., ClerkFront]:
    """Return how a clerk of either kind is made."""
    if request.param == "thread":
        return Clerk
    return lambda **bounds: open_remote_clerk(**bounds)[0]


@pytest.fixture
async def clerk(make_clerk: Callable[..., ClerkFront], clock: FrozenClock) -> AsyncIterator[ClerkFront]:
    """Return a clerk whose clock stands still: nothing refills while a crowd is asking."""
    running = make_clerk(queue_limit=2_000, batch_limit=64, lease_seconds=15, clock=clock)
    await running.start()
    yield running
    await running.stop(timeout_seconds=5)


async def _crowd(clerk: ClerkFront, call: FundedCall, clients: int = CROWD) -> list[str]:
    """Let `clients` ask at once; return the requests that passed, having checked that the others were told why."""
    questions = [call.admit(amount_nanousd=100) for _ in range(clients)]
    answers = await asyncio.gather(*(clerk.submit(question) for question in questions))
    assert all(isinstance(answer, Admitted | Refused) for answer in answers)
    return [answer.request_id for answer in answers if isinstance(answer, Admitted)]


@pytest.mark.parametrize("kind", TEN_CALLS)
async def test_of_two_hundred_clients_at_once_exactly_ten_pass(clerk: ClerkFront, off_loop: OffLoop, kind: str) -> None:
    call = await off_loop(funded_call, **TEN_CALLS[kind])
    passed = await _crowd(clerk, call)
    assert len(passed) == 10
    await off_loop(assert_books_agree, call.customer_id)


@pytest.mark.parametrize("kind", ["money", "places of the key", "day's budget of the key"])
async def test_what_the_ten_give_back_lets_ten_others_pass(clerk: ClerkFront, off_loop: OffLoop, kind: str) -> None:
    call = await off_loop(funded_call, **TEN_CALLS[kind])
    for _ in range(3):
        passed = await _crowd(clerk, call)
        assert len(passed) == 10
        await asyncio.gather(*(clerk.submit(call.settle(request_id, cost_nanousd=0)) for request_id in passed))
    await off_loop(assert_books_agree, call.customer_id)


async def test_whatever_the_crowd_does_the_money_is_never_overspent(clerk: ClerkFront, off_loop: OffLoop) -> None:
    call = await off_loop(funded_call, credit_nanousd=1_000)

    async def client(number: int) -> int:
        answer = await clerk.submit(call.admit(amount_nanousd=100))
        if not isinstance(answer, Admitted):
            return 0
        settled = await clerk.submit(
            call.settle(answer.request_id, cost_nanousd=number % 150, tokens=TokenCounts(output=1))
        )
        assert settled.available_nanousd >= 0
        return int(settled.charged_nanousd)

    charged = sum(await asyncio.gather(*(client(number) for number in range(CROWD))))
    balance = await off_loop(get_balance, call.customer_id)
    assert (balance.posted_nanousd, balance.held_nanousd) == (1_000 - charged, 0)
    await off_loop(assert_books_agree, call.customer_id)


# ---- bounds and ends


async def test_beyond_the_queues_bound_new_work_is_refused_and_settlements_are_not(
    clerk: ClerkFront, off_loop: OffLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await off_loop(funded_call)
    (request_id,) = await _crowd(clerk, call, 1)
    pause = _pause_batches(monkeypatch)
    first = clerk.submit(call.admit())
    await pause.begun()
    # One that is being decided counts, where it is decided elsewhere.
    monkeypatch.setattr(clerk, "_queue_limit", clerk.waiting + 2)
    queued = [clerk.submit(call.admit()), clerk.submit(FindPrincipal(hashes=("0",)))]
    with pytest.raises(ServerOverloaded) as refused:
        await clerk.submit(call.admit())
    assert refused.value.retry_after_seconds == 1
    with pytest.raises(ServerOverloaded):
        await clerk.submit(FindPrincipal(hashes=("0",)))
    settling = clerk.submit(call.settle(request_id))
    clerk.note(NoteProgress(request_id=request_id, output_tokens=1))
    pause.end()
    await asyncio.gather(first, *queued)
    assert isinstance(await settling, Settled)


async def test_a_caller_that_left_while_it_was_admitted_leaves_no_hold(
    clerk: ClerkFront, off_loop: OffLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await off_loop(funded_call, credit_nanousd=100)
    pause = _pause_batches(monkeypatch)
    future = clerk.submit(call.admit(amount_nanousd=100))
    await pause.begun()
    future.cancel()
    pause.end()
    await clerk.submit(FindPrincipal(hashes=("0",)))
    assert len(await _crowd(clerk, call, 1)) == 1
    await off_loop(assert_books_agree, call.customer_id)


async def test_stopping_books_what_is_queued_and_gives_up_the_lease(
    make_clerk: Callable[..., ClerkFront], off_loop: OffLoop
) -> None:
    clerk = make_clerk(queue_limit=1_000, batch_limit=4, lease_seconds=15)
    await clerk.start()
    assert clerk.is_healthy
    call = await off_loop(funded_call, credit_nanousd=10_000)
    passed = await _crowd(clerk, call, 20)
    settling = [clerk.submit(call.settle(request_id, cost_nanousd=10)) for request_id in passed]
    await clerk.stop(timeout_seconds=5)
    assert [s.charged_nanousd for s in await asyncio.gather(*settling)] == [10] * 20
    assert await off_loop(lambda: list(Worker.objects.values_list("lease_until_us", flat=True))) == [0]
    await off_loop(assert_books_agree, call.customer_id)
    await clerk.stop(timeout_seconds=5)


async def test_a_stopped_clerk_lets_nobody_wait(make_clerk: Callable[..., ClerkFront], off_loop: OffLoop) -> None:
    clerk = make_clerk(queue_limit=1_000, batch_limit=4, lease_seconds=15)
    call = await off_loop(funded_call)
    with pytest.raises(AdmissionUnavailable):
        await clerk.submit(call.admit())
    await clerk.start()
    await clerk.stop(timeout_seconds=5)
    assert not clerk.is_healthy
    with pytest.raises(AdmissionUnavailable):
        await clerk.submit(call.admit())


async def test_a_clerk_whose_thread_dies_answers_whoever_waits(
    transactional_db: None, off_loop: OffLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clerk = Clerk(queue_limit=2_000, batch_limit=64, lease_seconds=15)
    await clerk.start()
    call = await off_loop(funded_call)
    pause = _pause_batches(monkeypatch)
    first = clerk.submit(call.admit())
    await pause.begun()
    waiting = [clerk.submit(call.admit()), clerk.submit(call.settle("req_1"))]

    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(clerk, "_gather", lambda: fail(None))
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    pause.end()
    assert isinstance(await first, Admitted)
    for future in waiting:
        with pytest.raises(AdmissionUnavailable):
            await future
    assert not clerk.is_healthy


# ---- the database fails


async def test_without_the_database_admissions_are_refused_and_settlements_are_booked_later(
    clerk: ClerkFront, off_loop: OffLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _retry_soon(monkeypatch)
    call = await off_loop(funded_call, credit_nanousd=1_000)
    passed = await _crowd(clerk, call, 3)
    with monkeypatch.context() as patch:
        patch.setattr(desk_module, "run_batch", _break_the_connection)
        settling = [clerk.submit(call.settle(request_id, cost_nanousd=10)) for request_id in passed]
        with pytest.raises(AdmissionUnavailable) as refused:
            await clerk.submit(call.admit())
        assert refused.value.retry_after_seconds is not None
        with pytest.raises(AdmissionUnavailable):
            await clerk.submit(FindPrincipal(hashes=("0",)))
        assert not _is_healthy(clerk)
        assert not any(future.done() for future in settling)
        assert await off_loop(UsageRecord.objects.count) == 0
    assert [s.charged_nanousd for s in await asyncio.gather(*settling)] == [10, 10, 10]
    assert clerk.is_healthy
    assert len(await _crowd(clerk, call, 1)) == 1
    await off_loop(assert_books_agree, call.customer_id)


def _retry_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("clerk", "office"):
        monkeypatch.setattr(f"gateway.admission.{module}.RETRY_SECONDS", 0.01)


def _is_healthy(clerk: ClerkFront) -> bool:
    """Return its health; mypy takes an attribute that was tested once for unchanged."""
    return clerk.is_healthy


def _break_the_connection(connection: BaseDatabaseWrapper, *arguments: Any) -> Any:
    """Run a batch on a connection that breaks in its middle: the driver's own connection is closed under it."""
    connection.ensure_connection()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        killer = connection.copy()
        with killer.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        killer.close()
    else:
        connection.connection = _Broken(connection.connection)
    return run_batch(connection, *arguments)


class _Broken:
    """A SQLite connection whose file cannot be read any more."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver

    def cursor(self, *_: object, **__: object) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    def close(self) -> None:
        self._driver.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)


async def test_a_stop_without_the_database_ends_in_time_and_says_what_it_left(
    make_clerk: Callable[..., ClerkFront],
    off_loop: OffLoop,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _retry_soon(monkeypatch)
    clerk = make_clerk(queue_limit=1_000, batch_limit=100, lease_seconds=15)
    await clerk.start()
    call = await off_loop(funded_call, credit_nanousd=1_000)
    (request_id,) = await _crowd(clerk, call, 1)
    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        patch.setattr(desk_module, "run_batch", _fail_with(OperationalError("gone")))
        settling = clerk.submit(call.settle(request_id))
        await clerk.stop(timeout_seconds=0.05)
        with pytest.raises(AdmissionUnavailable):
            await settling
    assert request_id in caplog.text
    # Another process releases what was left, at once: the lease was given up.
    other = make_clerk(queue_limit=1_000, batch_limit=100, lease_seconds=15)
    await other.start()
    await other.stop(timeout_seconds=5)
    assert await off_loop(Hold.objects.count) == 0
    await off_loop(assert_books_agree, call.customer_id)


async def test_a_start_without_the_database_fails_and_can_be_repeated(
    make_clerk: Callable[..., ClerkFront], monkeypatch: pytest.MonkeyPatch
) -> None:
    clerk = make_clerk(queue_limit=1_000, batch_limit=100, lease_seconds=15)
    with monkeypatch.context() as patch:
        patch.setattr(desk_module, "run_batch", _fail_with(OperationalError("gone")))
        with pytest.raises(AdmissionUnavailable):
            await clerk.start()
    await clerk.start()
    assert clerk.is_healthy
    await clerk.stop(timeout_seconds=5)


def _fail_with(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


# ---- one bad question


async def test_a_question_that_spoils_its_batch_fails_alone(
    clerk: ClerkFront, off_loop: OffLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    call = await off_loop(funded_call, credit_nanousd=1_000)
    settled_id, poisoned_id = await _crowd(clerk, call, 2)
    pause = _pause_batches(monkeypatch)
    first = clerk.submit(FindPrincipal(hashes=("0",)))
    await pause.begun()
    good = call.settle(settled_id, cost_nanousd=10)
    poison = call.settle(poisoned_id, cost_nanousd=10)
    poison = poison._replace(usage=poison.usage._replace(tokens=TokenCounts(input=-1)))
    futures = [clerk.submit(call.admit(amount_nanousd=100)), clerk.submit(poison), clerk.submit(good)]
    with caplog.at_level(logging.CRITICAL):
        pause.end()
        await first
        answers = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(answers[0], Admitted)
    assert isinstance(answers[1], InternalError)
    assert IntegrityError.__name__ in str(answers[1].internal_detail)
    assert answers[2] == Settled(charged_nanousd=10, available_nanousd=1_000 - 10 - 200)
    assert poisoned_id in caplog.text
    assert await off_loop(lambda: set(Hold.objects.values_list("request_id", flat=True))) == {
        poisoned_id,
        answers[0].request_id,
    }
    await off_loop(assert_books_agree, call.customer_id)


@dataclass
class _Pause:
    """Batches held back."""

    has_begun: threading.Event = field(default_factory=threading.Event)
    is_over: threading.Event = field(default_factory=threading.Event)

    async def begun(self) -> None:
        """Wait until a batch has been taken from the queue and stands still."""
        assert await asyncio.to_thread(self.has_begun.wait, 10)

    def end(self) -> None:
        self.is_over.set()


def _pause_batches(monkeypatch: pytest.MonkeyPatch) -> _Pause:
    """Hold every batch back until the pause is ended."""
    pause = _Pause()

    def run(*arguments: Any) -> Any:
        pause.has_begun.set()
        assert pause.is_over.wait(10)
        return run_batch(*arguments)

    monkeypatch.setattr(desk_module, "run_batch", run)
    return pause
