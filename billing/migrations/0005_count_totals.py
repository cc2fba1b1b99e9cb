"""Bring the counters of total budgets to what usage records and open holds add up to."""

from collections import Counter

from django.db import migrations


def count_totals(apps, schema_editor):
    states = apps.get_model("keys", "LimitState").objects
    usage = apps.get_model("billing", "UsageRecord").objects
    holds = apps.get_model("billing", "Hold").objects
    posted, held = Counter(), Counter()
    for kind, column in (("customer", "customer_id"), ("key", "api_key_id")):
        for owner_id, charged in usage.values_list(column, "charged_nanousd").order_by().iterator():
            posted[f"{kind}:{owner_id}"] += charged
    for owners, amount in holds.values_list("owners", "amount_nanousd").iterator():
        for owner in owners.split(",")[:2]:
            held[owner] += amount
    for owner in states.values_list("owner", flat=True):
        states.filter(owner=owner).update(total_posted_nanousd=posted[owner], total_held_nanousd=held[owner])


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0004_export_runs"),
        ("keys", "0005_class_limits_and_raises"),
    ]

    operations = [migrations.RunPython(count_totals, migrations.RunPython.noop, elidable=True)]
