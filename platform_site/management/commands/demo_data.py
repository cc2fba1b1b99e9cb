"""`manage.py demo_data`: a customer with credit and a key, the local model with a price, and an admin."""

import json
import shlex
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from gateway.demo import Demo, ensure_demo
from gateway.demo_prompt import EXAMPLE_MAIL

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}  # noqa: S104 - shown, never listened on


class Command(BaseCommand):
    """Makes what is missing and prints how to use it."""

    help = "Make demonstration data (safe to repeat); print the admin login, an API key and a first call."
    requires_system_checks = []  # usable before anything else works; `serve` checks

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print one JSON object for programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        self._refuse_unmigrated()
        demo = ensure_demo(settings.DATA_DIR)
        site = site_url(settings.ENVIRONMENT.host, settings.ENVIRONMENT.port)
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(demo, site), indent=2))
        else:
            self.stdout.write(_as_text(demo, site))

    def _refuse_unmigrated(self) -> None:
        hint = "Run 'manage.py migrate' first, then this again."
        try:
            executor = MigrationExecutor(connection)
            is_behind = bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))
        except OperationalError as error:
            text = f"The database cannot be reached ({error}). Check DATABASE_URL."
            raise CommandError(text, returncode=2) from error
        if is_behind:
            raise CommandError(f"The database is not up to date. {hint}", returncode=2)


def site_url(host: str, port: int) -> str:
    """Return where a browser on this machine finds the server."""
    shown = _WILDCARDS.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown and not shown.startswith("[") else f"http://{shown}:{port}"


def _as_json(demo: Demo, site: str) -> dict[str, str | None]:
    return {
        "base_url": f"{site}/v1",
        "api_key": demo.api_key,
        "customer_id": demo.customer_id,
        "model": demo.model,
        "prompt_name": demo.prompt_name,
        "admin_url": f"{site}/admin/",
        "admin_user": demo.admin_user,
        "admin_password": demo.admin_password,
    }


def _as_text(demo: Demo, site: str) -> str:
    password = demo.admin_password or "was changed by somebody; 'manage.py changepassword admin' sets a new one"
    question = {"role": "user", "content": "Tell me about toll roads."}
    body = json.dumps(
        {
            "model": demo.model,
            "stream": True,
            "messages": [question],
        }
    )
    call = (
        f"curl -N {site}/v1/chat/completions"
        f" -H {shlex.quote(f'Authorization: Bearer {demo.api_key}')}"
        f" -H 'Content-Type: application/json'"
        f" -d {shlex.quote(body)}"
    )
    run = (
        f"curl {site}/v1/prompts/{demo.prompt_name}/runs"
        f" -H {shlex.quote(f'Authorization: Bearer {demo.api_key}')}"
        f" -H 'Content-Type: application/json'"
        f" -d {shlex.quote(json.dumps({'inputs': {'mail': EXAMPLE_MAIL}}))}"
    )
    return (
        f"Admin     {site}/admin/\n"
        f"  user      {demo.admin_user}\n"
        f"  password  {password}\n"
        f"API key   {demo.api_key}\n"
        f"Try       {call}\n"
        f"A prompt  {run}"
    )
