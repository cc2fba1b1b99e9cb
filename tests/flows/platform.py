"""A whole platform under test: `manage.py serve` in processes of its own, a database, and the scripted upstream."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psutil
from django.conf import settings
from pytest_django import DjangoDbBlocker

from billing.accounts import Balance, get_balance
from billing.models import Hold, UsageRecord
from gateway.models import Deployment, Model, Upstream
from keys.models import Customer
from tests import factories
from tests.admitting import assert_books_agree
from tests.flows.database import OwnDatabase, child_environment, manage
from tests.upstream import RecordedRequest, ScriptedUpstream

P = ParamSpec("P")
T = TypeVar("T")

WAIT_SECONDS = 15.0
_LOOK_EVERY_SECONDS = 0.02
_START_SECONDS = 60.0
_numbers = count(1)


def wait_for(read: Callable[[], T], *, what: str, timeout_seconds: float = WAIT_SECONDS) -> T:
    """Return the first truthy answer of `read`. Raises TimeoutError with the last one."""
    deadline = time.monotonic() + timeout_seconds
    while not (found := read()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_seconds} s for {what}; the last look showed {found!r}")
        time.sleep(_LOOK_EVERY_SECONDS)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A customer with a key, and the model that it calls."""

    customer_id: int
    key_id: int
    token: str = field(repr=False)
    model: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}


class Server:
    """One `manage.py serve`, with its output in a file."""

    def __init__(self, *, database_url: str, directory: Path, **variables: str) -> None:
        self._log = directory / f"server-{next(_numbers)}.log"
        environment = child_environment(
            database_url,
            **{"HOST": "127.0.0.1", "PORT": "0", "DATA_DIR": str(directory), "WORKER_LEASE_SECONDS": "2", **variables},
        )
        with self._log.open("wb") as log:
            # A group of its own, so that `kill` reaches the workers of a supervisor as well.
            self.process = subprocess.Popen(
                [sys.executable, str(settings.BASE_DIR / "manage.py"), "serve"],
                env=environment,
                cwd=settings.BASE_DIR,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.port = 0

    @property
    def log(self) -> str:
        """Return everything that the server has written so far."""
        return self._log.read_text(errors="replace")

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """Where an OpenAI client looks for the API."""
        return f"{self.root_url}/v1"

    @property
    def socket_url(self) -> str:
        """Where the WebSocket is."""
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    def wait_until_ready(self) -> None:
        """Wait until it takes calls. Raises AssertionError with its log when it ends instead."""
        self.port = wait_for(self._find_port, what="the server's port", timeout_seconds=_START_SECONDS)
        wait_for(lambda: self.probe("/readyz") == 200, what="/readyz", timeout_seconds=_START_SECONDS)

    def _find_port(self) -> int:
        assert self.process.poll() is None, f"the server ended:\n{self.log}"
        _, found, rest = self.log.partition("listens on http://127.0.0.1:")
        return int(rest.split(" ", 1)[0]) if found and " " in rest else 0

    def probe(self, path: str) -> int | None:
        """Return the status of a GET, or None when nothing answers."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def has_connection_from(self, port: int) -> bool:
        """Return whether a client's connection is still open at the server's end."""
        own = psutil.Process(self.process.pid)
        return any(
            found.raddr and found.raddr.port == port and found.status != psutil.CONN_CLOSE_WAIT
            for process in (own, *own.children(recursive=True))
            for found in process.net_connections(kind="tcp")
        )

    def resident_bytes(self) -> int:
        """Return how much memory the server's process has resident."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def kill(self) -> None:
        """End it, and its workers, as a power cut would."""
        own = psutil.Process(self.process.pid)
        processes = (own, *own.children(recursive=True))
        # All at once: none of them is to notice that another has gone.
        for process in processes:
            process.suspend()
        for process in processes:
            process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Ask it to shut down."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Shut it down (safe to repeat)."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


class Platform:
    """Servers over one database, whose models are served by one scripted upstream."""

    def __init__(self, *, blocker: DjangoDbBlocker, **variables: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="tollkeeper-flow-")
        self._variables = variables
        self.database = OwnDatabase(
            name=f"tollkeeper_flow_{os.getpid()}_{next(_numbers)}",
            directory=Path(self._directory.name),
            blocker=blocker,
        )
        self.upstream = ScriptedUpstream()
        self.upstream.start()
        self.servers: list[Server] = []

    # -- servers

    @property
    def directory(self) -> str:
        """Return the servers' DATA_DIR."""
        return self._directory.name

    @property
    def server(self) -> Server:
        """Return the first server, which most tests have alone."""
        return self.servers[0]

    def start(self, *, servers: int = 1) -> None:
        """Start servers beside those that run, and wait until they take calls."""
        started = [
            Server(database_url=self.database.url, directory=Path(self._directory.name), **self._variables)
            for _ in range(servers)
        ]
        self.servers += started
        for server in started:
            server.wait_until_ready()

    def kill(self) -> None:
        """End all servers as a power cut would."""
        for server in self.servers:
            server.kill()
        self.servers.clear()

    def close(self) -> None:
        """Stop everything and remove the database."""
        # First: a server that still holds connections to it would wait for their end.
        self.upstream.reset()
        try:
            for server in self.servers:
                server.stop()
        finally:
            self.upstream.stop()
            self.database.drop()
            self._directory.cleanup()

    # -- state, through the public functions

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` with the platform's database as Django's."""
        return self.database.run(function, *args, **kwargs)

    def make_upstream(self, **columns: Any) -> Upstream:
        """Create an upstream row that leads to the scripted upstream."""
        return self.run(factories.make_upstream, **{"base_url": self.upstream.base_url, **columns})

    def make_model(self, *, upstream: dict[str, Any] | None = None, **options: Any) -> str:
        """Create a model of the scripted upstream, with a price of 1 and 4 USD per million tokens; return its name.

        `upstream` are columns of its upstream row; the rest is as in `factories.make_model`. Nothing is added to the
        counted input, so that a test can tell a hold by eye.
        """
        row = self.make_upstream(**(upstream or {}))
        return self.run(factories.make_model, **{"upstream": row, "input_overhead_tokens": 0, **options}).name

    def make_price(self, model: str, **rates: Any) -> None:
        """Publish a price of a model; `rates` as in `factories.make_price`."""
        self.run(factories.make_price, model, **rates)

    def add_deployment(self, model: str, *, priority: int, **upstream: Any) -> str:
        """Serve a model by one more upstream; return that upstream's name."""
        row = self.make_upstream(**upstream)

        def create() -> None:
            Deployment.objects.create(
                model=Model.objects.get(name=model),
                upstream=row,
                upstream_model=f"{model}-{priority}",
                priority=priority,
            )

        self.run(create)
        return row.name

    def make_caller(
        self,
        *,
        model: str | None = None,
        credit_usd: str = "10",
        credit_nanousd: int | None = None,
        plan_limits: Mapping[str, int | None] | None = None,
        customer_limits: Mapping[str, int | None] | None = None,
        **key_options: Any,
    ) -> Caller:
        """Create a customer with money and limits, its key, and (unless `model` names one) a model to call."""
        name = model or self.make_model()

        def create() -> Caller:
            customer = factories.make_customer(
                plan=factories.make_plan(**(plan_limits or {})),
                credit_usd=credit_usd,
                credit_nanousd=credit_nanousd,
                limits=dict(customer_limits or {}),
            )
            issued = factories.make_key(customer, **key_options)
            return Caller(customer_id=customer.pk, key_id=issued.key.pk, token=issued.token, model=name)

        return self.run(create)

    # -- what the rows say

    def find_customer(self, public_id: str) -> int:
        """Return the id of the row of a customer."""
        return self.run(lambda: Customer.objects.get(public_id=public_id).pk)

    def read_usage(self, caller: Caller) -> list[UsageRecord]:
        """Return the customer's usage records, oldest first."""
        return self.run(lambda: list(UsageRecord.objects.filter(customer_id=caller.customer_id).order_by("id")))

    def wait_for_usage(self, caller: Caller, n: int = 1) -> list[UsageRecord]:
        """Wait until the customer has n usage records and return them."""
        return wait_for(
            lambda: found if len(found := self.read_usage(caller)) >= n else [], what=f"{n} usage records of {caller}"
        )

    def read_holds(self, caller: Caller) -> list[Hold]:
        """Return the customer's open holds."""
        return self.run(lambda: list(Hold.objects.filter(account__customer_id=caller.customer_id)))

    def read_balance(self, caller: Caller) -> Balance:
        """Return the customer's money."""
        return self.run(get_balance, caller.customer_id)

    def requests_for(self, model: str) -> list[RecordedRequest]:
        """Return what the upstream was asked for a model, under whichever name of its deployments."""
        names = self.run(
            lambda: set(Deployment.objects.filter(model__name=model).values_list("upstream_model", flat=True))
        )
        return [r for r in self.upstream.requests if r.body is not None and r.body.get("model") in names]

    def release(self, *, n: int = 1) -> None:
        """Wait until n answers are held at the upstream, and let them go on."""
        self.upstream.wait_until_held(n=n)
        self.upstream.release()

    def assert_settled(self, caller: Caller) -> None:
        """Check that no hold of the customer is open, and that its books agree to the nano-dollar."""
        assert self.read_holds(caller) == []
        self.run(assert_books_agree, caller.customer_id)

    def settle_one(self, caller: Caller) -> UsageRecord:
        """Wait for the customer's only usage record, check that everything is settled, and return it."""
        (record,) = self.wait_for_usage(caller)
        self.assert_settled(caller)
        return record

    def reconcile(self) -> None:
        """Run `manage.py reconcile`, which recomputes every balance and charge, and check that it finds nothing."""
        done = manage(self.database.url, "reconcile", DATA_DIR=self._directory.name)
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Iterator[Callable[[], T]]:
    """Run a blocking call beside the test; yields a function that waits for what it returned or raised."""
    outcome: list[tuple[T | None, BaseException | None]] = []

    def target() -> None:
        try:
            outcome.append((function(*args, **kwargs), None))
        except BaseException as error:  # noqa: BLE001 - handed to whoever joins
            outcome.append((None, error))

    thread = threading.Thread(target=target, daemon=True)
    thread.start()

    def join() -> T:
        thread.join(WAIT_SECONDS)
        assert outcome, "the call has not ended"
        result, error = outcome[0]
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    yield join
    thread.join(WAIT_SECONDS)
