"""`manage.py reconcile`: prove that balances, charges, costs and limits follow from the rows."""

import json
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, OperationalError, ProgrammingError

from billing.errors import ProviderFileInvalid
from billing.reconciliation import reconcile
from billing.reconciliation.provider_checks import compare_with_provider
from billing.reconciliation.provider_files import read_provider_file
from billing.reconciliation.records import record_reconciliation


class Command(BaseCommand):
    """Prints the report, keeps it for the admin, and ends with 1 on any difference."""

    help = "Recompute every balance, charge, cost and limit from the rows; exit 1 on one nano-dollar of difference."
    requires_system_checks = []  # the triggers are one of its own checks

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print the report as one JSON object.")
        parser.add_argument(
            "--provider-csv", type=Path, metavar="FILE", help="Compare usage with a provider's own file instead."
        )
        parser.add_argument("--upstream", default="", help="With --provider-csv: only calls of this upstream.")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        path: Path | None = options["provider_csv"]
        if options["upstream"] and path is None:
            raise CommandError("--upstream belongs to --provider-csv FILE")
        try:
            file = None if path is None else read_provider_file(path)
            report = reconcile() if file is None else compare_with_provider(file, upstream=options["upstream"])
        except ProviderFileInvalid as error:
            raise CommandError(error.message) from None
        except (OperationalError, ProgrammingError) as error:
            text = f"the database refuses ({error}). Is it up to date? Run 'manage.py migrate' first."
            raise CommandError(text, returncode=2) from None
        duration_ms = round((time.monotonic() - started) * 1000)
        self.stdout.write(json.dumps(report.as_json(), indent=2) if options["json"] else report.as_text())
        try:
            record_reconciliation(
                report,
                duration_ms=duration_ms,
                source=file.name if file else "",
                sha256=file.sha256 if file else "",
            )
        except DatabaseError as error:
            # A copy of the database that cannot be written to can be reconciled all the same.
            self.stderr.write(f"The result could not be kept for the admin: {error}")
        if not report.is_clean:
            what = "the books do not add up" if path is None else "our records and the provider's file differ"
            raise CommandError(f"{what}: see the rows above", returncode=1)
