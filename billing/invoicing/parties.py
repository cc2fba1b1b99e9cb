"""Who sells and who buys, as an invoice has them."""

from dataclasses import asdict

from django.conf import settings

from billing.invoice_models import BillingProfile
from billing.invoicing.document import Party
from keys.models import Customer


def read_profile(customer: Customer) -> BillingProfile:
    """Return a customer's billing profile; the defaults, unsaved, where nobody has made one."""
    found = BillingProfile.objects.filter(customer=customer).first()
    return found or BillingProfile(customer=customer)


def describe_buyer(customer: Customer, profile: BillingProfile) -> dict[str, str]:
    """Return the customer as an invoice keeps it."""
    return asdict(
        Party(
            legal_name=profile.legal_name or customer.name,
            address=profile.address,
            country=profile.country,
            tax_id=profile.tax_id,
            email=profile.email or customer.email,
        )
    )


def describe_seller() -> dict[str, str]:
    """Return the seller of the settings as an invoice keeps it; "|" divides lines there."""
    environment = settings.ENVIRONMENT
    return asdict(
        Party(
            legal_name=environment.seller_name,
            address=_lines(environment.seller_address),
            country=environment.seller_country,
            tax_id=environment.seller_tax_id,
            email=environment.seller_email,
            payment_details=_lines(environment.seller_payment_details),
        )
    )


def _lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split("|"))
