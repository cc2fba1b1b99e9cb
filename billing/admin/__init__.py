"""Money in the admin. `prices` is registered by `gateway.admin`, which knows the names of the models."""

from billing.admin import accounts, customers, exports, holds, transfers, usage

__all__ = ["accounts", "customers", "exports", "holds", "transfers", "usage"]
