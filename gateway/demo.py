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

from billing.ledger import grant_credit
from billing.models import PriceVersion
from billing.pricing import publish_price
from common.money import parse_usd
from gateway.local_model import CONTEXT_TOKENS, MODEL_NAME
from gateway.models import Deployment, Dialect, Model, Upstream
from keys.customers import create_customer
from keys.issuing import issue_key
from keys.models import ApiKey, Customer, KeyEnvironment, Plan
from keys.principals import hashes_of
from keys.tokens import is_well_formed, make_token

FILE_NAME = "demo.json"
CUSTOMER_NAME = "Demo Company"
ADMIN_NAME = "admin"
_AUTHOR = "demo_data"

_PLANS: dict[str, dict[str, Any]] = {
    "free": {
        "name": "Free",
        "description": "For trying things out.",
        "requests_per_minute": 20,
        "input_tokens_per_minute": 40_000,
        "output_tokens_per_minute": 10_000,
        "concurrency": 2,
        "spend_per_day_nanousd": parse_usd("1"),
        "spend_per_month_nanousd": parse_usd("5"),
    },
    "pro": {
        "name": "Pro",
        "description": "For products in use.",
        "requests_per_minute": 600,
        "input_tokens_per_minute": 2_000_000,
        "output_tokens_per_minute": 500_000,
        "concurrency": 50,
        "spend_per_day_nanousd": parse_usd("200"),
        "spend_per_month_nanousd": parse_usd("2000"),
    },
    "enterprise": {
        "name": "Enterprise",
        "description": "High limits; budgets are agreed customer by customer.",
        "requests_per_minute": 10_000,
        "input_tokens_per_minute": 40_000_000,
        "output_tokens_per_minute": 10_000_000,
        "concurrency": 1_000,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What a newcomer needs for a first call and a first look."""

    api_key: str
    customer_id: str
    model: str
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
        plan = _ensure_plans()["pro"]
        customer = _ensure_customer(remembered, plan)
        _ensure_local_model()
        demo = Demo(
            api_key=_ensure_key(remembered, customer),
            customer_id=customer.public_id,
            model=MODEL_NAME,
            admin_user=ADMIN_NAME,
            admin_password=_ensure_admin(remembered),
        )
        _write(path, demo)
    return demo


def _ensure_plans() -> dict[str, Plan]:
    return {slug: Plan.objects.get_or_create(slug=slug, defaults=columns)[0] for slug, columns in _PLANS.items()}


def _ensure_customer(remembered: _Remembered, plan: Plan) -> Customer:
    # By id first: a renamed customer is still the one that the key belongs to.
    customer = (
        Customer.objects.filter(public_id=remembered.customer_id).first()
        or Customer.objects.filter(name=CUSTOMER_NAME).first()
        or create_customer(name=CUSTOMER_NAME, plan=plan, email="demo@example.com")
    )
    grant_credit(
        customer_id=customer.pk,
        amount_nanousd=parse_usd("5"),
        reason="Welcome credit of the demonstration",
        author=_AUTHOR,
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
    return issue_key(customer_id=customer.pk, name="demo key", author=_AUTHOR, token=token).token


def _ensure_local_model() -> None:
    upstream, _ = Upstream.objects.get_or_create(
        name="local",
        defaults={
            "dialect": Dialect.LOCAL,
            "is_test": True,
            # A few calls at once share two cores: the last of them waits for its first token.
            "first_token_timeout_seconds": 120.0,
            "note": "The embedded model, started by 'manage.py serve'.",
        },
    )
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
        Deployment.objects.create(model=model, upstream=upstream, upstream_model=MODEL_NAME)
    if not PriceVersion.objects.filter(model=MODEL_NAME).exists():
        publish_price(
            model=MODEL_NAME,
            rates={"input_nanousd": parse_usd("0.10"), "output_nanousd": parse_usd("0.40")},
            author=_AUTHOR,
            reason="Demonstration price",
        )


def _ensure_admin(remembered: _Remembered) -> str | None:
    """Return the password of `admin` if it is still the one that was made here."""
    password = remembered.admin_password or secrets.token_urlsafe(12)
    user = User.objects.filter(username=ADMIN_NAME).first()
    if user is None:
        User.objects.create_superuser(ADMIN_NAME, email="admin@example.com", password=password)
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
