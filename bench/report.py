"""What the benchmark prints: the machine, one table, and the same as JSON."""

import datetime as dt
import importlib.metadata
import math
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from bench.load import find_wrk
from bench.mock import find_nginx

PACKAGES = ("django", "channels", "uvicorn", "uvloop", "httptools", "aiohttp", "orjson", "psycopg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure. The unit stands in its name."""

    measure: str
    product: float
    # The same of the bare pass-through, where it has one.
    floor: float | None = None
    budget: float | None = None
    stretch: float | None = None
    higher_is_better: bool = False
    digits: int = 0
    # Why the figure does not count; empty for a good run.
    problems: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What the figure is against its budget; INVALID and why when an answer was wrong."""
        if self.problems or math.isnan(self.product):
            return "INVALID: " + ", ".join(self.problems or ("no figure",))
        if self.budget is None or self.stretch is None:
            return ""
        if self._meets(self.stretch):
            return "stretch"
        return "budget" if self._meets(self.budget) else "OVER BUDGET"

    def _meets(self, bound: float) -> bool:
        return self.product >= bound if self.higher_is_better else self.product <= bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    date: str
    cores: int
    cpu: str
    # Name and version of the interpreter, the packages and the tools that took part.
    versions: dict[str, str]


def describe_machine() -> Machine:
    """Return what the figures depend on beside the code."""
    versions = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    versions |= {"wrk": _ask_version(find_wrk(), "-v"), "nginx": _ask_version(find_nginx(), "-v")}
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return Machine(
        date=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cores=os.cpu_count() or 0,
        cpu=found[1] if found else platform.machine(),
        versions=versions,
    )


def render_machine(machine: Machine) -> str:
    """Return the machine as one line of Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"{machine.date}; {machine.cores} cores, {machine.cpu}; {versions}"


def render_rows(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [("measure", "budget", "stretch", "product", "bare pass-through", "verdict")]
    for row in rows:
        figures = [_format(value, row.digits) for value in (row.budget, row.stretch, row.product, row.floor)]
        lines.append((row.measure, figures[0], figures[1], figures[2], figures[3], row.verdict))
    return render_table(lines)


def render_table(lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up; the first line is its head."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    rendered = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rendered.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(rendered)


def write_json(path: Path, *, machine: Machine, rows: Sequence[Row], reconciled: dict[str, str]) -> None:
    """Write everything to a file; a figure that could not be taken is null."""
    document = {
        "machine": asdict(machine),
        "rows": [asdict(row) | {"verdict": row.verdict} for row in rows],
        "reconcile": reconciled,
    }
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")


def _format(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _ask_version(command: str | None, option: str) -> str:
    """Return the version that a tool prints; wrk does so with exit code 1, nginx on stderr."""
    if command is None:
        return "missing"
    done = subprocess.run([command, option], check=False, capture_output=True, text=True)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "unknown"
