"""A deployment that failed is tried by one call at a time, whichever process that runs in; all others pass it by.

While nothing rests this is a look into an empty dict. A trial costs one question to the clerk, whose transaction claims
it; a process that dies with one keeps the others out for a minute.
"""

import logging

from common.errors import TollkeeperError
from gateway.admission.commands import ClaimTrial, EndTrial
from gateway.breakers import Passage
from gateway.catalogue import DeploymentEntry
from gateway.control import CallStopped
from gateway.errors import UpstreamUnreachable
from gateway.flight import Flight

logger = logging.getLogger(__name__)


async def enter(flight: Flight, deployment: DeploymentEntry) -> None:
    """Return when the call may go to a deployment.

    Raises UpstreamUnreachable for one that rests or is being tried, CallStopped.
    """
    passage = flight.runtime.breakers.begin(deployment.id, flight.runtime.clerk.now_us)
    if passage is Passage.FREE or (passage is Passage.TRIAL and await _claim(flight, deployment.id)):
        return
    raise UpstreamUnreachable(internal_detail=f"{deployment.upstream.name} rests, or is just being tried")


def leave(flight: Flight, deployment_id: int) -> None:
    """Note that the present attempt has told nothing about its deployment: if it was a trial, another call may try."""
    until_us, flight.trial_until_us = flight.trial_until_us, 0
    if until_us:
        flight.runtime.breakers.leave(deployment_id)
        flight.runtime.clerk.note(EndTrial(deployment_id=deployment_id, until_us=until_us))


async def _claim(flight: Flight, deployment_id: int) -> bool:
    breakers, clerk = flight.runtime.breakers, flight.runtime.clerk
    state = breakers.trial_of(deployment_id)
    flight.trial_until_us = state.trial_until_us
    try:
        future = clerk.submit(ClaimTrial(state=state))
        flight.control.fail_late(future, flight.runtime.settle_timeout_seconds)
        with flight.control.interruptible():
            claimed = await future
    except CallStopped:
        leave(flight, deployment_id)
        raise
    except (TollkeeperError, TimeoutError) as error:
        logger.warning("%s: a trial could not be claimed: %r", flight.exchange.request_id, error)
        leave(flight, deployment_id)
        return False
    if claimed.until_us == state.trial_until_us:
        return True
    flight.trial_until_us = 0
    breakers.note_trial_elsewhere(deployment_id, claimed.until_us)
    # Closed meanwhile: its news comes with the next batch.
    return not claimed.until_us
