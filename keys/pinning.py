"""The date of the API that a key is answered in: set by its first call, moved by an administrator.

Which dates there are is known to the gateway (`gateway.versions`); here one is a text.
"""

from collections.abc import Collection

from django.db import transaction

from common.sql import Sql
from keys.audit import SYSTEM, Actor, record_event
from keys.errors import KeyInvalid
from keys.models import ApiKey


def pin_new_keys(sql: Sql, key_ids: Collection[int], api_version: str) -> None:
    """Pin keys that have not called before; a pin that another process set in the meantime stays."""
    condition, parameters = sql.condition_in("id", key_ids)
    sql.run(
        f"UPDATE keys_apikey SET api_version = %s WHERE api_version = '' AND {condition}", [api_version, *parameters]
    )


@transaction.atomic
def move_key_version(*, key_id: int, api_version: str, reason: str, actor: Actor = SYSTEM) -> ApiKey:
    """Answer a key in another date from its next call on, and return it. Raises KeyInvalid without a reason."""
    if not reason.strip():
        raise KeyInvalid("Say why the key is moved: the reason stays in the audit trail.", param="reason")
    key = ApiKey.objects.select_for_update().get(pk=key_id)
    before, key.api_version = key.api_version, api_version
    key.save(update_fields=["api_version"])
    record_event(
        actor=actor,
        action="api_key.version_moved",
        target=key,
        before={"api_version": before},
        after={"api_version": api_version},
        reason=reason,
    )
    return key
