"""`python -m bench.run`: measure the product beside a bare pass-through and print one table.

Exit codes: 0 all figures count, 1 a refusal, an error or books that do not balance, 2 it could not run.
A figure over its budget is told in the table and is no error: budgets hold for one machine, this runs on any.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.load import find_wrk
from bench.mock import Mock, find_nginx, run_mock
from bench.pacing import run_pacing
from bench.processes import BenchError, raise_file_limit
from bench.product import ROOT, Reconciliation, reconcile, run_product
from bench.report import Row, describe_machine, render_machine, render_rows, write_json
from bench.sections import SECTIONS, Bench, list_upstream_urls

# Under the repository, not in the system's temporary folder: that one is often kept in memory, where a
# durable commit costs nothing.
CACHE = ROOT / "var" / "bench"


def main() -> int:
    options = _parse_options(sys.argv[1:])
    try:
        return _run(options)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    check_tools()
    raise_file_limit()
    rows: list[Row] = []
    reconciled: dict[str, Reconciliation] = {}
    with make_scratch() as scratch, run_mock(scratch) as mock:
        for database_url in (None, options.postgres) if options.postgres else (None,):
            label = "PostgreSQL" if database_url else "SQLite"
            found, reconciled[label] = _measure_database(options, mock, scratch, database_url)
            rows += found
    machine = describe_machine()
    print(render_machine(machine), render_rows(rows), sep="\n\n")
    for label, result in reconciled.items():
        print(f"\nreconcile on {label}: exit {result.exit_code}\n{result.output}")
    if options.json:
        outputs = {label: f"exit {result.exit_code}: {result.output}" for label, result in reconciled.items()}
        write_json(options.json, machine=machine, rows=rows, reconciled=outputs)
    invalid = any(row.verdict.startswith("INVALID") for row in rows)
    return int(invalid or any(result.exit_code for result in reconciled.values()))


def _measure_database(
    options: argparse.Namespace, mock: Mock, scratch: Path, database_url: str | None
) -> tuple[list[Row], Reconciliation]:
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        pacing = stack.enter_context(run_pacing(scratch))
        urls = list_upstream_urls(mock, pacing)
        product = stack.enter_context(run_product(urls, scratch, database_url=database_url))
        bench = Bench(
            product=product,
            mock=mock,
            upstream_urls=urls,
            scratch=scratch,
            on_postgres=database_url is not None,
            quick=options.quick,
        )
        for name in [options.only] if options.only else SECTIONS:
            print(f"{bench.label}: {name} ...", file=sys.stderr, flush=True)
            rows += SECTIONS[name](bench)
        return rows, reconcile(product)


def check_tools() -> None:
    """Raise BenchError with the command to install what is missing."""
    tools = (("wrk", find_wrk()), ("nginx-light", find_nginx()))
    if missing := " ".join(package for package, path in tools if path is None):
        raise BenchError(f"missing: apt-get install {missing}")


@contextlib.contextmanager
def make_scratch() -> Iterator[Path]:
    """Make a folder for one run and remove it in the end."""
    CACHE.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--only", choices=sorted(SECTIONS), help="measure one section")
    parser.add_argument("--quick", action="store_true", help="runs of 2 seconds: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--postgres",
        metavar="URL",
        default=_find_postgres_url(),
        help="measure on this PostgreSQL server too, in a database of its own (default: DATABASE_URL)",
    )
    return parser.parse_args(arguments)


def _find_postgres_url() -> str | None:
    url = os.environ.get("DATABASE_URL", "")
    return url if url.startswith(("postgres://", "postgresql://")) else None


if __name__ == "__main__":
    sys.exit(main())
