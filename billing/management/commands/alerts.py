"""`manage.py alerts`: notice what budgets and balances have reached, and send the mails that are due."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError

from billing.alerts import notice_alerts, send_alerts
from billing.alerts.noticing import read_policy


class Command(BaseCommand):
    """What the server does every minute by itself; safe to run at any time, also beside it."""

    help = "Notice thresholds of budgets and low balances, and mail what has not been told; exit 1 when a mail fails."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-mail", action="store_true", help="Notice only; the next run sends.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = notice_alerts(datetime.now(UTC), read_policy())
            self.stdout.write(f"{count} new alert{'s' * (count != 1)}.")
            results = [] if options["no_mail"] else list(send_alerts(datetime.now(UTC)))
        except (OperationalError, ProgrammingError) as error:
            text = f"the database refuses ({error}). Is it up to date? Run 'manage.py migrate' first."
            raise CommandError(text, returncode=2) from None
        for result in results:
            told = result.problem or f"to {', '.join(result.recipients)}"
            self.stdout.write(f"{'FAIL' if result.problem else 'sent'}  {result.subject}: {told}")
        if any(result.problem for result in results):
            raise CommandError("a mail could not be sent: see above; it is tried again later", returncode=1)
