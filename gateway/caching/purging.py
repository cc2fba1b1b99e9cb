"""Purging cached answers: from the commit on nobody is given one that was kept before it, on any process.

Nothing is looked for and deleted: each key names how often its model, its customer and the whole cache were purged (see
`gateway.caching.keys`), so after a purge the old answers have keys that nobody asks for. They leave memory as the least
used ones do, and Redis at the end of their time.
"""

from datetime import UTC, datetime

from django.db import transaction

from common.errors import InvalidRequest
from gateway.cache_models import CachePurge, PurgeScope
from gateway.models import Model
from keys.audit import SYSTEM, Actor, record_event
from keys.models import Customer


def purge_answers(
    scope: PurgeScope, subject: str = "", *, reason: str, author: str, actor: Actor = SYSTEM
) -> CachePurge:
    """Purge all answers, those of a model (its name), or those to a customer (its id); a repeat purges once more.

    Answers of shared models belong to nobody: a customer's purge leaves them. Raises InvalidRequest for a subject that
    does not exist.
    """
    if scope is PurgeScope.MODEL and not Model.objects.filter(name=subject).exists():
        raise InvalidRequest(f"There is no model '{subject[:120]}'.", param="model")
    if scope is PurgeScope.CUSTOMER and not Customer.objects.filter(pk=subject).exists():
        raise InvalidRequest("There is no such customer.", param="customer")
    now = datetime.now(UTC)
    with transaction.atomic():
        found = {"reason": reason, "author": author, "purged_at": now}
        purge, is_new = CachePurge.objects.select_for_update().get_or_create(
            scope=scope, subject=subject, defaults={**found, "count": 1}
        )
        if not is_new:
            purge.count += 1
            purge.reason, purge.author, purge.purged_at = reason, author, now
            purge.save(update_fields=["count", *found])
        record_event(actor=actor, action="cache.purged", target=purge, after={"count": purge.count}, reason=reason)
    return purge
