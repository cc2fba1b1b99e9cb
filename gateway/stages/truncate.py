"""A call that does not fit its model: shorten it, where it says that it may be."""

from gateway.calls import Exchange
from gateway.catalogue import Catalogue
from gateway.truncating import shorten


async def truncate(exchange: Exchange, catalogue: Catalogue) -> bool:
    """Return whether the call is shorter now, and fits."""
    call = exchange.call
    assert call is not None
    model = catalogue.models.get(call.model)
    if not call.may_truncate or model is None:
        return False
    found = await shorten(call, model)
    if found is None:
        return False
    exchange.call, exchange.input_count = found.call, found.counted
    exchange.dropped_messages += found.dropped_messages
    return True
