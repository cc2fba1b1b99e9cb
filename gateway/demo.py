"""Demonstration data: enough for a first call a minute after a clone; a repeat undoes nothing.

What exists stays as its admin left it: only what is missing is made. The two secrets (the key's text, the
password of `admin`) are in one file only, `demo.json` in DATA_DIR, readable by its owner. It is written before
the transaction commits, so that no key is in force whose text was lost.
"""

import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Model as Row

from billing.ledger import grant_credit
from billing.models import PriceVersion
from billing.pricing import publish_price
from common.money import parse_usd
from gateway.demo_prompt import ensure_demo_prompt
from gateway.local_model import CONTEXT_TOKENS, MODEL_NAME
from gateway.models import Deployment, Dialect, Model, Upstream
from keys.audit import action_on, command_actor, record_event
from keys.customers import create_customer
from keys.issuing import issue_key
from keys.models import ApiKey, Customer, KeyEnvironment, Plan
from keys.plans import ensure_plans
from keys.principals import hashes_of
from keys.tokens import is_well_formed, make_token

FILE_NAME = "demo.json"
CUSTOMER_NAME = "Demo Company"
ADMIN_NAME = "admin"
_AUTHOR = "demo_data"
_ACTOR = command_actor("manage.py demo_data")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What a newcomer needs for a first call and a first look."""

    api_key: str
    customer_id: str
    model: str
    prompt_name: str
    admin_user: str
    # None: somebody changed the password, or made the user; nobody but them knows it.
    admin_password: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembered:
    """What `demo.json` tells; empty where it does not."""

    api_key: str
    customer_id: str
    admin_password: str


def ensure_demo(directory: Path) -> Demo:
    """Make what is missing of the demonstration data and return how to use it; safe to repeat."""
    path = directory / FILE_NAME
    with transaction.atomic():
        remembered = _read(path)
        plan = ensure_plans(actor=_ACTOR)["pro"]
        customer = _ensure_customer(remembered, plan)
        _ensure_local_model()
        demo = Demo(
            api_key=_ensure_key(remembered, customer),
            customer_id=customer.public_id,
            model=MODEL_NAME,
            prompt_name=ensure_demo_prompt(_AUTHOR),
            admin_user=ADMIN_NAME,
            admin_password=_ensure_admin(remembered),
        )
        _write(path, demo)
    return demo


def _record_creation(row: Row, after: dict[str, Any]) -> None:
    record_event(actor=_ACTOR, action=action_on(row, "created"), target=row, after=after)


def _ensure_customer(remembered: _Remembered, plan: Plan) -> Customer:
    # By id first: a renamed customer is still the one that the key belongs to.
    customer = (
        Customer.objects.filter(public_id=remembered.customer_id).first()
        or Customer.objects.filter(name=CUSTOMER_NAME).first()
        or create_customer(name=CUSTOMER_NAME, plan=plan, email="demo@example.com", actor=_ACTOR)
    )
    grant_credit(
        customer_id=customer.pk,
        amount_nanousd=parse_usd("5"),
        reason="Welcome credit of the demonstration",
        author=_AUTHOR,
        actor=_ACTOR,
        reference=f"demo-credit:{customer.public_id}",
    )
    return customer


def _ensure_key(remembered: _Remembered, customer: Customer) -> str:
    """Return the text of a key in force: the remembered one, else a new one."""
    token = remembered.api_key if is_well_formed(remembered.api_key) else make_token(KeyEnvironment.LIVE)
    known = ApiKey.objects.filter(secret_hmac__in=hashes_of(token, settings.KEY_PEPPERS)).first()
    if known is not None and known.state() == "active" and known.customer_id == customer.pk:
        return token
    if known is not None:
        token = make_token(KeyEnvironment.LIVE)
    return issue_key(customer_id=customer.pk, name="demo key", author=_AUTHOR, token=token, actor=_ACTOR).token


def _ensure_local_model() -> None:
    upstream, is_new_upstream = Upstream.objects.get_or_create(
        name="local",
        defaults={
            "provider": "local",
            "dialect": Dialect.LOCAL,
            "takes_images": False,
            "is_test": True,
            # A few calls at once share two cores: the last of them waits for its first token.
            "first_token_timeout_seconds": 120.0,
            "note": "The embedded model, started by 'manage.py serve'.",
        },
    )
    if is_new_upstream:
        _record_creation(upstream, {"name": upstream.name, "dialect": upstream.dialect})
    model, is_new = Model.objects.get_or_create(
        name=MODEL_NAME,
        defaults={
            "description": "SmolLM2 135M Instruct, on this machine: small, quick, and often wrong.",
            "owned_by": "local",
            "context_window": CONTEXT_TOKENS,
            "max_output_tokens": 1_024,
            "default_output_tokens": 256,
            "input_estimate_percent": 150,
            "created_at": datetime.now(UTC),
        },
    )
    if is_new:
        deployment = Deployment.objects.create(model=model, upstream=upstream, upstream_model=MODEL_NAME)
        _record_creation(model, {"name": model.name, "context_window": model.context_window})
        _record_creation(deployment, {"model": model, "upstream": upstream})
    if not PriceVersion.objects.filter(model=MODEL_NAME).exists():
        publish_price(
            model=MODEL_NAME,
            rates={"input_nanousd": parse_usd("0.10"), "output_nanousd": parse_usd("0.40")},
            author=_AUTHOR,
            actor=_ACTOR,
            reason="Demonstration price",
        )


def _ensure_admin(remembered: _Remembered) -> str | None:
    """Return the password of `admin` if it is still the one that was made here."""
    password = remembered.admin_password or secrets.token_urlsafe(12)
    user = User.objects.filter(username=ADMIN_NAME).first()
    if user is None:
        user = User.objects.create_superuser(ADMIN_NAME, email="admin@example.com", password=password)
        _record_creation(user, {"username": ADMIN_NAME, "is_superuser": True})
        return password
    # Django's own check_password method would rewrite an old hash; this must change nothing.
    return password if remembered.admin_password and check_password(password, user.password) else None


def _read(path: Path) -> _Remembered:
    """Return what the file says; a damaged one counts as absent, and is written anew."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        content = {}
    values = content if isinstance(content, dict) else {}
    return _Remembered(
        api_key=str(values.get("api_key") or ""),
        customer_id=str(values.get("customer_id") or ""),
        admin_password=str(values.get("admin_password") or ""),
    )


def _write(path: Path, demo: Demo) -> None:
    content = {
        "api_key": demo.api_key,
        "customer_id": demo.customer_id,
        "admin_user": demo.admin_user,
        "admin_password": demo.admin_password,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
