"""`manage.py docs_reference`: write the generated pages of the reference, or check that they are current."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from platform_site.reference import find_outdated, write_reference


class Command(BaseCommand):
    help = "Write docs/reference and .env.example from the code; --check only compares, and fails on a difference."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="change nothing; exit 1 naming the files that differ")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["check"]:
            for path in write_reference():
                self.stdout.write(f"wrote {path}")
            return
        outdated = find_outdated()
        if outdated:
            names = ", ".join(path.as_posix() for path in outdated)
            raise CommandError(f"not what the code says: {names}. Run `manage.py docs_reference` and commit them.")
