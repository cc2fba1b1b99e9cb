"""The audit trail as the admin base sees it (`common.admin_audit`): plugged in when the apps are ready."""

from collections.abc import Sequence

from django.db import models
from django.http import HttpRequest

from common.addresses import address_of_request
from common.admin_audit import AdminEvent, TrailLine, describe_changes, leave_recording_to_domain
from keys.audit import Actor, action_on, record_event
from keys.models import ActorKind, AuditEvent


def admin_actor(request: HttpRequest) -> Actor:
    """Return who acts in a request of the admin, for the domain function that the page is about to call.

    That function records; so the admin base does not record the same again (`common.admin_audit`).
    """
    leave_recording_to_domain(request)
    return request_actor(request)


def request_actor(request: HttpRequest) -> Actor:
    """Return who acts in a request of the admin."""
    return Actor(
        kind=ActorKind.ADMIN,
        id=str(request.user.pk),
        name=request.user.get_username(),
        address=address_of_request(request),
    )


class KeysTrail:
    """Writes and reads `AuditEvent`."""

    def record(self, request: HttpRequest, event: AdminEvent) -> None:
        """Append the event, as done by the request's user."""
        record_event(
            actor=request_actor(request),
            action=action_on(event.row, event.verb),
            target=event.row,
            before=event.before,
            after=event.after,
            reason=event.reason,
        )

    def read_lines(self, row: models.Model, *, limit: int) -> Sequence[TrailLine]:
        """Return the newest entries about a row."""
        found = AuditEvent.objects.filter(object_kind=row._meta.label_lower, object_id=str(row.pk))
        return [trail_line(event) for event in found.order_by("-id")[:limit]]


def trail_line(event: AuditEvent) -> TrailLine:
    """Return an entry as pages show it."""
    return TrailLine(
        id=event.pk,
        created_at=event.created_at,
        action=event.action,
        actor=event.actor_name,
        address=event.address or "",
        changes=describe_changes(event.before, event.after),
        reason=event.reason,
    )
