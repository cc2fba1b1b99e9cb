"""A process with a clerk, for `test_processes`: takes one JSON order a line, answers with one JSON line.

Its clock stands still until it is told to move, so that no limit refills while several processes compete.
"""

import asyncio
import json
import sys
from typing import Any

import django

django.setup()

from django.db import connection, connections  # noqa: E402 - Django has to be set up first

from common.clock import FrozenClock  # noqa: E402
from gateway.admission.clerk import Clerk  # noqa: E402
from gateway.admission.commands import Admitted, FindPrincipal, Refused  # noqa: E402
from keys.control_limits import take_control_request  # noqa: E402
from keys.limit_values import EndpointClass  # noqa: E402
from tests.conftest import NOON_US  # noqa: E402
from tests.factories import FundedCall, known_call  # noqa: E402


async def serve(clock: FrozenClock) -> None:
    """Carry out orders until the input ends."""
    clerk = Clerk(queue_limit=10_000, batch_limit=64, lease_seconds=15, clock=clock)
    await clerk.start()
    _say({"is_ready": True})
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        if order["do"] == "move":
            clock.advance(seconds=order["seconds"])
        _say(await _carry_out(clerk, order))
    await clerk.stop(timeout_seconds=5)


async def _carry_out(clerk: Clerk, order: dict[str, Any]) -> dict[str, Any]:
    if order["do"] == "admit":
        call = await _find_call(order)
        question_class = order.get("endpoint_class", EndpointClass.CHAT)
        questions = [
            call.admit(amount_nanousd=order["amount_nanousd"])._replace(endpoint_class=question_class)
            for _ in range(order["count"])
        ]
        answers = await asyncio.gather(*(clerk.submit(question) for question in questions))
        return {
            "passed": [answer.request_id for answer in answers if isinstance(answer, Admitted)],
            "refused": [answer.error.code for answer in answers if isinstance(answer, Refused)],
        }
    if order["do"] == "control":
        call = await _find_call(order)
        return {"passed": await asyncio.to_thread(_take_control_requests, call, order["count"])}
    if order["do"] == "settle":
        call = await _find_call(order)
        settlements = [call.settle(id, cost_nanousd=order["cost_nanousd"]) for id in order["request_ids"]]
        settled = await asyncio.gather(*(clerk.submit(settlement) for settlement in settlements))
        return {"charged": [answer.charged_nanousd for answer in settled]}
    await clerk.submit(FindPrincipal(hashes=("0",)))
    return {}


def _take_control_requests(call: FundedCall, count: int) -> int:
    """Return how many calls of the control plane passed."""
    try:
        answers = [take_control_request(connection, call.principal, NOON_US) for _ in range(count)]
        return sum(answer.error is None for answer in answers)
    finally:
        connections.close_all()


async def _find_call(order: dict[str, Any]) -> FundedCall:
    def find() -> FundedCall:
        try:
            return known_call(token=order["token"], model=order["model"])
        finally:
            connections.close_all()

    return await asyncio.to_thread(find)


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(FrozenClock(int(sys.argv[1]))))
