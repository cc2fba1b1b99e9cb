"""The report of keys that lie idle or end soon, as a list and by mail."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core import mail
from django.core.management import call_command

from keys.models import ApiKey
from tests.factories import make_customer, make_key

pytestmark = pytest.mark.django_db

NOW = datetime.now(UTC)


def report(*arguments: str) -> str:
    out = StringIO()
    call_command("keys", "report", *arguments, stdout=out)
    return out.getvalue()


def test_operators_get_all_keys_with_their_customers_and_each_customer_its_own() -> None:
    acme, globex = make_customer(name="Acme"), make_customer(name="Globex")
    type(acme).objects.filter(pk=acme.pk).update(email="it@acme.example")
    ending = make_key(acme, name="website", expires_at=NOW + timedelta(days=3)).key
    idle = make_key(globex, name="nightly").key
    ApiKey.objects.filter(pk=idle.pk).update(created_at=NOW - timedelta(days=200))
    make_key(acme, name="in use")
    assert "2 mails sent." in report("--email", "ops@example.com")
    of_operators, of_acme = mail.outbox
    assert of_operators.to == ["ops@example.com"]
    assert f"{ending.prefix}…  Acme, website: {ending.expires_at:%Y-%m-%d}" in of_operators.body
    assert f"{idle.prefix}…  Globex, nightly: never used" in of_operators.body
    assert of_acme.to == ["it@acme.example"]
    assert f"{ending.prefix}…  website" in of_acme.body
    assert "nightly" not in of_acme.body
    assert all("in use" not in sent.body for sent in mail.outbox)


def test_where_nothing_deserves_a_look_the_report_says_so() -> None:
    make_key()
    assert "none lies idle" in report()
