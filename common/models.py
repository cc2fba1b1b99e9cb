"""The tables of the ground floor."""

from django.db import models


class Generation(models.Model):
    """A named counter that triggers raise; see `common.generations`."""

    name = models.CharField(max_length=20, primary_key=True)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"


class PeriodicJob(models.Model):
    """Work that comes again and again: when it is due, who has it until when, and how it went; `common.periodic`."""

    name = models.CharField(max_length=40, primary_key=True)
    due_at = models.DateTimeField()
    claimed_until = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    is_ok = models.BooleanField(null=True)
    outcome = models.CharField(max_length=300, blank=True)

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name
