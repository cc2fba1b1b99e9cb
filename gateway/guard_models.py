"""Rows of content guards: policies with their rules, whom they are for, and what they decided.

What a rule means is `gateway.guards`; which combinations are sane is `gateway.guards.checking`. Decisions name rules by
their text: a rule may go, what it did stays until it is pruned.
"""

from django.db import models
from django.db.models import Q

from common.generations import CatalogueModel
from gateway.guards.checking import DEADLINES_MS, MOST_INSTRUCTIONS
from gateway.guards.values import Action, OnFailure, RuleKind


class GuardAction(models.TextChoices):
    FLAG = Action.FLAG.value, "Flag: let it through and note it"
    REDACT = Action.REDACT.value, "Redact: put a placeholder in its place"
    BLOCK = Action.BLOCK.value, "Block: refuse the call, or end the answer"


class GuardKind(models.TextChoices):
    INJECTION = RuleKind.INJECTION.value, "Prompt injection and jailbreaks"
    PII = RuleKind.PII.value, "Personal data"
    SECRETS = RuleKind.SECRETS.value, "Secrets and keys"
    WORDS = RuleKind.WORDS.value, "Words"
    TOPIC = RuleKind.TOPIC.value, "Topic"
    PATTERN = RuleKind.PATTERN.value, "Regular expression"
    LANGUAGE = RuleKind.LANGUAGE.value, "Language"
    LENGTH = RuleKind.LENGTH.value, "Length"
    MODEL = RuleKind.MODEL.value, "Judged by a model"


class GuardOnFailure(models.TextChoices):
    BLOCK = OnFailure.BLOCK.value, "Block: no text passes that has not been judged"
    ALLOW = OnFailure.ALLOW.value, "Allow: let it through and note it"


class GuardPolicy(CatalogueModel):
    """Rules that belong together. All policies that a call falls under count together."""

    unwatched_columns = frozenset({"description"})

    name = models.SlugField(max_length=60, unique=True, help_text="Shown to callers beside the rule that stopped them.")
    description = models.TextField(blank=True)
    is_active = models.BooleanField("active", default=True)
    is_for_everybody = models.BooleanField(
        "for everybody",
        default=False,
        help_text="Every call falls under it; else those of the plans, customers, keys and prompts below.",
    )
    restores = models.BooleanField(
        "put back what was redacted",
        default=True,
        help_text="Where the answer names a placeholder of something that was redacted, the caller gets the original.",
    )

    class Meta:
        verbose_name = "guard policy"
        verbose_name_plural = "guard policies"

    def __str__(self) -> str:
        return self.name


class GuardRule(CatalogueModel):
    """One rule; see `gateway.guards.values.Rule`. Which of the last columns count depends on the kind."""

    policy = models.ForeignKey(GuardPolicy, on_delete=models.CASCADE, related_name="rules")
    name = models.SlugField(max_length=60, help_text="Told to callers and in reports, e.g. 'pii' or 'competitors'.")
    kind = models.CharField(max_length=12, choices=GuardKind.choices)
    action = models.CharField(max_length=8, choices=GuardAction.choices)
    is_active = models.BooleanField("active", default=True)
    on_user = models.BooleanField("user", default=True, help_text="What users (and earlier answers sent along) say.")
    on_tool = models.BooleanField("tools", default=True, help_text="Results of tools.")
    on_system = models.BooleanField(
        "system", default=False, help_text="System messages of callers; the text of our own prompts is never looked at."
    )
    on_answer = models.BooleanField("answer", default=False, help_text="What the model says.")
    entities = models.CharField(
        max_length=400, blank=True, help_text="Personal data, secrets: which kinds, comma separated. Empty: all."
    )
    terms = models.TextField(
        blank=True, help_text="Words, topic: one word or phrase a line. One that ends in * may go on."
    )
    threshold = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Injection: from which score on it acts (empty: 60). Topic: from how many different terms on (3).",
    )
    pattern = models.CharField(
        max_length=500, blank=True, help_text="Regular expression (RE2), without * and +: say how often at most."
    )
    languages = models.CharField(
        max_length=200, blank=True, help_text="Language: which are allowed, comma separated: en, de."
    )
    max_characters = models.PositiveIntegerField(null=True, blank=True, help_text="Length: of one text.")
    # Both stay while a rule needs them: without either, nothing would pass any more.
    judge_model = models.ForeignKey(
        "gateway.Model",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name="model",
        help_text="Which model of this gateway judges. A small, quick one that follows instructions.",
    )
    judge_key = models.ForeignKey(
        "keys.ApiKey",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name="API key",
        help_text="Makes the checks, and its customer pays for them, within the limits of both: a customer of your "
        "own. Its networks do not count here. A live key judges live calls, a test key those of test keys.",
    )
    instructions = models.TextField(
        blank=True,
        db_default="",
        max_length=MOST_INSTRUCTIONS,
        help_text="What is not to pass, in plain words: 'Medical advice: a diagnosis, a dose, or whether to see a "
        "doctor. General facts about health are fine.'",
    )
    deadline_ms = models.PositiveIntegerField(
        "deadline, ms",
        default=2_000,
        db_default=2_000,
        help_text=f"How long a call waits for the verdict, {DEADLINES_MS.start:,} to {DEADLINES_MS.stop - 1:,}.",
    )
    on_failure = models.CharField(
        "without a verdict",
        max_length=5,
        choices=GuardOnFailure.choices,
        default=GuardOnFailure.BLOCK,
        db_default=GuardOnFailure.BLOCK.value,
        help_text="When the judge fails or is late. A rule that only flags never blocks.",
    )

    class Meta:
        verbose_name = "guard rule"
        constraints = [
            models.UniqueConstraint(fields=["policy", "name"], name="gateway_guardrule_once"),
            models.CheckConstraint(condition=Q(kind__in=GuardKind.values), name="gateway_guardrule_kind_known"),
            models.CheckConstraint(condition=Q(action__in=GuardAction.values), name="gateway_guardrule_action_known"),
            models.CheckConstraint(
                condition=~Q(action=GuardAction.REDACT) | Q(kind__in=["pii", "secrets", "words", "pattern"]),
                name="gateway_guardrule_redacts_spans",
            ),
            models.CheckConstraint(
                condition=~Q(kind=GuardKind.MODEL)
                | Q(judge_model__isnull=False, judge_key__isnull=False) & ~Q(instructions=""),
                name="gateway_guardrule_has_judge",
            ),
            models.CheckConstraint(
                condition=Q(deadline_ms__gte=DEADLINES_MS.start, deadline_ms__lt=DEADLINES_MS.stop),
                name="gateway_guardrule_deadline_in_range",
            ),
            models.CheckConstraint(
                condition=Q(on_failure__in=GuardOnFailure.values), name="gateway_guardrule_on_failure_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class GuardAssignment(CatalogueModel):
    """Whom a policy is for: a plan, a customer, a key (with those that succeed it or that it makes), or a prompt."""

    policy = models.ForeignKey(GuardPolicy, on_delete=models.CASCADE, related_name="assignments")
    # It says nothing without what it is for.
    plan = models.ForeignKey("keys.Plan", on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    customer = models.ForeignKey("keys.Customer", on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    api_key = models.ForeignKey(
        "keys.ApiKey", on_delete=models.CASCADE, null=True, blank=True, related_name="+", verbose_name="API key"
    )
    prompt = models.ForeignKey("prompts.Prompt", on_delete=models.CASCADE, null=True, blank=True, related_name="+")

    class Meta:
        verbose_name = "guard assignment"
        constraints = [
            models.CheckConstraint(
                condition=(
                    Q(plan__isnull=False, customer__isnull=True, api_key__isnull=True, prompt__isnull=True)
                    | Q(plan__isnull=True, customer__isnull=False, api_key__isnull=True, prompt__isnull=True)
                    | Q(plan__isnull=True, customer__isnull=True, api_key__isnull=False, prompt__isnull=True)
                    | Q(plan__isnull=True, customer__isnull=True, api_key__isnull=True, prompt__isnull=False)
                ),
                name="gateway_guardassignment_one_owner",
            ),
            *(
                models.UniqueConstraint(fields=["policy", owner], name=f"gateway_guardassignment_{owner}_once")
                for owner in ("plan", "customer", "api_key", "prompt")
            ),
        ]

    def __str__(self) -> str:
        return f"assignment {self.pk}"


class GuardDecision(models.Model):
    """One finding of a call, without the text; see `gateway.guard_rows`. Pruned by age."""

    id = models.BigAutoField(primary_key=True)
    request_id = models.CharField(max_length=32)
    number = models.PositiveSmallIntegerField()
    created_us = models.BigIntegerField(db_index=True)
    customer = models.ForeignKey("keys.Customer", on_delete=models.CASCADE, related_name="+", db_index=False)
    api_key = models.ForeignKey("keys.ApiKey", on_delete=models.CASCADE, related_name="+", db_index=False)
    policy = models.CharField(max_length=60)
    rule = models.CharField(max_length=100)
    action = models.CharField(max_length=8, choices=GuardAction.choices)
    place = models.CharField(max_length=200)
    # Characters of the text at that place.
    start_offset = models.PositiveIntegerField()
    end_offset = models.PositiveIntegerField()
    is_false_positive = models.BooleanField(default=False)

    class Meta:
        verbose_name = "guard decision"
        default_permissions = ("view", "change")
        constraints = [
            models.UniqueConstraint(fields=["request_id", "number"], name="gateway_guarddecision_once"),
        ]
        indexes = [
            models.Index(fields=["api_key", "created_us"], name="gateway_guard_by_key"),
            models.Index(fields=["customer", "created_us"], name="gateway_guard_by_customer"),
            models.Index(fields=["rule", "created_us"], name="gateway_guard_by_rule"),
        ]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.rule}"


class GuardCount(models.Model):
    """How often a rule acted on calls of a customer in an hour, those included of which no row was kept."""

    id = models.BigAutoField(primary_key=True)
    # Hours since 1970-01-01 UTC.
    hour = models.BigIntegerField()
    customer = models.ForeignKey("keys.Customer", on_delete=models.CASCADE, related_name="+", db_index=False)
    policy = models.CharField(max_length=60)
    rule = models.CharField(max_length=100)
    action = models.CharField(max_length=8, choices=GuardAction.choices)
    findings = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "customer", "policy", "rule", "action"], name="gateway_guardcount_once"
            ),
            models.CheckConstraint(condition=Q(findings__gt=0), name="gateway_guardcount_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.findings} of {self.rule} in hour {self.hour}"
