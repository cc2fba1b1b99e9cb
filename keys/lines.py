"""Lines: a key and the successors that rotations gave it. One line has one set of limits and one set of counters.

The first key of a line gives its counters their name ("key:<id>") and carries its raises. So a rotation neither doubles
what may be used while old and new work side by side, nor frees a budget that is spent.
"""

from collections.abc import Iterable

from django.db.models import Q

from common.sql import Sql
from keys.limit_values import LIMIT_COLUMNS
from keys.models import ApiKey
from keys.principals import Principal, principal_of_row, read_rows_by_key_id


def line_of(key: ApiKey) -> int:
    """Return the id of the first key of a key's line: its own, unless it is a successor."""
    return key.pk if key.line_id is None else key.line_id


def share_limits(key: ApiKey, columns: Iterable[str] = LIMIT_COLUMNS) -> None:
    """Give the other keys of the line those limits that were just set on `key`: all refill the same buckets alike."""
    values = {column: getattr(key, column) for column in columns}
    if not values:
        return
    line_id = line_of(key)
    others = ApiKey.objects.filter(Q(pk=line_id) | Q(line_id=line_id)).exclude(pk=key.pk)
    others.update(**values)


def read_principal_of_line(sql: Sql, line_id: int, *, now_us: int) -> Principal | None:
    """Return the newest key of a line that works at `now_us`; where none does the newest, where there is none None."""
    rows = sql.rows("SELECT id FROM keys_apikey WHERE id = %s OR line_id = %s ORDER BY id DESC", (line_id, line_id))
    found = read_rows_by_key_id(sql, [key_id for (key_id,) in rows])
    principals = [principal_of_row(found[key_id]) for (key_id,) in rows]
    return next((one for one in principals if one.is_active(now_us)), next(iter(principals), None))


def read_line_members(sql: Sql) -> dict[int, set[int]]:
    """Return, by line, the keys whose calls count in its counters: its own, and those that these made.

    Lines of a single key that has made none are absent.
    """
    rows = sql.rows("SELECT id, line_id, maker_id FROM keys_apikey WHERE line_id IS NOT NULL OR maker_id IS NOT NULL")
    line_ids = {key_id: line_id or key_id for key_id, line_id, _ in rows}
    makers = {key_id: maker_id for key_id, _, maker_id in rows}
    members: dict[int, set[int]] = {}
    for key_id in makers:
        above: int | None = key_id
        while above is not None:
            line_id = line_ids.get(above, above)
            members.setdefault(line_id, {line_id}).add(key_id)
            above = makers.get(above)
    return members
