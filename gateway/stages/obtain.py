"""Where does the answer of an admitted call come from? From an upstream, after judges where rules have them, or from
an equal call that is under way.
"""

from gateway.flight import Flight
from gateway.judges import CarryOut
from gateway.stages.fulfil import fulfil
from gateway.stages.judge import fulfil_judged
from gateway.stages.share import share


async def obtain(flight: Flight, run_call: CarryOut) -> bytes | None:
    """Return the body of a whole answer, or None for one that went out as a stream.

    Raises what the stages raise. `run_call` is the pipeline, for the calls that ask judges.
    """
    screening, caching = flight.exchange.screening, flight.exchange.caching
    if screening is not None and screening.has_judges:
        # What content rules look at is never shared.
        return await fulfil_judged(flight, run_call)
    return await (fulfil(flight) if caching is None else share(flight, caching))
