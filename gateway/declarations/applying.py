"""Bringing the database to what a file declares: one transaction, all or nothing.

A dry run does the very same and rolls it back, so it cannot tell anything else than what would happen. What the file
does not mention stays as it is.
"""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from django.db import connection, transaction

from billing.journal import lock_accounts
from common.sql import Sql
from gateway.declarations.application import Application
from gateway.declarations.catalogue_steps import apply_model, apply_upstream
from gateway.declarations.changes import Applied, ChangeLog
from gateway.declarations.customer_steps import apply_customer, apply_plan, moves_money
from gateway.declarations.document import DeclarationsInvalid
from gateway.declarations.guard_steps import apply_guard
from gateway.declarations.key_steps import apply_key
from gateway.declarations.price_steps import apply_price
from gateway.declarations.reading import Declarations, Declared, read_declarations
from gateway.declarations.schema import CustomerEntry
from keys.models import Customer

# What is referred to comes before what refers to it.
_STEPS: dict[str, Callable[[Application, Declared], None]] = {
    "upstreams": apply_upstream,
    "models": apply_model,
    "prices": apply_price,
    "plans": apply_plan,
    "customers": apply_customer,
    "keys": apply_key,
    "guards": apply_guard,
}


def apply_declarations(text: str, *, is_dry_run: bool = False, variables: Mapping[str, str] | None = None) -> Applied:
    """Apply a file's text and return what that changed; a dry run changes nothing.

    `variables` is what `secret_env` and `token_env` name (default: the process environment). Raises
    DeclarationsInvalid with every problem, and nothing changed.
    """
    declarations = read_declarations(text)
    application = Application(
        declarations=declarations,
        log=ChangeLog(),
        now=datetime.now(UTC),
        variables=os.environ if variables is None else variables,
    )
    with transaction.atomic():
        _lock_wallets(declarations)
        for section, step in _STEPS.items():
            for declared in declarations.sections[section]:
                with application.reporting(declared.path):
                    step(application, declared)
        if is_dry_run or declarations.problems:
            transaction.set_rollback(True)
    if declarations.problems:
        raise DeclarationsInvalid(declarations.problems)
    return application.log.finished()


def _lock_wallets(declarations: Declarations) -> None:
    """Lock the wallets of all customers whose money the file is about, before anything else is written.

    Calls lock wallets in the order of their ids, and then what follows from a change of a row (`common.generations`).
    Locked one by one, in the order of the file and behind other changes, a file and calls could wait for each other.
    Customers that the file makes have wallets that nobody else can see.
    """
    entries = [declared.entry for declared in declarations.sections["customers"]]
    names = {entry.name for entry in entries if isinstance(entry, CustomerEntry) and moves_money(entry)}
    if names:
        lock_accounts(Sql(connection), Customer.objects.filter(name__in=names).values_list("pk", flat=True))
