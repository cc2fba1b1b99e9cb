"""Every setting that the environment may give, typed, with its default and its reason.

`.env.example` and `docs/reference/settings.md` are generated from this class (`manage.py docs_reference`).
A bad value stops start-up and names the variable.
"""

import os
import secrets
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaList = Annotated[list[str], BeforeValidator(_split)]
PercentList = Annotated[list[Annotated[int, Field(ge=0, le=100)]], BeforeValidator(_split)]
NetworkList = Annotated[list[IPv4Network | IPv6Network], BeforeValidator(_split)]


class Environment(BaseModel):
    """The settings, one field a variable; the field's name in capitals is the variable's name."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    # -- where things are
    data_dir: Path = Field(
        default=PROJECT_ROOT / "var",
        description="Directory of the SQLite database, the generated secrets and scheduled exports.",
        json_schema_extra={"shown_default": "./var"},
    )
    export_dir: Path | None = Field(
        default=None,
        description="Directory that scheduled exports are written to. Empty: exports in DATA_DIR.",
        json_schema_extra={"shown_default": ""},
    )
    database_url: str = Field(
        default="",
        pattern=r"^$|^(sqlite|postgres|postgresql)://",
        description="postgres://user:password@host:5432/name, or sqlite:///path. Empty: SQLite in DATA_DIR.",
    )
    redis_url: str = Field(
        default="",
        pattern=r"^$|^(redis|rediss|unix)://",
        description="redis://host:6379/0 for the channel layer and cache. Empty: in process, for one worker only.",
    )

    # -- server
    host: str = Field(default="127.0.0.1", min_length=1, description="Address that `manage.py serve` listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that `manage.py serve` listens on.")
    workers: int = Field(
        default=1, ge=1, le=256, description="Server processes. More than one needs PostgreSQL and Redis."
    )
    debug: bool = Field(default=False, description="Django's debug pages. Never in production.")
    allowed_hosts: CommaList = Field(
        default=["127.0.0.1", "localhost", "[::1]"],
        description="Host names that the server answers to, comma separated.",
    )
    csrf_trusted_origins: CommaList = Field(
        default=[],
        description="Origins for the admin behind a TLS proxy, e.g. https://tollkeeper.example.com.",
    )
    behind_tls_proxy: bool = Field(
        default=False,
        description="Trust X-Forwarded-Proto and X-Forwarded-For of a proxy, and mark cookies secure.",
    )
    trusted_proxies: NetworkList = Field(
        default=[],
        description="Networks of the proxies whose X-Forwarded-For is believed, e.g. 10.0.0.0/8, fd00::/8.",
    )
    email_url: str = Field(
        default="",
        pattern=r"^$|^smtps?://",
        description="smtp://user:password@host:587 (STARTTLS) or smtps://... Empty: mails are written to the log.",
    )
    email_from: str = Field(default="tollkeeper@localhost", description="The sender of mails.")
    finance_email: str = Field(
        default="",
        max_length=254,
        description="The platform's own address for alerts about budgets and balances. Empty: customers alone.",
    )
    alert_percents: PercentList = Field(
        default=[50, 80, 100],
        description="Parts of a budget whose use is told by mail, comma separated. Empty the list with 0.",
        json_schema_extra={"shown_default": "50,80,100"},
    )
    alert_balance_usd: str = Field(
        default="1",
        pattern=r"^\d{1,9}(\.\d{1,9})?$",
        description="A customer whose balance falls below this is told once, until its next credit. 0: nobody is.",
    )
    retention_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Older usage records are archived to files, leaving sums by the hour; 62 or more. 0: never.",
    )
    archive_dir: Path | None = Field(
        default=None,
        description="Directory of the archives of old usage. Empty: archives in DATA_DIR.",
        json_schema_extra={"shown_default": ""},
    )
    seller_name: str = Field(
        default="Tollkeeper", min_length=1, max_length=200, description="Who issues the invoices: the legal name."
    )
    seller_address: str = Field(
        default="", max_length=500, description="Its address on invoices; | divides lines: 1 Main St | 12345 Town."
    )
    seller_country: str = Field(default="", pattern=r"^$|^[A-Z]{2}$", description="Its country, ISO 3166-1: DE.")
    seller_tax_id: str = Field(default="", max_length=40, description="Its VAT number or the like.")
    seller_email: str = Field(default="", max_length=254, description="Where customers ask about invoices.")
    seller_payment_details: str = Field(
        default="", max_length=500, description="How invoices are paid, e.g. bank and IBAN; | divides lines."
    )
    invoice_series: str = Field(
        default="INV",
        pattern=r"^[A-Za-z0-9-]{1,20}$",
        description="What numbers of invoices begin with; each series counts from 1 every year: INV-2026-00001.",
    )
    invoice_closing: Literal["off", "draft", "issue"] = Field(
        default="off",
        description="Close each month by itself, some hours after its end: as drafts, or issue the invoices as well.",
    )
    drain_delay_seconds: float = Field(
        default=0,
        ge=0,
        le=300,
        description="After SIGTERM, keep serving this long with /readyz failing, so that balancers notice.",
    )
    drain_timeout_seconds: float = Field(
        default=30,
        gt=0,
        le=3600,
        description="After that, streams in flight get this long to end; then they are ended and settled.",
    )

    # -- secrets
    secret_key: str = Field(
        default="",
        description="Django's signing key. Empty: generated once into DATA_DIR.",
        json_schema_extra={"secret": True},
    )
    key_peppers: CommaList = Field(
        default=[],
        description="Peppers of API key hashes, newest first; older ones stay valid. Empty: generated into DATA_DIR.",
        json_schema_extra={"secret": True},
    )
    encryption_keys: CommaList = Field(
        default=[],
        description="Fernet keys for provider secrets at rest, newest first. Empty: generated once into DATA_DIR.",
        json_schema_extra={"secret": True},
    )

    # -- abuse and the admin
    failed_attempts_per_minute: int = Field(
        default=60,
        ge=0,
        le=1_000_000,
        description="Wrong API keys, and wrong logins, from one address a minute; beyond it 429. 0: not counted.",
    )
    anonymous_requests_per_minute: int = Field(
        default=120,
        ge=0,
        le=1_000_000,
        description="Requests without a key to /docs and /v1/openapi.json from one address a minute. 0: not counted.",
    )
    money_approval_usd: str = Field(
        default="1000",
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$",
        description="Top-ups, grants, refunds and the like of this many USD or more need a second person. 0: all.",
    )
    nightly_reconcile: Literal["on", "off"] = Field(
        default="on", description="Prove the books every night at 02:20 UTC; the result is in the admin."
    )
    admin_second_factor: Literal["auto", "required", "optional", "off"] = Field(
        default="auto",
        description="A code from an app at the admin's login. auto: required, but optional with DEBUG or demo data.",
    )
    admin_session_hours: float = Field(
        default=12, gt=0, le=720, description="After so long an administrator has to log in again."
    )

    # -- the request path
    max_body_bytes: int = Field(default=20_000_000, ge=1_000, description="Largest request body; beyond it 413.")
    max_messages: int = Field(default=2_000, ge=1, description="Most messages in one chat call.")
    output_attempts: int = Field(
        default=2,
        ge=1,
        le=10,
        description="How often a model is asked for an answer that fits its JSON Schema, unless the caller says.",
    )
    prompt_judge_model: str = Field(
        default="",
        max_length=120,
        description="Model that judges outputs in test cases of prompts. Empty: the model under test.",
    )
    output_attempts_limit: int = Field(
        default=5, ge=1, le=10, description="Most attempts that a caller may ask for (x-max-attempts)."
    )
    admission_queue_limit: int = Field(
        default=2_000,
        ge=1,
        description="Calls that may wait for admission in a process; beyond it 503 with Retry-After.",
    )
    breaker_failures: int = Field(
        default=5,
        ge=1,
        description="A deployment that fails so often in a short time rests: no call goes there meanwhile.",
    )
    breaker_rest_seconds: float = Field(
        default=10.0,
        gt=0,
        description="How long it rests the first time; each failed trial after a rest doubles it, up to 5 minutes.",
    )
    max_calls_in_flight: int = Field(
        default=4_000,
        ge=1,
        description="Calls that a process carries at once; lower priority classes are refused before it is reached.",
    )
    clerk: Literal["process", "thread"] = Field(
        default="process",
        description="Where a server process decides and books: in a process beside it, or in a thread of its own.",
    )
    admission_batch_limit: int = Field(
        default=256, ge=1, le=2_000, description="Most decisions in one database transaction."
    )
    worker_lease_seconds: float = Field(
        default=15,
        ge=2,
        le=300,
        description="How long the holds of a killed process stay; renewed three times as often.",
    )
    client_stall_seconds: float = Field(
        default=30, gt=0, le=600, description="A client that accepts nothing for this long counts as lost."
    )
    settle_timeout_seconds: float = Field(
        default=10, gt=0, le=120, description="How long an answer waits for its settlement to be durable."
    )
    cache_memory_mb: int = Field(
        default=64,
        ge=0,
        le=65_536,
        description="Memory of each process for answers that are reused; the least recently used go first. 0: none.",
    )
    websocket_calls_limit: int = Field(default=16, ge=1, le=1_000, description="Calls in flight on one WebSocket.")
    stream_keep_seconds: float = Field(
        default=300,
        ge=0,
        le=86_400,
        description="How long the events of a stream that its caller may resume are kept after its end. 0: never kept.",
    )
    stream_away_seconds: float = Field(
        default=60,
        gt=0,
        le=3_600,
        description="How long such a stream goes on with nobody reading; then it ends where that stops its bill.",
    )
    stream_buffer_bytes: int = Field(
        default=2_000_000, ge=1_000, description="Most that is kept of one such stream; the oldest events go first."
    )
    stream_buffers_bytes: int = Field(
        default=128_000_000, ge=1_000, description="Most that a process keeps of all such streams together."
    )

    # -- the embedded model
    local_model: Literal["on", "off"] = Field(
        default="on", description="Start the embedded local model with `manage.py serve`."
    )
    local_model_port: int = Field(default=0, ge=0, le=65535, description="Its loopback port. 0: any free one.")
    local_model_threads: int = Field(
        default=0, ge=0, le=256, description="Its CPU threads. 0: as many as there are cores."
    )
    local_model_slots: int = Field(default=4, ge=1, le=64, description="Calls that it answers at the same time.")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Level of the server's log."
    )


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Return the settings of `variables` (default: the process environment); empty values mean the default.

    Raises pydantic.ValidationError, which `describe_problems` turns into one line a variable.
    """
    source = os.environ if variables is None else variables
    given = {
        name: source[name.upper()] for name in Environment.model_fields if source.get(name.upper(), "").strip() != ""
    }
    return Environment.model_validate(given)


def describe_problems(error: ValidationError) -> str:
    """Return one line for each bad variable: name, value (unless secret) and what is expected."""
    lines = []
    for problem in error.errors():
        name = str(problem["loc"][0])
        extra = Environment.model_fields[name].json_schema_extra
        is_secret = isinstance(extra, dict) and bool(extra.get("secret"))
        shown = "" if is_secret else f" (it is {problem['input']!r})"
        lines.append(f"{name.upper()}{shown}: {problem['msg']}. {Environment.model_fields[name].description}")
    return "Cannot start, the environment has a bad value:\n  " + "\n  ".join(lines)


def read_or_create_secret(path: Path, *, length_bytes: int = 48) -> str:
    """Return the secret in `path`, creating it readable by its owner only; two processes at once agree on one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # O_EXCL decides the race; a temporary name keeps a reader from seeing a half-written file.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(length_bytes))
        try:
            os.link(temporary, path)
        finally:
            temporary.unlink()
    except FileExistsError:
        pass
    return path.read_text().strip()


def previous_secret_path(path: Path) -> Path:
    """Return where the secret before the one in `path` is kept until nothing needs it any more."""
    return path.with_name(f"{path.name}.previous")


def make_next_secret(path: Path) -> None:
    """Put a new secret into `path` and keep the present one beside it.

    Raises FileExistsError, with nothing changed, while an earlier one is still kept.
    """
    read_or_create_secret(path)
    previous = previous_secret_path(path)
    # A second name and no renaming: at no moment is there no secret, which another process would replace by its own.
    os.link(path, previous)
    next_path = path.with_name(f".{path.name}.next")
    next_path.unlink(missing_ok=True)
    read_or_create_secret(next_path)
    next_path.replace(path)
