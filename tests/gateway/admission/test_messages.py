"""Frames between an event loop and its clerk's process."""

from dataclasses import replace
from typing import Any

import pytest

from common.errors import TollkeeperError, all_error_classes
from gateway.admission.commands import Admit, Admitted, Command, FindPrincipal, Refused, Reuse, Reused, Settle, Settled
from gateway.admission.desk import Entry, Result
from gateway.admission.messages import OrderReader, Orders, OrderWriter, Report, ReportReader, write_report
from gateway.idempotency import Claim, StoredAnswer
from gateway.limit_headers import limit_lines
from keys.errors import InsufficientScope
from keys.limit_values import EndpointClass, LimitKind
from keys.limits import LimitReading, Marks
from tests.factories import funded_call

READINGS = (
    LimitReading(LimitKind.REQUESTS, 60, 59, 1, 60, 60, "key", "key"),
    LimitReading(LimitKind.SPEND_DAY, 10**12, 5, 3_600, 10**12, 86_400, "customer", "plan"),
)
MARKS = (Marks(7, 9), Marks(None, 3))


def carry(*commands: Command) -> list[Command]:
    """Return commands as the clerk's process reads them."""
    frame = OrderWriter().write(Orders([Entry(command, n) for n, command in enumerate(commands)], []))
    (orders,) = OrderReader().feed(frame)
    assert [entry.ticket for entry in orders.entries] == list(range(len(commands)))
    return [entry.command for entry in orders.entries]


def tell(answer: Any, error: Exception | None = None) -> Result:
    """Return a result as the event loop reads it."""
    (report,) = ReportReader().feed(write_report(Report([Result(5, answer, error)], True, 7, 3, None)))
    assert (report.is_healthy, report.lease_id, report.generation, report.health) == (True, 7, 3, None)
    (result,) = report.results
    assert result.ticket == 5
    return result


@pytest.mark.django_db
def test_questions_come_over_as_they_were_asked() -> None:
    call = funded_call()
    admit = call.admit()._replace(
        claim=Claim("key", "fingerprint"), endpoint_class=EndpointClass.CHAT, client_address="::1"
    )
    settle = call.settle("req_1")._replace(marks=MARKS, has_claim=True, answer=StoredAnswer("{}", b"body"))
    reuse = Reuse(call.admit(), settle.usage, None)
    asked: list[Command] = [
        admit,
        call.admit(),
        settle,
        settle._replace(answer=None),
        reuse,
        FindPrincipal(hashes=("0",)),
    ]
    assert carry(*asked) == asked
    # What is not as plain as it looks goes over all the same.
    odd = settle._replace(usage=settle.usage._replace(model=EndpointClass.CHAT))
    assert carry(odd, admit) == [odd, admit]


@pytest.mark.django_db
def test_principals_beyond_the_bound_are_told_anew_within_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.admission.messages._MOST_PRINCIPALS", 2)
    call = funded_call()
    admit = call.admit()
    one, two, three = (admit._replace(principal=replace(call.principal)) for _ in range(3))
    writer, reader = OrderWriter(), OrderReader()
    for asked in ([admit, one], [admit, two], [one, two], [three, one], [admit, three]):
        (orders,) = reader.feed(writer.write(Orders([Entry(command, 1) for command in asked], [])))
        assert [entry.command for entry in orders.entries] == asked


def test_answers_come_over_as_they_were_given() -> None:
    admitted = Admitted("req_1", 2, 3, 4, READINGS, MARKS)
    reused = Reused(3, 4, READINGS)
    for answer in (admitted, reused):
        told = tell(answer).answer
        assert isinstance(told, Admitted | Reused)
        assert limit_lines(told.limits) == limit_lines(READINGS) != ""
        assert told._replace(limits=tuple(told.limits)) == answer
    assert tell(Settled(1, 2)).answer == Settled(1, 2)


@pytest.mark.django_db
def test_a_principal_goes_over_once_and_is_the_same_for_all_its_calls() -> None:
    call = funded_call()
    writer, reader = OrderWriter(), OrderReader()
    first = writer.write(Orders([Entry(call.admit(), 1)], ["req_0"]))
    second = writer.write(Orders([Entry(call.admit(), 2), Entry(call.settle("req_1"), 3)], [], 1.5))
    assert len(second) < len(first)
    # However the bytes are cut.
    found = [orders for byte in first + second for orders in reader.feed(bytes([byte]))]
    commands = [entry.command for orders in found for entry in orders.entries]
    one, two, three = (command.principal for command in commands if isinstance(command, Admit | Settle))
    assert one == call.principal
    assert one is two is three
    assert [(orders.abandoned, orders.stop_seconds) for orders in found] == [(["req_0"], None), ([], 1.5)]


def test_a_refusal_is_told_with_all_that_it_says() -> None:
    error = InsufficientScope(scope="chat:write")
    error.internal_detail = "for the log"
    refused = tell(Refused(error=error, limits=READINGS)).answer
    assert isinstance(refused, Refused)
    assert refused.limits == READINGS
    for copy in (refused.error, tell(None, error).error):
        assert type(copy) is InsufficientScope
        assert copy.as_body(request_id="req_1") == error.as_body(request_id="req_1")
        assert (copy.headers(), copy.internal_detail, str(copy)) == (error.headers(), "for the log", str(error))


def test_every_error_can_be_told() -> None:
    # Each by its own constructor's rules or none: what a copy needs is its class and what it keeps.
    # Other tests make classes of their own, which no module has.
    for kind in (kind for kind in all_error_classes() if "<locals>" not in kind.__qualname__):
        error = kind.__new__(kind, "said")
        error.__dict__.update(message="m", param=None, details={"a": 1}, retry_after_seconds=2, internal_detail=None)
        copy = tell(None, error).error
        assert isinstance(copy, TollkeeperError)
        assert type(copy) is kind
        assert (copy.__dict__, copy.args) == (error.__dict__, ("said",))
