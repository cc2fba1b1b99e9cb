"""Bringing the database to what a file declares: one transaction, all or nothing.

A dry run does the very same and rolls it back, so it cannot tell anything else than what would happen. What the file
does not mention stays as it is.
"""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from django.db import transaction

from gateway.declarations.application import Application
from gateway.declarations.catalogue_steps import apply_model, apply_upstream
from gateway.declarations.changes import Applied, ChangeLog
from gateway.declarations.customer_steps import apply_customer, apply_plan
from gateway.declarations.document import DeclarationsInvalid
from gateway.declarations.guard_steps import apply_guard
from gateway.declarations.key_steps import apply_key
from gateway.declarations.price_steps import apply_price
from gateway.declarations.reading import Declared, read_declarations

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
        for section, step in _STEPS.items():
            for declared in declarations.sections[section]:
                with application.reporting(declared.path):
                    step(application, declared)
        if is_dry_run or declarations.problems:
            transaction.set_rollback(True)
    if declarations.problems:
        raise DeclarationsInvalid(declarations.problems)
    return application.log.finished()
