"""What a dialect does: says a call in its provider's words, and reads the answer as OpenAI's objects.

Everything after the upstream (relay, transcript, settlement, transports) sees OpenAI's chunks and completions only.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import orjson
from yarl import URL

from billing.tokens import TokenCounts
from gateway.calls import ChatCall, Plan
from gateway.catalogue import DeploymentEntry
from gateway.errors import UpstreamError, UpstreamInvalidAnswer


class UpstreamRequest(NamedTuple):
    """A POST, ready to be sent."""

    url: URL
    headers: dict[str, str]
    body: bytes


# A chunk (or a whole completion) in OpenAI's shape: the bytes for the customer, and parsed for us. A plain tuple, since
# there is one for every token.
Event: TypeAlias = tuple[bytes, dict[str, Any]]


class Obstacle(NamedTuple):
    """What of a call cannot be said in a dialect; `sentence` ends with the way out."""

    param: str
    sentence: str


class EventReader(Protocol):
    """Reads one stream. `feed` never raises: what came before a fault is handed out, then `error` is set."""

    # The stream said that it is over; what follows is not read.
    is_done: bool
    error: UpstreamError | None
    # What the provider counted of the input, where it says so before the end.
    known_input: TokenCounts | None

    def feed(self, piece: bytes) -> list[Event]:
        """Return the chunks that a piece off the wire completes."""


class DialectModule(Protocol):
    """The functions of a dialect; a module with them is one."""

    def find_obstacle(self, body: Mapping[str, Any], /) -> Obstacle | None:
        """Return what keeps a chat body from being said in this dialect. Pure; capabilities are checked elsewhere."""

    def build_request(
        self, deployment: DeploymentEntry, call: ChatCall, plan: Plan, *, is_stream: bool
    ) -> UpstreamRequest:
        """Return the request of a call without obstacles."""

    def read_completion(self, raw: bytes, /) -> Event:
        """Return a whole answer. Raises UpstreamInvalidAnswer, or the error that stands in its place."""

    def open_reader(self) -> EventReader:
        """Return the reader of one stream."""

    def read_error(self, status: int, headers: Mapping[str, str], text: str, upstream_name: str) -> UpstreamError:
        """Return the error that an answer other than 200 stands for: by status first, `text` for the log."""


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises UpstreamInvalidAnswer for anything else."""
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise UpstreamInvalidAnswer(internal_detail=f"not JSON: {error}: {raw[:200]!r}") from None
    if not isinstance(parsed, dict):
        raise UpstreamInvalidAnswer(internal_detail=f"not an object: {raw[:200]!r}")
    return parsed
