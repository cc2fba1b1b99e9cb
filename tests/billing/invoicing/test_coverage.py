"""What has paid for a month is what a plain book of debts says, however late the month is closed."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing.accounts import get_balance
from billing.money import read_receivable
from billing.money_models import MovementKind
from billing.tokens import TokenCounts
from tests.invoicing import OCTOBER, Buyer, assert_books_are_clean, pay

pytestmark = pytest.mark.django_db

CENT = 10_000_000
MONTHS = ("2026-10", "2026-11")


@dataclass
class Book:
    """Cents, call by call: grants in the order in which they came, then money, then debt; money pays old debt first."""

    granted: int = 0
    money: int = 0
    debts: Counter[str] = field(default_factory=Counter)
    paid_by_grants: Counter[str] = field(default_factory=Counter)

    def call(self, month: str, cents: int) -> None:
        by_grants = min(self.granted, cents)
        by_money = min(self.money, cents - by_grants)
        self.granted -= by_grants
        self.money -= by_money
        self.paid_by_grants[month] += by_grants
        self.debts[month] += cents - by_grants - by_money

    def receive(self, cents: int) -> None:
        for month in MONTHS:
            part = min(self.debts[month], cents)
            self.debts[month] -= part
            cents -= part
        self.money += cents


steps = st.tuples(
    st.sampled_from(["call", "call", "call", "top-up", "grant", "look"]), st.integers(min_value=1, max_value=40)
)


@given(*[st.lists(steps, max_size=5)] * 2)
@hypothesis_settings(max_examples=15)
def test_months_that_are_closed_long_after_tell_who_paid_for_them(
    october: list[tuple[str, int]], november: list[tuple[str, int]]
) -> None:
    buyer, book = Buyer(), Book()
    for month, made in zip(MONTHS, (october, november), strict=True):
        for number, (what, cents) in enumerate(made):
            at = OCTOBER + timedelta(days=31 * MONTHS.index(month) + number)
            usd = f"{cents / 100:.2f}"
            match what:
                case "call":
                    buyer.use(at, TokenCounts(input=cents * 10_000))
                    book.call(month, cents)
                case "top-up":
                    buyer.move(MovementKind.TOP_UP, usd, at=at)
                    book.receive(cents)
                case "grant":
                    buyer.move(MovementKind.GRANT, usd, at=at)
                    book.granted += cents
                case "look":
                    buyer.move(MovementKind.CREDIT_LIMIT, f"8{cents}", at=at)
    used = Counter(
        {
            month: sum(c for what, c in made if what == "call")
            for month, made in zip(MONTHS, (october, november), strict=True)
        }
    )
    for month in MONTHS:
        if used[month]:
            invoice = buyer.issue(month)
            assert invoice.net_nanousd == book.debts[month] * CENT
            assert invoice.granted_nanousd == book.paid_by_grants[month] * CENT
            if invoice.due_cents:
                pay(invoice)
    assert read_receivable(buyer.id) == 0
    assert get_balance(buyer.id).posted_nanousd == (book.money + book.granted) * CENT
    assert_books_are_clean()
