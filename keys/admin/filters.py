"""Filters of the key lists."""

from datetime import UTC, datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from typing_extensions import override
from unfold.contrib.filters.admin import DropdownFilter

from keys.models import ApiKey
from keys.reporting import EXPIRING_DAYS, UNUSED_DAYS, expiring_keys, unused_keys


class KeyStateFilter(DropdownFilter):
    """Active, rotated, expired or revoked: the words of `ApiKey.state`, in SQL."""

    title = "state"
    parameter_name = "state"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("rotated", "Rotated"), ("expired", "Expired"), ("revoked", "Revoked")]

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        is_expired = Q(expires_at__lte=datetime.now(UTC))
        match self.value():
            case "active":
                return queryset.filter(revoked_at__isnull=True, deprecated_at__isnull=True).exclude(is_expired)
            case "rotated":
                return queryset.filter(revoked_at__isnull=True, deprecated_at__isnull=False).exclude(is_expired)
            case "expired":
                return queryset.filter(is_expired, revoked_at__isnull=True)
            case "revoked":
                return queryset.filter(revoked_at__isnull=False)
            case _:
                return queryset


class KeyAttentionFilter(DropdownFilter):
    """Keys that lie idle or end soon: the report of `keys.reporting` as a list."""

    title = "needs a look"
    parameter_name = "attention"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("unused", f"Not used for {UNUSED_DAYS} days"),
            ("expiring", f"Ends within {EXPIRING_DAYS} days"),
        ]

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        match self.value():
            case "unused":
                return unused_keys(queryset)
            case "expiring":
                return expiring_keys(queryset)
            case _:
                return queryset
