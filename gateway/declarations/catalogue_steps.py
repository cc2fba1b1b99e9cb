"""Applying upstreams, and models with their deployments."""

from collections.abc import Set

from common.errors import InternalError
from gateway.capabilities import DESCRIPTIONS
from gateway.declarations.application import Application, EntryRefused
from gateway.declarations.changes import FieldChange, Wanted, assign
from gateway.declarations.reading import Declared
from gateway.declarations.schema import Capabilities, DeploymentEntry, ModelEntry, UpstreamEntry
from gateway.models import Deployment, Model, Upstream
from gateway.secrets import decrypt_secret, encrypt_secret
from gateway.upstreams.registry import PROVIDERS, default_provider, find_address_problem, find_version_problem

# Without a figure of the caller's: enough for most answers, and no more is held for a call than this costs.
_DEFAULT_OUTPUT_TOKENS = 4_096


def apply_upstream(application: Application, declared: Declared) -> None:
    """Create or change an upstream. Its secret is compared with the stored one, and never shown."""
    entry = declared.entry
    assert isinstance(entry, UpstreamEntry)
    found = Upstream.objects.filter(name=entry.name).first()
    row = found or Upstream(name=entry.name)
    changes = assign(row, _wanted_of_upstream(entry, row, is_new=found is None))
    for problem, field in ((find_address_problem(row), "base_url"), (find_version_problem(row), "api_version")):
        if problem is not None:
            raise EntryRefused(problem, field)
    secret = application.secret(entry.secret, entry.secret_env, "secret_env")
    if secret is not None and secret != _stored_secret(row):
        row.encrypted_secret = encrypt_secret(secret)
        old = "set" if found is not None and found.encrypted_secret else "none"
        changes.append(FieldChange(field="secret", old=old, new="set anew" if secret else "none"))
    if found is None or changes:
        row.full_clean()
        row.save()
        application.record(row, changes, is_new=found is None)
    if found is None:
        application.log.created("upstream", row.name, [c for c in changes if c.field == "base_url"])
    else:
        application.log.updated("upstream", row.name, changes)


def _wanted_of_upstream(entry: UpstreamEntry, row: Upstream, *, is_new: bool) -> list[Wanted]:
    """Return the columns that the entry asks for: its own, over those of a provider that is new to the row."""
    given = entry.model_fields_set - {"name", "provider", "secret", "secret_env", "capabilities"}
    wanted = {name: _same(entry, name) for name in sorted(given)}
    wanted |= {item.column: item for item in _wanted_capabilities(entry.capabilities)}
    key = entry.provider or (default_provider(entry.dialect).key if is_new else row.provider)
    if is_new or key != row.provider:
        provider = PROVIDERS[key]
        taken = {"provider": key, **provider.columns()}
        if provider.has_own_address:
            taken["base_url"] = provider.base_url
        wanted = {c: Wanted(field=c, column=c, value=value) for c, value in taken.items()} | wanted
    return list(wanted.values())


def _wanted_capabilities(entry: Capabilities) -> list[Wanted]:
    return [
        Wanted(field=f"capabilities.{d.field}", column=d.column, value=getattr(entry, d.field))
        for d in DESCRIPTIONS.values()
        if d.field in entry.model_fields_set
    ]


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
    _check_bounds(row, given)
    if found is None or changes:
        row.full_clean()
        row.save()
        application.record(row, changes, is_new=found is None)
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


def _check_bounds(row: Model, given: Set[str]) -> None:
    """Refuse a figure beyond the one that bounds it, at the field that the file gives."""
    for name, bound in (("default_output_tokens", "max_output_tokens"), ("cache_seconds", "cache_limit_seconds")):
        value, most = getattr(row, name), getattr(row, bound)
        if value > most:
            raise EntryRefused(f"{name} ({value}) is more than {bound} ({most})", name if name in given else bound)


def _apply_deployment(application: Application, model: Model, entry: DeploymentEntry, index: int) -> None:
    upstream = Upstream.objects.filter(name=entry.upstream).first()
    if upstream is None:
        raise application.refuse_reference("upstreams", entry.upstream, "deployments", index, "upstream")
    upstream_model = entry.upstream_model or model.name
    found = Deployment.objects.filter(model=model, upstream=upstream, upstream_model=upstream_model).first()
    row = found or Deployment(model=model, upstream=upstream, upstream_model=upstream_model)
    wanted = [Wanted(field="priority", column="priority", value=entry.priority or index + 1)]
    given = entry.model_fields_set
    wanted += [_same(entry, name) for name in ("weight", "region", "is_active") if name in given]
    for side in ("input_cost", "output_cost"):
        if f"{side}_usd" in given:
            value = getattr(entry, f"{side}_usd")
            wanted.append(Wanted(field=f"{side}_usd", column=f"{side}_nanousd", value=value))
    wanted += _wanted_capabilities(entry.capabilities)
    changes = assign(row, wanted)
    if found is None or changes:
        row.save()
        application.record(row, changes, is_new=found is None)
    name = f"{model.name} at {upstream.name} as {upstream_model}"
    if found is None:
        application.log.created("deployment", name)
    else:
        application.log.updated("deployment", name, changes)


def _same(entry: UpstreamEntry | ModelEntry | DeploymentEntry, name: str) -> Wanted:
    """Return a field whose column has the same name."""
    return Wanted(field=name, column=name, value=getattr(entry, name))
