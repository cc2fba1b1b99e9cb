"""`manage.py generate_usage`: millions of usage records to measure lists and exports with. Never in production."""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from billing.load_data import generate_usage
from billing.usage_days import roll_up_usage


class Command(BaseCommand):
    """Adds load data to the database that `--on` names, and to no other."""

    help = "Add usage records of customers named 'Load data', with a ledger that adds up. For measuring only."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rows", type=int, required=True)
        parser.add_argument("--days", type=int, default=365, help="The full days, up to last midnight, they lie in.")
        parser.add_argument(
            "--on",
            required=True,
            metavar="DATABASE",
            help="The name of the database (of SQLite: of its file) that shall be filled: nothing else will be.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name = Path(str(connection.settings_dict["NAME"])).name
        if options["on"] != name:
            raise CommandError(
                f"the database is '{name}', not '{options['on']}': nothing was written. These rows can never be "
                "removed again (the ledger is append-only), so give the name of a database that is made for them."
            )
        if options["rows"] < 1 or options["days"] < 1:
            raise CommandError("--rows and --days are 1 or more")
        started = time.monotonic()
        for done in generate_usage(options["rows"], days=options["days"]):
            self.stdout.write(f"{done:,} rows in {time.monotonic() - started:.0f} s", ending="\r")
            self.stdout.flush()
        if connection.vendor == "postgresql":
            # What autovacuum would do by itself, a minute later.
            with connection.cursor() as cursor:
                cursor.execute("VACUUM ANALYZE billing_usagerecord")
                cursor.execute("VACUUM ANALYZE billing_transfer")
        # What the server does every minute.
        roll_up_usage()
        self.stdout.write(f"{options['rows']:,} rows of load data in {time.monotonic() - started:.0f} s")
