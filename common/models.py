"""The one table of the ground floor."""

from django.db import models


class Generation(models.Model):
    """A named counter that triggers raise; see `common.generations`."""

    name = models.CharField(max_length=20, primary_key=True)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"
