"""`manage.py reset_second_factor NAME --reason TEXT`: for the administrator whom nobody else can let in."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from keys.audit import command_actor
from platform_site.second_factor.enrolment import remove_second_factor


class Command(BaseCommand):
    """Takes app and recovery codes from an administrator."""

    help = "Remove an administrator's second factor (lost phone); at the next login a new one can be set up."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--reason", required=True, help="Kept in the audit trail.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"there is no administrator '{options['username']}'.")
        actor = command_actor("manage.py reset_second_factor")
        had = remove_second_factor(user, actor=actor, reason=options["reason"])
        self.stdout.write(f"{user.get_username()} {'has no second factor any more' if had else 'had none'}.")
