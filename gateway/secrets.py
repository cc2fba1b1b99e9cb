"""Secrets at rest, of providers and in kept answers: Fernet (AES-128-CBC with HMAC-SHA-256) under the server's keys,
newest first.
"""

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from common.errors import InternalError


def encrypt_secret(secret: str) -> str:
    """Return the stored form of a secret; empty stays empty (an upstream without a key)."""
    return _fernet().encrypt(secret.encode()).decode() if secret else ""


def decrypt_secret(stored: str) -> str:
    """Return the secret of a stored form.

    Raises InternalError when none of ENCRYPTION_KEYS fits: the keys were lost or belong to another database.
    """
    if not stored:
        return ""
    try:
        return _fernet().decrypt(stored.encode()).decode()
    except InvalidToken:
        raise InternalError(internal_detail="a stored secret cannot be decrypted: check ENCRYPTION_KEYS") from None


def _fernet() -> MultiFernet:
    return _fernet_of(tuple(settings.ENCRYPTION_KEYS))


@lru_cache(maxsize=4)
def _fernet_of(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
