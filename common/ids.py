"""Identifiers: a type prefix and a time-ordered random part, so that ids sort by birth and name their kind."""

import os
import random
import time
from functools import lru_cache

# Crockford's base 32: no I, L, O, U; keeps the order of the bytes (https://www.crockford.com/base32.html).
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_random = random.Random()  # noqa: S311 - see make_id
os.register_at_fork(after_in_child=_random.seed)


def make_id(prefix: str) -> str:
    """Return `prefix_` + 26 characters: 48 bits of milliseconds, 80 random bits, ordered like ULID.

    80 random bits a millisecond: a collision needs about 2^40 ids in one millisecond. Ids are names, not secrets, so
    the bits come from a generator that the system's random source seeds once (instead of a system call an id).
    """
    return f"{prefix}_{_encode_milliseconds(time.time_ns() // 1_000_000)}{_encode_40_bits()}{_encode_40_bits()}"


# The same for all that are born in one millisecond.
@lru_cache(maxsize=1)
def _encode_milliseconds(moment_ms: int) -> str:
    return encode_base32(moment_ms & 0xFFFF_FFFF_FFFF, length=10)


def _encode_40_bits() -> str:
    bits = _random.getrandbits(40)
    return f"{_PAIRS[bits >> 30]}{_PAIRS[bits >> 20 & 1023]}{_PAIRS[bits >> 10 & 1023]}{_PAIRS[bits & 1023]}"


def encode_base32(value: int, *, length: int) -> str:
    """Return `value` in Crockford's base 32, left-padded to `length` characters."""
    pairs = []
    for _ in range((length + 1) // 2):
        pairs.append(_PAIRS[value & 1023])
        value >>= 10
    return "".join(reversed(pairs))[-length:]
