"""Secrets move to the newest key, none is lost on the way, and the older key can then be given up."""

from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from gateway.models import Upstream
from gateway.secret_rotation import Rotation, rotate_secrets
from gateway.secrets import decrypt_secret
from keys.audit import SYSTEM
from keys.models import AuditEvent
from platform_site.environment import make_next_secret, previous_secret_path, read_or_create_secret
from tests.factories import make_upstream

pytestmark = pytest.mark.django_db


def secret_of(upstream: Upstream) -> str:
    upstream.refresh_from_db()
    return decrypt_secret(upstream.encrypted_secret)


def test_after_a_rotation_the_old_key_is_not_needed(settings: Settings) -> None:
    upstream, none = make_upstream(name="one", secret="sk-one"), make_upstream(name="none", secret="")
    new = Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [new, *settings.ENCRYPTION_KEYS]
    assert secret_of(upstream) == "sk-one"
    assert rotate_secrets(actor=SYSTEM) == Rotation(rewritten=("one",), unchanged=(), unreadable=())
    settings.ENCRYPTION_KEYS = [new]
    assert (secret_of(upstream), secret_of(none)) == ("sk-one", "")
    assert rotate_secrets(actor=SYSTEM) == Rotation(rewritten=(), unchanged=("one",), unreadable=())
    assert AuditEvent.objects.filter(action="upstream.secret_reencrypted").count() == 1


def test_a_secret_that_no_key_opens_is_named_and_left(settings: Settings) -> None:
    upstream = make_upstream(name="lost")
    stored = upstream.encrypted_secret
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(CommandError, match="none of the keys opens the secret of lost"):
        call_command("rotate_secrets")
    upstream.refresh_from_db()
    assert upstream.encrypted_secret == stored


def test_a_new_key_is_put_beside_the_old_one_and_never_twice(tmp_path: Path) -> None:
    path = tmp_path / "encryption_key"
    old = read_or_create_secret(path)
    make_next_secret(path)
    new = read_or_create_secret(path)
    assert new != old
    assert previous_secret_path(path).read_text() == old
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError):
        make_next_secret(path)
    assert read_or_create_secret(path) == new
