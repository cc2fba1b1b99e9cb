"""`manage.py apply FILE.yaml`: bring upstreams, models, prices, plans, customers and keys to what a file says."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError

from gateway.declarations.applying import apply_declarations
from gateway.declarations.changes import render
from gateway.declarations.document import DeclarationsInvalid


class Command(BaseCommand):
    """Reads the file, applies it in one transaction, prints what changed."""

    help = "Declare upstreams, models, prices, plans, customers and keys (docs/reference/declarations.md)."
    requires_system_checks = []  # `serve` checks; this must work before the first start

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE.yaml", help="The declarations; - reads standard input.")
        parser.add_argument("--dry-run", action="store_true", help="Show what would change, and change nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        name, is_dry_run = options["file"], options["dry_run"]
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"cannot read {name}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
        try:
            applied = apply_declarations(text, is_dry_run=is_dry_run)
        except DeclarationsInvalid as invalid:
            lines = [
                f"{name}:{p.line}: {p.field}: {p.message}" if p.field else f"{name}:{p.line}: {p.message}"
                for p in invalid.problems
            ]
            count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
            raise CommandError("\n".join([f"{count} in {name}; nothing was changed.", *lines])) from None
        except (OperationalError, ProgrammingError) as error:
            text = f"the database refuses ({error}). Is it up to date? Run 'manage.py migrate' first."
            raise CommandError(text, returncode=2) from None
        self.stdout.write(render(applied, is_dry_run=is_dry_run))
