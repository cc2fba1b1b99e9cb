"""Several processes on one PostgreSQL: limits and money are as exact as in one, and the dead are buried once."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from billing.accounts import get_balance
from billing.models import Hold, Transfer, UsageRecord
from gateway.models import Worker
from keys.models import LimitState
from tests.admitting import assert_books_agree
from tests.conftest import NOON_US
from tests.factories import FundedCall, funded_call, make_family
from tests.gateway.admission.test_clerk import TEN_CALLS

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

PROCESSES = 4
CLIENTS = 200


class ClerkProcess:
    """A process with a clerk of its own; orders are sent first and answered later, so that all run at once."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.admission.clerk_process", str(NOON_US)],
            env=environment,
            cwd=environment["PYTHONPATH"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, do: str, call: FundedCall | None = None, **details: Any) -> None:
        assert self._process.stdin is not None
        caller = {} if call is None else {"token": call.token, "model": call.model}
        self._process.stdin.write(json.dumps({"do": do, **caller, **details}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.communicate(timeout=20)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def processes(child_environment: dict[str, str]) -> Iterator[list[ClerkProcess]]:
    if connection.vendor != "postgresql":
        pytest.skip("several processes need PostgreSQL: set DATABASE_URL")
    started = [ClerkProcess(child_environment) for _ in range(PROCESSES)]
    for process in started:
        assert process.answer() == {"is_ready": True}
    yield started
    for process in started:
        process.end()


def _all(
    processes: list[ClerkProcess], do: str, call: FundedCall | None = None, **details: Any
) -> list[dict[str, Any]]:
    """Give all processes an order at the same time and return their answers."""
    for process in processes:
        process.order(do, call, **details)
    return [process.answer() for process in processes]


@pytest.fixture
def call() -> FundedCall:
    return funded_call(credit_nanousd=4_000, key_limits={"concurrency": 40})


def test_of_two_hundred_clients_on_four_processes_exactly_ten_pass(processes: list[ClerkProcess]) -> None:
    for kind, options in TEN_CALLS.items():
        call = funded_call(**options)
        answers = _all(processes, "admit", call, count=CLIENTS // PROCESSES, amount_nanousd=100)
        passed = [answer["passed"] for answer in answers]
        assert sum(len(answer["refused"]) for answer in answers) == CLIENTS - 10, kind
        assert sum(map(len, passed)) == 10, kind
        assert_books_agree(call.customer_id)
        # Whichever process settles: here each settles what its neighbour was admitted to, and all of it twice.
        for _ in range(2):
            for process, request_ids in zip(processes, passed[1:] + passed[:1], strict=True):
                process.order("settle", call, request_ids=request_ids, cost_nanousd=60)
            charged = [process.answer()["charged"] for process in processes]
            assert sum(map(sum, charged)) == 600, kind
        assert get_balance(call.customer_id).held_nanousd == 0, kind
        assert_books_agree(call.customer_id)


def test_a_rotated_key_its_successors_and_the_keys_they_made_share_what_one_key_has(
    processes: list[ClerkProcess],
) -> None:
    for kind, options in TEN_CALLS.items():
        call = funded_call(**options)
        family = make_family(call)
        for process, member in zip(processes, family, strict=True):
            process.order("admit", member, count=CLIENTS // PROCESSES, amount_nanousd=100)
        passed = [process.answer()["passed"] for process in processes]
        assert sum(map(len, passed)) == 10, kind
        assert_books_agree(call.customer_id)
        for process, member, request_ids in zip(processes, family, passed, strict=True):
            process.order("settle", member, request_ids=request_ids, cost_nanousd=60)
        assert sum(sum(process.answer()["charged"]) for process in processes) == 600, kind
        assert_books_agree(call.customer_id)


def test_another_class_of_endpoints_has_its_own_places_and_shares_the_budgets(processes: list[ClerkProcess]) -> None:
    call = funded_call(
        plan_limits={"requests_per_minute": 10, "embeddings_requests_per_minute": 10, "spend_total_nanousd": 1_699}
    )
    order = {"count": CLIENTS // PROCESSES, "amount_nanousd": 100}
    chat = _all(processes, "admit", call, **order)
    embeddings = _all(processes, "admit", call, endpoint_class="embeddings", **order)
    assert sum(len(answer["passed"]) for answer in chat) == 10
    # Ten places, and money for six.
    assert sum(len(answer["passed"]) for answer in embeddings) == 6
    assert_books_agree(call.customer_id)


def test_of_two_hundred_control_calls_on_four_processes_exactly_ten_pass(processes: list[ClerkProcess]) -> None:
    call = funded_call(plan_limits={"control_requests_per_minute": 10}, key_limits={"control_requests_per_minute": 50})
    answers = _all(processes, "control", call, count=CLIENTS // PROCESSES)
    assert sum(answer["passed"] for answer in answers) == 10


def test_settlements_of_one_call_by_all_processes_at_once_charge_once(
    processes: list[ClerkProcess], call: FundedCall
) -> None:
    (admitted, *_) = _all(processes[:1], "admit", call, count=20, amount_nanousd=100)
    answers = _all(processes, "settle", call, request_ids=admitted["passed"], cost_nanousd=60)
    assert [answer["charged"] for answer in answers] == [[60] * 20] * PROCESSES
    assert get_balance(call.customer_id).posted_nanousd == 4_000 - 20 * 60
    assert UsageRecord.objects.count() == 20
    assert_books_agree(call.customer_id)


def test_the_holds_of_a_killed_process_expire_once_although_three_race_for_them(
    processes: list[ClerkProcess], call: FundedCall
) -> None:
    victim, *others = processes
    held = [answer["passed"] for answer in _all(processes, "admit", call, count=10, amount_nanousd=100)]
    assert [len(request_ids) for request_ids in held] == [10] * PROCESSES
    victim.kill()
    # Its lease still runs: nobody touches its holds, and nobody gets their money.
    _all(others, "move", seconds=14)
    assert all(answer["passed"] == [] for answer in _all(others, "admit", call, count=1, amount_nanousd=100))
    assert Hold.objects.count() == 40
    _all(others, "move", seconds=1)
    _all(others, "look")
    kinds = Counter(Transfer.objects.filter(request_id__in=held[0]).values_list("kind", flat=True))
    assert kinds == {"pending": 10, "expire": 10}
    assert set(UsageRecord.objects.values_list("request_id", "status")) == {(id, "lost") for id in held[0]}
    assert Hold.objects.count() == 30
    assert Worker.objects.count() == 3
    assert LimitState.objects.get(owner=f"key:{call.principal.key_id}").in_flight == 30
    assert_books_agree(call.customer_id)
    # What it held is free again, for exactly as many.
    passed = [answer["passed"] for answer in _all(others, "admit", call, count=10, amount_nanousd=100)]
    assert sum(map(len, passed)) == 10
    assert_books_agree(call.customer_id)
