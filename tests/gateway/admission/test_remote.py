"""The clerk's process and its event loop, when one of the two is lost, and what they know of a changed catalogue."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from django.db import OperationalError

from billing.accounts import get_balance
from billing.models import Hold, UsageRecord
from common.errors import InternalError
from gateway.admission.commands import Admitted, FindPrincipal, FoundPrincipal, NoteProgress, Settled, Stale
from gateway.admission.remote import RemoteClerk
from gateway.errors import AdmissionUnavailable
from gateway.models import Worker
from tests.admitting import assert_books_agree
from tests.factories import funded_call, known_call, make_model
from tests.flows.platform import wait_for
from tests.gateway.admission.offices import OpenOffice, open_remote_clerk
from tests.gateway.admission.test_clerk import _is_healthy, _pause_batches

OffLoop = Callable[..., Awaitable[Any]]
BOUNDS = {"queue_limit": 1_000, "batch_limit": 64, "lease_seconds": 15}


@pytest.fixture
async def remote(transactional_db: None) -> AsyncIterator[tuple[RemoteClerk, OpenOffice]]:
    clerk, office = open_remote_clerk(**BOUNDS)  # type: ignore[arg-type]
    await clerk.start()
    yield clerk, office
    await clerk.stop(timeout_seconds=5)


async def test_when_the_process_is_lost_a_thread_goes_on_with_its_lease(
    remote: tuple[RemoteClerk, OpenOffice], off_loop: OffLoop
) -> None:
    clerk, office = remote
    call = await off_loop(funded_call, credit_nanousd=1_000)
    before = await clerk.submit(call.admit(amount_nanousd=100))
    assert isinstance(before, Admitted)
    (worker,) = await off_loop(lambda: list(Worker.objects.values_list("id", flat=True)))
    office.vanish()
    await asyncio.to_thread(office.thread.join, 10)
    # Its hold lives on: nobody takes it for that of a process which is gone.
    settled = await clerk.submit(call.settle(before.request_id, cost_nanousd=70))
    assert settled == Settled(charged_nanousd=70, available_nanousd=930)
    assert clerk.is_healthy
    after = await clerk.submit(call.admit(amount_nanousd=100))
    assert isinstance(after, Admitted)
    assert await off_loop(lambda: list(Hold.objects.values_list("worker_id", flat=True))) == [worker]
    await clerk.submit(call.settle(after.request_id, cost_nanousd=0))
    await off_loop(assert_books_agree, call.customer_id)


@pytest.mark.parametrize("is_booked", [False, True], ids=["not booked", "booked and not told"])
async def test_what_was_not_answered_is_settled_once_and_admitted_for_nobody(
    remote: tuple[RemoteClerk, OpenOffice], off_loop: OffLoop, monkeypatch: pytest.MonkeyPatch, is_booked: bool
) -> None:
    clerk, office = remote
    call = await off_loop(funded_call, credit_nanousd=1_000)
    first = await clerk.submit(call.admit(amount_nanousd=100))
    assert isinstance(first, Admitted)
    with monkeypatch.context() as patch:
        pause = _pause_batches(patch)
        running = clerk.submit(FindPrincipal(hashes=("0",)))
        await pause.begun()
        settling = clerk.submit(call.settle(first.request_id, cost_nanousd=70))
        admitting = clerk.submit(call.admit(amount_nanousd=100))
        clerk.note(NoteProgress(request_id=first.request_id, output_tokens=1))
        await asyncio.sleep(0.05)
        if is_booked:
            # Commits, and finds nobody to tell: the socket is closed for what it says, not for what it has read.
            monkeypatch.setattr(clerk, "_deliver", lambda _: None)
            pause.end()
            await off_loop(wait_for, UsageRecord.objects.count, what="the booking")
            office.vanish()
        else:
            office.vanish()
            pause.end()
        await asyncio.to_thread(office.thread.join, 10)
    assert await settling == Settled(charged_nanousd=70, available_nanousd=930)
    with pytest.raises(AdmissionUnavailable):
        await admitting
    await running
    # The hold that may have been taken for the one who was refused is gone.
    await clerk.submit(FindPrincipal(hashes=("0",)))
    balance = await off_loop(get_balance, call.customer_id)
    assert (balance.posted_nanousd, balance.held_nanousd) == (930, 0)
    await off_loop(assert_books_agree, call.customer_id)


async def test_a_thread_that_takes_over_without_the_database_keeps_what_is_owed(
    remote: tuple[RemoteClerk, OpenOffice], off_loop: OffLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clerk, office = remote
    for module in ("clerk", "office"):
        monkeypatch.setattr(f"gateway.admission.{module}.RETRY_SECONDS", 0.01)
    call = await off_loop(funded_call, credit_nanousd=1_000)
    answers = [await clerk.submit(call.admit(amount_nanousd=100)) for _ in range(2)]
    before, after = (answer.request_id for answer in answers if isinstance(answer, Admitted))
    with monkeypatch.context() as patch:
        patch.setattr("gateway.admission.desk.run_batch", _fail)
        settling = [clerk.submit(call.settle(before, cost_nanousd=70))]
        office.vanish()
        await asyncio.to_thread(office.thread.join, 10)
        async with asyncio.timeout(10):
            await asyncio.shield(clerk._lost)
        # What was known is still known, and whoever asks is told the truth.
        assert call.model in clerk.catalogue.models
        settling.append(clerk.submit(call.settle(after, cost_nanousd=30)))
        with pytest.raises(AdmissionUnavailable):
            await clerk.submit(call.admit(amount_nanousd=100))
        assert not _is_healthy(clerk)
        assert not any(future.done() for future in settling)
    settled = await asyncio.gather(*settling)
    assert [answer.charged_nanousd for answer in settled] == [70, 30]
    assert clerk.is_healthy
    await off_loop(assert_books_agree, call.customer_id)


def _fail(*_: object) -> None:
    raise OperationalError("gone")


async def test_without_a_catalogue_a_server_does_not_start(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clerk, _ = open_remote_clerk(**BOUNDS)  # type: ignore[arg-type]

    def fail(_: object) -> None:
        raise ValueError("a secret that no key opens")

    with monkeypatch.context() as patch:
        patch.setattr(clerk, "_read_catalogue", fail)
        with pytest.raises(AdmissionUnavailable):
            await clerk.start()
    # Starting again asks again.
    await clerk.start()
    assert clerk.catalogue.generation >= 0
    await clerk.stop(timeout_seconds=5)


@pytest.mark.parametrize("hashes", [1, 3_000, 30_000])
async def test_orders_of_any_size_arrive_whole(remote: tuple[RemoteClerk, OpenOffice], hashes: int) -> None:
    clerk, _ = remote
    # Up to some 2 MB, where the process reads 64 kB at a time.
    asked = clerk.submit(FindPrincipal(hashes=tuple(f"{number:064d}" for number in range(hashes))))
    assert await asyncio.wait_for(asked, 10) == FoundPrincipal(principal=None)


async def test_an_order_that_cannot_be_written_fails_alone(
    remote: tuple[RemoteClerk, OpenOffice], off_loop: OffLoop
) -> None:
    clerk, _ = remote
    call = await off_loop(funded_call, credit_nanousd=1_000)
    admitted = await clerk.submit(call.admit(amount_nanousd=100))
    assert isinstance(admitted, Admitted)
    odd = call.admit()._replace(draft=lambda: None)
    refusing, settling = clerk.submit(odd), clerk.submit(call.settle(admitted.request_id, cost_nanousd=70))
    with pytest.raises(InternalError):
        await refusing
    assert await settling == Settled(charged_nanousd=70, available_nanousd=930)
    await off_loop(assert_books_agree, call.customer_id)


async def test_without_its_event_loop_the_process_books_what_it_was_told_and_ends(
    remote: tuple[RemoteClerk, OpenOffice], off_loop: OffLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clerk, office = remote
    call = await off_loop(funded_call, credit_nanousd=1_000)
    admitted = [await clerk.submit(call.admit(amount_nanousd=100)) for _ in range(2)]
    told, untold = (answer.request_id for answer in admitted if isinstance(answer, Admitted))
    with monkeypatch.context() as patch:
        pause = _pause_batches(patch)
        unanswered: list[asyncio.Future[Any]] = [clerk.submit(FindPrincipal(hashes=("0",)))]
        await pause.begun()
        unanswered.append(clerk.submit(call.settle(told, cost_nanousd=70)))
        unanswered.append(clerk.submit(call.admit(amount_nanousd=100)))
        await asyncio.sleep(0.05)
        monkeypatch.setattr(clerk, "_is_stopping", True)
        clerk._line._transport.abort()  # type: ignore[union-attr]
        await asyncio.sleep(0.05)
        pause.end()
        await asyncio.to_thread(office.thread.join, 10)
    assert not office.thread.is_alive()
    assert await off_loop(lambda: list(UsageRecord.objects.values_list("request_id", "charged_nanousd"))) == [
        (told, 70)
    ]
    # Nobody can settle the other one any more: whoever comes next releases it, without waiting for a lease to run out.
    assert await off_loop(lambda: list(Hold.objects.values_list("request_id", flat=True))) == [untold]
    assert await off_loop(lambda: list(Worker.objects.values_list("lease_until_us", flat=True))) == [0]
    for future in unanswered:
        future.cancel()


async def test_an_answer_never_comes_before_the_catalogue_that_it_went_by(
    remote: tuple[RemoteClerk, OpenOffice], off_loop: OffLoop
) -> None:
    clerk, _ = remote
    call = await off_loop(funded_call)
    name = (await off_loop(make_model)).name
    assert isinstance(await clerk.submit(call.admit()), Stale)
    assert name in clerk.catalogue.models
    fresh = await off_loop(known_call, token=call.token, model=name)
    assert clerk.catalogue.generation == fresh.catalogue_generation
    assert isinstance(await clerk.submit(fresh.admit()), Admitted)
