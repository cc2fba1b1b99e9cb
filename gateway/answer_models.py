"""Rows of answers that the control plane keeps for repeats; see `gateway.kept_answers`."""

from django.db import models


class PostAnswer(models.Model):
    """An `Idempotency-Key` of a customer's POST and, once that has ended well, the answer."""

    id = models.BigAutoField(primary_key=True)
    customer = models.ForeignKey("keys.Customer", on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    # Of API key, path and body; a repeat must have the same.
    fingerprint = models.CharField(max_length=40)
    request_id = models.CharField(max_length=32)
    # Null while it runs.
    status = models.PositiveSmallIntegerField(null=True)
    # JSON, encrypted as the secrets of upstreams are: the answer may have one. Null: it was too large to keep.
    encrypted_body = models.TextField(null=True)  # noqa: DJ001 - an empty text is the answer without a body
    # Of one that runs outside a transaction: its process counts as dead from then on.
    running_until_us = models.BigIntegerField(default=0)
    expires_us = models.BigIntegerField(db_index=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["customer", "key"], name="gateway_postanswer_once"),
        ]

    def __str__(self) -> str:
        return self.key
