"""A file that gives money to several customers and the calls of those customers never wait for each other in a ring."""

import textwrap
import threading

import pytest
from django.db import connection, connections, transaction

from billing.accounts import get_balance, open_customer_account
from billing.models import Account
from common.generations import GENERATIONS
from gateway.declarations.applying import apply_declarations
from keys.models import Customer
from tests.factories import make_customer, make_plan
from tests.flows.platform import wait_for

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

USD = 1_000_000_000


@pytest.fixture
def customers() -> tuple[Customer, Customer]:
    """Return two customers with wallets, that with the smaller id first."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for all: set DATABASE_URL")
    plan = make_plan()
    first, second = (make_customer(plan=plan, credit_nanousd=0) for _ in range(2))
    assert open_customer_account(first.pk).pk < open_customer_account(second.pk).pk
    return first, second


def declare(*customers: Customer) -> str:
    entries = "".join(
        f"  - name: {customer.name}\n"
        f"    note: declared\n"
        f"    credit: {{amount_usd: 5, reason: test, reference: for-{customer.pk}}}\n"
        f"    credit_limit_usd: 7\n"
        for customer in customers
    )
    return textwrap.dedent(f"plans:\n  - slug: declared\n    name: Declared\ncustomers:\n{entries}")


def lock_wallet(customer: Customer, *, nowait: bool = False) -> None:
    Account.objects.select_for_update(no_key=True, nowait=nowait).get(customer_id=customer.pk)


def is_anybody_waiting() -> bool:
    with connection.cursor() as cursor:
        # Within a transaction the first look would be the last.
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


def test_wallets_are_locked_in_the_order_of_their_ids_and_before_all_else(
    customers: tuple[Customer, Customer],
) -> None:
    first, second = customers
    problems: list[BaseException] = []

    def apply() -> None:
        try:
            apply_declarations(declare(second, first))
        except BaseException as error:  # noqa: BLE001 - told by the test
            problems.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=apply, daemon=True)
    with transaction.atomic():
        # As a batch of calls of both: the first wallet, then the second, then what tells of changed rows.
        lock_wallet(first)
        thread.start()
        wait_for(is_anybody_waiting, what="the file to wait for the first wallet")
        lock_wallet(second, nowait=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM common_generation FOR UPDATE NOWAIT")
            assert len(cursor.fetchall()) >= len(GENERATIONS)
    thread.join(20)
    assert (problems, thread.is_alive()) == ([], False)
    assert [get_balance(customer.pk).available_nanousd for customer in customers] == [12 * USD] * 2
