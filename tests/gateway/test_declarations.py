import io
import re
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from bench.product import declare_bench_catalogue, find_issued_key
from billing.accounts import get_balance
from billing.funds import read_funds
from billing.invoice_models import BillingProfile
from billing.models import PriceVersion, Transfer
from gateway.declarations.applying import apply_declarations
from gateway.declarations.changes import Applied
from gateway.declarations.document import DeclarationsInvalid
from gateway.models import Deployment, Model, Upstream
from gateway.readiness import find_callable_models
from gateway.secrets import decrypt_secret
from keys.issuing import revoke_key, rotate_key
from keys.models import ApiKey, AuditEvent, Customer, KeyEnvironment, Plan
from keys.tokens import make_token
from tests.factories import find_principal, make_customer, make_key, make_model, make_plan, make_upstream

pytestmark = pytest.mark.django_db

PAGE = Path(django_settings.BASE_DIR) / "docs" / "reference" / "declarations.md"
TABLES = (Upstream, Model, Deployment, PriceVersion, Plan, Customer, ApiKey, Transfer)


def example() -> str:
    (found,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(found)


def variables() -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-provider", "ACME_REPORT_KEY": make_token(KeyEnvironment.LIVE)}


def apply(text: str, **given: str) -> Applied:
    return apply_declarations(textwrap.dedent(text), variables=given)


def dry_run(text: str, **given: str) -> Applied:
    return apply_declarations(textwrap.dedent(text), is_dry_run=True, variables=given)


def problems(text: str, **given: str) -> list[tuple[int, str, str]]:
    with pytest.raises(DeclarationsInvalid) as caught:
        apply(text, **given)
    return [(p.line, p.field, p.message) for p in caught.value.problems]


def changed(applied: Applied) -> list[str]:
    return [f"{'+' if c.is_new else '~'} {c.kind} {c.name}" for c in applied.changes]


def count_rows() -> list[int]:
    return [table._default_manager.count() for table in TABLES]


# ---- the documented example


def test_the_documented_example_makes_a_model_that_can_be_called() -> None:
    given = variables()
    apply(example(), **given)
    assert find_callable_models() == ["gpt-5-mini"]
    assert decrypt_secret(Upstream.objects.get(name="openai").encrypted_secret) == "sk-provider"
    ways = Deployment.objects.order_by("priority").values_list("upstream__name", "upstream_model")
    assert list(ways) == [("openai", "gpt-5-mini"), ("own-cluster", "stand-in-32b")]
    price = PriceVersion.objects.get()
    assert (price.input_nanousd, price.cache_read_nanousd) == (300_000_000, 30_000_000)
    assert (price.reasoning_nanousd, price.request_nanousd) == (2_400_000_000, 100_000)
    assert (price.provider_output_nanousd, price.provider_cache_write_nanousd) == (2 * 10**9, 250_000_000)
    principal = find_principal(given["ACME_REPORT_KEY"])
    assert principal.customer_name == "Acme"
    assert principal.customer_limits.spend_per_day_nanousd == 12_500_000_000
    assert get_balance(principal.customer_id).available_nanousd == 250 * 10**9


def test_a_repeat_changes_nothing() -> None:
    given = variables()
    first = apply(example(), **given)
    before = count_rows()
    again = apply(example(), **given)
    assert (again.changes, again.issued, again.unchanged) == ((), (), len(first.changes))
    assert count_rows() == before


def test_a_dry_run_shows_the_same_and_changes_nothing() -> None:
    given = variables()
    before = count_rows()
    shown = dry_run(example(), **given)
    assert count_rows() == before
    assert changed(shown) == changed(apply(example(), **given))


def test_the_benchmark_declares_itself_in_this_format() -> None:
    out = io.StringIO()
    text = declare_bench_catalogue({"bench-json": "http://127.0.0.1:1", "bench-stream": "http://127.0.0.1:2"})
    for issued in apply(text).issued:
        out.write(issued.token)
    assert find_principal(find_issued_key(out.getvalue())).key_limits.concurrency == 100_000
    assert find_callable_models() == ["bench-json", "bench-stream"]


def test_a_billing_profile_is_declared_and_changed() -> None:
    make_plan()
    plan = Plan.objects.get().slug
    text = "customers: [{{name: Acme, plan: {}, billing: {{tax_percent: {}, time_zone: Asia/Tokyo}}}}]"
    assert "+ billing profile of Acme" in changed(apply(text.format(plan, "8.875")))
    assert BillingProfile.objects.get().tax_millionths == 88_750
    (change,) = apply(text.format(plan, "19")).changes
    assert [(f.field, f.old, f.new) for f in change.fields] == [("tax_percent", "8.875 %", "19 %")]
    assert AuditEvent.objects.filter(object_kind="billing.billingprofile").count() == 2
    assert problems(text.format(plan, "101"))[0][1] == "customers[0].billing.tax_percent"
    assert problems(text.format(plan, "1").replace("Asia/Tokyo", "Mars"))[0][1] == "customers[0].billing.time_zone"


# ---- changes


def test_a_declared_key_that_was_rotated_is_known_by_its_successor() -> None:
    old = make_key(make_customer(name="Acme"), name="backend").key
    new = rotate_key(key_id=old.pk, overlap=timedelta(hours=1), reason="x", author="tests")
    apply("keys: [{name: backend, customer: Acme, limits: {concurrency: 3}}]")
    assert find_principal(new.token).key_limits.concurrency == 3
    assert set(ApiKey.objects.filter(name="backend").values_list("concurrency", flat=True)) == {3}


def test_only_the_fields_that_the_file_names_change() -> None:
    make_upstream(name="a", note="kept", connect_timeout_seconds=3.0)
    applied = apply("upstreams: [{name: a, idle_timeout_seconds: 7}]")
    (change,) = applied.changes
    assert [(f.field, f.old, f.new) for f in change.fields] == [("idle_timeout_seconds", "30.0", "7.0")]
    row = Upstream.objects.get(name="a")
    assert (row.note, row.connect_timeout_seconds, decrypt_secret(row.encrypted_secret)) == ("kept", 3.0, "sk-test")


def test_what_the_file_does_not_mention_stays() -> None:
    make_model("old-model")
    make_customer(name="Old customer")
    before = count_rows()
    apply(example(), **variables())
    assert Model.objects.filter(name="old-model", is_active=True).exists()
    assert Customer.objects.filter(name="Old customer").exists()
    assert all(now >= then for now, then in zip(count_rows(), before, strict=True))


def test_deployments_that_are_not_listed_stay() -> None:
    model = make_model("m", upstream=make_upstream(name="a"))
    make_upstream(name="b")
    apply("models: [{name: m, deployments: [{upstream: b, upstream_model: x}]}]")
    assert Deployment.objects.filter(model=model).count() == 2


def test_the_order_of_deployments_is_their_priority() -> None:
    make_upstream(name="a")
    make_upstream(name="b")
    text = "models: [{{name: m, context_window: 9, max_output_tokens: 9, deployments: [{}]}}]"
    apply(text.format("{upstream: a}, {upstream: b}"))
    applied = apply(text.format("{upstream: b}, {upstream: a}"))
    assert changed(applied) == ["~ deployment m at b as m", "~ deployment m at a as m"]
    assert Deployment.objects.get(priority=1).upstream.name == "b"


def test_a_secret_is_compared_by_decrypting_and_never_shown() -> None:
    make_upstream(name="a", secret="old-secret")
    text = "upstreams: [{name: a, secret_env: NEW}]"
    assert apply(text, NEW="old-secret").changes == ()
    applied = apply(text, NEW="new-secret")
    assert changed(applied) == ["~ upstream a"]
    assert "secret" in repr(applied)
    assert "new-secret" not in repr(applied)
    assert decrypt_secret(Upstream.objects.get(name="a").encrypted_secret) == "new-secret"
    apply("upstreams: [{name: a, secret: ''}]")
    assert Upstream.objects.get(name="a").encrypted_secret == ""


def test_a_secret_that_cannot_be_decrypted_any_more_is_replaced() -> None:
    upstream = make_upstream(name="a")
    Upstream.objects.filter(pk=upstream.pk).update(encrypted_secret="written with a lost key")
    assert changed(apply("upstreams: [{name: a, secret: s}]")) == ["~ upstream a"]
    assert decrypt_secret(Upstream.objects.get(name="a").encrypted_secret) == "s"


def test_a_limit_is_set_kept_and_taken_away() -> None:
    apply("plans: [{slug: p, limits: {concurrency: 5, spend_per_day_usd: 1.5}}]")
    (change,) = apply("plans: [{slug: p, limits: {concurrency: null}}]").changes
    assert [(f.field, f.old, f.new) for f in change.fields] == [("limits.concurrency", "5", "none")]
    plan = Plan.objects.get(slug="p")
    assert (plan.concurrency, plan.spend_per_day_nanousd) == (None, 1_500_000_000)


def test_a_customer_changes_plan_and_status() -> None:
    make_customer(name="Acme", plan=make_plan())
    (_, change) = apply("{plans: [{slug: gold}], customers: [{name: Acme, plan: gold, status: suspended}]}").changes
    assert {f.field: f.new for f in change.fields} == {"plan": "gold", "status": "suspended"}
    assert Customer.objects.get(name="Acme").status == "suspended"


# ---- prices

PRICE = """
prices:
  - model: m
    usd_per_million_tokens: {{input: {input}, output: 4}}
"""


@pytest.mark.parametrize("same", ["1", "1.0", "'1.000'", "1.000000000"])
def test_an_equal_price_is_no_new_version(same: str) -> None:
    make_model("m", input_usd="1", output_usd="4")
    assert apply(PRICE.format(input=same)).unchanged == 1
    assert PriceVersion.objects.count() == 1


def test_another_price_is_a_new_version() -> None:
    make_model("m", input_usd="1", output_usd="4")
    (change,) = apply(PRICE.format(input="1.000000001")).changes
    assert {f.field: (f.old, f.new) for f in change.fields}["usd_per_million_tokens.input"] == ("1.00", "1.000000001")
    assert list(PriceVersion.objects.order_by("id").values_list("input_nanousd", flat=True)) == [10**9, 10**9 + 1]


@pytest.mark.parametrize(
    ("text", "nanousd"),
    # Each is a number that a float cannot hold, or that a float would show otherwise.
    [("0.1", 100_000_000), ("0.000000001", 1), ("1234.567890123", 1_234_567_890_123), ("010", 10 * 10**9)],
)
def test_a_price_is_read_exactly(text: str, nanousd: int) -> None:
    make_model("m", with_price=False)
    apply(PRICE.format(input=text))
    assert PriceVersion.objects.get().input_nanousd == nanousd


def test_a_price_of_a_later_moment_is_published_once() -> None:
    make_model("m", input_usd="1", output_usd="4")
    text = PRICE.format(input=2) + "    effective_from: 2099-01-01\n"
    assert changed(apply(text)) == ["~ price m from 2099-01-01T00:00:00Z"]
    assert apply(text).unchanged == 1
    ((line, field, message),) = problems(text.replace("input: 2", "input: 3"))
    assert (line, field) == (5, "prices[0].effective_from")
    assert "never changed" in message


# ---- credit


def test_grants_and_the_credit_limit_are_booked_once_without_a_second_person(settings: Settings) -> None:
    settings.MONEY_APPROVAL_NANOUSD = 0
    grant = "{{amount_usd: {}, reason: r, reference: g-1, starts_at: 2098-01-01, expires_at: 2098-02-01}}"
    text = "{{plans: [{{slug: p}}], customers: [{{name: A, plan: p, credit_limit_usd: {}, grants: [" + grant + "]}}]}}"
    assert "+ grant g-1: 5.00 USD to A" in changed(apply(text.format(20, 5)))
    funds = read_funds(Customer.objects.get(name="A").pk)
    assert (funds.available_nanousd, [g.amount_nanousd for g in funds.planned]) == (20 * 10**9, [5 * 10**9])
    assert apply(text.format(20, 5)).changes == ()
    (change,) = apply(text.format(30, 5)).changes
    assert [(f.field, f.old, f.new) for f in change.fields] == [("credit_limit_usd", "20.00", "30.00")]
    assert [field for _, field, _ in problems(text.format(30, 6))] == ["customers[0].grants[0]"]


def test_credit_is_granted_once_for_its_reference() -> None:
    credit = "credit: {{amount_usd: {}, reason: r, reference: {}}}"
    text = "{{plans: [{{slug: p}}], customers: [{{name: A, plan: p, " + credit + "}}]}}"
    apply(text.format(5, "x-1"))
    assert apply(text.format(5, "x-1")).changes == ()
    assert changed(apply(text.format(2.5, "x-2"))) == ["+ credit x-2: 2.50 USD to A"]
    customer = Customer.objects.get(name="A")
    assert get_balance(customer.pk).posted_nanousd == 7_500_000_000
    ((_, field, _),) = problems(text.format(6, "x-1"))
    assert field == "customers[0].credit.reference"
    assert get_balance(customer.pk).posted_nanousd == 7_500_000_000


# ---- keys


def test_a_key_without_a_secret_is_drawn_and_shown_once() -> None:
    make_customer(name="A")
    text = "keys: [{name: k, customer: A}]"
    assert dry_run(text).changes
    (issued,) = apply(text).issued
    assert find_principal(issued.token).key_name == "k"
    assert apply(text).issued == ()


def test_a_key_changes_rights_but_never_its_secret() -> None:
    token, other = make_token(KeyEnvironment.TEST), make_token(KeyEnvironment.TEST)
    make_customer(name="A")
    text = "keys: [{name: k, customer: A, token_env: T, allowed_models: [a], limits: {concurrency: 2}}]"
    apply(text, T=token)
    applied = apply(text.replace("[a]", "[a, b-*]").replace("2", "3"), T=token)
    assert {f.field: f.new for f in applied.changes[0].fields} == {
        "allowed_models": "[a, b-*]",
        "limits.concurrency": "3",
    }
    principal = find_principal(token)
    assert (principal.environment, principal.allowed_models) == ("test", ("a", "b-*"))
    apply(
        text.replace("allowed_models: [a]", "allowed_prompts: [p-*], allowed_networks: ['2001:db8::/32', 192.0.2.7]"),
        T=token,
    )
    principal = find_principal(token)
    assert principal.allowed_prompts == ("p-*",)
    assert [str(network) for network in principal.allowed_networks] == ["2001:db8::/32", "192.0.2.7/32"]
    ((_, field, message),) = problems(text.replace("allowed_models: [a]", "allowed_networks: [10.0.0.1/8]"), T=token)
    assert (field, "10.0.0.1/8" in message) == ("keys[0].allowed_networks", True)
    ((_, field, message),) = problems(text, T=other)
    assert field == "keys[0].token_env"
    assert other not in message
    ((_, field, _),) = problems(text.replace("customer: A", "customer: A, environment: live"), T=token)
    assert field == "keys[0].token_env"


def test_a_revoked_key_stays_revoked() -> None:
    issued = make_key(make_customer(name="A"), name="k")
    revoke_key(key_id=issued.key.pk, reason="leaked")
    applied = apply("keys: [{name: k, customer: A}]")
    assert (applied.changes, applied.issued) == ((), ())
    assert "was revoked" in applied.notes[0]
    assert ApiKey.objects.count() == 1


def test_a_name_that_two_keys_have_is_ambiguous() -> None:
    customer = make_customer(name="A")
    make_key(customer, name="k")
    make_key(customer, name="k")
    ((_, field, message),) = problems("keys: [{name: k, customer: A}]")
    assert field == "keys[0].name"
    assert "2 keys" in message


def test_a_secret_of_another_key_is_refused() -> None:
    token = make_key(make_customer(name="A"), name="k").token
    make_customer(name="B")
    ((_, field, message),) = problems("keys: [{name: k, customer: B, token_env: T}]", T=token)
    assert (field, message) == ("keys[0].token_env", "this secret belongs to another key")


# ---- what is wrong is told by line and field

WRONG: list[tuple[str, int, str, str]] = [
    ("upstream: []", 1, "upstream", "did you mean 'upstreams'?"),
    ("plans: 5", 1, "plans", "must be a list"),
    ("plans:\n- slug: a\n- slug: a", 3, "plans[1]", "twice, first in line 2"),
    ("plans:\n- slug: a\n  slug: b", 3, "plans[0].slug", "given twice"),
    ("plans:\n- slug: a b", 2, "plans[0].slug", "pattern"),
    ("plans:\n- name: a", 2, "plans[0].slug", "is required"),
    ("plans:\n- just text", 2, "plans[0]", "must be a mapping"),
    ("plans:\n- slug: a\n  limits:\n    concurency: 5", 4, "plans[0].limits.concurency", "mean 'concurrency'?"),
    ("plans:\n- slug: a\n  limits: {concurrency: many}", 3, "plans[0].limits.concurrency", "integer"),
    ("plans:\n- slug: a\n  limits: {spend_per_day_usd: -1}", 3, "plans[0].limits.spend_per_day_usd", "negative"),
    ("plans:\n- {slug: a, limits: {requests_per_minute: 1e12}}", 2, "plans[0].limits.requests_per_minute", "integer"),
    ("upstreams:\n- name: a\n", 2, "upstreams[0].base_url", "is required"),
    ("upstreams:\n- name: a\n  base_url: ftp://x", 3, "upstreams[0].base_url", "http://"),
    ("upstreams:\n- name: a\n  base_url: http://x\n  secret_env: NOT_SET", 4, "upstreams[0].secret_env", "NOT_SET"),
    ("upstreams:\n- {name: a, secret: x, secret_env: Y}", 2, "upstreams[0]", "not both"),
    ("upstreams:\n- {name: a, idle_timeout_seconds: .inf}", 2, "upstreams[0].idle_timeout_seconds", "number"),
    ("models:\n- name: a\n  context_window: 5", 2, "models[0].max_output_tokens", "is required"),
    (
        "models:\n- name: a\n  context_window: 5\n  max_output_tokens: 5\n  default_output_tokens: 6",
        5,
        "models[0].default_output_tokens",
        "more than max_output_tokens",
    ),
    (
        "models:\n- name: a\n  context_window: 5\n  max_output_tokens: 5\n  cache_limit_seconds: 5\n  cache_seconds: 6",
        6,
        "models[0].cache_seconds",
        "more than cache_limit_seconds (5)",
    ),
    ("plans:\n- {slug: a, reused_price_percent: 101}", 2, "plans[0].reused_price_percent", "less than or equal to 100"),
    (
        "models:\n- {name: a, context_window: 5, max_output_tokens: 5,\n   deployments: [{upstream: x}]}",
        3,
        "models[0].deployments[0].upstream",
        "no upstream 'x'",
    ),
    ("prices:\n- {model: a, usd_per_million_tokens: {input: 1, output: 1}}", 2, "prices[0].model", "no model 'a'"),
    ("prices:\n- model: a\n  usd_per_million_tokens: {input: 1}", 3, "prices[0].usd_per_million_tokens.output", "req"),
    (
        "prices:\n- model: a\n  usd_per_million_tokens: {input: 1e-3, output: 1}",
        3,
        "prices[0].usd_per_million_tokens.input",
        "not a plain decimal",
    ),
    (
        "prices:\n- model: a\n  usd_per_million_tokens: {input: 0.0000000001, output: 1}",
        3,
        "prices[0].usd_per_million_tokens.input",
        "more than nine decimals",
    ),
    (
        "prices:\n- model: a\n  usd_per_million_tokens: {input: 150000, output: 1}",
        3,
        "prices[0].usd_per_million_tokens.input",
        "10,000 USD",
    ),
    ("customers:\n- name: a\n  plan: gold", 3, "customers[0].plan", "no plan 'gold'"),
    ("customers:\n- name: a", 2, "customers[0].plan", "is required"),
    ("customers:\n- name: a\n  email: nobody", 3, "customers[0].email", "e-mail"),
    ("customers:\n- name: a\n  credit: {amount_usd: 5}", 3, "customers[0].credit.reason", "is required"),
    ("keys:\n- name: a\n  customer: nobody", 3, "keys[0].customer", "no customer 'nobody'"),
    ("keys:\n- {name: a, customer: b, token: tk_live_x}", 2, "keys[0].token", "checksum"),
    ("keys:\n- {name: a, customer: b, scopes: [root]}", 2, "keys[0].scopes[0]", "chat:write"),
    ("keys:\n- {name: a, customer: b, expires_at: soon}", 2, "keys[0].expires_at", "2026-12-01"),
    ("a: [", 1, "", "not valid YAML"),
    ("- a", 1, "", "mapping of sections"),
    ("plans: &x\n- *x", 1, "plans[0]", "contains itself"),
    ("a: 1\n---\nb: 2", 2, "", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "line", "field", "message"), WRONG, ids=[w[2] + " " + w[3] for w in WRONG])
def test_a_problem_names_its_line_and_field(text: str, line: int, field: str, message: str) -> None:
    found = problems(text)
    assert [f for at, f, m in found if (at, f) == (line, field) and message in m], found
    assert count_rows() == [0] * len(TABLES)


def test_all_problems_are_told_at_once_and_nothing_is_changed() -> None:
    found = problems(
        """
        plans:
          - slug: fine
        upstreams:
          - name: a
            colour: red
        models:
          - name: m
            context_window: 9
            max_output_tokens: 9
            deployments: [{upstream: b}, {upstream: a}, {upstream: c}]
        customers:
          - {name: A, plan: gold}
          - {name: B, plan: fine}
        keys:
          - {name: k, customer: B, expires_at: 2001-01-01}
        """
    )
    assert [field for _, field, _ in found] == [
        "upstreams[0].colour",
        # Not of upstream a: what is wrong with that is told where it is declared.
        "models[0].deployments[0].upstream",
        "models[0].deployments[2].upstream",
        "customers[0].plan",
        "keys[0].expires_at",
    ]
    assert count_rows() == [0] * len(TABLES)


@pytest.mark.parametrize("text", ["", "# nothing\n", "plans:\n", "plans: []\n"])
def test_a_file_that_declares_nothing_changes_nothing(text: str) -> None:
    applied = apply(text)
    assert (applied.changes, applied.unchanged) == ((), 0)


# ---- the command


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "platform.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return str(path)

    return write


def run_apply(*arguments: Any) -> str:
    out = io.StringIO()
    call_command("apply", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_prints_a_diff_and_the_new_key(written: Callable[[str], str]) -> None:
    make_plan()
    path = written("{plans: [{slug: p}], customers: [{name: A, plan: p}], keys: [{name: k, customer: A}]}")
    dry = run_apply(path, "--dry-run")
    assert "+ key k of A" in dry
    assert "Dry run: nothing was changed." in dry
    assert "tk_live_" not in dry
    assert find_principal(find_issued_key(run_apply(path))).customer_name == "A"
    assert run_apply(path) == "= 3 unchanged\n"


def test_the_command_ends_with_every_problem(written: Callable[[str], str]) -> None:
    path = written("plans:\n- slugg: p\n- {slug: q, name: 5, colour: red}")
    with pytest.raises(CommandError) as caught:
        run_apply(path)
    assert caught.value.returncode == 1
    assert str(caught.value).splitlines() == [
        f"3 problems in {path}; nothing was changed.",
        f"{path}:2: plans[0].slug: is required",
        f"{path}:2: plans[0].slugg: unknown field; did you mean 'slug'?",
        (
            f"{path}:3: plans[1].colour: unknown field; known: slug, name, description, paid, reused_price_percent, "
            "limits, prices"
        ),
    ]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot read .*No such file"):
        run_apply(tmp_path / "missing.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(CommandError, match="not UTF-8"):
        run_apply(binary)
