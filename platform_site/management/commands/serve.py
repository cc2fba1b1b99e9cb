"""`manage.py serve`: the production server, with the embedded local model beside it."""

import argparse
import json
import sys
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from gateway.local_model import LocalModel, find_weights
from platform_site.periodic import PeriodicWork
from platform_site.server import Supervisor, fork_clerk_if_wanted, listen, run_supervised_worker, run_worker


class Command(BaseCommand):
    """Checks what must hold, starts the local model, serves until SIGTERM or Ctrl-C."""

    help = "Run the production server on HOST and PORT (see .env.example)."
    requires_system_checks = []  # run below, with the database's

    def add_arguments(self, parser: CommandParser) -> None:
        # Used by the supervisor for its workers.
        parser.add_argument("--worker-socket", type=int, default=None, help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        environment = settings.ENVIRONMENT
        if options["worker_socket"] is not None:
            run_supervised_worker(environment, options["worker_socket"])
            return
        self._refuse_unmigrated()
        call_command("check", databases=["default"])
        connection.close()
        if environment.workers == 1:
            fork_clerk_if_wanted(environment)
        try:
            bound = listen(environment)
        except OSError as error:
            raise CommandError(
                f"cannot listen on {environment.host}:{environment.port}: {error.strerror}. Set HOST or PORT."
            ) from error
        local_model = None
        if environment.local_model == "on":
            local_model = self._start_local_model()
        port = bound.getsockname()[1]
        self.stdout.write(
            f"Tollkeeper listens on http://{environment.host}:{port} (admin: /admin/, API: /v1, docs: /docs)"
        )
        self._print_demo()
        connection.close()
        periodic = PeriodicWork()
        periodic.start()
        try:
            if environment.workers == 1:
                run_worker(environment, bound)
            else:
                Supervisor(environment, bound).run()
        finally:
            periodic.stop()
            if local_model is not None:
                local_model.stop()

    def _refuse_unmigrated(self) -> None:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError("the database is not up to date: run 'manage.py migrate' first.")

    def _start_local_model(self) -> LocalModel | None:
        if find_weights() is None:
            self.stdout.write("The embedded local model is not installed ('make local'); its calls will be refused.")
            return None
        environment = settings.ENVIRONMENT
        model = LocalModel(
            port=environment.local_model_port,
            threads=environment.local_model_threads,
            slots=environment.local_model_slots,
        )
        model.start()
        if not model.wait_until_ready():
            self.stderr.write("The embedded local model does not answer yet; calls to it fail until it does.")
        return model

    def _print_demo(self) -> None:
        """Repeat what `demo_data` made, for whoever just ran `make run`."""
        path = settings.DATA_DIR / "demo.json"
        if path.exists():
            try:
                call_command("demo_data", stdout=self.stdout)
            except (CommandError, json.JSONDecodeError) as error:
                self.stderr.write(f"demo data: {error}")
        sys.stdout.flush()
