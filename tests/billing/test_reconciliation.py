import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections

from billing.models import Account, Hold, Transfer, UsageRecord
from billing.reconciliation import CheckResult, Report, limit_checks, reconcile, report, running, usage_checks
from billing.tokens import TokenCounts
from common import append_only
from common.clock import FrozenClock
from common.sql import Sql
from gateway.admission.commands import Admitted
from gateway.admission.context import BatchContext
from tests.admitting import make_context, run
from tests.conftest import NOON_US
from tests.factories import FundedCall, funded_call, make_family

TOKENS = TokenCounts(input=10, output=20)
# At the factories' prices of 1 and 4 USD per million tokens.
COST = 10 * 1_000 + 20 * 4_000
HOLD = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Books with one call of each kind: posted, voided, open, and free of charge; and a second customer."""

    call: FundedCall
    other: FundedCall
    context: BatchContext
    clock: FrozenClock
    posted: str
    voided: str
    open: str

    def transfer(self, request_id: str, kind: str) -> int:
        """Return the id of a request's transfer."""
        return Transfer.objects.get(request_id=request_id, kind=kind).pk

    def usage(self, request_id: str) -> str:
        """Return how a report names a request's usage record."""
        return f"usage {UsageRecord.objects.get(request_id=request_id).pk} ({request_id})"


def admit(call: FundedCall, context: BatchContext, *, amount_nanousd: int = HOLD) -> str:
    question = call.refreshed().admit(amount_nanousd=amount_nanousd)
    (answer,) = run(question, context=context)
    assert isinstance(answer, Admitted), answer
    return question.request_id


def settle(call: FundedCall, context: BatchContext, request_id: str, **fields: Any) -> None:
    command = call.refreshed().settle(request_id, cost_nanousd=COST, tokens=TOKENS, started_us=context.clock.now_us())
    run(command._replace(usage=command.usage._replace(**fields)), context=context)


def make_scene() -> Scene:
    clock = FrozenClock(NOON_US)
    context = make_context(clock)
    call, other = funded_call(), funded_call()
    posted, voided, open_ = (admit(call, context) for _ in range(3))
    settle(call, context, posted)
    nothing = {"tokens": TokenCounts(), "cost_nanousd": 0, "source": "none", "status": "failed"}
    settle(call, context, voided, **nothing)
    free = admit(call, context, amount_nanousd=0)
    settle(call, context, free, **nothing)
    settle(other, context, admit(other, context))
    return Scene(call=call, other=other, context=context, clock=clock, posted=posted, voided=voided, open=open_)


@pytest.fixture
def scene(db: None) -> Scene:
    return make_scene()


def tamper(statement: str, *parameters: str | int, table: str = "billing_transfer") -> None:
    """Change a row behind the ledger's back, as a person with the database's password could."""
    protected = [table] if table in append_only.append_only_tables() else []
    append_only.remove_triggers(connection, protected)
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        assert cursor.rowcount in (-1, 1), cursor.rowcount
        if connection.vendor == "postgresql":
            # A table with deferred checks outstanding takes no new trigger.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    append_only.install_triggers(connection, protected)


def failed(found: Report) -> dict[str, CheckResult]:
    return {check.name: check for check in found.checks if not check.is_clean}


def assert_named(check_name: str, *words: str) -> None:
    """Check that a reconciliation names a difference with all these words."""
    found = failed(reconcile())
    assert check_name in found, found
    texts = [str(difference) for difference in found[check_name].differences]
    assert any(all(word in text for word in words) for text in texts), texts


# ---- books that add up


def test_sound_books_have_no_difference(scene: Scene) -> None:
    found = reconcile()
    assert found.is_clean, found.as_text()
    examined = {check.name: check.examined for check in found.checks}
    assert examined == {
        "accounts": 4,
        "resolutions": 9,
        "holds": 1,
        "usage costs": 4,
        "charges": 2,
        "limits": 4,
        "archives": 0,
        "usage days": 0,
        "grants": 0,
        "invoices": 0,
        "exports": 0,
        "triggers": len(append_only.append_only_tables()),
    }


@pytest.mark.django_db
def test_an_empty_database_has_no_difference() -> None:
    assert reconcile().is_clean


def test_a_later_day_and_month_reconcile_too(scene: Scene) -> None:
    days = 24 * 3600
    open_now = admit(scene.call, scene.context)
    for _ in range(12):
        scene.clock.advance(seconds=days)
        settle(scene.call, scene.context, admit(scene.call, scene.context))
        assert reconcile().is_clean, reconcile().as_text()
    assert not Hold.objects.filter(request_id=open_now).exists()  # expired by the batches


def test_a_charge_below_cost_is_sound_when_flagged(scene: Scene) -> None:
    request_id = admit(scene.call, scene.context, amount_nanousd=50_000)
    settle(scene.call, scene.context, request_id, flags="cost_exceeds_hold")
    assert UsageRecord.objects.get(request_id=request_id).charged_nanousd == 50_000
    assert reconcile().is_clean, reconcile().as_text()


def test_a_settlement_after_the_expiry_is_sound(scene: Scene) -> None:
    scene.clock.advance(seconds=700)
    run(context=scene.context)
    settle(scene.call, scene.context, scene.open)
    assert UsageRecord.objects.filter(request_id=scene.open).count() == 2
    assert reconcile().is_clean, reconcile().as_text()


# ---- each check, by a row that was broken on purpose


@pytest.mark.parametrize("column", ["posted_nanousd", "held_nanousd"])
def test_a_balance_that_its_transfers_do_not_add_up_to_is_named(scene: Scene, column: str) -> None:
    tamper(f"UPDATE billing_account SET {column} = {column} + 1 WHERE customer_id = %s", scene.call.customer_id)
    assert_named("accounts", f"account customer:{scene.call.customer_id}: {column} is")


def test_a_platform_account_with_a_counter_is_named(scene: Scene) -> None:
    tamper("UPDATE billing_account SET posted_nanousd = 1 WHERE kind = 'revenue'")
    assert_named("accounts", "account platform:revenue: posted_nanousd is 1, expected 0")


def test_a_changed_amount_is_named_wherever_it_counts(scene: Scene) -> None:
    post = scene.transfer(scene.posted, "post")
    tamper("UPDATE billing_transfer SET amount_nanousd = amount_nanousd + 1 WHERE id = %s", post)
    assert_named("accounts", f"customer:{scene.call.customer_id}", "posted_nanousd")
    assert_named("charges", f"request {scene.posted}", f"is {COST}, expected {COST + 1}")


def test_a_post_above_its_hold_is_named(scene: Scene) -> None:
    post, pending = scene.transfer(scene.posted, "post"), scene.transfer(scene.posted, "pending")
    tamper("UPDATE billing_transfer SET amount_nanousd = %s WHERE id = %s", HOLD + 1, post)
    assert_named("resolutions", f"transfer {post} (post)", f"at most {HOLD}", f"transfer {pending}")


def test_a_void_of_another_amount_is_named(scene: Scene) -> None:
    void = scene.transfer(scene.voided, "void")
    tamper("UPDATE billing_transfer SET amount_nanousd = %s WHERE id = %s", HOLD - 1, void)
    assert_named("resolutions", f"transfer {void} (void)", "amount_nanousd")


def test_a_post_on_another_account_is_named(scene: Scene) -> None:
    post = scene.transfer(scene.posted, "post")
    account = Account.objects.get(customer_id=scene.other.customer_id).pk
    tamper("UPDATE billing_transfer SET debit_account_id = %s WHERE id = %s", account, post)
    assert_named("resolutions", f"transfer {post} (post)", "accounts")
    assert_named("charges", f"request {scene.posted}", "expected 0")


def test_a_post_of_another_request_is_named(scene: Scene) -> None:
    post = scene.transfer(scene.posted, "post")
    tamper("UPDATE billing_transfer SET request_id = 'req_other' WHERE id = %s", post)
    assert_named("resolutions", f"transfer {post} (post)", "its request")
    assert_named("charges", f"transfer {post} (post", "usage record is missing")


def test_a_resolution_of_what_is_no_hold_is_named(scene: Scene) -> None:
    post = scene.transfer(scene.posted, "post")
    credit = Transfer.objects.filter(kind="direct").earliest("id").pk
    tamper("UPDATE billing_transfer SET pending_id = %s WHERE id = %s", credit, post)
    assert_named("resolutions", f"transfer {post} (post)", "is direct, expected a hold")


def test_a_hold_that_is_resolved_twice_is_named(scene: Scene) -> None:
    void, pending = scene.transfer(scene.voided, "void"), scene.transfer(scene.posted, "pending")
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX billing_transfer_resolved_once")
    tamper("UPDATE billing_transfer SET pending_id = %s WHERE id = %s", pending, void)
    assert_named("resolutions", f"transfer {pending}", "resolved is 2, expected at most 1")


def test_an_unresolved_pending_without_a_hold_is_named(scene: Scene) -> None:
    tamper("DELETE FROM billing_hold WHERE request_id = %s", scene.open)
    pending = scene.transfer(scene.open, "pending")
    assert_named("holds", f"transfer {pending} (pending, {scene.open})", "missing")


def test_a_hold_of_another_amount_is_named(scene: Scene) -> None:
    tamper("UPDATE billing_hold SET amount_nanousd = amount_nanousd - 1 WHERE request_id = %s", scene.open)
    assert_named("holds", scene.open, f"is {HOLD - 1} nano-USD, expected {HOLD} nano-USD")


def test_a_hold_without_a_pending_is_named(scene: Scene) -> None:
    tamper("UPDATE billing_hold SET pending_id = NULL WHERE request_id = %s", scene.open)
    assert_named("holds", f"hold {scene.open}", "is none")


def test_a_hold_whose_pending_is_resolved_is_named(scene: Scene) -> None:
    resolved = scene.transfer(scene.posted, "pending")
    tamper("UPDATE billing_hold SET pending_id = %s WHERE request_id = %s", resolved, scene.open)
    assert_named("holds", f"hold {scene.open}", f"transfer {resolved}, which is not one")


def test_a_free_hold_with_a_transfer_is_named(scene: Scene) -> None:
    free = admit(scene.call, scene.context, amount_nanousd=0)
    pending = scene.transfer(scene.open, "pending")
    tamper("UPDATE billing_hold SET pending_id = %s WHERE request_id = %s", pending, free)
    assert_named("holds", f"hold {free}", "none for an amount of 0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("cost_nanousd = cost_nanousd + 1, flags = 'x'", [f"cost_nanousd is {COST + 1}, expected {COST}"]),
        ("provider_cost_nanousd = 5", ["provider_cost_nanousd is 5, expected 0"]),
        ("output_tokens = output_tokens + 1", [f"cost_nanousd is {COST}, expected {COST + 4_000}"]),
        ("source = 'none'", [f"cost_nanousd is {COST}, expected 0"]),
        ("charged_nanousd = charged_nanousd - 1", [f"charged_nanousd is {COST - 1}", "no flag"]),
    ],
)
def test_a_usage_record_that_does_not_follow_from_its_price_is_named(
    scene: Scene, change: str, words: list[str]
) -> None:
    statement = f"UPDATE billing_usagerecord SET {change} WHERE request_id = %s"
    tamper(statement, scene.posted, table="billing_usagerecord")
    assert_named("usage costs", scene.usage(scene.posted), *words)


def test_a_charge_that_the_ledger_did_not_move_is_named(scene: Scene) -> None:
    tamper(
        "UPDATE billing_usagerecord SET charged_nanousd = 7, flags = 'x' WHERE request_id = %s",
        scene.posted,
        table="billing_usagerecord",
    )
    assert_named("charges", f"request {scene.posted}", f"is 7, expected {COST}")


def test_a_charge_without_a_usage_record_is_named(scene: Scene) -> None:
    tamper("DELETE FROM billing_usagerecord WHERE request_id = %s", scene.posted, table="billing_usagerecord")
    assert_named("charges", f"transfer {scene.transfer(scene.posted, 'post')} (post", "missing")


@pytest.mark.parametrize(
    "column",
    ["in_flight", "day_held_nanousd", "month_held_nanousd", "day_posted_nanousd", "month_posted_nanousd"],
)
@pytest.mark.parametrize("kind", ["customer", "key"])
def test_a_limit_counter_that_its_rows_do_not_add_up_to_is_named(scene: Scene, column: str, kind: str) -> None:
    principal = scene.call.principal
    owner = principal.customer_owner if kind == "customer" else principal.key_owner
    tamper(f"UPDATE keys_limitstate SET {column} = {column} + 1 WHERE owner = %s", owner)
    assert_named("limits", f"limits of {owner}: {column} is")


def test_a_line_of_keys_is_reconciled_with_all_that_its_keys_and_what_they_made_were_charged(db: None) -> None:
    context = make_context(FrozenClock(NOON_US))
    family = make_family(funded_call())
    for call in family:
        settle(call, context, admit(call, context))
        admit(call, context)
    assert reconcile().is_clean, reconcile().as_text()
    line = family[0].principal.key_owner
    tamper("UPDATE keys_limitstate SET total_posted_nanousd = %s WHERE owner = %s", COST, line)
    assert_named("limits", f"limits of {line}: total_posted_nanousd is {COST}, expected {4 * COST}")


def test_a_hold_whose_owner_has_no_counters_is_named(scene: Scene) -> None:
    owner = scene.call.principal.key_owner
    tamper("DELETE FROM keys_limitstate WHERE owner = %s", owner)
    assert_named("limits", f"hold {scene.open}", owner)


def test_a_missing_trigger_is_named(scene: Scene) -> None:
    append_only.remove_triggers(connection, ["billing_usagerecord"])
    assert_named("triggers", "table billing_usagerecord")


# ---- how it reads


@pytest.mark.parametrize("module", [usage_checks, limit_checks])
def test_rows_are_read_in_parts(scene: Scene, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    name = "_RECORDS" if module is usage_checks else "_COUNTERS"
    statement = getattr(module, name)
    monkeypatch.setattr(module, name, statement[: statement.rindex("LIMIT")] + "LIMIT 1")
    found = {check.name: check.examined for check in reconcile().checks}
    assert (found["usage costs"], found["limits"]) == (4, 4)


def test_a_flood_of_differences_is_cut_and_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_LISTED", 2)
    tamper("DELETE FROM keys_limitstate WHERE owner = %s", scene.call.principal.key_owner)
    for _ in range(2):
        admit(scene.call, scene.context)
    tamper("DELETE FROM keys_limitstate WHERE owner = %s", scene.call.principal.key_owner)
    found = reconcile()
    (check,) = failed(found).values()
    assert (len(check.differences), check.is_truncated) == (2, True)
    assert "More than 2 differences." in found.as_text()


@pytest.mark.django_db(transaction=True)
def test_calls_that_settle_meanwhile_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene()
    settled: list[str] = []

    def settle_elsewhere(sql: Sql) -> CheckResult:
        """Let a call be settled and another begin, on a connection of its own, between two checks."""
        thread = threading.Thread(target=lambda: settled.append(_close_after(lambda: _work(scene))))
        thread.start()
        thread.join(timeout=20)
        return CheckResult(name="meanwhile", claim="", examined=0, differences=())

    first, *rest = running._CHECKS
    monkeypatch.setattr(running, "_CHECKS", (first, settle_elsewhere, *rest))
    found = reconcile()
    assert len(settled) == 1
    assert found.is_clean, found.as_text()
    monkeypatch.undo()
    assert reconcile().is_clean


def _work(scene: Scene) -> str:
    settle(scene.call, scene.context, scene.open)
    return admit(scene.call, scene.context)


def _close_after(work: Callable[[], str]) -> str:
    try:
        return work()
    finally:
        connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_a_reconciliation_leaves_no_transaction_open() -> None:
    make_scene()
    reconcile()
    with connection.cursor() as cursor:
        # Would be refused inside a read-only transaction, and lost in one that is rolled back.
        cursor.execute("UPDATE billing_account SET posted_nanousd = 1 WHERE kind = 'revenue'")
    connection.close()
    assert Account.objects.get(kind="revenue").posted_nanousd == 1


# ---- the command


def run_reconcile(*arguments: str) -> str:
    out = io.StringIO()
    call_command("reconcile", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_says_that_all_is_well(scene: Scene) -> None:
    text = run_reconcile()
    assert text.count("\nok    ") == 12
    assert text.endswith("No difference.\n")
    assert json.loads(run_reconcile("--json"))["is_clean"] is True


def test_the_command_ends_with_1_and_names_the_rows(scene: Scene) -> None:
    tamper("UPDATE billing_account SET held_nanousd = 0 WHERE customer_id = %s", scene.call.customer_id)
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("reconcile", stdout=out)
    assert caught.value.returncode == 1
    row = f"account customer:{scene.call.customer_id}"
    assert "FAIL  accounts" in out.getvalue()
    assert f"{row}: held_nanousd is 0, expected {HOLD}" in out.getvalue()
    assert out.getvalue().endswith("\n1 difference.\n")
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("reconcile", "--json", stdout=out)
    (check,) = [c for c in json.loads(out.getvalue())["checks"] if not c["is_clean"]]
    assert check["differences"] == [{"row": row, "what": "held_nanousd", "expected": HOLD, "found": 0}]
