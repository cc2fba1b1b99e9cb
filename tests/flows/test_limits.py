"""Limits as a caller meets them: told on success and refusal alike, 429 where waiting helps, 402 where money does."""

import pytest

from gateway.models import Refusal
from keys.models import ApiKey
from tests.factories import make_raise
from tests.flows.platform import Caller, Platform, wait_for
from tests.flows.sockets import open_socket
from tests.flows.wire import Answer, ask


def refusal_of(platform: Platform, answer: Answer) -> Refusal:
    request_id = answer.headers["x-request-id"]
    (row,) = wait_for(
        lambda: platform.run(lambda: list(Refusal.objects.filter(request_id=request_id))), what=f"why {request_id}"
    )
    return row


async def test_the_same_headers_stand_on_success_and_refusal(platform: Platform) -> None:
    caller = platform.make_caller(
        plan_limits={"requests_per_minute": 1, "concurrency": 4, "spend_per_month_nanousd": 10**12}
    )
    passed, refused = await ask(platform.server, caller), await ask(platform.server, caller)
    assert (passed.status, refused.status) == (200, 429)
    for answer in (passed, refused):
        assert answer.headers["x-ratelimit-limit-requests"] == "1"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert answer.headers["ratelimit-policy"] == '"requests";qu="requests";q=1;w=60'
        assert answer.headers["x-ratelimit-limit-concurrency"] == "4"
        assert answer.headers["x-budget-limit-month"] == "1000.00"
        assert answer.headers["x-limit-warning"] == "requests;used=100%;set-by=plan"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    details = refused.error["details"]
    assert (details["limit_name"], details["owner"], details["set_by"]) == ("requests", "customer", "plan")
    row = refusal_of(platform, refused)
    assert (row.code, row.message) == (refused.error["code"], refused.error["message"])


@pytest.mark.parametrize(
    ("limits", "status", "code"),
    [
        ({"requests_per_minute": 0}, 403, "limit_is_zero"),
        ({"output_tokens_per_minute": 5}, 400, "request_exceeds_limit"),
        ({"spend_per_day_nanousd": 1}, 402, "budget_too_small"),
        ({"spend_total_nanousd": 1}, 402, "total_budget_exceeded"),
        ({"max_input_tokens": 1}, 400, "input_tokens_exceeded"),
    ],
)
async def test_each_refusal_has_its_status_and_leaves_a_row(
    platform: Platform, limits: dict[str, int | None], status: int, code: str
) -> None:
    caller = platform.make_caller(limits=limits)
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert "retry-after" not in answer.headers
    assert refusal_of(platform, answer).code == code
    assert platform.read_holds(caller) == []


async def test_a_limit_raised_for_a_time_counts_from_the_next_call_on(platform: Platform) -> None:
    caller = platform.make_caller(limits={"requests_per_minute": 1})
    assert [(await ask(platform.server, caller)).status for _ in range(2)] == [200, 429]
    platform.run(lambda: make_raise(ApiKey.objects.get(pk=caller.key_id), "requests_per_minute", 100))
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.headers["x-ratelimit-limit-requests"]) == (200, "100")


async def test_a_socket_is_told_the_limits_at_start_and_at_refusal(platform: Platform) -> None:
    caller: Caller = platform.make_caller(limits={"requests_per_minute": 1})
    async with open_socket(platform.server, caller) as socket:
        for end in ("done", "error"):
            await socket.call(caller)
            messages = await socket.finish()
            assert messages[-1]["type"] == end
            told = messages[0] if end == "done" else messages[-1]
            assert told["limits"]["requests"]["remaining"] == 0
            assert told["limits"]["requests"]["is_warning"]
