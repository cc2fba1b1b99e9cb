"""A refresh shows what it would publish, publishes exactly that, and leaves what customers pay unless told."""

from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from billing.models import PriceVersion
from billing.pricing import get_price, publish_price
from billing.rates import Processing
from common.errors import NotFound
from gateway.models import Dialect
from gateway.price_refresh import Outcome, apply_refresh, plan_refresh
from tests.factories import make_model, make_upstream

pytestmark = pytest.mark.django_db

USD = 10**9


def make_openai_model(name: str = "gpt-5", **options: object) -> str:
    upstream = make_upstream(base_url="https://api.openai.com/v1")
    return make_model(name, upstream=upstream, upstream_model="gpt-5", **options).name  # type: ignore[arg-type]


def now() -> datetime:
    return datetime.now(UTC)


def test_a_model_without_a_price_gets_the_providers_with_its_batch_price_plus_the_margin() -> None:
    make_openai_model(with_price=False)
    (plan,) = plan_refresh(now=now(), margin_basis_points=2_000)
    assert (plan.outcome, plan.source) == (Outcome.NEW, "openai/gpt-5")
    assert not PriceVersion.objects.exists()
    (version,) = apply_refresh([plan], author="t")
    price = get_price(version.pk)
    assert (price.rates.input, price.provider_rates.input) == (1_500_000_000, 1_250_000_000)
    assert (price.rates.cache_read, price.provider_rates.cache_read) == (150_000_000, 125_000_000)
    batch = price.table.rates_for(1, Processing.BATCH), price.provider_table.rates_for(1, Processing.BATCH)
    assert (batch[0].output, batch[1].output) == (6 * USD, 5 * USD)
    (again,) = plan_refresh(now=now(), margin_basis_points=2_000)
    assert (again.outcome, again.changes) == (Outcome.SAME, ())
    assert apply_refresh([again], author="t") == []


def test_without_a_margin_customers_go_on_paying_what_they_pay_in_every_band() -> None:
    model = make_openai_model(with_price=False)
    rates = {"input_nanousd": 7 * USD, "output_nanousd": 9 * USD, "provider_input_nanousd": 1}
    before = get_price(publish_price(model=model, rates=rates, author="t").pk)
    (plan,) = plan_refresh(now=now())
    assert plan.outcome is Outcome.CHANGED
    assert all(change.name.startswith("provider_") or "(batch)" in change.name for change in plan.changes)
    (version,) = apply_refresh([plan], author="t")
    after = get_price(version.pk)
    for tokens in (1, 500_000):
        for processing in Processing:
            assert after.table.rates_for(tokens, processing) == before.table.rates_for(tokens, processing)
    assert after.provider_rates.input == 1_250_000_000


def test_what_nobody_sells_is_named_and_left_alone() -> None:
    make_model("here", upstream=make_upstream(dialect=Dialect.LOCAL, base_url=""))
    make_model("proxied")
    outcomes = {plan.model: (plan.outcome, plan.source) for plan in plan_refresh(now=now())}
    assert {name: outcome for name, (outcome, _) in outcomes.items()} == {
        "here": Outcome.UNKNOWN,
        "proxied": Outcome.UNKNOWN,
    }
    assert "nobody sells it" in outcomes["here"][1]
    (named,) = plan_refresh(now=now(), models=["proxied"], sources={"proxied": "anthropic/claude-sonnet-4-5"})
    assert (named.outcome, named.source) == (Outcome.CHANGED, "anthropic/claude-sonnet-4-5")
    with pytest.raises(NotFound):
        plan_refresh(now=now(), models=["nix"])


def test_the_command_changes_nothing_until_it_is_told_to(capsys: pytest.CaptureFixture[str]) -> None:
    make_openai_model(with_price=False)
    call_command("prices", "refresh")
    shown = capsys.readouterr().out
    assert "+ gpt-5 (openai/gpt-5)" in shown
    assert "usd_per_million_tokens.input: 1.25" in shown
    assert "Nothing was changed. --apply publishes 1 price versions." in shown
    assert not PriceVersion.objects.exists()
    call_command("prices", "refresh", "--apply")
    assert "Published 1 price versions" in capsys.readouterr().out
    assert PriceVersion.objects.get().reason == "Refreshed from openai/gpt-5"
    call_command("prices", "refresh", "--apply")
    assert "= 1 unchanged" in capsys.readouterr().out
    assert PriceVersion.objects.count() == 1


@pytest.mark.parametrize(
    "options", [["--margin-percent", "many"], ["--source", "gpt-5"], ["no-such-model"], ["--margin-percent", "-200"]]
)
def test_the_command_says_what_is_wrong(options: list[str]) -> None:
    make_openai_model(with_price=False)
    with pytest.raises(CommandError):
        call_command("prices", "refresh", "--apply", *options)
    assert not PriceVersion.objects.exists()
