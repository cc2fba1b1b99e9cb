"""Keys that were rotated or made by keys before now share counters as `keys.lines` has it: bring rows and holds there."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from django.db import migrations
from django.db.models import Sum

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def share_counters(apps, schema_editor):
    keys, raises, states = (apps.get_model("keys", name) for name in ("ApiKey", "LimitRaise", "LimitState"))
    usage = apps.get_model("billing", "UsageRecord").objects.order_by()
    holds = apps.get_model("billing", "Hold").objects
    makers = dict(keys.objects.values_list("id", "maker_id"))
    lines = {key_id: key_id for key_id in makers}
    # A successor is younger than the key that it follows, whose line is known by then.
    rotated = keys.objects.filter(successor__isnull=False).order_by("id")
    for key_id, successor_id in rotated.values_list("id", "successor_id"):
        lines[successor_id] = lines[key_id]
    for key_id, line_id in lines.items():
        if key_id != line_id:
            keys.objects.filter(id=key_id).update(line_id=line_id)
            raises.objects.filter(api_key_id=key_id).update(api_key_id=line_id)
            states.objects.filter(owner=f"key:{key_id}").delete()
            states.objects.filter(owner__startswith=f"key:{key_id}/").delete()
    above = {key_id: _lines_above(key_id, lines, makers) for key_id in lines}
    open_holds = _rewrite_holds(holds, above)
    members = defaultdict(set)
    for key_id, line_ids in above.items():
        for line_id in line_ids:
            members[line_id].add(key_id)
    for line_id, key_ids in members.items():
        if len(key_ids) > 1:
            _recount(states, usage.filter(api_key_id__in=key_ids), open_holds[line_id], f"key:{line_id}")


def _rewrite_holds(holds, above):
    """Let open holds name the counters of lines, in today's form; return them by line."""
    open_holds = defaultdict(list)
    for hold in holds.select_for_update().iterator():
        customer, key, *rates = hold.owners.split(",")
        line_ids = above[int(key.removeprefix("key:"))]
        hold.owners = ",".join([customer, *(f"key:{line_id}" for line_id in line_ids)])
        if rates:
            hold.owners += ";" + rates[0].partition("/")[2]
        hold.save(update_fields=["owners"])
        for line_id in line_ids:
            open_holds[line_id].append(hold)
    return open_holds


def _lines_above(key_id, lines, makers):
    """Return the line of a key and those of the keys that made it, the nearest first."""
    found = []
    while key_id is not None:
        found.append(lines[key_id])
        key_id = makers[key_id]
    return found


def _recount(states, usage, holds, owner):
    """Write what the open holds and the usage of all its keys add up to; windows are those of now."""
    now = datetime.now(UTC)
    day = datetime(now.year, now.month, now.day, tzinfo=UTC)
    month = day.replace(day=1)

    def charged(records):
        return records.aggregate(total=Sum("charged_nanousd"))["total"] or 0

    numbers = {"day": (day - EPOCH).days, "month": now.year * 12 + now.month - 1}
    held = {
        name: sum(hold.amount_nanousd for hold in holds if getattr(hold, name) == number)
        for name, number in numbers.items()
    }
    states.objects.update_or_create(
        owner=owner,
        defaults={
            **numbers,
            "updated_us": (now - EPOCH) // timedelta(microseconds=1),
            "in_flight": len(holds),
            "day_posted_nanousd": charged(usage.filter(started_at__gte=day)),
            "day_held_nanousd": held["day"],
            "month_posted_nanousd": charged(usage.filter(started_at__gte=month)),
            "month_held_nanousd": held["month"],
            "total_posted_nanousd": charged(usage),
            "total_held_nanousd": sum(hold.amount_nanousd for hold in holds),
        },
    )


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0006_usage_by_prompt"),
        ("gateway", "0005_upstream_providers"),
        ("keys", "0006_lines_of_keys"),
    ]

    operations = [migrations.RunPython(share_counters, migrations.RunPython.noop)]
