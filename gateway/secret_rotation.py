"""Re-encrypting what is stored encrypted, under the newest of ENCRYPTION_KEYS, so that an older key can be given up."""

from contextlib import suppress
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.db import transaction

from common.errors import InternalError
from gateway.answer_models import PostAnswer
from gateway.models import Upstream
from gateway.secrets import decrypt_secret, encrypt_secret
from keys.audit import Actor, record_event


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What became of the stored secrets, by the names of their upstreams."""

    rewritten: tuple[str, ...]
    unchanged: tuple[str, ...]
    # None of the keys opens these: the secret has to be entered anew.
    unreadable: tuple[str, ...]


@transaction.atomic
def rotate_secrets(*, actor: Actor) -> Rotation:
    """Re-encrypt every provider secret that is not under the newest key yet. Safe to repeat, also while calls run.

    Locks the upstreams' rows, so that a secret entered in admin meanwhile is not overwritten with an older one.
    """
    rewritten, unchanged, unreadable = [], [], []
    for upstream in Upstream.objects.select_for_update().exclude(encrypted_secret="").order_by("name"):
        if _is_under_newest_key(upstream.encrypted_secret):
            unchanged.append(upstream.name)
            continue
        try:
            upstream.encrypted_secret = encrypt_secret(decrypt_secret(upstream.encrypted_secret))
        except InternalError:
            unreadable.append(upstream.name)
            continue
        upstream.save(update_fields=["encrypted_secret"])
        record_event(actor=actor, action="upstream.secret_reencrypted", target=upstream)
        rewritten.append(upstream.name)
    _rotate_answers()
    return Rotation(rewritten=tuple(rewritten), unchanged=tuple(unchanged), unreadable=tuple(unreadable))


def _rotate_answers() -> None:
    """Re-encrypt the answers that are kept for repeats; what no key opens any more is left to expire."""
    for row in PostAnswer.objects.select_for_update().filter(encrypted_body__gt="").order_by("id"):
        assert row.encrypted_body is not None
        if not _is_under_newest_key(row.encrypted_body):
            with suppress(InternalError):
                row.encrypted_body = encrypt_secret(decrypt_secret(row.encrypted_body))
                row.save(update_fields=["encrypted_body"])


def _is_under_newest_key(stored: str) -> bool:
    try:
        Fernet(settings.ENCRYPTION_KEYS[0]).decrypt(stored.encode())
    except InvalidToken:
        return False
    return True
