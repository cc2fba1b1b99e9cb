"""Purges of the response cache. An answer is found under a key that names the purges before it, so none after it is."""

from django.db import models
from django.db.models import Q

from common.generations import CatalogueModel


class PurgeScope(models.TextChoices):
    ALL = "all", "All answers"
    MODEL = "model", "Answers of a model"
    CUSTOMER = "customer", "Answers to a customer"


class CachePurge(CatalogueModel):
    """How often the answers of a scope were purged; see `gateway.caching.purging`. No row: never."""

    unwatched_columns = frozenset({"reason", "author", "purged_at"})

    id = models.BigAutoField(primary_key=True)
    scope = models.CharField(max_length=8, choices=PurgeScope.choices)
    # The model's name, or the customer's id; empty for all.
    subject = models.CharField(max_length=120, blank=True)
    count = models.PositiveIntegerField()
    # Of the last time.
    reason = models.CharField(max_length=200)
    author = models.CharField(max_length=150)
    purged_at = models.DateTimeField()

    class Meta:
        verbose_name = "cache purge"
        default_permissions = ("view", "add")
        constraints = [
            models.UniqueConstraint(fields=["scope", "subject"], name="gateway_cachepurge_once"),
            models.CheckConstraint(condition=Q(scope__in=PurgeScope.values), name="gateway_cachepurge_scope_known"),
            models.CheckConstraint(
                condition=Q(scope=PurgeScope.ALL, subject="") | ~Q(scope=PurgeScope.ALL) & ~Q(subject=""),
                name="gateway_cachepurge_subject_iff_scope",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.subject}".strip()
