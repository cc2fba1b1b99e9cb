"""Setting up, renewing and removing a second factor; each is recorded in the audit trail."""

from dataclasses import dataclass, field

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.safestring import SafeString, mark_safe
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from common.errors import InvalidRequest
from keys.audit import Actor, record_event

RECOVERY_CODES = 10
_APP_NAME = "Authenticator app"
_CODES_NAME = "Recovery codes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an authenticator app has to be told."""

    secret: str = field(repr=False)
    qr_svg: SafeString = field(repr=False)


def open_offer(user: User) -> Offer:
    """Return what to scan for a new app; the same until it is confirmed, so that a reload does not spoil a scan."""
    from qrcode.image.svg import SvgPathImage  # noqa: PLC0415 - 2 MB, for who sets up an app
    from qrcode.main import make as draw_qr  # noqa: PLC0415

    device, _ = TOTPDevice.objects.get_or_create(user=user, confirmed=False, defaults={"name": _APP_NAME})
    image = draw_qr(device.config_url, image_factory=SvgPathImage, box_size=12, border=2)
    _, _, parameters = device.config_url.partition("secret=")
    # Our own drawing of our own text: there is nothing of a user's in it but the path of the code's squares.
    svg = mark_safe(image.to_string(encoding="unicode"))  # noqa: S308
    return Offer(secret=parameters.partition("&")[0], qr_svg=svg)


def confirm_enrolment(user: User, *, code: str, actor: Actor) -> TOTPDevice:
    """Make the offered app the user's second factor in place of any earlier one, and return its device.

    Raises InvalidRequest for a wrong code; the failed try counts towards the device's throttle all the same.
    """
    device: TOTPDevice | None = TOTPDevice.objects.filter(user=user, confirmed=False).first()
    if device is None or not device.verify_token(code):
        raise InvalidRequest(
            "That is not the code that the app shows now. Wait for the next one; the clock of the phone must be right.",
            param="code",
        )
    with transaction.atomic():
        is_replaced = TOTPDevice.objects.filter(user=user, confirmed=True).exists()
        TOTPDevice.objects.filter(user=user, confirmed=True).delete()
        device.confirmed = True
        device.save()
        record_event(
            actor=actor, action="second_factor.replaced" if is_replaced else "second_factor.set_up", target=user
        )
    return device


def make_recovery_codes(user: User, *, actor: Actor) -> list[str]:
    """Return fresh recovery codes, each good for one login; earlier ones end."""
    with transaction.atomic():
        device, _ = StaticDevice.objects.get_or_create(user=user, defaults={"name": _CODES_NAME})
        device.token_set.all().delete()
        codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
        StaticToken.objects.bulk_create([StaticToken(device=device, token=code) for code in codes])
        record_event(actor=actor, action="second_factor.recovery_codes_made", target=user)
    return codes


def count_recovery_codes(user: User) -> int:
    """Return how many recovery codes are left."""
    return int(StaticToken.objects.filter(device__user=user).count())


def remove_second_factor(user: User, *, actor: Actor, reason: str) -> bool:
    """Take app and recovery codes from a user; return whether there was anything to take."""
    with transaction.atomic():
        found = TOTPDevice.objects.filter(user=user).delete()[0] + StaticDevice.objects.filter(user=user).delete()[0]
        if found:
            record_event(actor=actor, action="second_factor.removed", target=user, reason=reason)
    return bool(found)
