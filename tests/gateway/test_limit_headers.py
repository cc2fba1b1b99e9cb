"""The headers say the same as the readings, in the names that clients know and the syntax of the draft."""

from gateway.limit_headers import limit_lines, limit_object
from gateway.transports.rendering import split_lines
from keys import limits as rules
from keys.limit_values import LimitValues
from keys.limits import Counters, Demand, LimitReading, OwnerState
from tests.conftest import NOON_US


def _readings(limits: LimitValues, demand: Demand | None = None, calls: int = 1) -> list[LimitReading]:
    counters = Counters(owner="key:1", updated_us=NOON_US)
    rules.roll_forward(counters, limits, NOON_US)
    owner = OwnerState(counters, counters, limits)
    for _ in range(calls):
        rules.take(owner, demand or Demand(input_tokens=30, output_tokens=0, amount_nanousd=250))
    return list(rules.readings(owner, NOON_US))


def _headers(*args: object) -> dict[str, str]:
    pairs = split_lines(limit_lines(_readings(*args)))  # type: ignore[arg-type]
    return {name.decode(): value.decode() for name, value in pairs}


def test_rates_have_both_families_of_headers() -> None:
    assert _headers(LimitValues(requests_per_minute=60, input_tokens_per_minute=600)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1",
        "x-ratelimit-limit-input-tokens": "600",
        "x-ratelimit-remaining-input-tokens": "570",
        "x-ratelimit-reset-input-tokens": "3",
        "ratelimit-policy": '"requests";qu="requests";q=60;w=60, "input-tokens";qu="tokens";q=600;w=60',
        "ratelimit": '"requests";r=59;t=1, "input-tokens";r=570;t=3',
    }


def test_a_burst_is_the_quota_of_its_own_window() -> None:
    headers = _headers(LimitValues(requests_per_minute=60, burst_seconds=10))
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "9"
    assert headers["ratelimit-policy"] == '"requests";qu="requests";q=10;w=10'
    assert headers["ratelimit"] == '"requests";r=9;t=1'


def test_budgets_are_exact_decimals_and_only_windows_reset() -> None:
    headers = _headers(LimitValues(spend_per_day_nanousd=1_000, spend_total_nanousd=10_000))
    assert (headers["x-budget-limit-day"], headers["x-budget-remaining-day"]) == ("0.000001", "0.00000075")
    assert headers["x-budget-reset-day"] == "43201"
    assert headers["x-budget-remaining-total"] == "0.00000975"
    assert "x-budget-reset-total" not in headers


def test_places_have_no_reset() -> None:
    headers = _headers(LimitValues(concurrency=5))
    assert headers == {"x-ratelimit-limit-concurrency": "5", "x-ratelimit-remaining-concurrency": "4"}


def test_from_eighty_percent_on_a_warning_names_the_limit() -> None:
    limits = LimitValues(requests_per_minute=10, sources={"requests_per_minute": "plan"})
    assert "x-limit-warning" not in _headers(limits, None, 7)
    assert _headers(limits, None, 8)["x-limit-warning"] == "requests;used=80%;set-by=plan"


def test_without_limits_there_are_no_headers() -> None:
    assert _headers(LimitValues()) == {}


def test_a_socket_is_told_the_same() -> None:
    told = limit_object(_readings(LimitValues(requests_per_minute=60, spend_total_nanousd=1_000)))
    assert told["requests"]["remaining"] == 59
    assert told["spend-total"]["remaining"] == "0.00000075"
    assert told["spend-total"]["reset_seconds"] is None
