"""Rows of upstreams, public models, the deployments that join them, and the processes that hold calls."""

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from billing.waiving import NoCharge
from common.generations import CatalogueModel, HealthModel
from gateway import answer_models, cache_models, guard_models  # noqa: F401 - Django finds the models of an app here

# Thirty days: what is older is no answer to the same question any more.
MAX_CACHE_SECONDS = 2_592_000
# A model's name stands in headers and file names.
is_header_safe = RegexValidator(r"^[!-~]+\Z", "Use printable ASCII characters without spaces.")


class Dialect(models.TextChoices):
    OPENAI = "openai", "OpenAI-compatible HTTP"
    ANTHROPIC = "anthropic", "Anthropic Messages"
    LOCAL = "local", "Embedded local model"


class OnDisconnect(models.TextChoices):
    STOP = "stop", "Stop the upstream (it bills only what it produced)"
    DRAIN = "drain", "Read to the end (it bills all of it anyway)"


class Authentication(models.TextChoices):
    BEARER = "bearer", "Authorization: Bearer SECRET"
    API_KEY = "api-key", "api-key: SECRET"
    X_API_KEY = "x-api-key", "x-api-key: SECRET"


class OutputLimitParameter(models.TextChoices):
    MAX_COMPLETION_TOKENS = "max_completion_tokens", "max_completion_tokens (OpenAI)"
    MAX_TOKENS = "max_tokens", "max_tokens (older and most compatible servers)"


class Upstream(CatalogueModel):
    """A provider's endpoint. The secret is encrypted at rest (`gateway.secrets`)."""

    name = models.SlugField(max_length=60, unique=True)
    # A row of `gateway.upstreams.registry`: where the values of a new upstream came from. Read by people only.
    provider = models.SlugField(max_length=30, default="custom")
    dialect = models.CharField(max_length=12, choices=Dialect.choices, default=Dialect.OPENAI)
    base_url = models.CharField(
        max_length=300,
        blank=True,
        help_text="Up to and including /v1. {model} stands for the upstream's model name, where that is part of the "
        "path. Empty for the embedded local model.",
    )
    authentication = models.CharField(
        max_length=12,
        choices=Authentication.choices,
        default=Authentication.BEARER,
        help_text="The header that carries the secret.",
    )
    api_version = models.CharField(
        max_length=40,
        blank=True,
        help_text="Sent as ?api-version= (OpenAI-compatible) or as the header anthropic-version (Anthropic).",
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
    takes_tools = models.BooleanField("Tools", default=True, help_text="Calls tools (functions).")
    native_json_schema = models.BooleanField(
        "JSON schema",
        default=True,
        help_text="Takes response_format with a JSON schema. Without it the schema is put into the system message. "
        "Answers are checked here either way.",
    )
    takes_images = models.BooleanField("Images", default=True, help_text="Reads images in messages.")
    gives_logprobs = models.BooleanField("Log probabilities", default=True, help_text="Knows logprobs.")
    takes_several_choices = models.BooleanField(
        "Several choices (n)", default=True, help_text="Gives n answers to one call."
    )
    takes_sampling = models.BooleanField(
        "Temperature, top_p", default=True, help_text="Takes other values of them than 1."
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
                condition=Q(authentication__in=Authentication.values),
                name="gateway_upstream_authentication_known",
            ),
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


class Routing(models.TextChoices):
    WEIGHTS = "weights", "By weight: each gets its share of the calls"
    COST = "cost", "The cheapest first"
    LATENCY = "latency", "The quickest to its first token first"


class Model(CatalogueModel):
    """A model name that customers may call."""

    name = models.CharField(max_length=120, unique=True, validators=[is_header_safe])
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
    routing = models.CharField(
        max_length=10,
        choices=Routing.choices,
        default=Routing.WEIGHTS,
        help_text="Who goes first among deployments of the same priority.",
    )
    retries = models.PositiveSmallIntegerField(
        default=1, help_text="Further attempts once every deployment has failed for a passing reason; 0: none."
    )
    retry_wait_seconds = models.FloatField(
        default=5.0,
        help_text="The longest pause before a further attempt. A provider that asks for a longer one is not waited "
        "for: the caller is told to retry later.",
    )
    attempts_seconds = models.FloatField(
        default=120.0, help_text="No further attempt of a call begins later than this after its first one."
    )
    hedge_after_ms = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="After so long without a first token the next deployment is asked as well, and the first that "
        "answers is taken. Both cost the platform money. Empty: never.",
    )
    cache_seconds = models.PositiveIntegerField(
        "Reuse answers for, seconds",
        default=0,
        help_text="How old an answer may be that the same call gets again. 0: only calls that ask for it "
        "(Cache-Control: max-age) get an earlier answer.",
    )
    cache_limit_seconds = models.PositiveIntegerField(
        "Callers may ask for, seconds",
        default=86_400,
        help_text="The oldest answer that a caller, or a prompt, may ask for. 0: answers of this model are never kept.",
    )
    cache_is_shared = models.BooleanField(
        "Share between customers",
        default=False,
        help_text="An answer to one customer is also given to others who ask word for word the same. Only for models "
        "whose calls hold nothing of a customer's own.",
    )
    reused_price_percent = models.PositiveSmallIntegerField(
        "Price of a reused answer, percent",
        default=0,
        help_text="Of what the call would have cost at its provider. 0: free. A plan can have its own.",
    )
    no_charge_on = models.CharField(
        "no charge for",
        max_length=6,
        choices=NoCharge.choices,
        blank=True,
        default="",
        db_default="",
        help_text="Customers do not pay for these; what the provider asks for them stays the platform's. Terms of a "
        "plan or customer can say the same for all of their calls.",
    )
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(cache_limit_seconds__lte=MAX_CACHE_SECONDS)
                & Q(cache_seconds__lte=models.F("cache_limit_seconds"))
                & Q(reused_price_percent__lte=100),
                name="gateway_model_cache_sane",
            ),
            models.CheckConstraint(
                condition=Q(context_window__gt=0)
                & Q(max_output_tokens__gt=0)
                & Q(default_output_tokens__gt=0)
                & Q(default_output_tokens__lte=models.F("max_output_tokens")),
                name="gateway_model_sizes_sane",
            ),
            models.CheckConstraint(condition=Q(input_estimate_percent__gte=100), name="gateway_model_estimate_up"),
            models.CheckConstraint(condition=Q(routing__in=Routing.values), name="gateway_model_routing_known"),
            models.CheckConstraint(condition=Q(no_charge_on__in=NoCharge.values), name="gateway_model_no_charge"),
            models.CheckConstraint(
                condition=Q(retries__lte=10) & Q(retry_wait_seconds__gte=0) & Q(attempts_seconds__gt=0),
                name="gateway_model_attempts_sane",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Deployment(CatalogueModel):
    """A public model served by an upstream under the upstream's own name; tried in order of `priority`."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="deployments")
    upstream = models.ForeignKey(Upstream, on_delete=models.PROTECT, related_name="+")
    upstream_model = models.CharField(max_length=200, help_text="The name that the upstream knows.")
    priority = models.PositiveIntegerField(default=1, help_text="1 is tried first.")
    weight = models.PositiveIntegerField(
        default=1,
        help_text="Its share of the calls among deployments of the same priority; 0: only when the others fail.",
    )
    region = models.SlugField(max_length=30, blank=True, help_text="Where it runs, for callers that ask for it: eu.")
    input_cost_nanousd = models.BigIntegerField(
        "Input cost",
        null=True,
        blank=True,
        help_text="USD per million tokens. For routing by cost only; what a call is booked at follows from prices.",
    )
    output_cost_nanousd = models.BigIntegerField(
        "Output cost", null=True, blank=True, help_text="USD per million tokens, likewise."
    )
    is_active = models.BooleanField(default=True)
    # Where this model differs from its upstream; null: as the upstream.
    takes_tools = models.BooleanField("Tools", null=True, blank=True)
    native_json_schema = models.BooleanField("JSON schema", null=True, blank=True)
    takes_images = models.BooleanField("Images", null=True, blank=True)
    gives_logprobs = models.BooleanField("Log probabilities", null=True, blank=True)
    takes_several_choices = models.BooleanField("Several choices (n)", null=True, blank=True)
    takes_sampling = models.BooleanField("Temperature, top_p", null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "upstream", "upstream_model"], name="gateway_deployment_once"),
            models.CheckConstraint(
                condition=(Q(input_cost_nanousd__isnull=True) | Q(input_cost_nanousd__gte=0))
                & (Q(output_cost_nanousd__isnull=True) | Q(output_cost_nanousd__gte=0)),
                name="gateway_deployment_costs_sane",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.upstream_model} (priority {self.priority})"


class BreakerReason(models.TextChoices):
    FAILURES = "failures", "Failed too often"
    RATE_LIMITED = "rate_limited", "Limits our calls"
    RECOVERED = "recovered", "Answered again"
    RESET = "reset", "Reset by hand"


class Breaker(HealthModel):
    """Whether a deployment rests, as all processes know it; see `gateway.breakers`. No row: it never has."""

    deployment = models.OneToOneField(Deployment, on_delete=models.CASCADE, primary_key=True, related_name="breaker")
    # Of an open one that is past `until_us`, a single call at a time finds out whether it answers again.
    is_open = models.BooleanField()
    reason = models.CharField(max_length=12, choices=BreakerReason.choices)
    # The error's code; never a provider's own words.
    error_code = models.CharField(max_length=60, blank=True)
    # How often in a row it was opened without an answer in between.
    trips = models.PositiveIntegerField(default=0)
    until_us = models.BigIntegerField(default=0)
    # Until when a call may take to find out; 0: nobody is trying. Whoever sets it is the one that tries.
    trial_until_us = models.BigIntegerField(default=0)
    # The later of two states counts.
    changed_us = models.BigIntegerField()

    class Meta:
        default_permissions = ("view", "change")
        constraints = [
            models.CheckConstraint(condition=Q(reason__in=BreakerReason.values), name="gateway_breaker_reason_known"),
        ]

    def __str__(self) -> str:
        return f"breaker of deployment {self.deployment_id}"


class CallAttempt(models.Model):
    """One attempt of a call that needed several, or failed; see `gateway.attempt_rows`. Pruned by age."""

    id = models.BigAutoField(primary_key=True)
    request_id = models.CharField(max_length=32)
    number = models.PositiveSmallIntegerField()
    customer = models.ForeignKey("keys.Customer", on_delete=models.CASCADE, related_name="+", db_index=False)
    created_us = models.BigIntegerField(db_index=True)
    model = models.CharField(max_length=120)
    # No foreign key: a deployment may go, what it did stays.
    deployment_ref = models.BigIntegerField()
    upstream = models.CharField(max_length=60)
    upstream_model = models.CharField(max_length=200)
    outcome = models.CharField(max_length=60)
    # It is part of the call's usage record; else the customer does not pay for it.
    is_billed = models.BooleanField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    is_estimated = models.BooleanField()
    # What the provider charges us for it, by the price's own provider rates.
    provider_cost_nanousd = models.BigIntegerField()
    upstream_ms = models.PositiveIntegerField()

    class Meta:
        verbose_name = "attempt"
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["request_id", "number"], name="gateway_callattempt_once"),
        ]
        indexes = [models.Index(fields=["deployment_ref", "created_us"], name="gateway_attempt_by_deployment")]

    def __str__(self) -> str:
        return f"{self.request_id} #{self.number}"


class Worker(models.Model):
    """A process that holds calls. Its lease is renewed by its clerk; when it runs out, its holds expire."""

    id = models.BigAutoField(primary_key=True)
    host = models.CharField(max_length=100)
    pid = models.IntegerField()
    started_us = models.BigIntegerField()
    lease_until_us = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class IdempotencyClaim(models.Model):
    """An `Idempotency-Key` of a customer and, once its call has ended well, the answer; see `gateway.idempotency`."""

    id = models.BigAutoField(primary_key=True)
    customer = models.ForeignKey("keys.Customer", on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=40)
    request_id = models.CharField(max_length=32, unique=True)
    # Null while the call runs.
    receipt = models.TextField(null=True)  # noqa: DJ001 - an empty text would be a receipt
    body = models.BinaryField(null=True)
    created_us = models.BigIntegerField()
    expires_us = models.BigIntegerField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["customer", "key"], name="gateway_idempotency_key_once"),
        ]

    def __str__(self) -> str:
        return self.key


class Refusal(models.Model):
    """A call of a known key that was refused, and every limit as it stood then; see `gateway.refusals`."""

    id = models.BigAutoField(primary_key=True)
    request_id = models.CharField(max_length=32, unique=True)
    created_us = models.BigIntegerField(db_index=True)
    # A note that is pruned by age may go with its customer or key.
    customer = models.ForeignKey("keys.Customer", on_delete=models.CASCADE, related_name="+")
    api_key = models.ForeignKey("keys.ApiKey", on_delete=models.CASCADE, related_name="+")
    operation = models.CharField(max_length=40)
    model = models.CharField(max_length=120, blank=True)
    code = models.CharField(max_length=60)
    status = models.PositiveSmallIntegerField()
    message = models.TextField()
    retry_after_seconds = models.PositiveIntegerField(null=True)
    details = models.JSONField(default=dict)
    checked = models.JSONField(default=list)

    class Meta:
        verbose_name = "refused call"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.request_id


class RefusalCount(models.Model):
    """How many calls of a key were refused in a minute, those included of which no row was kept."""

    id = models.BigAutoField(primary_key=True)
    api_key = models.ForeignKey("keys.ApiKey", on_delete=models.CASCADE, related_name="+", db_index=False)
    # Minutes since 1970-01-01 UTC.
    minute = models.BigIntegerField(db_index=True)
    refused = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["api_key", "minute"], name="gateway_refusalcount_once"),
            models.CheckConstraint(condition=Q(refused__gt=0), name="gateway_refusalcount_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.refused} in minute {self.minute}"
