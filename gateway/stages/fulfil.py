"""Ask until the answer has the shape that was asked for, as often as the plan allows; any other call is asked once.

Each wrong answer goes back to the model with what is wrong with it. What every attempt used is kept on the flight, for
the one usage record of the call and for the customer's receipt.
"""

import logging
from typing import Any

import orjson

from billing.tokens import add_tokens
from gateway.attempts import openai_usage, put_by, record_attempt
from gateway.calls import ChatCall, Exchange
from gateway.flight import Flight
from gateway.stages.retry import call_upstream
from gateway.structured.asking import ask_again, correction_tokens
from gateway.structured.checking import Verdict, check_answer, check_text, unwrap
from gateway.structured.contracts import OutputContract
from gateway.structured.errors import OutputError, OutputInvalid, OutputRefused, OutputTruncated
from gateway.structured.outputs import OutputText

logger = logging.getLogger(__name__)


async def fulfil(flight: Flight) -> bytes | None:
    """Return the body of a whole completion that is what was asked for, or None when it was streamed.

    Raises OutputInvalid, OutputTruncated or OutputRefused for an answer that is not, an UpstreamError or CallStopped as
    `call_upstream` does.
    """
    assert flight.exchange.call is not None
    first_call, contract = flight.exchange.call, flight.exchange.call.contract
    if contract is None:
        return await (_run_text(flight) if flight.exchange.is_run else call_upstream(flight))
    while True:
        body, verdict = await _ask(flight, contract)
        if verdict.is_valid:
            flight.exchange.output = verdict.value
            return None if body is None else _tidy(flight, body, verdict)
        error = _error_of(flight, verdict)
        if not isinstance(error, OutputInvalid) or not flight.may_ask_again:
            raise error
        logger.info("%s: asking again: %s", flight.exchange.request_id, "; ".join(verdict.problems))
        assert flight.output is not None
        answer, problems = flight.output.first.text, verdict.problems
        if flight.exchange.screening is not None:
            # What was put back for the customer does not go out again.
            hide = flight.exchange.screening.vault.hide
            answer, problems = hide(answer), [hide(problem) for problem in problems]
        _begin_next_attempt(flight)
        flight.sink.begin_again()
        flight.exchange.call = _corrected(flight, first_call, answer, problems)


async def _run_text(flight: Flight) -> bytes | None:
    """Ask once for the text of a prompt run."""
    flight.output = OutputText()
    body = await call_upstream(flight)
    choice = flight.output.first
    flight.verdict = verdict = check_text(choice)
    if not verdict.is_valid:
        raise _error_of(flight, verdict)
    flight.exchange.output = choice.text
    return body


async def _ask(flight: Flight, contract: OutputContract) -> tuple[bytes | None, Verdict]:
    flight.verdict, flight.output = None, OutputText()
    body = await call_upstream(flight)
    flight.verdict = check_answer(flight.output, contract.schema, may_unwrap=not _passes_text_on(flight.exchange))
    return body, flight.verdict


def _passes_text_on(exchange: Exchange) -> bool:
    """Return whether the model's text has reached the client as it came, so that nothing of it can be corrected."""
    assert exchange.call is not None
    return exchange.call.is_stream and not exchange.has_own_events


def _error_of(flight: Flight, verdict: Verdict) -> OutputError:
    call, plan = flight.exchange.call, flight.exchange.plan
    assert call is not None
    assert plan is not None
    if verdict.refusal is not None:
        return OutputRefused(refusal=verdict.refusal)
    if verdict.is_truncated:
        return OutputTruncated(limit=plan.output_tokens_per_choice, param=call.max_output_parameter)
    return OutputInvalid(problems=verdict.problems, attempts=len(flight.answers) + 1)


def _begin_next_attempt(flight: Flight) -> None:
    """Put the present attempt among the earlier ones, and make room for the next."""
    plan = flight.exchange.plan
    assert plan is not None
    put_by(flight, record_attempt(flight, is_worked_on=True))
    flight.added_input_tokens = plan.model.scale_tokens(correction_tokens(plan.output_tokens_per_choice))


def _corrected(flight: Flight, call: ChatCall, answer: str, problems: list[str]) -> ChatCall:
    plan = flight.exchange.plan
    assert plan is not None
    messages = ask_again(call.body["messages"], answer, problems, output_tokens=plan.output_tokens_per_choice)
    return call._replace(body={**call.body, "messages": messages})


def _tidy(flight: Flight, body: bytes, verdict: Verdict) -> bytes:
    """Return the body with what the last answer alone does not say: the usage of all attempts, text without a fence."""
    answers = flight.answers
    if not verdict.is_fenced and not answers:
        return body
    completion: dict[str, Any] = orjson.loads(body)
    for choice in completion["choices"] if verdict.is_fenced else ():
        choice["message"]["content"] = unwrap(choice["message"]["content"] or "")
    if answers and flight.transcript.usage is not None:
        tokens = add_tokens([*(attempt.tokens for attempt in answers), flight.transcript.usage.tokens])
        completion["usage"] = openai_usage(tokens)
    return orjson.dumps(completion)
