"""`manage.py reconcile`: prove that balances, charges, costs and limits follow from the rows."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError

from billing.reconciliation import reconcile


class Command(BaseCommand):
    """Prints the report; ends with 1 on any difference."""

    help = "Recompute every balance, charge, cost and limit from the rows; exit 1 on one nano-dollar of difference."
    requires_system_checks = []  # the triggers are one of its own checks

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print the report as one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = reconcile()
        except (OperationalError, ProgrammingError) as error:
            text = f"the database refuses ({error}). Is it up to date? Run 'manage.py migrate' first."
            raise CommandError(text, returncode=2) from None
        self.stdout.write(json.dumps(report.as_json(), indent=2) if options["json"] else report.as_text())
        if not report.is_clean:
            raise CommandError("the books do not add up: see the rows above", returncode=1)
