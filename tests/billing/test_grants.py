"""Grants are spent first, in their order, and expire exactly; in no order do the parts differ from the wallet."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing.accounts import get_balance
from billing.errors import AmountInvalid, MovementDecided
from billing.funds import Funds, read_funds
from billing.models import Account, AccountKind, Transfer
from billing.money import Order, order_movement, reject_movement
from billing.money_models import Allocation, Grant, Movement, MovementKind, MovementStatus
from billing.reconciliation.running import reconcile
from common.clock import FrozenClock, from_us
from gateway.admission.commands import Admitted, Refused
from gateway.admission.context import BatchContext
from tests.admitting import make_context, run
from tests.conftest import NOON_US
from tests.factories import FundedCall, funded_call, make_model

pytestmark = pytest.mark.django_db
# Of a reconciliation; calls here cost what the test says, not what their price would make of them.
_CHECKS = ("accounts", "resolutions", "holds", "grants")


@dataclass
class Wallet:
    """A customer whose calls and money share one clock."""

    clock: FrozenClock = field(default_factory=lambda: FrozenClock(NOON_US))
    call: FundedCall = field(default_factory=lambda: funded_call(credit_nanousd=0))
    context: BatchContext | None = None

    def __post_init__(self) -> None:
        self.context = make_context(self.clock)

    def move(
        self,
        kind: MovementKind,
        amount: int,
        *,
        seconds: int | None = None,
        starts: int | None = None,
        priority: int = 100,
    ) -> Movement:
        now = from_us(self.clock.now_us())
        order = Order(
            kind=kind,
            customer_id=self.call.customer_id,
            amount_nanousd=amount,
            reason="for a test",
            author="tests",
            starts_at=None if starts is None else now + timedelta(seconds=starts),
            expires_at=None if seconds is None else now + timedelta(seconds=seconds),
            priority=priority,
        )
        return order_movement(order, now=now)

    def hold(self, amount: int) -> str | None:
        question = self.call.admit(amount_nanousd=amount)
        (answer,) = run(question, context=self.context)
        assert isinstance(answer, Admitted | Refused)
        return question.request_id if isinstance(answer, Admitted) else None

    def settle(self, request_id: str, cost: int) -> None:
        run(self.call.settle(request_id, cost_nanousd=cost), context=self.context)

    def spend(self, amount: int) -> None:
        request_id = self.hold(amount)
        assert request_id is not None
        self.settle(request_id, amount)

    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds=seconds)

    def read(self) -> Funds:
        return read_funds(self.call.customer_id, now_us=self.clock.now_us())

    def parts(self) -> tuple[int, list[int]]:
        funds = self.read()
        return funds.prepaid_nanousd, [grant.rest_nanousd for grant in funds.grants]


def assert_reconciled() -> None:
    assert [d for c in reconcile().checks if c.name in _CHECKS for d in c.differences] == []


def test_grants_are_spent_before_prepaid_money_and_first_what_expires_first() -> None:
    wallet = Wallet()
    wallet.move(MovementKind.TOP_UP, 100)
    wallet.move(MovementKind.GRANT, 30, seconds=900)
    wallet.move(MovementKind.GRANT, 20, seconds=300)
    wallet.move(MovementKind.GRANT, 5, priority=1)
    wallet.spend(35)
    assert wallet.parts() == (100, [20])
    wallet.spend(40)
    assert wallet.parts() == (80, [])


def test_a_grant_does_not_pay_for_calls_made_before_it() -> None:
    wallet = Wallet()
    wallet.move(MovementKind.TOP_UP, 100)
    wallet.spend(40)
    wallet.move(MovementKind.GRANT, 50, seconds=60)
    assert wallet.parts() == (60, [50])


def test_what_is_left_of_a_grant_is_gone_at_its_expiry_for_the_next_call_already() -> None:
    wallet = Wallet()
    wallet.move(MovementKind.GRANT, 50, seconds=60)
    wallet.spend(20)
    wallet.wait(60)
    # Shown as gone before anything has written it.
    assert wallet.read().available_nanousd == 0
    assert wallet.hold(1) is None
    assert get_balance(wallet.call.customer_id).posted_nanousd == 0
    assert sorted(Allocation.objects.values_list("amount_nanousd", flat=True)) == [20, 30]
    assert_reconciled()


def test_a_wallet_without_calls_is_looked_at_once_a_minute() -> None:
    wallet = Wallet()
    wallet.move(MovementKind.GRANT, 50, seconds=5)
    run(context=wallet.context)
    wallet.wait(120)
    run(context=wallet.context)
    assert Account.objects.get(customer_id=wallet.call.customer_id).posted_nanousd == 0


def test_a_call_in_flight_keeps_what_it_holds_of_a_grant_that_expires() -> None:
    wallet = Wallet()
    wallet.move(MovementKind.GRANT, 50, seconds=60)
    request_id = wallet.hold(30)
    assert request_id is not None
    wallet.wait(60)
    assert wallet.hold(1) is None
    assert get_balance(wallet.call.customer_id).posted_nanousd == 30
    wallet.settle(request_id, 10)
    assert wallet.parts() == (0, [])
    assert get_balance(wallet.call.customer_id).posted_nanousd == 0
    assert_reconciled()


def test_a_later_grant_is_there_for_the_first_call_after_its_start_and_not_before() -> None:
    wallet = Wallet()
    assert wallet.move(MovementKind.GRANT, 50, starts=60, seconds=120).status == MovementStatus.PLANNED
    assert (wallet.read().available_nanousd, [g.amount_nanousd for g in wallet.read().planned]) == (0, [50])
    assert wallet.hold(1) is None
    assert_reconciled()
    wallet.wait(60)
    # Shown as there before anything has written it.
    assert (wallet.read().available_nanousd, wallet.parts(), wallet.read().planned) == (50, (0, [50]), ())
    wallet.spend(20)
    assert wallet.parts() == (0, [30])
    assert Transfer.objects.get(reference=Movement.objects.get().reference).amount_nanousd == 50
    assert_reconciled()
    wallet.wait(60)
    assert wallet.read().available_nanousd == 0
    assert wallet.hold(1) is None
    assert_reconciled()


def test_a_later_grant_comes_without_a_call_within_a_minute() -> None:
    wallet = Wallet()
    wallet.move(MovementKind.GRANT, 50, starts=5)
    run(context=wallet.context)
    wallet.wait(120)
    run(context=wallet.context)
    assert Account.objects.get(customer_id=wallet.call.customer_id).posted_nanousd == 50


def test_what_would_have_begun_and_expired_while_nobody_looked_is_given_and_taken_back() -> None:
    wallet = Wallet()
    wallet.move(MovementKind.GRANT, 50, starts=5, seconds=10)
    wallet.wait(3_600)
    assert wallet.read().available_nanousd == 0
    assert wallet.hold(1) is None
    assert Movement.objects.get().status == MovementStatus.BOOKED
    assert Allocation.objects.get().transfer is not None
    assert_reconciled()


def test_a_later_grant_can_be_withdrawn_until_it_begins() -> None:
    call = funded_call(credit_nanousd=0)
    now = datetime.now(UTC)

    def plan(starts_at: datetime) -> Movement:
        order = Order(
            kind=MovementKind.GRANT,
            customer_id=call.customer_id,
            amount_nanousd=7,
            reason="for a test",
            author="ann",
            starts_at=starts_at,
        )
        return order_movement(order, now=now - timedelta(days=1))

    later, due = plan(now + timedelta(days=1)), plan(now - timedelta(hours=1))
    assert reject_movement(later.pk, author="ann", reason="a mistake").status == MovementStatus.REJECTED
    with pytest.raises(MovementDecided):
        reject_movement(due.pk, author="ann", reason="too late")
    assert read_funds(call.customer_id).posted_nanousd == 7
    assert Account.objects.get(customer_id=call.customer_id).grants_due_us is None


def test_a_later_grant_finds_the_account_that_it_will_come_from() -> None:
    """The batch of calls that gives it runs in the driver's own transaction, in which none can be opened."""
    wallet = Wallet()
    assert not Account.objects.filter(kind=AccountKind.CREDIT_SOURCE).exists()
    wallet.move(MovementKind.GRANT, 7, starts=3_600)
    assert Account.objects.filter(kind=AccountKind.CREDIT_SOURCE).exists()


def test_a_refund_takes_prepaid_money_only_and_none_that_is_held() -> None:
    wallet = Wallet()
    wallet.move(MovementKind.TOP_UP, 100)
    wallet.move(MovementKind.GRANT, 50, seconds=60)
    with pytest.raises(AmountInvalid):
        wallet.move(MovementKind.REFUND, 101)
    assert wallet.hold(120) is not None
    with pytest.raises(AmountInvalid):
        wallet.move(MovementKind.REFUND, 31)
    wallet.move(MovementKind.REFUND, 30)
    assert wallet.parts() == (70, [50])


def test_reconcile_names_a_wallet_whose_parts_do_not_make_it_up() -> None:
    wallet = Wallet()
    wallet.move(MovementKind.GRANT, 50, seconds=60)
    Account.objects.filter(customer_id=wallet.call.customer_id).update(prepaid_nanousd=-1, grants_due_us=7)
    assert [d.what for c in reconcile().checks if c.name == "grants" for d in c.differences] == [
        "posted_nanousd, as the prepaid part and the grants allow",
        "grants_due_us",
    ]


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["grant", "plan", "top up", "hold", "hold", "settle", "settle", "wait", "refund", "adjust", "note"]
        ),
        st.integers(min_value=1, max_value=200),
        st.integers(min_value=0, max_value=3),
    ),
    min_size=1,
    max_size=16,
)


@hypothesis_settings(max_examples=30)
@given(credit_limit=st.sampled_from([0, 0, 150]), steps=steps)
def test_no_interleaving_makes_the_parts_differ_from_the_wallet(
    credit_limit: int, steps: list[tuple[str, int, int]]
) -> None:
    wallet = Wallet(call=funded_call(credit_nanousd=0, model=make_model(input_usd="0", output_usd="0").name))
    wallet.move(MovementKind.CREDIT_LIMIT, credit_limit)
    open_holds: list[tuple[str, int]] = []
    spent = 0
    for what, amount, choice in steps:
        if what == "grant":
            wallet.move(MovementKind.GRANT, amount, seconds=(None, 2, 5, 9)[choice], priority=100 - choice % 2)
        elif what == "plan":
            wallet.move(MovementKind.GRANT, amount, starts=1 + choice // 2, seconds=(None, 2, 4, 9)[choice])
        elif what == "wait":
            wallet.wait(choice)
        elif what == "hold":
            request_id = wallet.hold(amount)
            open_holds += [] if request_id is None else [(request_id, amount)]
        elif what == "settle" and open_holds:
            request_id, held = open_holds.pop(choice % len(open_holds))
            cost = min(amount, held)
            wallet.settle(request_id, cost)
            spent += cost
        elif what != "settle":
            kinds = {
                "top up": MovementKind.TOP_UP,
                "refund": MovementKind.REFUND,
                "adjust": MovementKind.ADJUSTMENT_DOWN,
                "note": MovementKind.CREDIT_NOTE,
            }
            try:
                wallet.move(kinds[what], amount)
            except AmountInvalid:
                assert what in ("refund", "adjust")
        run(context=wallet.context)
        funds = wallet.read()
        assert funds.prepaid_nanousd + sum(g.rest_nanousd for g in funds.grants) == funds.posted_nanousd
        assert funds.available_nanousd >= 0
        assert funds.prepaid_nanousd >= -credit_limit
        assert funds.held_nanousd == sum(held for _, held in open_holds)
    assert_reconciled()
    account = Account.objects.get(customer_id=wallet.call.customer_id)
    came_in = sum(
        m.amount_nanousd * (-1 if m.kind in ("refund", "adjustment_down") else 1)
        for m in Movement.objects.filter(customer_id=wallet.call.customer_id, transfer__isnull=False)
    )
    expired = sum(
        Allocation.objects.filter(grant__in=Grant.objects.filter(account=account), transfer__isnull=False).values_list(
            "amount_nanousd", flat=True
        )
    )
    assert account.posted_nanousd == came_in - spent - expired
