"""Asking a model of the gateway for a verdict on a text: ordinary calls, made and paid by the key that the rule names.

They are held, settled, limited and recorded like anybody's, by the operation `guards.checks`, with tags that say which
rule asked about which call. What is not there by the rule's deadline is given up, as by a client that leaves:
it is settled with what it has used.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import NamedTuple

import orjson
from django.conf import settings

from gateway.calls import Exchange
from gateway.capabilities import Capability
from gateway.catalogue import ModelEntry
from gateway.collecting import CollectingSink
from gateway.control import CallControl
from gateway.flight import Sink
from gateway.guards.judging import (
    CUSTOMER_TAG,
    MOST_PIECES,
    REQUEST_TAG,
    RULE_TAG,
    Document,
    Verdict,
    body_of_question,
    read_verdict,
    room_for_text,
    split_text,
)
from gateway.guards.values import Judge, Rule
from gateway.operations import GUARD_CHECKS
from gateway.runtime import Runtime

logger = logging.getLogger(__name__)

# The pipeline itself, which stands above the stage that asks.
CarryOut = Callable[[Runtime, Exchange, CallControl, Sink], Awaitable[None]]


class Outcome(NamedTuple):
    """What a judge said of a text, for one rule."""

    rule: Rule
    document: Document
    # None: it failed, or was late.
    verdict: Verdict | None
    # Why there is none: the code of an error, or a word of ours.
    failure: str = ""
    # What its answers cost whoever pays for them, as far as they are there.
    charged_nanousd: int = 0


class About(NamedTuple):
    """Which call a text is of."""

    request_id: str
    # Public id of the customer.
    customer: str


class _Question(NamedTuple):
    exchange: Exchange
    sink: CollectingSink
    control: CallControl
    task: "asyncio.Task[None]"


async def ask_judge(runtime: Runtime, carry_out: CarryOut, rule: Rule, document: Document, *, about: About) -> Outcome:
    """Return the verdict of a rule's judge on a text.

    A text that is too long for one question is asked about in pieces, all at once: one violation decides.
    """
    judge = rule.judge
    assert judge is not None
    model = runtime.clerk.catalogue.models.get(judge.model)
    if model is None:
        return _failed(rule, document, "model_not_found", about)
    room = room_for_text(
        judge,
        window_tokens=model.context_window - model.input_overhead_tokens,
        estimate_percent=model.input_estimate_percent,
    )
    if not room:
        return _failed(rule, document, "window_too_small", about)
    deadline = asyncio.get_running_loop().time() + judge.deadline_ms / 1_000
    pieces: list[str] = []
    for piece in split_text(document.text, room):
        pieces.append(piece)
        if len(pieces) > MOST_PIECES:
            return _failed(rule, document, "text_too_long", about)
        if len(pieces) > 1:
            # Counting its tokens took a while.
            await asyncio.sleep(0)
    tags = f"{RULE_TAG}={rule.policy}/{rule.name},{REQUEST_TAG}={about.request_id},{CUSTOMER_TAG}={about.customer}"
    questions = [
        _start(runtime, carry_out, _question(judge, model, piece), judge.key_line_id, tags) for piece in pieces
    ]
    try:
        outcome = await _first_decisive(rule, document, questions, deadline, about)
        return outcome._replace(charged_nanousd=_sum_charged(questions))
    finally:
        for question in questions:
            if not question.task.done():
                question.control.client_left()


async def _first_decisive(
    rule: Rule, document: Document, questions: list[_Question], deadline: float, about: About
) -> Outcome:
    loop = asyncio.get_running_loop()
    by_task = {question.task: question for question in questions}
    pending = set(by_task)
    failure = ""
    verdict = Verdict(is_violation=False, reason="")
    while pending:
        done, pending = await asyncio.wait(pending, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return _failed(rule, document, failure or "late", about)
        for task in done:
            found = read_verdict(by_task[task].exchange.output) if by_task[task].sink.body is not None else None
            if found is None:
                error = by_task[task].sink.error
                failure = failure or (error.code if error is not None else "unreadable")
            elif found.is_violation:
                return Outcome(rule, document, found)
            else:
                verdict = found
    return _failed(rule, document, failure, about) if failure else Outcome(rule, document, verdict)


def _question(judge: Judge, model: ModelEntry, text: str) -> bytes:
    # A provider that lets nobody choose would refuse it.
    takes_sampling = all(Capability.SAMPLING in deployment.capabilities for deployment in model.deployments)
    return orjson.dumps(body_of_question(judge, text, secret=_mark_secret(), takes_sampling=takes_sampling))


def _start(runtime: Runtime, carry_out: CarryOut, raw_body: bytes, key_line_id: int, tags: str) -> _Question:
    exchange = Exchange(
        operation=GUARD_CHECKS,
        token=runtime.borrow_key(key_line_id),
        raw_body=raw_body,
        # One answer is one verdict: the time for a second one is better spent on saying so.
        headers={b"x-tags": tags.encode(), b"x-max-attempts": b"1"},
    )
    sink, control = CollectingSink(), CallControl()
    task = asyncio.ensure_future(carry_out(runtime, exchange, control, sink))
    control.begin(task)
    # It settles also when nobody waits for it any more.
    runtime.keep(task)
    return _Question(exchange, sink, control, task)


def _sum_charged(questions: list[_Question]) -> int:
    receipts = (question.sink.receipt for question in questions)
    return sum(receipt.charged_nanousd for receipt in receipts if receipt is not None)


def _failed(rule: Rule, document: Document, failure: str, about: About) -> Outcome:
    logger.warning("%s: no verdict for the rule %s of %s: %s", about.request_id, rule.name, rule.policy, failure)
    return Outcome(rule, document, None, failure)


@lru_cache(maxsize=1)
def _mark_secret() -> bytes:
    """Return what marks are made with: the same in every process, so that the cache knows an equal question."""
    return hashlib.sha256(f"marks of judged texts: {settings.SECRET_KEY}".encode()).digest()
