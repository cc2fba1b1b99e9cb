"""State for tests, built through the public functions. Names are unique; everything else has a plain default."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from django.conf import settings
from django.db import connection

from billing.journal import NewUsage
from billing.ledger import grant_credit
from billing.models import PriceVersion, UsageSource, UsageStatus
from billing.pricing import Price, get_price, publish_price
from billing.tokens import NO_TOKENS, TokenCounts
from common.clock import EPOCH
from common.ids import make_id
from common.money import parse_usd
from common.sql import Sql
from gateway.admission.commands import Admit, Settle
from gateway.admission.expiry import write_draft
from gateway.catalogue import read_generation
from gateway.guard_models import GuardAssignment, GuardPolicy, GuardRule
from gateway.guard_policies import check_row
from gateway.guard_rows import GuardNotes
from gateway.models import Deployment, Dialect, Model, Upstream
from gateway.secrets import encrypt_secret
from keys.customers import create_customer
from keys.issuing import IssuedKey, issue_key, rotate_key
from keys.models import ApiKey, Customer, LimitRaise, Plan
from keys.principals import Principal, hashes_of, read_principals_by_hash
from keys.raising import raise_limit

_numbers = count(1)


def make_plan(**limits: int | None) -> Plan:
    """Create a plan with the given columns of `LimitColumns`; without any it limits nothing."""
    number = next(_numbers)
    return Plan.objects.create(slug=f"plan-{number}", name=f"Plan {number}", **limits)


def make_customer(
    *,
    name: str | None = None,
    plan: Plan | None = None,
    credit_usd: str = "10",
    credit_nanousd: int | None = None,
    limits: dict[str, int | None] | None = None,
) -> Customer:
    """Create a customer with prepaid credit (none for "0")."""
    customer = create_customer(name=name or f"Customer {next(_numbers)}", plan=plan or make_plan(), limits=limits)
    amount = parse_usd(credit_usd) if credit_nanousd is None else credit_nanousd
    if amount:
        grant_credit(customer_id=customer.pk, amount_nanousd=amount, reason="for a test", author="tests")
    return customer


def make_key(customer: Customer | None = None, **options: Any) -> IssuedKey:
    """Issue a key of `customer` (default: a new one with credit); `options` as in `keys.issuing.issue_key`."""
    owner = customer or make_customer()
    return issue_key(**{"customer_id": owner.pk, "name": "test key", "author": "tests", **options})


def make_raise(
    owner: Customer | ApiKey, limit_name: str, value: int, *, seconds: int = 3_600, now: datetime | None = None
) -> LimitRaise:
    """Raise a limit of a customer or key from now on, for some seconds."""
    now = now or datetime.now(UTC)
    return raise_limit(
        owner=owner,
        limit_name=limit_name,
        value=value,
        ends_at=now + timedelta(seconds=seconds),
        reason="for a test",
        now=now,
    )


def make_upstream(
    *, base_url: str = "http://127.0.0.1:9/v1", name: str | None = None, secret: str = "sk-test", **columns: Any
) -> Upstream:
    """Create an upstream; the default address refuses every connection."""
    return Upstream.objects.create(
        **{
            "name": name or f"upstream-{next(_numbers)}",
            "dialect": Dialect.OPENAI,
            "base_url": base_url,
            "encrypted_secret": encrypt_secret(secret),
            **columns,
        }
    )


def make_price(
    model: str, *, input_usd: str = "1", output_usd: str = "4", effective_from: datetime = EPOCH, **rates: int
) -> PriceVersion:
    """Publish a price in USD per million tokens, in force since 1970; `rates` adds columns in nano-USD."""
    both = {"input_nanousd": parse_usd(input_usd), "output_nanousd": parse_usd(output_usd)}
    return publish_price(model=model, rates={**both, **rates}, author="tests", effective_from=effective_from)


def make_model(
    name: str | None = None,
    *,
    upstream: Upstream | None = None,
    upstream_model: str | None = None,
    input_usd: str = "1",
    output_usd: str = "4",
    with_price: bool = True,
    **columns: Any,
) -> Model:
    """Create a model that one upstream serves, with a price (USD per million tokens) in force."""
    chosen = name or f"model-{next(_numbers)}"
    model = Model.objects.create(
        **{
            "name": chosen,
            "context_window": 8_192,
            "max_output_tokens": 2_048,
            "default_output_tokens": 256,
            "created_at": datetime.now(UTC),
            # What a test scripts for one call is not to be used up by its second attempt.
            "retries": 0,
            **columns,
        }
    )
    Deployment.objects.create(
        model=model, upstream=upstream or make_upstream(), upstream_model=upstream_model or chosen
    )
    if with_price:
        make_price(chosen, input_usd=input_usd, output_usd=output_usd)
    return model


def find_principal(token: str) -> Principal:
    """Return the snapshot that the request path would have of a key's text."""
    (principal,) = read_principals_by_hash(Sql(connection), hashes_of(token, settings.KEY_PEPPERS)).values()
    return principal


@dataclass(frozen=True, slots=True, kw_only=True)
class FundedCall:
    """What the request path knows when it asks for admission: who calls, at what price, as of which catalogue."""

    customer_id: int
    model: str
    token: str = field(repr=False)
    principal: Principal = field(repr=False)
    price: Price = field(repr=False)
    catalogue_generation: int

    def admit(
        self,
        *,
        amount_nanousd: int = 1_000_000,
        input_tokens: int = 10,
        output_tokens: int = 20,
        lifetime_seconds: float = 600,
        request_id: str | None = None,
        notes: GuardNotes | None = None,
    ) -> Admit:
        """Return the question; every call of this method is a new request. `notes`: what content rules found."""
        return Admit(
            request_id=request_id or make_id("req"),
            principal=self.principal,
            catalogue_generation=self.catalogue_generation,
            amount_nanousd=amount_nanousd,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            lifetime_us=round(lifetime_seconds * 1_000_000),
            draft=write_draft(
                customer_id=self.customer_id,
                api_key_id=self.principal.key_id,
                operation="chat.completions",
                model=self.model,
                upstream="upstream",
                upstream_model=self.model,
                price_version_id=self.price.version_id,
                is_stream=True,
                end_user="",
                tags=json.dumps({}),
                notes=notes,
            ),
        )

    def settle(
        self,
        request_id: str,
        *,
        cost_nanousd: int = 1_000_000,
        tokens: TokenCounts = NO_TOKENS,
        status: UsageStatus = UsageStatus.COMPLETED,
        started_us: int = 0,
    ) -> Settle:
        """Return the settlement of an admitted request; a cost of nothing voids its hold."""
        usage = NewUsage(
            request_id=request_id,
            customer_id=self.customer_id,
            api_key_id=self.principal.key_id,
            operation="chat.completions",
            model=self.model,
            upstream="upstream",
            upstream_model=self.model,
            price_version_id=self.price.version_id,
            status=status.value,
            source=UsageSource.PROVIDER.value,
            is_stream=True,
            tokens=tokens,
            cost_nanousd=cost_nanousd,
            started_us=started_us,
        )
        return Settle(usage=usage, principal=self.principal)

    def refreshed(self) -> "FundedCall":
        """Return the same with the snapshots as they are now in the database."""
        return replace(
            self,
            principal=find_principal(self.token),
            catalogue_generation=read_generation(Sql(connection)),
        )


def funded_call(
    *,
    credit_nanousd: int = 10_000_000_000,
    plan_limits: dict[str, int | None] | None = None,
    customer_limits: dict[str, int | None] | None = None,
    key_limits: dict[str, int | None] | None = None,
    key_raise: tuple[str, int] | None = None,
    model: str | None = None,
) -> FundedCall:
    """Make a customer with credit and limits, a key and (unless `model` names one) a priced model.

    `key_raise` raises a limit of the key by name, from 2020 on and for good as far as a test is concerned.
    """
    name = model or make_model().name
    customer = make_customer(
        plan=make_plan(**(plan_limits or {})), credit_nanousd=credit_nanousd, limits=customer_limits
    )
    issued = make_key(customer, limits=key_limits)
    if key_raise is not None:
        make_raise(issued.key, *key_raise, now=datetime(2020, 1, 1, tzinfo=UTC), seconds=10**9)
    return known_call(token=issued.token, model=name)


def known_call(*, token: str, model: str) -> FundedCall:
    """Return the call of a key and model that exist, e.g. in another process than the one that made them."""
    principal = find_principal(token)
    version = PriceVersion.objects.filter(model=model).latest("effective_from")
    return FundedCall(
        customer_id=principal.customer_id,
        model=model,
        token=token,
        principal=principal,
        price=get_price(version.pk),
        catalogue_generation=read_generation(Sql(connection)),
    )


def make_family(call: FundedCall) -> tuple[FundedCall, ...]:
    """Rotate the key of `call` twice; return old key, successors, and a key that the last of them made (unlimited)."""
    tokens = [call.token]
    for _ in range(2):
        key_id = find_principal(tokens[-1]).key_id
        rotated = rotate_key(key_id=key_id, overlap=timedelta(days=1), reason="for a test", author="tests")
        tokens.append(rotated.token)
    maker = find_principal(tokens[-1])
    tokens.append(make_key(Customer.objects.get(pk=call.customer_id), maker_id=maker.key_id).token)
    return tuple(known_call(token=token, model=call.model) for token in tokens)


def make_guard(*rules: dict[str, Any], name: str | None = None, **options: Any) -> GuardPolicy:
    """Create a policy with rules (columns of `GuardRule`); `*_id` in `options` say whom it is for, else columns."""
    policy = GuardPolicy.objects.create(
        name=name or f"policy-{next(_numbers)}", **{k: v for k, v in options.items() if not k.endswith("_id")}
    )
    for rule in rules:
        row = GuardRule(policy=policy, **{"name": rule["kind"], **rule})
        check_row(row, policy)
        row.save()
    for owner, owner_id in options.items():
        if owner.endswith("_id"):
            GuardAssignment.objects.create(policy=policy, **{owner: owner_id})
    return policy
