"""`manage.py prices refresh` and `manage.py prices rerate`: what providers charge now, and what a price would mean."""

from argparse import ArgumentParser
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from billing.errors import PriceInvalid
from billing.models import PriceVersion
from billing.price_diff import RateChange
from billing.pricing import Price, draft_price, get_price, read_price_book
from billing.rates import WHOLE_BASIS_POINTS
from billing.rerating import RerateReport, last_days, rerate
from billing.tokens import TOKEN_CLASSES
from common.clock import to_us
from common.errors import TollkeeperError
from common.money import format_usd, parse_usd
from common.percents import parse_percent
from common.sql import Sql
from gateway.price_refresh import ModelRefresh, Outcome, apply_refresh, plan_refresh

_AUTHOR = "manage.py prices"
_LONGEST_DAYS = 3_660


class Command(BaseCommand):
    """Two questions about prices; only `refresh --apply` writes."""

    help = "Refresh prices from what providers charge, or tell what past calls would have cost under another price."

    def add_arguments(self, parser: ArgumentParser) -> None:
        tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
        refresh = tasks.add_parser("refresh", help="Compare with providers' prices (bundled data, no network).")
        refresh.add_argument("models", nargs="*", metavar="MODEL", help="Only these; default: every active model.")
        refresh.add_argument("--apply", action="store_true", help="Publish what is shown. Without it nothing changes.")
        refresh.add_argument(
            "--margin-percent",
            metavar="N",
            help="Customers pay the provider's price plus N %%. Default: as they do now.",
        )
        refresh.add_argument(
            "--source",
            action="append",
            default=[],
            metavar="MODEL=PROVIDER/NAME",
            help="What a model is in the data, where its upstream does not tell; e.g. chat=openai/gpt-5.",
        )
        again = tasks.add_parser(
            "rerate", help="What the last days would have cost under another price; writes nothing."
        )
        again.add_argument("model", metavar="MODEL")
        again.add_argument("--days", type=int, default=7, help="How many days back from now (default 7).")
        again.add_argument("--version", type=int, metavar="ID", help="A published version, e.g. one of a later date.")
        again.add_argument("--change-percent", metavar="N", help="The price in force with N %% on every rate.")
        again.add_argument("--input", metavar="USD", help="USD per million input tokens.")
        again.add_argument("--output", metavar="USD", help="USD per million output tokens.")
        again.add_argument(
            "--rate",
            action="append",
            default=[],
            metavar="CLASS=USD",
            help=f"USD per million tokens of {', '.join(TOKEN_CLASSES)}, or per call of request.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["task"] == "refresh":
                self._refresh(options)
            else:
                self._rerate(options)
        except (TollkeeperError, ValueError) as error:
            message = error.message if isinstance(error, TollkeeperError) else str(error)
            raise CommandError(message) from None

    def _refresh(self, options: Mapping[str, Any]) -> None:
        margin = options["margin_percent"]
        plans = plan_refresh(
            now=datetime.now(UTC),
            models=options["models"],
            sources=_pairs(options["source"]),
            margin_basis_points=None if margin is None else parse_percent(margin),
        )
        self.stdout.write("\n".join(_show_plan(plan) for plan in plans if plan.outcome is not Outcome.SAME))
        self.stdout.write(f"= {sum(plan.outcome is Outcome.SAME for plan in plans)} unchanged")
        pending = sum(plan.outcome in (Outcome.NEW, Outcome.CHANGED) for plan in plans)
        if options["apply"]:
            published = apply_refresh(plans, author=_AUTHOR)
            self.stdout.write(f"Published {len(published)} price versions, in force from now on.")
        elif pending:
            self.stdout.write(f"Nothing was changed. --apply publishes {pending} price versions.")

    def _rerate(self, options: Mapping[str, Any]) -> None:
        if not 1 <= options["days"] <= _LONGEST_DAYS:
            raise ValueError(f"--days lies between 1 and {_LONGEST_DAYS}")
        now = datetime.now(UTC)
        price = _wanted_price(options, now)
        start, end = last_days(options["days"], now=now)
        self.stdout.write(_show_report(rerate(price, start=start, end=end)))


def _wanted_price(options: Mapping[str, Any], now: datetime) -> Price:
    model = options["model"]
    rates = {"input": options["input"], "output": options["output"], **_pairs(options["rate"])}
    given = {name: value for name, value in rates.items() if value is not None}
    ways = [options["version"] is not None, options["change_percent"] is not None, bool(given)]
    if sum(ways) != 1:
        raise ValueError("name the other price in one way: --version, --change-percent, or --input and --output")
    if options["version"] is not None:
        if not PriceVersion.objects.filter(pk=options["version"], model=model).exists():
            raise ValueError(f"there is no price version {options['version']} of '{model}'")
        return get_price(options["version"])
    in_force = read_price_book(Sql(connection)).find_version(model, to_us(now))
    if options["change_percent"] is not None:
        if in_force is None:
            raise ValueError(f"'{model}' has no price in force to change")
        return in_force.changed(WHOLE_BASIS_POINTS + parse_percent(options["change_percent"]))
    try:
        draft = draft_price(model, {f"{name}_nanousd": parse_usd(value) for name, value in given.items()})
    except PriceInvalid as error:
        raise ValueError(f"{error.message} Give --input and --output, and --rate CLASS=USD for others.") from None
    return draft if in_force is None else draft.with_cost_of(in_force)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"'{text}' is not NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def _show_plan(plan: ModelRefresh) -> str:
    if plan.outcome is Outcome.UNKNOWN:
        return f"! {plan.model}: no provider's price ({plan.source})"
    lines = [f"{'+' if plan.outcome is Outcome.NEW else '~'} {plan.model} ({plan.source})"]
    lines += [f"    {_show_change(change)}" for change in plan.changes]
    lines += [f"    note: {note}" for note in plan.notes]
    return "\n".join(lines)


def _show_change(change: RateChange) -> str:
    new = "none" if change.new_nanousd is None else format_usd(change.new_nanousd)
    if change.old_nanousd is None:
        return f"{change.name}: {new}"
    return f"{change.name}: {format_usd(change.old_nanousd)} -> {new}"


def _show_report(report: RerateReport) -> str:
    total = report.total
    lines = [
        f"{total.calls} calls from {report.start:%Y-%m-%d %H:%M} to {report.end:%Y-%m-%d %H:%M} UTC",
        f"  cost:          {_shift(total.cost_nanousd, total.new_cost_nanousd)}",
        f"  provider cost: {_shift(total.provider_cost_nanousd, total.new_provider_cost_nanousd)}",
    ]
    if report.calls_of_other_lists:
        lines.append(f"  {report.calls_of_other_lists} calls of other price lists keep their cost and are left out.")
    lines += [
        f"  {part.name}: {part.sums.calls} calls, {_shift(part.sums.cost_nanousd, part.sums.new_cost_nanousd)}"
        for part in report.customers
    ]
    return "\n".join([*lines, "Nothing was changed."])


def _shift(old_nanousd: int, new_nanousd: int) -> str:
    difference = new_nanousd - old_nanousd
    sign = "+" if difference >= 0 else ""
    return f"{format_usd(old_nanousd)} -> {format_usd(new_nanousd)} USD ({sign}{format_usd(difference)})"
