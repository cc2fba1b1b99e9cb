"""The shape of a declarations file: sections of entries, each field with its range.

A field that is left out keeps what is in the database (or, for something new, its default); see
`docs/reference/declarations.md`. `model_fields_set` is how the two are told apart, so defaults here mean "not given".
"""

from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from billing.bands import MAX_RATE_NANOUSD
from billing.invoice_models import MOST_PAYMENT_DAYS, WHOLE_MILLIONTHS
from billing.models import MarkupBasis
from billing.terms import MAX_MARKUP_BASIS_POINTS
from billing.tokens import TOKEN_CLASSES
from billing.waiving import NoCharge
from common.money import parse_usd
from common.percents import parse_percent
from gateway.declarations.entry import Entry, Slug
from gateway.declarations.guard_schema import GuardEntry
from gateway.models import MAX_CACHE_SECONDS, Authentication, Dialect, OnDisconnect, OutputLimitParameter, Routing
from gateway.upstreams.registry import PROVIDERS
from keys.errors import KeyInvalid
from keys.issuing import parse_networks
from keys.limit_values import MAX_BURST_SECONDS, MAX_RATE
from keys.models import CustomerStatus, KeyEnvironment
from keys.scopes import DEFAULT_SCOPES, Scope
from keys.tokens import is_well_formed


def _parse_amount(value: object) -> object:
    # None passes: whether a field may be null is its own matter.
    if not isinstance(value, str):
        return value
    amount = parse_usd(value)
    if amount < 0:
        raise ValueError("must not be negative")
    return amount


def _check_rate(amount: int) -> int:
    if amount > MAX_RATE_NANOUSD:
        raise ValueError("lies between 0 and 10,000 USD (the unit is a million tokens, or one request)")
    return amount


def _parse_percent(value: object, *, decimals: int = 2) -> object:
    # A number of YAML as well: 12.5 is what people write, and its text is exact.
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return parse_percent(str(value), decimals=decimals)
    return value


def _parse_tax(value: object) -> object:
    return _parse_percent(value, decimals=4)


def _check_time_zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("is no time zone; write an IANA name such as Europe/Berlin or UTC")
    return value


def _parse_moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("write a UTC date or moment like 2026-12-01 or 2026-12-01T08:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _check_email(value: str) -> str:
    try:
        validate_email(value)
    except ValidationError:
        raise ValueError("is not an e-mail address") from None
    return value


def _check_token(value: str) -> str:
    if not is_well_formed(value):
        raise ValueError("is not a key's text: tk_live_ or tk_test_, 27 characters and their checksum")
    return value


def _check_networks(values: list[str]) -> list[str]:
    try:
        return parse_networks(values)
    except KeyInvalid as error:
        raise ValueError(error.message) from None


def _check_provider(value: str) -> str:
    if value not in PROVIDERS:
        raise ValueError(f"is not a provider of the registry; known: {', '.join(PROVIDERS)}")
    return value


def _check_base_url(value: str) -> str:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError("begins with http:// or https://")
    return value.rstrip("/")


Usd = Annotated[int, BeforeValidator(_parse_amount)]
RateUsd = Annotated[int, BeforeValidator(_parse_amount), AfterValidator(_check_rate)]
# In hundredths of a percent.
Discount = Annotated[int, BeforeValidator(_parse_percent), Field(ge=0, le=10_000)]
Markup = Annotated[int, BeforeValidator(_parse_percent), Field(ge=-10_000, le=MAX_MARKUP_BASIS_POINTS)]
# In millionths.
Tax = Annotated[int, BeforeValidator(_parse_tax), Field(ge=0, le=WHOLE_MILLIONTHS)]
Moment = Annotated[datetime, BeforeValidator(_parse_moment)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Tokens = Annotated[int, Field(gt=0, le=2**31 - 1)]
Rate = Annotated[int, Field(ge=0, le=MAX_RATE)]
CacheSeconds = Annotated[int, Field(ge=0, le=MAX_CACHE_SECONDS)]
WholePercent = Annotated[int, Field(ge=0, le=100)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Limits(Entry):
    """Limits of a plan, a customer or a key; null takes one away."""

    requests_per_minute: Rate | None = None
    input_tokens_per_minute: Rate | None = None
    output_tokens_per_minute: Rate | None = None
    embeddings_requests_per_minute: Rate | None = None
    embeddings_input_tokens_per_minute: Rate | None = None
    search_requests_per_minute: Rate | None = None
    search_input_tokens_per_minute: Rate | None = None
    control_requests_per_minute: Rate | None = None
    burst_seconds: Annotated[int, Field(ge=1, le=MAX_BURST_SECONDS)] | None = None
    concurrency: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    max_input_tokens: Rate | None = None
    spend_per_day_usd: Usd | None = None
    spend_per_month_usd: Usd | None = None
    spend_total_usd: Usd | None = None


class Capabilities(Entry):
    """What a provider or one of its models can do; what is left out stays as it is."""

    tools: bool | None = None
    json_schema: bool | None = None
    images: bool | None = None
    logprobs: bool | None = None
    several_choices: bool | None = None
    sampling: bool | None = None


class UpstreamEntry(Entry):
    name: Annotated[Slug, Field(max_length=60)]
    provider: Annotated[str, AfterValidator(_check_provider)] | None = None
    dialect: Dialect = Dialect.OPENAI
    base_url: Annotated[str, Field(max_length=300), AfterValidator(_check_base_url)] = ""
    secret: str | None = Field(default=None, repr=False)
    secret_env: EnvName | None = None
    is_active: bool = True
    is_test: bool = False
    on_disconnect: OnDisconnect = OnDisconnect.STOP
    output_limit_parameter: OutputLimitParameter = OutputLimitParameter.MAX_TOKENS
    authentication: Authentication = Authentication.BEARER
    api_version: Annotated[str, Field(max_length=40)] = ""
    capabilities: Capabilities = Capabilities()
    connect_timeout_seconds: Seconds = 5.0
    first_token_timeout_seconds: Seconds = 60.0
    idle_timeout_seconds: Seconds = 30.0
    total_timeout_seconds: Seconds = 600.0
    note: str = ""

    @model_validator(mode="after")
    def _one_secret(self) -> "UpstreamEntry":
        if self.secret is not None and self.secret_env is not None:
            raise ValueError("give secret or secret_env, not both")
        return self


class DeploymentEntry(Entry):
    """One way to serve a model; the order of the list is the order in which they are tried."""

    upstream: str
    upstream_model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    priority: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    weight: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    region: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$", max_length=30)] = ""
    # USD per million tokens; for routing by cost.
    input_cost_usd: Usd | None = None
    output_cost_usd: Usd | None = None
    is_active: bool = True
    capabilities: Capabilities = Capabilities()


class ModelEntry(Entry):
    name: Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[!-~]+$")]
    description: str = ""
    owned_by: Annotated[str, Field(min_length=1, max_length=60)] = "tollkeeper"
    context_window: Tokens | None = None
    max_output_tokens: Tokens | None = None
    default_output_tokens: Tokens | None = None
    input_estimate_percent: Annotated[int, Field(ge=100, le=1_000)] = 100
    image_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1_600
    routing: Routing = Routing.WEIGHTS
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    retry_wait_seconds: Annotated[float, Field(ge=0, le=3_600, allow_inf_nan=False)] = 5.0
    attempts_seconds: Seconds = 120.0
    hedge_after_ms: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    cache_seconds: CacheSeconds = 0
    cache_limit_seconds: CacheSeconds = 86_400
    cache_is_shared: bool = False
    reused_price_percent: WholePercent = 0
    no_charge_on: NoCharge = NoCharge.NEVER
    is_active: bool = True
    deployments: list[DeploymentEntry] = Field(default_factory=list)


class TokenRates(Entry):
    """USD per million tokens; a class left out costs what it is a kind of (input or output)."""

    input: RateUsd
    cache_read: RateUsd | None = None
    cache_write: RateUsd | None = None
    output: RateUsd
    reasoning: RateUsd | None = None
    audio_input: RateUsd | None = None
    audio_output: RateUsd | None = None
    image_input: RateUsd | None = None
    image_output: RateUsd | None = None

    def given(self) -> dict[str, int]:
        """Return the classes that the file names, in nano-USD."""
        values = {name: getattr(self, name) for name in TOKEN_CLASSES}
        return {name: value for name, value in values.items() if value is not None}


class LongInput(Entry):
    """Rates of a whole call with more than so many input tokens; the platform's cost stays where none is given."""

    above_input_tokens: Tokens
    usd_per_million_tokens: TokenRates
    provider_usd_per_million_tokens: TokenRates | None = None


class PriceEntry(Entry):
    """A price is declared whole: what is left out has its default, not the value in force."""

    model: Annotated[str, Field(min_length=1, max_length=120)]
    usd_per_million_tokens: TokenRates
    usd_per_request: RateUsd = 0
    provider_usd_per_million_tokens: TokenRates | None = None
    provider_usd_per_request: RateUsd = 0
    price_list: Annotated[str, Field(max_length=60)] = ""
    long_input: list[LongInput] = []
    batch_discount_percent: Discount = 0
    provider_batch_discount_percent: Discount = 0
    effective_from: Moment | None = None
    reason: Annotated[str, Field(max_length=200)] = ""


class TermsEntry(Entry):
    """By which list and with which markup somebody pays; null in its place withdraws what is in force."""

    price_list: Annotated[str, Field(max_length=60)] = ""
    markup_percent: Markup = 0
    markup_on: MarkupBasis = MarkupBasis.LIST
    no_charge_on: NoCharge = NoCharge.NEVER
    reason: Annotated[str, Field(max_length=200)] = ""


class PlanEntry(Entry):
    slug: Annotated[Slug, Field(max_length=40)]
    name: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    description: str = ""
    # Under load, calls of plans that are not paid wait first.
    paid: bool = True
    # Null: as the model says.
    reused_price_percent: WholePercent | None = None
    limits: Limits = Limits()
    prices: TermsEntry | None = None


class CreditEntry(Entry):
    """Prepaid money, granted once: the reference is what makes a repeat harmless."""

    amount_usd: Annotated[Usd, Field(gt=0)]
    reason: Annotated[str, Field(min_length=1, max_length=200)]
    reference: Annotated[str, Field(min_length=1, max_length=100)]


class GrantEntry(Entry):
    """Money given for a time, once for each reference; spent before what is prepaid."""

    amount_usd: Annotated[Usd, Field(gt=0)]
    reason: Annotated[str, Field(min_length=1, max_length=200)]
    reference: Annotated[str, Field(min_length=1, max_length=100)]
    starts_at: Moment | None = None
    expires_at: Moment | None = None
    priority: Annotated[int, Field(ge=0, le=32_767)] = 100


class BillingEntry(Entry):
    """To whom invoices go, by which calendar and tax; see `billing.BillingProfile`."""

    legal_name: Annotated[str, Field(max_length=200)] = ""
    address: Annotated[str, Field(max_length=500)] = ""
    country: Annotated[str, Field(pattern=r"^$|^[A-Z]{2}$")] = ""
    tax_id: Annotated[str, Field(max_length=40)] = ""
    tax_percent: Tax = 0
    time_zone: Annotated[str, AfterValidator(_check_time_zone)] = "UTC"
    payment_days: Annotated[int, Field(ge=0, le=MOST_PAYMENT_DAYS)] = 30
    email: Annotated[str, AfterValidator(_check_email)] = ""


class CustomerEntry(Entry):
    name: Annotated[str, Field(min_length=1, max_length=120)]
    plan: str | None = None
    email: Annotated[str, AfterValidator(_check_email)] = ""
    status: CustomerStatus = CustomerStatus.ACTIVE
    note: str = ""
    limits: Limits = Limits()
    prices: TermsEntry | None = None
    credit: CreditEntry | None = None
    grants: list[GrantEntry] = []
    # How far the wallet may be spent below zero; 0 makes the customer prepaid only.
    credit_limit_usd: Usd | None = None
    billing: BillingEntry | None = None


class KeyEntry(Entry):
    name: Annotated[str, Field(min_length=1, max_length=80)]
    customer: str
    token: Annotated[str, AfterValidator(_check_token)] | None = Field(default=None, repr=False)
    token_env: EnvName | None = None
    environment: KeyEnvironment = KeyEnvironment.LIVE
    scopes: list[Scope] = list(DEFAULT_SCOPES)
    allowed_models: list[str] = []
    allowed_prompts: list[str] = []
    allowed_networks: Annotated[list[str], AfterValidator(_check_networks)] = []
    expires_at: Moment | None = None
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _one_token(self) -> "KeyEntry":
        if self.token is not None and self.token_env is not None:
            raise ValueError("give token or token_env, not both")
        return self


# In the order in which they are applied: what is referred to comes before what refers to it.
SECTIONS: dict[str, type[Entry]] = {
    "upstreams": UpstreamEntry,
    "models": ModelEntry,
    "prices": PriceEntry,
    "plans": PlanEntry,
    "customers": CustomerEntry,
    "keys": KeyEntry,
    "guards": GuardEntry,
}


def nested_entry(kind: type[Entry], field: str) -> type[Entry] | None:
    """Return the entry class that a field holds (itself or in a list), or None for a plain value."""
    info = kind.model_fields.get(field)
    return None if info is None else _entry_in(info.annotation)


def _entry_in(annotation: Any) -> type[Entry] | None:
    if isinstance(annotation, type) and issubclass(annotation, Entry):
        return annotation
    return next((e for e in map(_entry_in, getattr(annotation, "__args__", ())) if e is not None), None)
