"""Input is bounded before it costs anything, with the numbers in the answer, and counting it holds nobody up."""

import asyncio
import json

import pytest

from tests.flows.platform import Caller, Platform
from tests.flows.wire import RawCall, ask, chat_body

# As the shared platform is started.
MAX_BODY_BYTES = 4_000_000
MAX_MESSAGES = 50
# Of a model that `factories.make_model` makes.
DEFAULT_OUTPUT_TOKENS = 256


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


async def read_error(call: RawCall) -> dict[str, object]:
    error: dict[str, object] = json.loads(await call.read_body())["error"]
    return error


async def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(platform: Platform, caller: Caller) -> None:
    async with await RawCall.connect(platform.server) as call:
        call.writer.write(RawCall.head(caller, f"content-length: {MAX_BODY_BYTES + 1}"))
        assert await call.read_status() == 413


async def test_a_chunked_body_is_refused_once_it_passes_the_bound(platform: Platform, caller: Caller) -> None:
    async with await RawCall.connect(platform.server) as call:
        call.writer.write(RawCall.head(caller, "transfer-encoding: chunked"))
        status = asyncio.create_task(call.read_status())
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        for _ in range(5):
            call.writer.write(piece)
        # Without an end: it is refused for what has come.
        assert await status == 413
        error = await read_error(call)
    assert (error["code"], error["details"]) == ("body_too_large", {"limit_bytes": MAX_BODY_BYTES})


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"model": "m"', b"{}"])
async def test_a_body_that_is_no_call_is_refused(platform: Platform, caller: Caller, raw: bytes) -> None:
    async with await RawCall.connect(platform.server) as call:
        call.writer.write(RawCall.head(caller, f"content-length: {len(raw)}") + raw)
        assert await call.read_status() == 400
        assert (await read_error(call))["code"] == "invalid_body"


async def test_a_deeply_nested_body_is_refused(platform: Platform, caller: Caller) -> None:
    raw = b'{"model": "m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    async with await RawCall.connect(platform.server) as call:
        call.writer.write(RawCall.head(caller, f"content-length: {len(raw)}") + raw)
        assert await call.read_status() == 400
    assert (await ask(platform.server, caller)).status == 200


async def test_too_many_messages_are_refused_with_both_numbers(platform: Platform, caller: Caller) -> None:
    message = {"role": "user", "content": "x"}
    answer = await ask(platform.server, caller, messages=[message] * (MAX_MESSAGES + 1))
    assert (answer.status, answer.error["code"]) == (400, "too_many_messages")
    assert answer.error["details"] == {"messages": MAX_MESSAGES + 1, "limit": MAX_MESSAGES}
    assert (await ask(platform.server, caller, messages=[message] * MAX_MESSAGES)).status == 200


async def test_what_does_not_fit_the_context_window_is_refused_with_the_numbers(platform: Platform) -> None:
    caller = platform.make_caller(model=platform.make_model(context_window=300))
    # 7 tokens are a message's and a call's own.
    words = 300 - DEFAULT_OUTPUT_TOKENS - 7
    fits = "word" + " word" * (words - 1)
    assert (await ask(platform.server, caller, messages=[{"role": "user", "content": fits}])).status == 200
    answer = await ask(platform.server, caller, messages=[{"role": "user", "content": f"{fits} word"}])
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert answer.error["details"] == {
        "context_window": 300,
        "input_tokens": words + 8,
        "output_tokens": DEFAULT_OUTPUT_TOKENS,
    }
    # A call that asks for less output has room for more input.
    shorter = {"messages": [{"role": "user", "content": f"{fits} word"}], "max_completion_tokens": 10}
    assert (await ask(platform.server, caller, **shorter)).status == 200
    assert len(platform.requests_for(caller.model)) == 2


@pytest.mark.parametrize("owner", ["limits", "customer_limits", "plan_limits"])
async def test_the_cap_of_key_customer_or_plan_bounds_one_calls_input(platform: Platform, owner: str) -> None:
    cap: dict[str, int | None] = {"max_input_tokens": 10}
    caller = platform.make_caller(**{owner: cap})  # type: ignore[arg-type]
    assert (await ask(platform.server, caller)).status == 200
    answer = await ask(platform.server, caller, messages=[{"role": "user", "content": "four plain words now"}])
    assert (answer.status, answer.error["code"]) == (400, "input_tokens_exceeded")
    assert answer.error["details"] == {"input_tokens": 11, "limit": 10}


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_tokens"])
async def test_more_output_than_the_model_gives_is_refused_by_the_parameters_name(
    platform: Platform, caller: Caller, name: str
) -> None:
    answer = await ask(platform.server, caller, **{name: 2_049})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "output_tokens_exceeded", name)
    assert answer.error["details"] == {"requested": 2_049, "limit": 2_048}


@pytest.mark.parametrize("text", ["a", " ", "\n", "é", "ab", "0"])
async def test_a_megabyte_of_one_letter_holds_nobody_up(platform: Platform, text: str) -> None:
    # Spaces make the longest tokens: a megabyte of them is eight thousand.
    caller = platform.make_caller(model=platform.make_model(context_window=4_096))
    # A model with room for all of it, so that all of it is counted.
    platform.make_model(context_window=100_000_000)
    assert (await ask(platform.server, caller)).status == 200
    body = json.dumps(
        chat_body(caller, messages=[{"role": "user", "content": text * 1_000_000}]), ensure_ascii=False
    ).encode()
    async with await RawCall.connect(platform.server) as big, await RawCall.connect(platform.server) as probe:
        big.writer.write(RawCall.head(caller, f"content-length: {len(body)}") + body[:-1])
        await big.writer.drain()
        answers = [asyncio.create_task(call.read_status()) for call in (big, probe)]
        big.writer.write(body[-1:])
        probe.writer.write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        assert done == {answers[1]}
        assert await answers[1] == 200
        assert await answers[0] == 400
        assert (await read_error(big))["code"] == "context_length_exceeded"
