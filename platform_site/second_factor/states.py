"""Whether a second factor is asked for, and how a session stands with it."""

from enum import StrEnum
from typing import Any

from django.conf import settings
from django_otp import user_has_device

from gateway.demo import FILE_NAME


class Mode(StrEnum):
    """What ADMIN_SECOND_FACTOR comes down to."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    OFF = "off"


class Standing(StrEnum):
    """How a logged-in administrator's session stands."""

    # Everything is open: verified, or nothing is asked of this person.
    CLEAR = "clear"
    # Open, and a second factor would be welcome.
    UNPROTECTED = "unprotected"
    # Has a second factor that this session did not give.
    NEEDS_CODE = "needs_code"
    # Has none and must set one up before anything else.
    NEEDS_ENROLMENT = "needs_enrolment"


def find_mode() -> Mode:
    """Return the mode in force.

    "auto" is `required`, save where a newcomer looks around: with DEBUG, or where DATA_DIR holds demonstration data.
    """
    setting = str(settings.ADMIN_SECOND_FACTOR)
    if setting != "auto":
        return Mode(setting)
    is_trial = settings.DEBUG or (settings.DATA_DIR / FILE_NAME).exists()
    return Mode.OPTIONAL if is_trial else Mode.REQUIRED


def find_standing(user: Any) -> Standing:
    """Return how the session of a logged-in user stands; one that django-otp's middleware did not see is unverified."""
    mode = find_mode()
    if mode is Mode.OFF or getattr(user, "otp_device", None) is not None:
        return Standing.CLEAR
    if user_has_device(user):
        return Standing.NEEDS_CODE
    return Standing.NEEDS_ENROLMENT if mode is Mode.REQUIRED else Standing.UNPROTECTED
