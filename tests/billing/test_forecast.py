"""The forecast of a month: the method of the documents, to the nano-dollar."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from billing.forecast import forecast, read_customer_forecast, read_platform_forecast
from tests.exporting import settle_one
from tests.factories import funded_call

# Ten days of November are left, to the microsecond.
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_the_average_of_full_days_goes_on_to_the_end_of_the_month() -> None:
    found = forecast(NOW, spent=1_000, basis=70, basis_days=7)
    assert (found.daily_average_nanousd, found.expected_nanousd) == (10, 1_100)
    half_a_day_later = forecast(NOW + timedelta(hours=12), spent=1_000, basis=70, basis_days=7)
    assert half_a_day_later.expected_nanousd == 1_095


def test_without_a_full_day_nothing_more_is_expected() -> None:
    assert forecast(NOW, spent=5, basis=0, basis_days=0).expected_nanousd == 5


@pytest.mark.django_db
def test_the_average_begins_with_the_first_call() -> None:
    call, other = funded_call(), funded_call()
    settle_one(call, at=NOW - timedelta(days=1, hours=12), cost_nanousd=300)
    settle_one(call, at=NOW - timedelta(hours=12), cost_nanousd=100)
    settle_one(other, at=NOW - timedelta(hours=12), cost_nanousd=50)
    found = read_customer_forecast(call.customer_id, NOW)
    assert (found.spent_nanousd, found.basis_days, found.daily_average_nanousd) == (400, 2, 200)
    assert found.expected_nanousd == 400 + 10 * 200
    together = read_platform_forecast(NOW)
    assert (together.spent_nanousd, together.expected_nanousd) == (450, 450 + 10 * 225)


@pytest.mark.django_db
def test_a_customer_asks_for_its_own(client: Client) -> None:
    call, other = funded_call(), funded_call()
    settle_one(call, at=datetime.now(UTC), cost_nanousd=123)
    settle_one(other, at=datetime.now(UTC), cost_nanousd=999)
    answer = client.get("/v1/forecast", headers={"authorization": f"Bearer {call.token}"})
    assert answer.status_code == 200
    assert answer.json()["spent_usd"] == "0.000000123"
    assert client.get("/v1/forecast").status_code == 401
