"""Identifiers: a type prefix and a time-ordered random part, so that ids sort by birth and name their kind."""

import os
import time

# Crockford's base 32: no I, L, O, U; keeps the order of the bytes (https://www.crockford.com/base32.html).
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def make_id(prefix: str) -> str:
    """Return `prefix_` + 26 characters: 48 bits of milliseconds, 80 random bits, ordered like ULID.

    80 random bits a millisecond: a collision needs about 2^40 ids in one millisecond.
    """
    value = (time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    return f"{prefix}_{encode_base32(value, length=26)}"


def encode_base32(value: int, *, length: int) -> str:
    """Return `value` in Crockford's base 32, left-padded to `length` characters."""
    characters = [""] * length
    for position in range(length - 1, -1, -1):
        characters[position] = _ALPHABET[value & 31]
        value >>= 5
    return "".join(characters)
