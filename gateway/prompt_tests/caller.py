"""The platform's own customer, in whose name test cases call models.

Its key is derived from SECRET_KEY: every process knows it, nobody has stored it, and nobody can guess it. Its calls
leave usage records (operation `prompts.tests`, with the provider's cost) and move no money.
"""

from django.conf import settings
from django.db import transaction

from common.errors import Conflict
from keys.customers import create_customer
from keys.issuing import issue_key
from keys.models import ApiKey, Customer, KeyEnvironment, Plan
from keys.principals import hashes_of
from keys.scopes import Scope
from keys.tokens import derive_token

CUSTOMER_NAME = "Prompt tests"
_PLAN = "internal"
_AUTHOR = "platform"
_PURPOSE = "prompt tests"


class CallerRevoked(Conflict):
    code = "prompt_tests_disabled"
    summary = "An administrator has revoked the key by which test cases are run."

    def __init__(self) -> None:
        super().__init__(
            f"Test cases are run by the customer '{CUSTOMER_NAME}', whose key was revoked or who was suspended. "
            "Reactivate the customer; the key comes back with a new SECRET_KEY only."
        )


@transaction.atomic
def ensure_caller() -> str:
    """Return the key of the platform's own customer, making both where they are missing; safe to repeat.

    Raises CallerRevoked.
    """
    token = derive_token(KeyEnvironment.LIVE, settings.SECRET_KEY, purpose=_PURPOSE)
    hashes = hashes_of(token, settings.KEY_PEPPERS)
    known = ApiKey.objects.filter(secret_hmac__in=hashes).first()
    if known is not None:
        if known.state() != "active":
            raise CallerRevoked
        return token
    plan, _ = Plan.objects.get_or_create(slug=_PLAN, defaults={"name": "Internal"})
    customer = Customer.objects.filter(name=CUSTOMER_NAME, plan=plan).order_by("id").first() or create_customer(
        name=CUSTOMER_NAME, plan=plan, note="Runs the test cases of prompts; its calls are free of charge."
    )
    issue_key(
        customer_id=customer.pk,
        name=_PURPOSE,
        author=_AUTHOR,
        scopes=(Scope.CHAT_WRITE, Scope.PROMPTS_RUN),
        token=token,
    )
    return token
