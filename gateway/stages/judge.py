"""What may this call say, and be answered, in the eyes of a model? For rules whose judge is one.

The input is judged once the call has been admitted, so that nobody without money or over a limit costs the judge's
payer anything, and before anything of it leaves. An answer is judged when it is whole; a stream is held until then.
Rules that need no model have had their say by then.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter

import orjson

from gateway.attempts import put_by, record_attempt
from gateway.control import CallStopped, StopReason
from gateway.errors import UpstreamError
from gateway.flight import Flight
from gateway.guards.errors import AnswerBlocked, AnswerUnchecked, ContentBlocked, ContentUnchecked
from gateway.guards.judging import join_texts
from gateway.guards.said import AnswerTexts
from gateway.guards.screening import Screening
from gateway.guards.texts import Text
from gateway.guards.values import Action, Finding, OnFailure, Rule, Surface
from gateway.held_streams import HeldStream
from gateway.judges import About, CarryOut, Outcome, ask_judge
from gateway.stages.fulfil import fulfil
from gateway.stages.keep import keep_stream
from gateway.stages.relay import CLIENT_PHASE, stoppable

# What a rule's findings are told as where its judge gave no verdict.
_UNAVAILABLE = "unavailable"
_INPUTS = (Surface.USER, Surface.TOOL, Surface.SYSTEM)


async def fulfil_judged(flight: Flight, carry_out: CarryOut) -> bytes | None:
    """Return what `fulfil` returns and raise what it raises, with input and answer judged.

    Raises ContentBlocked or ContentUnchecked before anything is sent; AnswerBlocked or AnswerUnchecked before anything
    of the answer is handed on; CallStopped.
    """
    exchange = flight.exchange
    screening = _screening_of(flight)
    await _judge(flight, carry_out, _rules_of(screening, _INPUTS), screening.judged)
    answer_rules = _rules_of(screening, (Surface.ANSWER,))
    if not answer_rules:
        return await fulfil(flight)
    assert exchange.call is not None
    if exchange.call.is_stream:
        flight.held = HeldStream(lambda: _refuse_long_stream(flight, answer_rules[0]))
    try:
        body = await fulfil(flight)
        # Whoever sent a key will ask again.
        if exchange.claim is not None or not flight.control.is_client_gone:
            await _judge(flight, carry_out, answer_rules, _read_answer(flight, body))
            await _release(flight)
    except UpstreamError as error:
        if flight.held is not None:
            _waive_unseen(flight, error)
        raise
    except CallStopped as stopped:
        if stopped.reason is StopReason.SERVER_STOPPING:
            _waive_unseen(flight, None)
        raise
    return body


def _rules_of(screening: Screening, surfaces: Sequence[Surface]) -> list[Rule]:
    """Return the rules that judge texts of these surfaces, each once."""
    guards = [screening.guard[surface] for surface in surfaces if surface in screening.guard]
    return list(dict.fromkeys(rule for guard in guards for rule in guard.judges))


async def _judge(flight: Flight, carry_out: CarryOut, rules: Sequence[Rule], texts: Sequence[Text]) -> None:
    """Ask the judges of all rules at once, note what they say, and raise what blocks the call."""
    questions = []
    for rule in rules:
        own = [text for text in texts if text.surface in rule.surfaces]
        if own:
            questions.append((rule, join_texts(own)))
    if not questions:
        return
    exchange, control = flight.exchange, flight.control
    control.stops_when_client_leaves = exchange.claim is None
    assert exchange.principal is not None
    about = About(exchange.request_id, exchange.principal.customer_public_id)
    began = perf_counter()
    tasks = [
        asyncio.create_task(ask_judge(flight.runtime, carry_out, rule, document, about=about))
        for rule, document in questions
    ]
    try:
        with control.interruptible():
            pending = set(tasks)
            while pending and not any(_is_final(task) for task in tasks):
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Who is not heard any more is told so.
        for task in tasks:
            task.cancel()
        # It is waited for like an upstream.
        flight.upstream_seconds += perf_counter() - began
    _note(flight, [task.result() for task in tasks if task.done()])


def _is_final(task: "asyncio.Task[Outcome]") -> bool:
    """Return whether a verdict has come that no other one can change."""
    if not task.done():
        return False
    outcome = task.result()
    return outcome.verdict is not None and outcome.verdict.is_violation and outcome.rule.action is Action.BLOCK


def _note(flight: Flight, outcomes: Sequence[Outcome]) -> None:
    """Put the findings on record. Raises the error of one that blocks; a verdict says more than that there is none."""
    notes = _screening_of(flight).notes
    blocked: Finding | None = None
    unchecked: Finding | None = None
    for outcome in outcomes:
        finding = _finding_of(outcome)
        if finding is None:
            continue
        notes.add(finding)
        if finding.action is Action.BLOCK and outcome.verdict is None:
            unchecked = unchecked or finding
        elif finding.action is Action.BLOCK:
            blocked = blocked or finding
    is_answer = flight.exchange.ended > 0
    if blocked is not None:
        raise AnswerBlocked(finding=blocked) if is_answer else ContentBlocked(finding=blocked)
    if unchecked is not None:
        raise AnswerUnchecked(finding=unchecked) if is_answer else ContentUnchecked(finding=unchecked)


def _finding_of(outcome: Outcome) -> Finding | None:
    rule, document = outcome.rule, outcome.document
    if outcome.verdict is None:
        return _unavailable(rule, document.place, document.characters)
    if not outcome.verdict.is_violation:
        return None
    return Finding(rule.policy, rule.name, rule.action, document.place, 0, document.characters)


def _unavailable(rule: Rule, place: str, characters: int) -> Finding:
    assert rule.judge is not None
    # A rule that lets through what it finds has no reason to stop what it does not.
    is_blocked = rule.action is Action.BLOCK and rule.judge.on_failure is OnFailure.BLOCK
    action = Action.BLOCK if is_blocked else Action.FLAG
    return Finding(rule.policy, rule.name_of(_UNAVAILABLE), action, place, 0, characters)


def _refuse_long_stream(flight: Flight, rule: Rule) -> AnswerUnchecked:
    """Return the error of a stream that is too long to be held, whatever the rule says of failures."""
    finding = _unavailable(rule, "choices", 0)._replace(action=Action.BLOCK)
    _screening_of(flight).notes.add(finding)
    return AnswerUnchecked(finding=finding)


def _read_answer(flight: Flight, body: bytes | None) -> list[Text]:
    """Return the texts of the answer, without what was put back for the customer: it goes to no model."""
    if flight.held is not None:
        said = flight.held.texts
    else:
        assert body is not None
        said = AnswerTexts()
        said.read_completion(orjson.loads(body))
    texts, vault = said.texts(), _screening_of(flight).vault
    return [text._replace(text=vault.hide(text.text)) for text in texts] if vault.restores else texts


async def _release(flight: Flight) -> None:
    """Hand a held stream on. Raises CallStopped."""
    held, exchange, control = flight.held, flight.exchange, flight.control
    if held is None or control.is_client_gone:
        return
    assert exchange.deployment is not None
    exchange.first_token = flight.first_token = perf_counter()
    with stoppable(control), control.interruptible():
        control.expect_end(exchange.deployment.upstream.total_timeout_seconds)
        keep_stream(flight)
        control.expect(CLIENT_PHASE, flight.runtime.client_stall_seconds)
        await flight.sink.begin(exchange)
        for chunks in held.read_batches():
            control.expect(CLIENT_PHASE, flight.runtime.client_stall_seconds)
            await flight.sink.send_chunks(chunks)


def _waive_unseen(flight: Flight, error: UpstreamError | None) -> None:
    """Let the platform pay for an answer that broke off and of which nobody has seen anything, as for a whole one."""
    if flight.transcript.has_output and not flight.sink.has_begun:
        put_by(flight, record_attempt(flight, is_worked_on=False, error=error)._replace(is_billed=False))


def _screening_of(flight: Flight) -> Screening:
    assert flight.exchange.screening is not None
    return flight.exchange.screening
