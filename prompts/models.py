"""Rows of prompts: drafts, immutable versions, labels with the log of their moves, and test cases with results.

Rules live in `authoring`, `releasing` and `testing`. `PromptVersion`, `LabelMove` and `PromptTestResult` are
append-only: the database refuses to change them. A label is never deleted; one that was taken back points nowhere.
"""

from django.db import models
from django.db.models import F, Q

from common.append_only import AppendOnlyModel
from common.generations import CatalogueModel
from prompts.names import VersionNumber


class Prompt(CatalogueModel):
    """A prompt under its name; what it says is in its draft and its versions."""

    unwatched_columns = frozenset({"owner", "tags"})

    name = models.CharField(
        max_length=80,
        unique=True,
        help_text="What callers write: lower-case words and digits, joined by dots, dashes or underscores.",
    )
    description = models.TextField(blank=True, help_text="What it is for; shown to callers in the API documents.")
    owner = models.CharField(max_length=150, blank=True, help_text="Who answers for it: a person or a team.")
    tags = models.JSONField(default=list, blank=True)
    cache_seconds = models.PositiveIntegerField(
        "Reuse answers for, seconds",
        null=True,
        blank=True,
        help_text="How old an answer may be that a run with the same inputs gets again, within what its model allows. "
        "0: only runs that ask for it. Empty: as the model says.",
    )
    created_by = models.CharField(max_length=150, blank=True, editable=False)
    created_at = models.DateTimeField(editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=~Q(name=""), name="prompts_prompt_named")]
        permissions = [
            ("publish_prompt", "Can publish versions and deprecate them"),
            ("release_prompt", "Can move labels"),
            ("approve_release", "Can approve moves that others proposed, and set the rules of labels"),
        ]

    def __str__(self) -> str:
        return self.name


class PromptVersion(AppendOnlyModel, CatalogueModel):
    """What was published under a number; `content` is the JSON of `prompts.content.PromptContent`."""

    id = models.BigAutoField(primary_key=True)
    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, related_name="+")
    major = models.PositiveIntegerField()
    minor = models.PositiveIntegerField()
    patch = models.PositiveIntegerField()
    # Text, and not a JSON column: PostgreSQL's would forget the order of a schema's properties.
    content = models.TextField()
    fingerprint = models.CharField(max_length=64)
    note = models.CharField(max_length=500, help_text="What changed, and why.")
    behaviour_note = models.CharField(max_length=500, blank=True, help_text="What callers will notice.")
    author = models.CharField(max_length=150)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["prompt", "major", "minor", "patch"], name="prompts_version_number_once"),
            models.CheckConstraint(condition=Q(major__gte=1), name="prompts_version_from_one"),
            models.CheckConstraint(condition=~Q(author="") & ~Q(note=""), name="prompts_version_says_who_and_why"),
        ]

    def __str__(self) -> str:
        return str(self.number)

    @property
    def number(self) -> VersionNumber:
        return VersionNumber(major=self.major, minor=self.minor, patch=self.patch)


class PromptDraft(models.Model):
    """What an author is working on; `revision` tells two people who edit at the same time."""

    prompt = models.OneToOneField(Prompt, on_delete=models.CASCADE, primary_key=True, related_name="draft")
    content = models.TextField()
    based_on = models.ForeignKey(PromptVersion, null=True, on_delete=models.PROTECT, related_name="+")
    revision = models.PositiveIntegerField(default=1)
    updated_by = models.CharField(max_length=150, blank=True)
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"draft {self.revision}"


class VersionDeprecation(CatalogueModel):
    """A version that callers should leave; told to them in the Deprecation and Sunset headers."""

    version = models.OneToOneField(PromptVersion, on_delete=models.PROTECT, primary_key=True, related_name="+")
    deprecated_at = models.DateTimeField()
    sunset_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=500, blank=True)
    author = models.CharField(max_length=150)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(sunset_at__isnull=True) | Q(sunset_at__gte=F("deprecated_at")),
                name="prompts_sunset_after_deprecation",
            )
        ]

    def __str__(self) -> str:
        return f"deprecation of {self.version_id}"


class ReleaseColumns(models.Model):
    """Where a label points: a version, and possibly another one that gets `rollout_percent` of the callers."""

    version = models.ForeignKey(PromptVersion, null=True, on_delete=models.PROTECT, related_name="+")
    rollout_version = models.ForeignKey(PromptVersion, null=True, on_delete=models.PROTECT, related_name="+")
    rollout_percent = models.PositiveSmallIntegerField(default=0)

    class Meta:
        abstract = True


def _rollout_is_whole(prefix: str) -> models.CheckConstraint:
    return models.CheckConstraint(
        condition=Q(rollout_version__isnull=True, rollout_percent=0)
        | Q(rollout_version__isnull=False, version__isnull=False, rollout_percent__gte=1, rollout_percent__lte=99)
        & ~Q(rollout_version=F("version")),
        name=f"prompts_{prefix}_rollout_whole",
    )


class Label(ReleaseColumns, CatalogueModel):
    """A name that callers pin. Moved by `prompts.releasing` only, under this row's lock."""

    unwatched_columns = frozenset({"needs_approval", "needs_green_tests"})

    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=40)
    needs_approval = models.BooleanField(
        default=False, help_text="A move counts only when a second person has approved it."
    )
    needs_green_tests = models.BooleanField(
        default=False, help_text="Only versions whose test cases all pass can get this label."
    )

    class Meta:
        verbose_name = "release label"
        constraints = [
            models.UniqueConstraint(fields=["prompt", "name"], name="prompts_label_once"),
            _rollout_is_whole("label"),
            # A label that is a number could be taken for a version.
            models.CheckConstraint(condition=Q(name__regex=r"^[a-z]"), name="prompts_label_is_no_number"),
        ]

    def __str__(self) -> str:
        return self.name


class MoveKind(models.TextChoices):
    RELEASE = "release", "Released"
    ROLLOUT = "rollout", "Rollout"
    ROLLBACK = "rollback", "Rolled back"
    REMOVAL = "removal", "Taken back"


class LabelMove(ReleaseColumns, AppendOnlyModel):
    """One move of a label: where it pointed to from then on, who moved it and why."""

    id = models.BigAutoField(primary_key=True)
    label = models.ForeignKey(Label, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=8, choices=MoveKind.choices)
    reason = models.CharField(max_length=500)
    author = models.CharField(max_length=150)
    approved_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["label", "id"], name="prompts_move_by_label")]
        constraints = [
            _rollout_is_whole("move"),
            models.CheckConstraint(condition=Q(kind__in=MoveKind.values), name="prompts_move_kind_known"),
            models.CheckConstraint(condition=~Q(author="") & ~Q(reason=""), name="prompts_move_says_who_and_why"),
            models.CheckConstraint(condition=~Q(author=F("approved_by")), name="prompts_move_two_people"),
            models.CheckConstraint(
                condition=Q(kind="removal", version__isnull=True) | ~Q(kind="removal") & Q(version__isnull=False),
                name="prompts_move_removal_points_nowhere",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class ProposalState(models.TextChoices):
    OPEN = "open", "Waiting for approval"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    OVERTAKEN = "overtaken", "Overtaken by another move"


class MoveProposal(ReleaseColumns):
    """A move that waits for a second person; any other move of the label overtakes it."""

    id = models.BigAutoField(primary_key=True)
    label = models.ForeignKey(Label, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=8, choices=MoveKind.choices)
    reason = models.CharField(max_length=500)
    author = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    state = models.CharField(max_length=9, choices=ProposalState.choices, default=ProposalState.OPEN)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True)
    decision_note = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            _rollout_is_whole("proposal"),
            models.UniqueConstraint(fields=["label"], condition=Q(state="open"), name="prompts_proposal_one_open"),
            models.CheckConstraint(condition=Q(state__in=ProposalState.values), name="prompts_proposal_state_known"),
            models.CheckConstraint(
                condition=~Q(state="approved") | ~Q(decided_by="") & ~Q(decided_by=F("author")),
                name="prompts_proposal_second_person",
            ),
        ]

    def __str__(self) -> str:
        return f"proposal {self.id}"


class PromptTestCase(models.Model):
    """Inputs and what must be true of the output. `fingerprint` names what it asked when a result was stored."""

    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=80)
    inputs = models.TextField()
    checks = models.TextField()
    fingerprint = models.CharField(max_length=64, editable=False)
    is_active = models.BooleanField(default=True, help_text="Only active cases stand in the way of a release.")
    updated_by = models.CharField(max_length=150, blank=True, editable=False)
    updated_at = models.DateTimeField(editable=False)

    class Meta:
        verbose_name = "test case"
        constraints = [models.UniqueConstraint(fields=["prompt", "name"], name="prompts_case_name_once")]

    def __str__(self) -> str:
        return self.name


class PromptTestResult(AppendOnlyModel):
    """How one version did on one case with one model. Money in nano-USD, time in milliseconds."""

    id = models.BigAutoField(primary_key=True)
    version = models.ForeignKey(PromptVersion, on_delete=models.PROTECT, related_name="+", db_index=False)
    case = models.ForeignKey(PromptTestCase, on_delete=models.PROTECT, related_name="+")
    case_fingerprint = models.CharField(max_length=64)
    model = models.CharField(max_length=120)
    is_passed = models.BooleanField()
    # JSON list of what failed, one sentence a check.
    failures = models.TextField(default="[]")
    output = models.TextField(blank=True)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_nanousd = models.BigIntegerField(default=0)
    latency_ms = models.BigIntegerField(default=0)
    author = models.CharField(max_length=150)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["version", "case", "-id"], name="prompts_result_latest")]
        constraints = [
            models.CheckConstraint(
                condition=Q(input_tokens__gte=0)
                & Q(output_tokens__gte=0)
                & Q(cost_nanousd__gte=0)
                & Q(latency_ms__gte=0),
                name="prompts_result_not_negative",
            )
        ]

    def __str__(self) -> str:
        return f"result {self.id}"
