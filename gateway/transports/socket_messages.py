"""What a client's messages on a WebSocket say, field by field."""

from typing import Any

from common.errors import InvalidRequest
from gateway.errors import StreamResumableInvalid
from gateway.streams.errors import StreamPositionInvalid

_MOST_ID_CHARACTERS = 100
# `start` has no number; it stands before number 0.
_BEFORE_START = -2
# Beyond it numbers in JSON are not exact everywhere.
_MOST_POSITION = 2**53


def read_call_id(message: dict[str, Any]) -> str:
    """Return the id that the client gives to what the message begins. Raises InvalidRequest."""
    call_id = message.get("id")
    if not isinstance(call_id, str) or not 0 < len(call_id) <= _MOST_ID_CHARACTERS:
        raise InvalidRequest(f"A call needs an 'id' of 1 to {_MOST_ID_CHARACTERS} characters.", param="id")
    return call_id


def read_prompt_name(message: dict[str, Any]) -> str:
    """Return the prompt that a run names. Raises InvalidRequest."""
    name = message.get("prompt")
    if not isinstance(name, str) or not name:
        raise InvalidRequest("A run needs 'prompt', the name of a prompt.", param="prompt")
    return name


def read_wish(message: dict[str, Any]) -> bool | None:
    """Return what a message says about keeping its stream. Raises StreamResumableInvalid."""
    wish = message.get("resumable")
    if wish is not None and not isinstance(wish, bool):
        raise StreamResumableInvalid(param="resumable")
    return wish


def read_position(message: dict[str, Any]) -> int:
    """Return the number of the last message that the client has. Raises StreamPositionInvalid."""
    after = message.get("after")
    if after is None:
        return _BEFORE_START
    if not isinstance(after, int) or isinstance(after, bool) or not 0 <= after < _MOST_POSITION:
        raise StreamPositionInvalid(param="after")
    return after
