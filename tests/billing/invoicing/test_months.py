"""A month of many customers: by command, and by the server itself where settings ask for it."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from billing.errors import PeriodInvalid
from billing.invoice_models import Invoice
from billing.invoicing.document import InvoiceState
from billing.invoicing.months import close_due_months, close_month
from keys.models import Customer
from platform_site.environment import read_environment
from platform_site.periodic import JOBS
from tests.invoicing import ANN, DECEMBER, NOVEMBER, OCTOBER, Buyer

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def run(*options: str) -> str:
    out = StringIO()
    call_command("close_period", *options, stdout=out)
    return out.getvalue()


def test_the_command_closes_and_issues_and_may_be_repeated() -> None:
    first, second = Buyer(), Buyer()
    for buyer in (first, second):
        buyer.use(OCTOBER)
    public_id = Customer.objects.get(pk=first.id).public_id
    assert "draft, usage 5.00 USD, due 5.00 USD" in run("--month", "2026-10", "--customer", public_id)
    assert Invoice.objects.get().customer_id == first.id
    assert run("--month", "2026-10", "--issue").count("issued, usage 5.00 USD") == 2
    assert run("--month", "2026-10", "--issue").count("issued, usage 5.00 USD") == 2
    assert Invoice.objects.filter(status=InvoiceState.ISSUED).count() == 2


def test_the_command_says_what_it_cannot_do() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    with pytest.raises(CommandError, match="no customer"):
        run("--month", "2026-10", "--customer", "cus_nobody")
    with pytest.raises(CommandError, match="no month"):
        run("--month", "october")
    with pytest.raises(CommandError, match="1 of 1"):
        run("--month", "2099-01")


def test_a_customer_that_cannot_be_closed_holds_up_nobody() -> None:
    ready, early = Buyer(), Buyer()
    early.set_profile(time_zone="America/New_York")
    for buyer in (ready, early):
        buyer.use(OCTOBER + HOUR * 24)
    closed = {each.customer.pk: each for each in close_month("2026-10", author=ANN, now=NOVEMBER)}
    assert closed[ready.id].invoice is not None
    assert "is not over yet" in closed[early.id].problem
    with pytest.raises(PeriodInvalid):
        close_month("2026", author=ANN)


@pytest.mark.parametrize(("wanted", "state"), [("draft", InvoiceState.DRAFT), ("issue", InvoiceState.ISSUED)])
def test_the_server_closes_months_that_are_over_and_quiet_once(wanted: str, state: str, settings: Settings) -> None:
    settings.ENVIRONMENT = read_environment({"INVOICE_CLOSING": wanted})
    buyer, idle = Buyer(), Buyer()
    buyer.use(OCTOBER)
    idle.use(DECEMBER)
    assert close_due_months(NOVEMBER + 5 * HOUR) == []
    (closed,) = close_due_months(NOVEMBER + 7 * HOUR)
    assert (closed.problem, Invoice.objects.get().status) == ("", state)
    assert close_due_months(NOVEMBER + 8 * HOUR) == []


def test_the_server_closes_nothing_unless_settings_ask_for_it(settings: Settings) -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    settings.ENVIRONMENT = read_environment({})
    assert close_due_months(DECEMBER) == []
    assert "months" in [job.name for job in JOBS]
