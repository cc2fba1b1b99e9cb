"""`manage.py rotate_secrets`: re-encrypt provider secrets under the newest key; `--new-key` makes that key first."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.secret_rotation import rotate_secrets
from keys.audit import command_actor
from platform_site.environment import make_next_secret, previous_secret_path


class Command(BaseCommand):
    """Two steps with a restart between them, because a running server knows only the keys that it started with."""

    help = "Re-encrypt all provider secrets under the newest of ENCRYPTION_KEYS (docs/how-to/secure-the-admin.md)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--new-key",
            action="store_true",
            help="Only make a new key in DATA_DIR beside the present one (where ENCRYPTION_KEYS is not set).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["new_key"]:
            self._make_key()
            return
        done = rotate_secrets(actor=command_actor("manage.py rotate_secrets"))
        self.stdout.write(f"{len(done.rewritten)} re-encrypted, {len(done.unchanged)} under the newest key already.")
        if done.unreadable:
            names = ", ".join(done.unreadable)
            raise CommandError(
                f"none of the keys opens the secret of {names}: enter it anew in admin, or bring back the lost key."
            )
        if settings.ENVIRONMENT.encryption_keys:
            if len(settings.ENCRYPTION_KEYS) > 1:
                self.stdout.write("Now leave only the first key in ENCRYPTION_KEYS and restart every server.")
        elif previous_secret_path(settings.DATA_DIR / "encryption_key").exists():
            self.stdout.write(f"Now delete {previous_secret_path(settings.DATA_DIR / 'encryption_key')}.")

    def _make_key(self) -> None:
        if settings.ENVIRONMENT.encryption_keys:
            raise CommandError(
                "the keys come from ENCRYPTION_KEYS: put a new one first there, keep the old one second."
            )
        path = settings.DATA_DIR / "encryption_key"
        try:
            make_next_secret(path)
        except FileExistsError:
            raise CommandError(
                f"{previous_secret_path(path)} is left from a rotation that was not finished: restart every server, "
                "run 'manage.py rotate_secrets', then delete it."
            ) from None
        self.stdout.write("A new key is in place. Restart every server, then run 'manage.py rotate_secrets'.")
