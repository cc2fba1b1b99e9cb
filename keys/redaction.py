"""What may stand in the audit trail: never a secret, nor a form of one that could be tried offline."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

from django.db.models import Model, QuerySet

from common.money import format_usd
from keys.tokens import TOKEN_PATTERN, visible_prefix

# A value that has been shown: what JSON holds.
Shown = str | int | bool | list[str] | None

HIDDEN = "(hidden)"
# By whole words, since `max_output_tokens` is no secret and `encrypted_secret` is none to show either.
_SECRET_WORDS = frozenset(
    {"secret", "secrets", "password", "password1", "password2", "passphrase", "token", "hmac", "hash", "pepper", "seed"}
)
# Secrets that people paste into notes and reasons: our keys, other providers' keys, password hashes, Fernet texts.
_PASTED = (
    re.compile(r"\bsk-[0-9A-Za-z_-]{16,}"),
    re.compile(r"\bwhsec_[0-9A-Za-z+/=]{16,}"),
    re.compile(r"\b(?:pbkdf2_sha256|pbkdf2_sha1|argon2|bcrypt_sha256|scrypt)\$\S+"),
    re.compile(r"\bgAAAA[0-9A-Za-z_=-]{40,}"),
)
_LONGEST_TEXT = 1_000


def show_values(values: Mapping[str, object]) -> dict[str, Shown]:
    """Return values as the trail keeps them: no secrets, money in USD (`x_nanousd` becomes `x_usd`), texts bounded."""
    shown: dict[str, Shown] = {}
    for name, value in values.items():
        if is_secret_name(name):
            shown[name] = HIDDEN if value else None
        elif name.endswith("_nanousd") and isinstance(value, int):
            shown[f"{name.removesuffix('_nanousd')}_usd"] = format_usd(value)
        elif name.endswith("_nanousd"):
            shown[f"{name.removesuffix('_nanousd')}_usd"] = _show(value)
        else:
            shown[name] = _show(value)
    return shown


def is_secret_name(name: str) -> bool:
    """Return whether a field of this name holds something that must not be told."""
    return not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z0-9]+", name.lower()))


def clean_text(text: str) -> str:
    """Return a text without the secrets that were pasted into it, and not longer than the trail keeps."""
    cleaned = TOKEN_PATTERN.sub(lambda found: f"{visible_prefix(found.group())}…", text)
    for pattern in _PASTED:
        cleaned = pattern.sub(HIDDEN, cleaned)
    # PostgreSQL stores no zero byte.
    cleaned = cleaned.replace("\x00", "")
    return cleaned if len(cleaned) <= _LONGEST_TEXT else f"{cleaned[: _LONGEST_TEXT - 1]}…"


def _show(value: object) -> Shown:
    match value:
        case None | bool() | int():
            return value
        case str():
            return clean_text(value)
        case datetime() | date():
            return value.isoformat()
        case float() | Decimal():
            return str(value)
        case Model():
            return clean_text(str(value))
        case QuerySet():
            return sorted(clean_text(str(item)) for item in value)
        case Mapping():
            return [f"{name}: {_show(item)}" for name, item in show_values(value).items()]
        case Sequence() | set() | frozenset():
            return [clean_text(str(item)) for item in value]
        case _:
            return clean_text(str(value))
