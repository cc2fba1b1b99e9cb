"""What can be called, frozen: models, their deployments and upstreams, prices and prompts, of one generation.

Read by the clerk when the generation number moved (see `common.generations`), handed to the request path whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from billing.pricing import PriceBook, read_price_book
from common.sql import Sql
from gateway.capabilities import ALL_CAPABILITIES, CAPABILITY_COLUMNS, Capability, capabilities_of, override
from gateway.guards.book import GuardBook, read_guard_book
from gateway.models import Authentication, Dialect, OnDisconnect, Routing
from gateway.secrets import decrypt_secret
from prompts.snapshots import EMPTY_BOOK, PromptBook, read_prompt_book


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamEntry:
    """An upstream as the request path needs it; `secret` is decrypted and lives in memory only."""

    id: int
    name: str
    dialect: Dialect
    base_url: str
    secret: str
    is_test: bool
    on_disconnect: OnDisconnect
    output_limit_parameter: str
    connect_timeout_seconds: float
    first_token_timeout_seconds: float
    idle_timeout_seconds: float
    total_timeout_seconds: float
    authentication: Authentication = Authentication.BEARER
    api_version: str = ""
    capabilities: Capability = ALL_CAPABILITIES

    def __repr__(self) -> str:
        return f"UpstreamEntry({self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentEntry:
    """One way to serve a model."""

    id: int
    upstream: UpstreamEntry
    upstream_model: str
    priority: int = 1
    weight: int = 1
    region: str = ""
    # What it costs us per million tokens, where somebody has said so.
    input_cost_nanousd: int | None = None
    output_cost_nanousd: int | None = None
    # The upstream's, unless the model differs.
    capabilities: Capability = ALL_CAPABILITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A public model with its active deployments, by priority."""

    name: str
    description: str
    owned_by: str
    context_window: int
    max_output_tokens: int
    default_output_tokens: int
    input_estimate_percent: int
    input_overhead_tokens: int
    image_tokens: int
    created_at: int
    deployments: tuple[DeploymentEntry, ...]
    routing: Routing = Routing.WEIGHTS
    # See `gateway.stages.retry`.
    retries: int = 0
    retry_wait_seconds: float = 5.0
    attempts_seconds: float = 120.0
    hedge_after_ms: int | None = None
    # See `gateway.stages.recall`.
    cache_seconds: int = 0
    cache_limit_seconds: int = 0
    cache_is_shared: bool = False
    reused_price_percent: int = 0
    # Which answers are not charged (`billing.waiving`).
    no_charge_on: str = ""

    def scale_tokens(self, counted: int) -> int:
        """Return the upper bound of what this model's tokenizer makes of so many tokens of our count."""
        return -(-counted * self.input_estimate_percent // 100)

    def deployments_for(self, environment: str) -> tuple[DeploymentEntry, ...]:
        """Return what a key of `environment` may reach: a test key reaches nothing that somebody pays for."""
        if environment != "test":
            return self.deployments
        return tuple(d for d in self.deployments if d.upstream.is_test)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Everything callable, as of one generation."""

    generation: int
    models: dict[str, ModelEntry]
    prices: PriceBook
    # The largest context window of all models: an input beyond it fits nowhere.
    largest_window: int = 0
    prompts: PromptBook = EMPTY_BOOK
    # None: nobody's calls are checked.
    guards: GuardBook | None = None
    # How often cached answers were purged, by scope and subject ("model:gpt", "customer:7", "all:").
    purges: Mapping[str, int] = field(default_factory=dict)


EMPTY_CATALOGUE = Catalogue(generation=-1, models={}, prices=PriceBook(()))

_UPSTREAM_COLUMNS = (
    "id",
    "name",
    "dialect",
    "base_url",
    "encrypted_secret",
    "is_test",
    "on_disconnect",
    "output_limit_parameter",
    "connect_timeout_seconds",
    "first_token_timeout_seconds",
    "idle_timeout_seconds",
    "total_timeout_seconds",
    "authentication",
    "api_version",
)
_MODEL_COLUMNS = (
    "id",
    "name",
    "description",
    "owned_by",
    "context_window",
    "max_output_tokens",
    "default_output_tokens",
    "input_estimate_percent",
    "input_overhead_tokens",
    "image_tokens",
    "created_at",
    "routing",
    "retries",
    "retry_wait_seconds",
    "attempts_seconds",
    "hedge_after_ms",
    "cache_seconds",
    "cache_limit_seconds",
    "cache_is_shared",
    "reused_price_percent",
    "no_charge_on",
)
_DEPLOYMENT_COLUMNS = (
    "id",
    "upstream_model",
    "priority",
    "weight",
    "region",
    "input_cost_nanousd",
    "output_cost_nanousd",
)
_PURGES = "SELECT scope, subject, count FROM gateway_cachepurge"


def read_generation(sql: Sql) -> int:
    """Return the catalogue's present generation."""
    return int(sql.rows("SELECT value FROM common_generation WHERE name = 'catalogue'")[0][0])


def read_catalogue(sql: Sql, previous: Catalogue = EMPTY_CATALOGUE) -> Catalogue:
    """Return the catalogue of the open transaction, without inactive models, upstreams and deployments.

    What cannot have changed since `previous` is taken over from it.
    """
    generation = read_generation(sql)
    upstreams = {}
    flags = ", ".join(CAPABILITY_COLUMNS)
    for row in sql.rows(f"SELECT {', '.join(_UPSTREAM_COLUMNS)}, {flags} FROM gateway_upstream WHERE is_active"):
        values = dict(zip(_UPSTREAM_COLUMNS, row[: len(_UPSTREAM_COLUMNS)], strict=True))
        values["capabilities"] = capabilities_of(row[len(_UPSTREAM_COLUMNS) :])
        values["secret"] = decrypt_secret(values.pop("encrypted_secret"))
        values["dialect"] = Dialect(values["dialect"])
        values["on_disconnect"] = OnDisconnect(values["on_disconnect"])
        values["authentication"] = Authentication(values["authentication"])
        upstreams[values["id"]] = UpstreamEntry(**values)
    deployments: dict[int, list[DeploymentEntry]] = {}
    width = len(_DEPLOYMENT_COLUMNS)
    for model_id, upstream_id, *rest in sql.rows(
        f"SELECT model_id, upstream_id, {', '.join(_DEPLOYMENT_COLUMNS)}, {flags}"
        " FROM gateway_deployment WHERE is_active ORDER BY priority, id"
    ):
        if upstream := upstreams.get(upstream_id):
            entry = DeploymentEntry(
                upstream=upstream,
                capabilities=override(upstream.capabilities, rest[width:]),
                **dict(zip(_DEPLOYMENT_COLUMNS, rest[:width], strict=True)),
            )
            deployments.setdefault(model_id, []).append(entry)
    models = {}
    for row in sql.rows(f"SELECT {', '.join(_MODEL_COLUMNS)} FROM gateway_model WHERE is_active ORDER BY name"):
        values = dict(zip(_MODEL_COLUMNS, row, strict=True))
        values["created_at"] = int(values["created_at"].timestamp())
        values["routing"] = Routing(values["routing"])
        model_id = values.pop("id")
        models[values["name"]] = ModelEntry(**values, deployments=tuple(deployments.get(model_id, ())))
    return Catalogue(
        generation=generation,
        models=models,
        prices=read_price_book(sql),
        largest_window=max((model.context_window for model in models.values()), default=0),
        prompts=read_prompt_book(sql, previous.prompts),
        guards=read_guard_book(sql),
        purges={f"{row[0]}:{row[1]}": row[2] for row in sql.rows(_PURGES)},
    )
