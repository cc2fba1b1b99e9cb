"""Every setting that the environment may give, typed, with its default and its reason.

`.env.example` and `docs/reference/settings.md` are generated from this class (`manage.py docs_reference`).
A bad value stops start-up and names the variable.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaList = Annotated[list[str], BeforeValidator(_split)]


class Environment(BaseModel):
    """The settings, one field a variable; the field's name in capitals is the variable's name."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    # -- where things are
    data_dir: Path = Field(
        default=PROJECT_ROOT / "var",
        description="Directory of the SQLite database, the generated secrets and scheduled exports.",
        json_schema_extra={"shown_default": "./var"},
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

    # -- the request path
    max_body_bytes: int = Field(default=20_000_000, ge=1_000, description="Largest request body; beyond it 413.")
    max_messages: int = Field(default=2_000, ge=1, description="Most messages in one chat call.")
    admission_queue_limit: int = Field(
        default=2_000,
        ge=1,
        description="Calls that may wait for admission in a process; beyond it 503 with Retry-After.",
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
    websocket_calls_limit: int = Field(default=16, ge=1, le=1_000, description="Calls in flight on one WebSocket.")

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
