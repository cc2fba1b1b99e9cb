"""Money in the admin. `prices` is registered by `gateway.admin`, which knows the names of the models."""

from billing.admin import (
    accounts,
    alerts,
    archives,
    billing_profiles,
    customers,
    export_runs,
    export_schedules,
    holds,
    invoices,
    movements,
    reconciliations,
    terms,
    transfers,
    usage,
)

__all__ = [
    "accounts",
    "alerts",
    "archives",
    "billing_profiles",
    "customers",
    "export_runs",
    "export_schedules",
    "holds",
    "invoices",
    "movements",
    "reconciliations",
    "terms",
    "transfers",
    "usage",
]
