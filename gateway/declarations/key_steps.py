"""Applying API keys. A key's secret never changes: another secret is another key."""

from django.conf import settings

from gateway.declarations.application import AUTHOR, Application, EntryRefused
from gateway.declarations.changes import IssuedSecret, Wanted, assign
from gateway.declarations.customer_steps import wanted_limits
from gateway.declarations.reading import Declared
from gateway.declarations.schema import KeyEntry
from keys.issuing import issue_key
from keys.lines import share_limits
from keys.models import ApiKey, Customer, KeyEnvironment
from keys.principals import hashes_of
from keys.tokens import is_well_formed


def apply_key(application: Application, declared: Declared) -> None:
    """Issue or change a key, known by its customer and name; one that was revoked stays revoked."""
    entry = declared.entry
    assert isinstance(entry, KeyEntry)
    customer = Customer.objects.filter(name=entry.customer).first()
    if customer is None:
        raise application.refuse_reference("customers", entry.customer, "customer")
    token = _token(application, entry)
    found = _find_key(customer, entry, token)
    name = f"{entry.name} of {customer.name}"
    if found is None:
        _issue(application, entry, customer, token)
        return
    if "environment" in entry.model_fields_set and entry.environment != found.environment:
        raise EntryRefused(f"is {found.environment} for good; declare a key of another name", "environment")
    if found.revoked_at is not None:
        application.log.notes.append(f"key {name} was revoked and stays so; declare another name to issue a new one")
    if entry.expires_at is not None and entry.expires_at != found.expires_at and entry.expires_at <= application.now:
        raise EntryRefused("lies in the past; revoke the key instead", "expires_at")
    changes = assign(found, _wanted(entry))
    if changes:
        found.save()
        share_limits(found)
        application.record(found, changes)
    application.log.updated("key", name, changes)


def _token(application: Application, entry: KeyEntry) -> str | None:
    field = "token" if entry.token_env is None else "token_env"
    token = application.secret(entry.token, entry.token_env, field)
    if token is None:
        return None
    if not is_well_formed(token):
        raise EntryRefused(f"what {entry.token_env} holds is not a key's text (tk_live_..., tk_test_...)", field)
    if "environment" in entry.model_fields_set and _environment_of(token) != entry.environment:
        raise EntryRefused(f"is a {_environment_of(token).value} key; environment says otherwise", field)
    return token


def _find_key(customer: Customer, entry: KeyEntry, token: str | None) -> ApiKey | None:
    """Return the key of that customer and name: the one with the file's secret, else the one in force."""
    keys = list(ApiKey.objects.filter(customer=customer, name=entry.name).order_by("id"))
    if token is None:
        # Of a line of rotated keys the last is the one that is declared.
        in_force = [key for key in keys if key.revoked_at is None and key.successor_id is None] or keys[-1:]
        if len(in_force) > 1:
            raise EntryRefused(f"{customer.name} has {len(in_force)} keys of this name; rename or revoke one", "name")
        return in_force[0] if in_force else None
    field = "token" if entry.token_env is None else "token_env"
    owner = ApiKey.objects.filter(secret_hmac__in=hashes_of(token, settings.KEY_PEPPERS)).first()
    if owner is None:
        if any(key.revoked_at is None for key in keys):
            raise EntryRefused(
                "the key of this name has another secret; secrets never change, so declare another name", field
            )
        return None
    if owner.customer_id != customer.pk or owner.name != entry.name:
        raise EntryRefused("this secret belongs to another key", field)
    return owner


def _issue(application: Application, entry: KeyEntry, customer: Customer, token: str | None) -> None:
    issued = issue_key(
        customer_id=customer.pk,
        name=entry.name,
        author=AUTHOR,
        environment=entry.environment if token is None else _environment_of(token),
        scopes=entry.scopes,
        allowed_models=entry.allowed_models,
        allowed_prompts=entry.allowed_prompts,
        allowed_networks=entry.allowed_networks,
        expires_at=entry.expires_at,
        limits={w.column: w.value for w in wanted_limits(entry.limits)},  # type: ignore[misc]
        token=token,
    )
    application.log.created("key", f"{entry.name} of {customer.name}")
    if token is None:
        application.log.issued.append(IssuedSecret(customer=customer.name, name=entry.name, token=issued.token))


def _wanted(entry: KeyEntry) -> list[Wanted]:
    wanted = wanted_limits(entry.limits)
    if "scopes" in entry.model_fields_set:
        wanted.append(Wanted(field="scopes", column="scopes", value=sorted(s.value for s in entry.scopes)))
    for name in ("allowed_models", "allowed_prompts", "allowed_networks", "expires_at"):
        if name in entry.model_fields_set:
            wanted.append(Wanted(field=name, column=name, value=getattr(entry, name)))
    return wanted


def _environment_of(token: str) -> KeyEnvironment:
    return KeyEnvironment(token.split("_")[1])
