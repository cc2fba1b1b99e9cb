"""What can go wrong on the wire. Internal: `gateway.upstreams.answer` maps each to what the customer is told."""


class WireError(Exception):
    """A request or its answer did not get through whole."""


class ConnectFailed(WireError):
    """There is no connection: no address, refused, no TLS, or not in time. Nothing was sent."""


class ClosedEarly(WireError):
    """The upstream closed the connection in good order before it answered anything."""


class Cut(WireError):
    """The connection was reset, or closed within an answer."""


class Malformed(WireError):
    """What came is not HTTP/1.1, or its head exceeds every bound."""
