"""Tags of a call, for attribution: `metadata` of the body, and the header `x-tags` for clients that cannot send it.

The header is `name=value` pairs with commas between (`x-tags: team=search, feature=summary`). Together they are at most
16 pairs of a name up to 64 and a value up to 512 characters, which are OpenAI's bounds of `metadata`
(https://platform.openai.com/docs/api-reference/chat/create, 2026-11). Control characters are refused: PostgreSQL cannot
store a zero byte, and a settlement must not fail over a tag.
"""

from typing import Any

import orjson

from gateway.errors import TagsInvalid

_MOST_TAGS = 16
_MOST_NAME_CHARACTERS = 64
_MOST_VALUE_CHARACTERS = 512
MOST_END_USER_CHARACTERS = 120


def read_tags(metadata: dict[str, str] | None, header: str | None) -> str:
    """Return the tags of a call as the JSON object that usage records hold.

    Raises TagsInvalid for a header that is no list of pairs, for bounds, and for a name that is given two values.
    """
    if not metadata and not header:
        return "{}"
    tags = dict(metadata or {})
    for name, value in _pairs(header or ""):
        if tags.setdefault(name, value) != value:
            raise TagsInvalid(f"The tag '{name}' has two values, in 'metadata' and 'x-tags'. Give one.", param="x-tags")
    if len(tags) > _MOST_TAGS:
        raise TagsInvalid(f"{len(tags)} tags are more than {_MOST_TAGS}.", param="metadata")
    for name, value in tags.items():
        _check(name, value)
    return orjson.dumps(tags).decode()


def read_end_user(body: dict[str, Any]) -> str:
    """Return the caller's own name for its user. Raises TagsInvalid for control characters."""
    for name in ("user", "safety_identifier"):
        text = body.get(name)
        if text:
            if _has_control(text):
                raise TagsInvalid(f"'{name}' contains a control character. Send printable text.", param=name)
            return str(text)[:MOST_END_USER_CHARACTERS]
    return ""


def _pairs(header: str) -> list[tuple[str, str]]:
    pairs = []
    for part in header.split(","):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals:
            raise TagsInvalid(
                f"'x-tags' is a list of name=value pairs with commas between; '{part.strip()[:40]}' is none.",
                param="x-tags",
            )
        pairs.append((name.strip(), value.strip()))
    return pairs


def _check(name: str, value: str) -> None:
    if not 0 < len(name) <= _MOST_NAME_CHARACTERS:
        raise TagsInvalid(
            f"The name of a tag has 1 to {_MOST_NAME_CHARACTERS} characters; '{name[:40]}' has {len(name)}.",
            param="metadata",
        )
    if len(value) > _MOST_VALUE_CHARACTERS:
        raise TagsInvalid(
            f"The value of a tag has at most {_MOST_VALUE_CHARACTERS} characters; that of '{name}' has {len(value)}.",
            param="metadata",
        )
    if _has_control(name) or _has_control(value):
        raise TagsInvalid("A tag contains a control character. Send printable text.", param="metadata")


def _has_control(text: str) -> bool:
    # One C loop for the common case: isprintable is also False for odd spaces, which are fine.
    return not text.isprintable() and any(ord(character) < 32 or ord(character) == 127 for character in text)
