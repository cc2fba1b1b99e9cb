"""200 clients at once against one limit that has room for ten of them."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from tests.flows.platform import Caller, Platform, wait_for
from tests.flows.wire import Answer, ask_with, open_client
from tests.upstream import Behaviour

CLIENTS = 200
PLACES = 10
# "three plain words" is 3 tokens, a message 4, a call 3.
INPUT_TOKENS = 10
OUTPUT_TOKENS = 20
# At 1 and 4 USD per million tokens.
HOLD_NANOUSD = INPUT_TOKENS * 1_000 + OUTPUT_TOKENS * 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit with ten places: how to set it, and what those beyond it are told."""

    options: dict[str, Any]
    status: int
    code: str
    # Buckets refill while the clients arrive: a place each six seconds, on a machine that is that slow.
    refills: bool = False


LIMITS = {
    "money": Limit(options={"credit_nanousd": PLACES * HOLD_NANOUSD}, status=402, code="insufficient_balance"),
    "concurrency": Limit(
        options={"plan_limits": {"concurrency": PLACES}}, status=429, code="concurrency_limit_exceeded"
    ),
    "requests": Limit(
        options={"plan_limits": {"requests_per_minute": PLACES}}, status=429, code="rate_limit_exceeded", refills=True
    ),
    "input tokens": Limit(
        options={"customer_limits": {"input_tokens_per_minute": PLACES * INPUT_TOKENS}},
        status=429,
        code="rate_limit_exceeded",
        refills=True,
    ),
    "output tokens": Limit(
        options={"limits": {"output_tokens_per_minute": PLACES * OUTPUT_TOKENS}},
        status=429,
        code="rate_limit_exceeded",
        refills=True,
    ),
    "budget of a day": Limit(
        options={"plan_limits": {"spend_per_day_nanousd": PLACES * HOLD_NANOUSD}}, status=429, code="budget_exceeded"
    ),
    "budget of a month": Limit(
        options={"limits": {"spend_per_month_nanousd": PLACES * HOLD_NANOUSD}}, status=429, code="budget_exceeded"
    ),
}


async def flood(platform: Platform, caller: Caller) -> tuple[list[Answer], float]:
    """Let all clients call; what passes is held at the upstream until the rest has been refused.

    Returns the answers and the seconds in which they were decided.
    """
    platform.upstream.set_default(Behaviour(events=OUTPUT_TOKENS, hold_at="head"), target=caller.model)
    servers = platform.servers
    began = time.monotonic()
    async with open_client() as client:
        calls = [
            asyncio.create_task(
                ask_with(client, servers[i % len(servers)], caller, max_completion_tokens=OUTPUT_TOKENS)
            )
            for i in range(CLIENTS)
        ]

        def all_decided() -> bool:
            return sum(call.done() for call in calls) + len(platform.upstream.requests) == CLIENTS

        await asyncio.to_thread(wait_for, all_decided, what="all decisions", timeout_seconds=60)
        seconds = time.monotonic() - began
        held = len(platform.upstream.requests)
        await asyncio.to_thread(platform.upstream.wait_until_held, n=held)
        platform.upstream.release()
        return list(await asyncio.gather(*calls)), seconds


async def check_flood(platform: Platform, limit: Limit) -> None:
    """Check that exactly the calls with a place passed, that they cost what they used, and that the books agree."""
    caller = platform.make_caller(**limit.options)
    answers, seconds = await flood(platform, caller)
    passed = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status != 200]
    most = PLACES + (int(seconds * PLACES / 60) if limit.refills else 0)
    assert PLACES <= len(passed) <= most
    assert {(answer.status, answer.error["code"]) for answer in refused} == {(limit.status, limit.code)}
    records = platform.wait_for_usage(caller, len(passed))
    assert len(records) == len(passed)
    # Three words in, by the upstream's own count.
    assert {record.charged_nanousd for record in records} == {3 * 1_000 + OUTPUT_TOKENS * 4_000}
    assert platform.read_balance(caller).posted_nanousd >= 0
    platform.assert_settled(caller)
