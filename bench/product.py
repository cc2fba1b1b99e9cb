"""The product under test: declared with a file, migrated, served, and reconciled at the end.

Every limit that a key can have is on, and so high that none may refuse: what is measured is what they cost.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.load import Target, build_body, send_once
from bench.processes import BenchError, Server, find_free_port, read_log_end, run_server, stop_server

ROOT = Path(__file__).resolve().parent.parent
BENCH_DATABASE = "tollkeeper_bench"
# Of its calls each after the first is answered from the cache.
CACHED_MODEL = "bench-cached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    server: Server
    # The plaintext of the customer's API key.
    key: str
    env: dict[str, str]

    def target(self, model: str) -> Target:
        """Return where to send calls of this model, as the bench customer."""
        return Target(
            url=self.server.url,
            model=model,
            server=self.server,
            headers={"authorization": f"Bearer {self.key}"},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    exit_code: int
    output: str


def declare_bench_catalogue(upstream_urls: Mapping[str, str]) -> str:
    """Return the file for `manage.py apply`: one upstream and one model of the same name for each base URL.

    The URLs come without `/v1`. The text is JSON, which is YAML too, so nothing needs to be escaped by hand.
    """
    plenty = 1_000_000_000
    catalogue = {
        "upstreams": [
            {"name": name, "base_url": f"{url}/v1", "secret": "bench"} for name, url in upstream_urls.items()
        ],
        "models": [
            {
                "name": name,
                "context_window": 128_000,
                "max_output_tokens": 4_096,
                "deployments": [{"upstream": name}],
                **({"cache_seconds": 86_400} if name == CACHED_MODEL else {}),
            }
            for name in upstream_urls
        ],
        "prices": [
            {"model": name, "usd_per_million_tokens": {"input": "0.15", "output": "0.60"}} for name in upstream_urls
        ],
        "plans": [{"slug": "bench"}],
        "customers": [
            {
                "name": "bench",
                "plan": "bench",
                "credit": {"amount_usd": "1000000", "reason": "benchmark", "reference": "bench"},
            }
        ],
        "keys": [
            {
                "name": "bench",
                "customer": "bench",
                "limits": {
                    "requests_per_minute": plenty,
                    "input_tokens_per_minute": plenty,
                    "output_tokens_per_minute": plenty,
                    "concurrency": 100_000,
                    "spend_per_day_usd": "500000",
                    "spend_per_month_usd": "900000",
                },
            }
        ],
    }
    return json.dumps(catalogue, indent=2)


def find_issued_key(apply_output: str) -> str:
    """Return the plaintext key that `manage.py apply` printed when it issued it."""
    found = re.search(r"\btk_[A-Za-z0-9_-]{16,}", apply_output)
    if found is None:
        raise BenchError(f"`manage.py apply` printed no API key:\n{apply_output}")
    return found[0]


@contextlib.contextmanager
def run_product(upstream_urls: Mapping[str, str], scratch: Path, *, database_url: str | None) -> Iterator[Product]:
    """Serve the product in one process for the block, on SQLite or on a PostgreSQL database of its own.

    `database_url` names a PostgreSQL server; the database in it is not touched.
    """
    data_dir = scratch / ("product-postgres" if database_url else "product-sqlite")
    data_dir.mkdir()
    port = find_free_port()
    env = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    env |= {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATA_DIR": str(data_dir),
        "WORKERS": "1",
        "LOCAL_MODEL": "off",
        "SECRET_KEY": "only-for-the-benchmark-and-its-own-temporary-database",
    }
    with contextlib.ExitStack() as stack:
        if database_url:
            env["DATABASE_URL"] = stack.enter_context(_create_database(database_url))
        _manage(env, "migrate", "--verbosity=0")
        catalogue = data_dir / "bench.yaml"
        catalogue.write_text(declare_bench_catalogue(upstream_urls))
        key = find_issued_key(_manage(env, "apply", str(catalogue)))
        command = [sys.executable, "manage.py", "serve"]
        server = stack.enter_context(
            run_server(name=data_dir.name, command=command, port=port, scratch=scratch, env=env, cwd=ROOT)
        )
        product = Product(server=server, key=key, env=env)
        for model in upstream_urls:
            _wait_for_answer(product, model)
        yield product


def reconcile(product: Product) -> Reconciliation:
    """Stop the product and recompute its books; the exit code is 0 when every nano-dollar is accounted for.

    Stopped first, because wrk leaves calls in flight: a clean end settles them, which is part of the claim.
    """
    code = stop_server(product.server)
    # Uvicorn ends by raising the signal again once all is closed.
    if code not in (0, -15):
        return Reconciliation(exit_code=1, output=f"serve ended with {code}:\n{read_log_end(product.server)}")
    done = subprocess.run(
        [sys.executable, "manage.py", "reconcile"],
        cwd=ROOT,
        env=product.env,
        check=False,
        capture_output=True,
        text=True,
    )
    return Reconciliation(exit_code=done.returncode, output=(done.stdout + done.stderr).strip())


def _manage(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise BenchError(f"manage.py {arguments[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _wait_for_answer(product: Product, model: str) -> None:
    """Return once the model answers 200: the port may be open before the product is ready."""
    target = product.target(model)
    body = build_body(model, text="Is the gate open?", stream=model not in ("bench-json", CACHED_MODEL))
    headers = {"content-type": "application/json"} | target.headers
    deadline = time.monotonic() + 30
    while True:
        answer = send_once(f"{target.url}/v1/chat/completions", body=body, headers=headers)
        if answer.status == 200:
            return
        # Only "not ready yet" may pass; any other refusal would be the same a second later.
        if answer.status != 503 or time.monotonic() > deadline:
            text = answer.body.decode(errors="replace")
            raise BenchError(f"{model} answered {answer.status}: {text}\n{read_log_end(product.server)}")
        time.sleep(0.2)


@contextlib.contextmanager
def _create_database(server_url: str) -> Iterator[str]:
    """Create the benchmark's own database for the length of the block and return its URL."""
    create, drop = (
        f"CREATE DATABASE {BENCH_DATABASE}",
        f"DROP DATABASE IF EXISTS {BENCH_DATABASE} WITH (FORCE)",
    )
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(create)
        try:
            yield urllib.parse.urlsplit(server_url)._replace(path=f"/{BENCH_DATABASE}").geturl()
        finally:
            connection.execute(drop)
