"""Exports in the admin: a page that exports a period, the runs, and the schedules."""

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from billing.export_models import ExportRun, ExportSchedule
from billing.exports import compute_figures
from billing.exports.running import record_run
from billing.exports.scheduling import export_due_days
from tests.exporting import START, content, order, settle_one
from tests.factories import funded_call, make_customer

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
PAGE = "/admin/billing/exportrun/export/"


def fields(**changed: Any) -> dict[str, Any]:
    return {
        "dataset": "usage",
        "format": "csv",
        "first_day": "2026-11-01",
        "last_day": "2026-11-30",
        "customer": "",
        **changed,
    }


def login_with(*permissions: str) -> Client:
    user = User.objects.create_user("clerk", password="a long password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize(
    ("dataset", "format_name"),
    [("usage", "csv"), ("usage", "xlsx"), ("usage", "focus"), ("ledger", "csv"), ("ledger", "beancount")],
)
def test_a_period_is_exported_like_the_command_does(admin_client: Client, dataset: str, format_name: str) -> None:
    settle_one(funded_call(), at=START)
    answer = admin_client.post(PAGE, fields(dataset=dataset, format=format_name))
    wanted = order(dataset, format_name)
    assert answer["Content-Disposition"] == f'attachment; filename="{wanted.filename}"'
    assert answer["Content-Type"] == wanted.format.media_type
    file = b"".join(answer)
    assert file == content(wanted)
    run = ExportRun.objects.get()
    assert (run.author, run.sha256, run.audience) == ("admin", hashlib.sha256(file).hexdigest(), "operator")


def test_one_customer_can_be_chosen(admin_client: Client) -> None:
    mine = funded_call()
    for call in (mine, funded_call()):
        settle_one(call, at=START)
    b"".join(admin_client.post(PAGE, fields(customer=mine.customer_id)))
    run = ExportRun.objects.get()
    assert (run.row_count, run.customer_id) == (1, mine.customer_id)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"first_day": "2026-12-01"}, "last_day"),
        ({"dataset": "ledger", "format": "focus"}, "format"),
        ({"dataset": "usage", "format": "beancount"}, "format"),
        ({"dataset": "jobs"}, "dataset"),
        ({"last_day": "soon"}, "last_day"),
    ],
)
def test_what_cannot_be_exported_is_told_at_the_field(
    admin_client: Client, changed: dict[str, str], field: str
) -> None:
    answer = admin_client.post(PAGE, fields(**changed))
    assert field in answer.context["form"].errors
    assert not ExportRun.objects.exists()


def test_whoever_may_not_look_at_rows_cannot_export_them() -> None:
    nobody = login_with("view_exportrun")
    assert nobody.get(PAGE).status_code == 403
    assert "Export a period" not in nobody.get("/admin/billing/exportrun/").content.decode()


def test_a_dataset_is_offered_to_those_who_may_look_at_it() -> None:
    client = login_with("view_usagerecord")
    assert [value for value, _ in client.get(PAGE).context["form"].fields["dataset"].choices] == ["usage"]
    answer = client.post(PAGE, fields(dataset="ledger"))
    assert "dataset" in answer.context["form"].errors


def test_a_run_is_found_by_its_checksum_and_is_never_changed(admin_client: Client) -> None:
    run = record_run(order(), compute_figures(order()), is_closed=True)
    record_run(order("ledger"), compute_figures(order("ledger")), is_closed=False)
    listed = admin_client.get("/admin/billing/exportrun/", {"q": run.sha256})
    assert [row.pk for row in listed.context["cl"].result_list] == [run.pk]
    page = f"/admin/billing/exportrun/{run.pk}/"
    assert run.sha256 in admin_client.get(f"{page}change/").content.decode()
    assert admin_client.post(f"{page}change/", {"row_count": 7}).status_code == 403
    assert admin_client.post(f"{page}delete/", {"post": "yes"}).status_code == 403


# ---- schedules


def schedule_fields(**changed: Any) -> dict[str, Any]:
    return {
        "name": "daily-usage",
        "content": "usage",
        "format": "csv",
        "customer": "",
        "destination": "accounting",
        "first_day": "2026-11-01",
        "is_active": "on",
        **changed,
    }


def test_a_schedule_is_made_and_tells_how_far_it_is(admin_client: Client, settings: Any, tmp_path: Any) -> None:
    settings.EXPORT_DIR = tmp_path
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    answer = admin_client.post("/admin/billing/exportschedule/add/", schedule_fields(first_day=f"{yesterday}"))
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert "none yet" in admin_client.get("/admin/billing/exportschedule/").content.decode()
    # Well into the day: a day is closed some minutes after its end.
    now = datetime.now(UTC).replace(hour=12)
    assert [result.day for result in export_due_days(now)] == [yesterday]
    listed = admin_client.get("/admin/billing/exportschedule/").content.decode()
    assert f"{yesterday}" in listed
    assert "Up to date" in listed


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"destination": "../up"}, "destination"),
        ({"destination": "/etc"}, "destination"),
        ({"content": "ledger", "format": "focus"}, "format"),
        ({"name": "has space"}, "name"),
    ],
)
def test_a_schedule_that_could_never_run_is_refused_at_the_field(
    admin_client: Client, changed: dict[str, str], field: str
) -> None:
    answer = admin_client.post("/admin/billing/exportschedule/add/", schedule_fields(**changed))
    assert field in answer.context["adminform"].form.errors
    assert not ExportSchedule.objects.exists()


def test_what_a_schedule_exports_is_fixed_by_its_first_run(admin_client: Client, settings: Any, tmp_path: Any) -> None:
    settings.EXPORT_DIR = tmp_path
    schedule = ExportSchedule.objects.create(
        name="daily", content="usage", format="csv", first_day=date(2026, 11, 1), customer=make_customer()
    )
    assert [result.problem for result in export_due_days(START + timedelta(days=1, hours=1))] == [""]
    page = f"/admin/billing/exportschedule/{schedule.pk}/"
    answer = admin_client.post(f"{page}change/", {"content": "ledger", "destination": "elsewhere"})
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    schedule.refresh_from_db()
    assert (schedule.content, schedule.destination, schedule.is_active) == ("usage", "elsewhere", False)
    assert admin_client.post(f"{page}change/", {"destination": "../up"}).status_code == 200
    assert admin_client.post(f"{page}delete/", {"post": "yes"}).status_code == 403
