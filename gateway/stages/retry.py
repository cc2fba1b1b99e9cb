"""Attempts in order, as long as the client has seen nothing: further deployments at once, the same ones after a pause.

What the customer's request caused is told and never tried elsewhere. What may be another deployment's luck (a fault, a
timeout, a limit, refused access) goes to the next one. When all have failed, those whose fault may pass are tried
again, as often as the model allows: after the pause that the provider asked for, or after one that doubles, with jitter
so that callers who failed together do not come back together. A pause longer than the model allows is left to the
caller.
"""

import asyncio
import logging
from random import random
from time import perf_counter
from typing import NamedTuple

from gateway.attempts import put_by, record_attempt
from gateway.calls import Plan
from gateway.catalogue import DeploymentEntry
from gateway.errors import UpstreamError
from gateway.flight import Flight
from gateway.stages.call import attempt

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.25


class _Target(NamedTuple):
    """A deployment, and the plan of the model that it serves."""

    plan: Plan
    deployment: DeploymentEntry


class _Failed(NamedTuple):
    target: _Target
    error: UpstreamError


async def call_upstream(flight: Flight) -> bytes | None:
    """Carry the call out; return the body of a whole completion, or None when it was streamed.

    Raises the UpstreamError of the last attempt, or CallStopped.
    """
    assert flight.exchange.plan is not None
    try:
        return await attempt(flight, flight.exchange.plan.deployments[0])
    except UpstreamError as error:
        if not _may_go_on(flight, error):
            raise
        return await _go_on(flight, error)


async def _go_on(flight: Flight, error: UpstreamError) -> bytes | None:
    exchange, plan = flight.exchange, flight.exchange.plan
    assert plan is not None
    present = _Target(plan, plan.deployments[0])
    began, retries_left = exchange.sent or perf_counter(), plan.model.retries
    untried = [_Target(plan, deployment) for deployment in plan.deployments[1:]]
    if not flight.answers:
        # An answer of one model cannot be billed at another one's price.
        untried += [_Target(other, d) for other in plan.alternatives for d in other.deployments]
    failed: list[_Failed] = []
    while _may_go_on(flight, error) and perf_counter() - began < plan.model.attempts_seconds:
        failed.append(_Failed(present, error))
        following = _next_untried(flight, untried)
        if following is None:
            again = _find_again(failed) if retries_left else None
            pause = 0.0 if again is None else _pause(again.error, plan.model.retries - retries_left)
            if again is None or pause > plan.model.retry_wait_seconds:
                break
            retries_left -= 1
            failed.remove(again)
            following = again.target
            await _wait(flight, pause)
            if flight.runtime.breakers.resting_until_us(following.deployment.id, flight.runtime.clerk.now_us):
                break
        logger.warning(
            "%s: %s; trying %s", exchange.request_id, error.internal_detail, following.deployment.upstream.name
        )
        if exchange.sent:
            put_by(flight, record_attempt(flight, is_worked_on=False, error=error)._replace(is_billed=False))
        exchange.plan, present = following.plan, following
        try:
            return await attempt(flight, following.deployment)
        except UpstreamError as failure:
            error = failure
    raise error


def _may_go_on(flight: Flight, error: UpstreamError) -> bool:
    """Return whether another attempt is of use, and nobody can tell that there was this one."""
    is_awaited = not flight.control.is_client_gone or flight.exchange.claim is not None
    return error.is_failover and not flight.sink.has_begun and is_awaited


def _next_untried(flight: Flight, untried: list[_Target]) -> _Target | None:
    """Take the next deployment that does not rest."""
    now_us = flight.runtime.clerk.now_us
    while untried:
        target = untried.pop(0)
        if not flight.runtime.breakers.resting_until_us(target.deployment.id, now_us):
            return target
    return None


def _find_again(failed: list[_Failed]) -> _Failed | None:
    """Return what to try again: of the faults that may pass the one with the shortest pause, the oldest first."""
    return min(
        (one for one in failed if one.error.is_passing), key=lambda one: one.error.asked_seconds or 0, default=None
    )


def _pause(error: UpstreamError, retries: int) -> float:
    """Return how long to wait: what was asked for and a little more, or a doubling pause, half of it by chance."""
    if error.asked_seconds:
        return error.asked_seconds + 0.1 + 0.25 * random()  # noqa: S311 - spreads load, keeps no secret
    return float(_FIRST_PAUSE_SECONDS * 2**retries * (0.5 + 0.5 * random()))  # noqa: S311


async def _wait(flight: Flight, seconds: float) -> None:
    """Wait, unless the call is stopped. The time counts as the upstream's: it is not our own overhead."""
    with flight.control.interruptible():
        await asyncio.sleep(seconds)
    flight.upstream_seconds += seconds
