"""Ask a second deployment when the first stays quiet, and take whichever answers first. Off unless a model says so.

The customer pays for the answer that is taken. What the other one has cost is on record as an attempt that was outrun,
estimated by its input: hanging up is all that can be done about it.
"""

import asyncio
from time import perf_counter
from typing import NamedTuple

from gateway.admission.commands import NoteBreaker
from gateway.calls import Attempt, ChatCall
from gateway.catalogue import DeploymentEntry
from gateway.errors import UpstreamError
from gateway.flight import Flight
from gateway.stages.trial import leave
from gateway.upstreams.answer import UpstreamAnswer, open_answer


class _Runner(NamedTuple):
    deployment: DeploymentEntry
    task: "asyncio.Task[UpstreamAnswer]"
    sent: float


async def open_quickest(
    flight: Flight, deployment: DeploymentEntry, call: ChatCall, after_seconds: float
) -> UpstreamAnswer:
    """Return the first answer that has begun to arrive; the exchange then names the deployment that gave it.

    Raises the UpstreamError of the first deployment when both fail.
    """
    runners = [_start(flight, deployment, call)]
    try:
        await asyncio.wait([runners[0].task], timeout=after_seconds)
        other = None if runners[0].task.done() else _find_other(flight, deployment)
        if other is not None:
            runners.append(_start(flight, other, call))
        winner = await _first_that_answers(runners)
    except BaseException:
        for runner in runners:
            _give_up(runner)
        raise
    for runner in runners:
        if runner is not winner:
            _put_on_record(flight, runner)
            _give_up(runner)
    flight.exchange.deployment, flight.exchange.sent = winner.deployment, winner.sent
    return winner.task.result()


def _start(flight: Flight, deployment: DeploymentEntry, call: ChatCall) -> _Runner:
    return _Runner(deployment, asyncio.create_task(_open_and_listen(flight, deployment, call)), perf_counter())


async def _open_and_listen(flight: Flight, deployment: DeploymentEntry, call: ChatCall) -> UpstreamAnswer:
    plan = flight.exchange.plan
    assert plan is not None
    answer = await open_answer(
        flight.runtime.upstreams, deployment, call, plan, flight.control, is_stream=call.is_stream
    )
    try:
        await answer.listen()
    except BaseException:
        answer.hang_up()
        raise
    return answer


async def _first_that_answers(runners: list[_Runner]) -> _Runner:
    pending = {runner.task for runner in runners}
    while pending:
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for runner in runners:
            if runner.task.done() and runner.task.exception() is None:
                return runner
    error = runners[0].task.exception()
    assert error is not None
    raise error


def _find_other(flight: Flight, deployment: DeploymentEntry) -> DeploymentEntry | None:
    plan, runtime = flight.exchange.plan, flight.runtime
    assert plan is not None
    # One that has yet to show that it answers again is no help in a hurry.
    return next((d for d in plan.deployments if d is not deployment and runtime.breakers.is_closed(d.id)), None)


def _put_on_record(flight: Flight, runner: _Runner) -> None:
    """Note what a deployment did that was not needed in the end. Being outrun is no failure of it."""
    error = runner.task.exception() if runner.task.done() else None
    plan = flight.exchange.plan
    assert plan is not None
    tokens = flight.transcript.estimate_input(input_tokens=flight.input_tokens)
    if isinstance(error, UpstreamError):
        tokens = type(tokens)()
        state = flight.runtime.breakers.note_failure(
            runner.deployment.id, flight.runtime.clerk.now_us, error_code=error.code, asked_seconds=error.asked_seconds
        )
        if state is not None:
            flight.runtime.clerk.note(NoteBreaker(state=state))
    elif runner.deployment is flight.exchange.deployment:
        # The first one may have been on trial.
        leave(flight, runner.deployment.id)
    flight.earlier.append(
        Attempt(
            upstream=runner.deployment.upstream.name,
            outcome=error.code if isinstance(error, UpstreamError) else "outrun",
            finish_reason="",
            tokens=tokens,
            is_estimated=not isinstance(error, UpstreamError),
            upstream_ms=(perf_counter() - runner.sent) * 1000,
            is_billed=False,
            deployment_id=runner.deployment.id,
            upstream_model=runner.deployment.upstream_model,
            model=plan.model.name,
        )
    )


def _give_up(runner: _Runner) -> None:
    """Hang up, now or as soon as there is something to hang up on."""
    runner.task.add_done_callback(_hang_up)
    runner.task.cancel()


def _hang_up(task: "asyncio.Task[UpstreamAnswer]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().hang_up()
