"""Applying upstreams, models with their deployments, and prices."""

from collections.abc import Mapping

from django.db import connection

from billing.pricing import PRICE_COLUMNS, PROVIDER_COLUMNS, Price, complete_rates, publish_price, read_price_book
from common.clock import to_us
from common.errors import InternalError
from common.sql import Sql
from gateway.declarations.application import AUTHOR, Application, EntryRefused
from gateway.declarations.changes import FieldChange, Wanted, assign, show_usd, show_value
from gateway.declarations.reading import Declared
from gateway.declarations.schema import DeploymentEntry, ModelEntry, PriceEntry, TokenRates, UpstreamEntry
from gateway.models import Deployment, Dialect, Model, Upstream
from gateway.secrets import decrypt_secret, encrypt_secret

# Without a figure of the caller's: enough for most answers, and no more is held for a call than this costs.
_DEFAULT_OUTPUT_TOKENS = 4_096


def apply_upstream(application: Application, declared: Declared) -> None:
    """Create or change an upstream. Its secret is compared with the stored one, and never shown."""
    entry = declared.entry
    assert isinstance(entry, UpstreamEntry)
    found = Upstream.objects.filter(name=entry.name).first()
    row = found or Upstream(name=entry.name)
    given = entry.model_fields_set - {"name", "secret", "secret_env"}
    changes = assign(row, [_same(entry, name) for name in sorted(given)])
    if row.dialect == Dialect.OPENAI and not row.base_url:
        raise EntryRefused("is required: where is it? For example https://api.openai.com/v1", "base_url")
    secret = application.secret(entry.secret, entry.secret_env, "secret_env")
    if secret is not None and secret != _stored_secret(row):
        row.encrypted_secret = encrypt_secret(secret)
        old = "set" if found is not None and found.encrypted_secret else "none"
        changes.append(FieldChange(field="secret", old=old, new="set anew" if secret else "none"))
    if found is None or changes:
        row.full_clean()
        row.save()
    if found is None:
        application.log.created("upstream", row.name, [c for c in changes if c.field == "base_url"])
    else:
        application.log.updated("upstream", row.name, changes)


def _stored_secret(row: Upstream) -> str | None:
    try:
        return decrypt_secret(row.encrypted_secret)
    except InternalError:
        # The keys that it was encrypted with are gone: whatever the file gives replaces it.
        return None


def apply_model(application: Application, declared: Declared) -> None:
    """Create or change a model and its deployments; deployments that are not listed stay."""
    entry = declared.entry
    assert isinstance(entry, ModelEntry)
    found = Model.objects.filter(name=entry.name).first()
    row = found or Model(name=entry.name, created_at=application.now)
    given = entry.model_fields_set - {"name", "deployments"}
    for name in ("context_window", "max_output_tokens", "default_output_tokens"):
        if name in given and getattr(entry, name) is None:
            raise EntryRefused("must be a number", name)
        if found is None and name not in given and name != "default_output_tokens":
            raise EntryRefused("is required for a new model", name)
    changes = assign(row, [_same(entry, name) for name in sorted(given)])
    if found is None and "default_output_tokens" not in given:
        row.default_output_tokens = min(row.max_output_tokens, _DEFAULT_OUTPUT_TOKENS)
    if row.default_output_tokens > row.max_output_tokens:
        where = "default_output_tokens" if "default_output_tokens" in given else "max_output_tokens"
        raise EntryRefused(
            f"default_output_tokens ({row.default_output_tokens}) is more than max_output_tokens"
            f" ({row.max_output_tokens})",
            where,
        )
    if found is None or changes:
        row.full_clean()
        row.save()
    if found is None:
        application.log.created("model", row.name)
    else:
        application.log.updated("model", row.name, changes)
    seen: set[tuple[str, str]] = set()
    for index, deployment in enumerate(entry.deployments):
        with application.reporting(declared.path):
            served = (deployment.upstream, deployment.upstream_model or row.name)
            if served in seen:
                raise EntryRefused("is listed twice for this model", "deployments", index)
            seen.add(served)
            _apply_deployment(application, row, deployment, index)


def _apply_deployment(application: Application, model: Model, entry: DeploymentEntry, index: int) -> None:
    upstream = Upstream.objects.filter(name=entry.upstream).first()
    if upstream is None:
        raise application.refuse_reference("upstreams", entry.upstream, "deployments", index, "upstream")
    upstream_model = entry.upstream_model or model.name
    found = Deployment.objects.filter(model=model, upstream=upstream, upstream_model=upstream_model).first()
    row = found or Deployment(model=model, upstream=upstream, upstream_model=upstream_model)
    wanted = [Wanted(field="priority", column="priority", value=entry.priority or index + 1)]
    if "is_active" in entry.model_fields_set:
        wanted.append(_same(entry, "is_active"))
    changes = assign(row, wanted)
    if found is None or changes:
        row.save()
    name = f"{model.name} at {upstream.name} as {upstream_model}"
    if found is None:
        application.log.created("deployment", name)
    else:
        application.log.updated("deployment", name, changes)


def apply_price(application: Application, declared: Declared) -> None:
    """Publish a price version, unless the version in force at its moment says the same."""
    entry = declared.entry
    assert isinstance(entry, PriceEntry)
    if not Model.objects.filter(name=entry.model).exists():
        raise application.refuse_reference("models", entry.model, "model")
    rates = complete_rates(_columns(entry))
    moment_us = to_us(entry.effective_from or application.now)
    in_force = read_price_book(Sql(connection)).find_price(entry.model, moment_us)
    changes = _rate_changes(None if in_force is None else _rates_of(in_force), rates)
    name = entry.model if entry.effective_from is None else f"{entry.model} from {show_value(entry.effective_from)}"
    if in_force is not None and not changes:
        application.log.updated("price", name, [])
        return
    if in_force is not None and entry.effective_from is not None and in_force.effective_us == moment_us:
        raise EntryRefused(
            "another price of this very moment was published before; versions are never changed, "
            "declare one with a later moment",
            "effective_from",
        )
    publish_price(
        model=entry.model,
        rates=rates,
        author=AUTHOR,
        effective_from=entry.effective_from or application.now,
        reason=entry.reason,
    )
    if in_force is None:
        application.log.created("price", name, changes)
    else:
        application.log.updated("price", name, changes)


def _columns(entry: PriceEntry) -> dict[str, int]:
    columns = {"request_nanousd": entry.usd_per_request, "provider_request_nanousd": entry.provider_usd_per_request}
    for prefix, rates in (
        ("", entry.usd_per_million_tokens),
        ("provider_", entry.provider_usd_per_million_tokens),
    ):
        if isinstance(rates, TokenRates):
            columns |= {f"{prefix}{token_class}_nanousd": value for token_class, value in rates.given().items()}
    return columns


def _rates_of(price: Price) -> dict[str, int]:
    return {
        **{c: getattr(price.rates, c.removesuffix("_nanousd")) for c in PRICE_COLUMNS},
        **{
            c: getattr(price.provider_rates, c.removeprefix("provider_").removesuffix("_nanousd"))
            for c in PROVIDER_COLUMNS
        },
    }


def _rate_changes(old: Mapping[str, int] | None, new: Mapping[str, int]) -> list[FieldChange]:
    """Return what differs; of a first price, the two rates that tell most."""
    if old is None:
        shown = ("input_nanousd", "output_nanousd")
        return [FieldChange(field=_rate_name(c), old="none", new=show_usd(new[c])) for c in shown]
    return [
        FieldChange(field=_rate_name(c), old=show_usd(old[c]), new=show_usd(new[c]))
        for c in (*PRICE_COLUMNS, *PROVIDER_COLUMNS)
        if old[c] != new[c]
    ]


def _rate_name(column: str) -> str:
    prefix = "provider_" if column.startswith("provider_") else ""
    name = column.removeprefix("provider_").removesuffix("_nanousd")
    if name == "request":
        return f"{prefix}usd_per_request"
    return f"{prefix}usd_per_million_tokens.{name}"


def _same(entry: UpstreamEntry | ModelEntry | DeploymentEntry, name: str) -> Wanted:
    """Return a field whose column has the same name."""
    return Wanted(field=name, column=name, value=getattr(entry, name))
