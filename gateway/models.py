"""Rows of upstreams, public models, the deployments that join them, and the processes that hold calls."""

from django.db import models
from django.db.models import Q

from common.generations import CatalogueModel


class Dialect(models.TextChoices):
    OPENAI = "openai", "OpenAI-compatible HTTP"
    LOCAL = "local", "Embedded local model"


class OnDisconnect(models.TextChoices):
    STOP = "stop", "Stop the upstream (it bills only what it produced)"
    DRAIN = "drain", "Read to the end (it bills all of it anyway)"


class OutputLimitParameter(models.TextChoices):
    MAX_COMPLETION_TOKENS = "max_completion_tokens", "max_completion_tokens (OpenAI)"
    MAX_TOKENS = "max_tokens", "max_tokens (older and most compatible servers)"


class Upstream(CatalogueModel):
    """A provider's endpoint. The secret is encrypted at rest (`gateway.secrets`)."""

    name = models.SlugField(max_length=60, unique=True)
    dialect = models.CharField(max_length=12, choices=Dialect.choices, default=Dialect.OPENAI)
    base_url = models.CharField(
        max_length=300, blank=True, help_text="Up to and including /v1. Empty for the embedded local model."
    )
    encrypted_secret = models.TextField(blank=True, editable=False)
    is_active = models.BooleanField(default=True)
    is_test = models.BooleanField(
        default=False,
        help_text="Costs the platform nothing: test keys (tk_test_...) may reach it, and only it.",
    )
    on_disconnect = models.CharField(max_length=6, choices=OnDisconnect.choices, default=OnDisconnect.STOP)
    output_limit_parameter = models.CharField(
        max_length=24,
        choices=OutputLimitParameter.choices,
        default=OutputLimitParameter.MAX_TOKENS,
        help_text="The name under which this server takes the maximum output of a call.",
    )
    connect_timeout_seconds = models.FloatField(default=5.0)
    first_token_timeout_seconds = models.FloatField(default=60.0)
    idle_timeout_seconds = models.FloatField(default=30.0)
    total_timeout_seconds = models.FloatField(default=600.0)
    note = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(dialect__in=Dialect.values), name="gateway_upstream_dialect_known"),
            models.CheckConstraint(
                condition=Q(on_disconnect__in=OnDisconnect.values),
                name="gateway_upstream_on_disconnect_known",
            ),
            models.CheckConstraint(
                condition=Q(connect_timeout_seconds__gt=0)
                & Q(first_token_timeout_seconds__gt=0)
                & Q(idle_timeout_seconds__gt=0)
                & Q(total_timeout_seconds__gt=0),
                name="gateway_upstream_timeouts_positive",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Model(CatalogueModel):
    """A model name that customers may call."""

    name = models.CharField(max_length=120, unique=True)
    description = models.TextField(blank=True)
    owned_by = models.CharField(max_length=60, default="tollkeeper", help_text="Shown in GET /v1/models.")
    context_window = models.PositiveIntegerField(help_text="Tokens of input and output together.")
    max_output_tokens = models.PositiveIntegerField(help_text="Largest output of one call.")
    default_output_tokens = models.PositiveIntegerField(
        help_text="Sent upstream, and held, when the caller names no maximum."
    )
    input_estimate_percent = models.PositiveIntegerField(
        default=100,
        help_text="Our count uses the o200k vocabulary; raise this for models whose tokenizer makes more tokens.",
    )
    input_overhead_tokens = models.PositiveIntegerField(
        default=32,
        help_text="Tokens that the model's chat template adds to every call; part of the hold, not of the price.",
    )
    image_tokens = models.PositiveIntegerField(
        default=1_600,
        help_text="Upper bound of what one image costs in input tokens; see the provider's page.",
    )
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(context_window__gt=0)
                & Q(max_output_tokens__gt=0)
                & Q(default_output_tokens__gt=0)
                & Q(default_output_tokens__lte=models.F("max_output_tokens")),
                name="gateway_model_sizes_sane",
            ),
            models.CheckConstraint(condition=Q(input_estimate_percent__gte=100), name="gateway_model_estimate_up"),
        ]

    def __str__(self) -> str:
        return self.name


class Deployment(CatalogueModel):
    """A public model served by an upstream under the upstream's own name; tried in order of `priority`."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="deployments")
    upstream = models.ForeignKey(Upstream, on_delete=models.PROTECT, related_name="+")
    upstream_model = models.CharField(max_length=200, help_text="The name that the upstream knows.")
    priority = models.PositiveIntegerField(default=1, help_text="1 is tried first.")
    is_active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "upstream", "upstream_model"], name="gateway_deployment_once"),
        ]

    def __str__(self) -> str:
        return f"{self.upstream_model} (priority {self.priority})"


class Worker(models.Model):
    """A process that holds calls. Its lease is renewed by its clerk; when it runs out, its holds expire."""

    id = models.BigAutoField(primary_key=True)
    host = models.CharField(max_length=100)
    pid = models.IntegerField()
    started_us = models.BigIntegerField()
    lease_until_us = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"
