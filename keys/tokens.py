"""The text of an API key: `tk_live_` + 27 random characters + 6 of checksum, base 62.

27 characters of base 62 carry 160.7 bits. The checksum (CRC-32 of what precedes it, as in GitHub's tokens) lets a
scanner or a client tell a typing error from a wrong key without asking anybody. For secret scanners:
`\\btk_(live|test)_[0-9A-Za-z]{33}\\b`.
"""

import hashlib
import hmac
import re
import secrets
import zlib

from keys.models import KeyEnvironment

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH = 27
_CHECKSUM_LENGTH = 6
_VISIBLE_LENGTH = len("tk_live_") + 5
TOKEN_PATTERN = re.compile(r"tk_(live|test)_[0-9A-Za-z]{33}")


def make_token(environment: KeyEnvironment) -> str:
    """Return a fresh key from the system's random source."""
    body = f"tk_{environment.value}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return body + _checksum(body)


def derive_token(environment: KeyEnvironment, secret: str, *, purpose: str) -> str:
    """Return the key that a secret of the server stands for: the same in every process, and stored nowhere."""
    number = int.from_bytes(hmac.digest(secret.encode(), f"api key: {purpose}".encode(), hashlib.sha512))
    digits = []
    for _ in range(_RANDOM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    body = f"tk_{environment.value}_" + "".join(digits)
    return body + _checksum(body)


def is_well_formed(token: str) -> bool:
    """Return whether shape and checksum are those of a key; asks no database."""
    return (
        TOKEN_PATTERN.fullmatch(token) is not None and _checksum(token[:-_CHECKSUM_LENGTH]) == token[-_CHECKSUM_LENGTH:]
    )


def visible_prefix(token: str) -> str:
    """Return the part that may be stored and shown."""
    return token[:_VISIBLE_LENGTH]


def hash_token(token: str, pepper: str) -> str:
    """Return the stored form: HMAC-SHA-256 under the server's pepper, hexadecimal.

    A key has 160 bits of entropy, so a slow password hash would cost the hot path and gain nothing.
    """
    return hmac.digest(pepper.encode(), token.encode(), hashlib.sha256).hex()


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
