"""Admin pages and a large export on a database of millions: how long each takes, as one table.

    manage.py generate_usage --rows 5000000 --on NAME
    make bench-lists ARGS="--on NAME"

Works on the database that the environment names (DATABASE_URL or DATA_DIR), which must be one with load data. Pages are
asked of Django in this process, so the times are what the server needs, network and browser apart.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")

_REPEATS = 5
_PAGE_BUDGET_MS, _PAGE_STRETCH_MS = 300, 100
_EXPORT_ROWS, _EXPORT_BUDGET_SECONDS, _EXPORT_STRETCH_SECONDS, _EXPORT_BUDGET_MB = 1_000_000, 30, 10, 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    name: str
    path: str


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", required=True, help="name of the database, so that no other one is logged into")
    parser.add_argument("--no-export", action="store_true", help="pages only")
    options = parser.parse_args()
    django.setup()

    from django.db import connection  # noqa: PLC0415 - needs the settings

    from bench.report import Row, describe_machine, render_machine, render_rows  # noqa: PLC0415

    if Path(str(connection.settings_dict["NAME"])).name != options.on:
        sys.exit(f"the database is {connection.settings_dict['NAME']}, not {options.on}")
    rows = [
        Row(
            measure=f"{page.name}: page, ms",
            product=milliseconds,
            budget=_PAGE_BUDGET_MS,
            stretch=_PAGE_STRETCH_MS,
            problems=() if status == 200 else (f"status {status}",),
        )
        for page, milliseconds, status in _measure_pages()
    ]
    if not options.no_export:
        seconds, megabytes, problems = _measure_export()
        rows += [
            Row(
                measure=f"CSV export of {_EXPORT_ROWS:,} calls: seconds",
                product=seconds,
                budget=_EXPORT_BUDGET_SECONDS,
                stretch=_EXPORT_STRETCH_SECONDS,
                digits=1,
                problems=problems,
            ),
            Row(
                measure=f"CSV export of {_EXPORT_ROWS:,} calls: largest memory, MB",
                product=megabytes,
                budget=_EXPORT_BUDGET_MB,
                stretch=_EXPORT_BUDGET_MB,
            ),
        ]
    print(f"{connection.vendor}; {render_machine(describe_machine())}\n")
    print(render_rows(rows))


def _measure_pages() -> Iterator[tuple[Page, float, int]]:
    """Yield each page with the median of several requests, after one that fills caches."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415
    from django.test.utils import override_settings  # noqa: PLC0415

    user, _ = User.objects.get_or_create(username="bench-lists", defaults={"is_staff": True, "is_superuser": True})
    client = Client()
    with override_settings(ALLOWED_HOSTS=["testserver"], ADMIN_SECOND_FACTOR="off"):
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        client.get("/admin/")
        for page in _pages():
            times, status = [], 0
            for _ in range(_REPEATS + 1):
                started = time.perf_counter()
                answer = client.get(f"/admin/{page.path}")
                answer.getvalue()
                status = answer.status_code
                times.append((time.perf_counter() - started) * 1000)
            print(f"{page.name}: {', '.join(f'{ms:.0f}' for ms in times)} ms", file=sys.stderr, flush=True)
            yield page, statistics.median(times[1:]), status
    user.delete()


def _pages() -> list[Page]:
    from billing.models import Account, UsageRecord  # noqa: PLC0415
    from common.clock import to_us  # noqa: PLC0415
    from keys.models import ApiKey, Customer  # noqa: PLC0415

    large, small = (Customer.objects.get(name=f"Load data {number:02d}") for number in (1, 20))
    key = ApiKey.objects.filter(customer=small).earliest("pk")
    revenue = Account.objects.get(kind="revenue")
    account = Account.objects.get(customer=large)
    record = UsageRecord.objects.filter(request_id__startswith="req_load").earliest("request_id")
    middle = datetime.now(UTC) - timedelta(days=180)
    deep = f"k=b{to_us(middle)}.0"
    day = f"{middle:%Y-%m-%d}"
    usage, transfers = "billing/usagerecord/?within=all", "billing/transfer/?within=all"
    return [
        Page(name="dashboard", path=""),
        Page(name="calls, last 7 days", path="billing/usagerecord/"),
        Page(name="calls, all time", path=usage),
        Page(name="calls, in the middle", path=f"{usage}&{deep}"),
        Page(name="calls, oldest", path=f"{usage}&k=a"),
        Page(name="calls of a large customer", path=f"{usage}&customer__id__exact={large.pk}"),
        Page(name="calls of a small customer, middle", path=f"{usage}&customer__id__exact={small.pk}&{deep}"),
        Page(name="calls of a key", path=f"{usage}&api_key__id__exact={key.pk}"),
        Page(name="calls of one day", path=f"{usage}&started_at_from_0={day}&started_at_to_0={day}&{deep}"),
        Page(name="failed calls (1 in 100)", path=f"{usage}&status__exact=failed"),
        Page(name="calls of a rare model (1 in 1,000)", path=f"{usage}&model=load-rare"),
        Page(name="lost calls (none, all time)", path=f"{usage}&status__exact=lost"),
        Page(name="failed calls of a customer", path=f"{usage}&customer__id__exact={small.pk}&status__exact=failed"),
        Page(name="calls, search for a customer", path=f"{usage}&q=data+20"),
        Page(name="calls, search for a key", path=f"{usage}&q={key.prefix}"),
        Page(name="calls, search for a request", path=f"{usage}&q={record.request_id}"),
        Page(name="one call", path=f"billing/usagerecord/{record.pk}/change/"),
        Page(name="spend of 30 days by customer", path="billing/usagerecord/spend/"),
        Page(name="finance, 30 days", path="billing/usagerecord/finance/"),
        Page(name="transfers, last 7 days", path="billing/transfer/"),
        Page(name="transfers, all time", path=transfers),
        Page(name="transfers, in the middle", path=f"{transfers}&{deep}"),
        Page(name="transfers of an account, either side", path=f"{transfers}&party={account.pk}"),
        Page(name="transfers to revenue", path=f"{transfers}&credit_account__id__exact={revenue.pk}"),
        Page(name="holds (none, all time)", path=f"{transfers}&kind__exact=pending"),
        Page(name="transfers, search for a request", path=f"{transfers}&q={record.request_id}"),
        Page(name="accounts", path="billing/account/"),
        Page(name="calls in flight", path="billing/hold/"),
        Page(name="refused calls", path="gateway/refusal/"),
        Page(name="audit trail, all time", path="keys/auditevent/?within=all"),
        Page(name="audit trail, search", path="keys/auditevent/?within=all&q=nobody"),
        Page(name="a customer", path=f"keys/customer/{large.pk}/change/"),
        Page(name="a key", path=f"keys/apikey/{key.pk}/change/"),
    ]


def _measure_export() -> tuple[float, float, tuple[str, ...]]:
    """Run the export command as an operator would; return seconds, megabytes and what was wrong."""
    from billing.models import UsageRecord  # noqa: PLC0415

    end = UsageRecord.objects.latest("started_at").started_at + timedelta(seconds=1)
    ordered = UsageRecord.objects.order_by("-started_at").values_list("started_at", flat=True)
    start = ordered[_EXPORT_ROWS - 1 : _EXPORT_ROWS].get()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "manage.py", "export", "usage", "--from", start.isoformat(), "--to", end.isoformat()]
        started = time.perf_counter()
        process = subprocess.Popen([*command, "--output", f"{folder}/usage.csv"], stderr=subprocess.PIPE)
        # Not from the accounting of children: it begins with what this process has at the fork.
        megabytes = 0.0
        while process.poll() is None:
            megabytes = max(megabytes, _read_peak_megabytes(process.pid))
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        assert process.stderr is not None
        said = process.stderr.read().decode()
    # A few more where several calls began at the first moment.
    found = re.match(r"rows (\d+)", said)
    is_whole = process.returncode == 0 and found is not None and int(found[1]) >= _EXPORT_ROWS
    return seconds, megabytes, () if is_whole else (said.strip()[:200],)


def _read_peak_megabytes(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


if __name__ == "__main__":
    main()
