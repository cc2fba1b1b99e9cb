"""`manage.py docs_reference`: write the generated pages of the reference, or check that they are current."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from platform_site.reference import find_outdated, write_reference


class Command(BaseCommand):
    help = "Write docs/reference and .env.example from the code; --check only compares, and fails on a difference."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["check"]:
            for path in write_reference():
                self.stdout.write(f"wrote {path}")
            return
        outdated = find_outdated()
        for path in outdated:
            self.stderr.write(f"{path} is not what the code says: run 'make docs'")
        if outdated:
            sys.exit(1)
