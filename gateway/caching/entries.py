"""A cached answer: what it says, what it used, and when it was made; its form in Redis."""

import zlib
from typing import Any, NamedTuple

import orjson

from billing.tokens import TokenCounts
from prompts.json_values import JsonValue

# An answer beyond this is not kept: it would push out hundreds of others.
MAX_CACHED_BYTES = 1_000_000
# What an entry occupies beside its body, about.
_OVERHEAD_BYTES = 1_500
# A value made of small objects takes about so many times its JSON.
_OBJECT_BYTES_A_BYTE = 8
_COMPRESS_ABOVE_BYTES = 4_000
_FORMAT = 1


class CachedAnswer(NamedTuple):
    """The whole answer of a call that ended well."""

    upstream: str
    upstream_model: str
    tokens: TokenCounts
    is_estimated: bool
    finish_reason: str
    # How the provider processed it, for the price: `billing.rates.Processing`.
    processing: str
    # When the answer was complete, and until when it is kept.
    stored_us: int
    keep_until_us: int
    # The value that fits the schema, or a prompt run's text; see `Exchange.output`.
    output: JsonValue
    # Of a whole answer its JSON; of a stream its chunks, a line each, the last one that of its usage (or null).
    body: bytes

    @property
    def size_bytes(self) -> int:
        """Return about how much memory it takes."""
        output = 0 if self.output is None else len(orjson.dumps(self.output)) * _OBJECT_BYTES_A_BYTE
        return len(self.body) + output + _OVERHEAD_BYTES

    def is_fresh(self, now_us: int, within_seconds: int) -> bool:
        """Return whether it is young enough for who accepts answers of so many seconds."""
        return now_us < self.keep_until_us and now_us - self.stored_us <= within_seconds * 1_000_000

    def age_seconds(self, now_us: int) -> int:
        """Return whole seconds since it was complete; clocks of two machines may differ, no answer is from tomorrow."""
        return max(0, now_us - self.stored_us) // 1_000_000


def pack_answer(answer: CachedAnswer) -> bytes:
    """Return an answer as Redis keeps it: a line of JSON, and the body.

    Long ones are compressed. Measured: of a stream of 200 chunks (37 kB) zlib leaves 1.3 kB, for 35 us to write and 23
    to read; of a JSON answer of 2 kB half, for 80 and 6.
    """
    is_compressed = len(answer.body) > _COMPRESS_ABOVE_BYTES
    head = {**answer._asdict(), "tokens": list(answer.tokens), "body": is_compressed, "format": _FORMAT}
    return orjson.dumps(head) + b"\n" + (zlib.compress(answer.body, 1) if is_compressed else answer.body)


def unpack_answer(packed: bytes) -> CachedAnswer | None:
    """Return the answer, or None for what another version of this program has packed."""
    head, _, body = packed.partition(b"\n")
    try:
        fields: dict[str, Any] = orjson.loads(head)
        if fields.pop("format", None) != _FORMAT:
            return None
        fields["body"] = zlib.decompress(body) if fields["body"] else body
        fields["tokens"] = TokenCounts(*fields["tokens"])
        return CachedAnswer(**fields)
    except (orjson.JSONDecodeError, zlib.error, AttributeError, KeyError, TypeError):
        return None
