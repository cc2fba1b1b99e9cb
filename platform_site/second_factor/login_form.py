"""The admin's login: name, password, and the code of those who have a second factor."""

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django_otp import devices_for_user, user_has_device
from django_otp.forms import OTPAuthenticationFormMixin
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from typing_extensions import override
from unfold.forms import AuthenticationForm
from unfold.widgets import BASE_INPUT_CLASSES

from platform_site.logins import note_recovery_code, note_wrong_code
from platform_site.second_factor.states import Mode, find_mode

_APP_CODE_LENGTH = 6


class LoginForm(OTPAuthenticationFormMixin, AuthenticationForm):
    """One step for both factors: whether a name has a second one is not told before its password is right."""

    otp_error_messages: Any = {
        **OTPAuthenticationFormMixin.otp_error_messages,
        "token_required": "This account has a second factor: give the code from your app, or a recovery code.",
        "invalid_token": "That code is not right, or was used before. Wait for the next one and try again.",
        "device_required": "That code is not right, or was used before. Wait for the next one and try again.",
    }

    otp_token = forms.CharField(
        required=False,
        max_length=20,
        label="Code",
        help_text="Six digits from your authenticator app, or a recovery code. Empty if you have not set one up.",
        widget=forms.TextInput(
            attrs={
                "autocomplete": "one-time-code",
                "inputmode": "text",
                "spellcheck": "false",
                "class": " ".join(BASE_INPUT_CLASSES),
            }
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if find_mode() is Mode.OFF:
            del self.fields["otp_token"]

    @override
    def clean(self) -> dict[str, Any]:
        data = super().clean()
        # None where name and password are wrong, whatever its type says.
        user: Any = self.get_user()
        if user is None or "otp_token" not in self.fields or not user_has_device(user):
            return data
        # People type codes as their app shows them, in groups.
        self.cleaned_data["otp_token"] = "".join(data.get("otp_token", "").split()).lower()
        try:
            self.clean_otp(user)
        except forms.ValidationError as error:
            if error.code != "token_required":
                note_wrong_code(self.request, user)
            raise
        if isinstance(user.otp_device, StaticDevice):
            note_recovery_code(self.request, user)
        return data

    def _chosen_device(self, user: User) -> TOTPDevice | StaticDevice | None:
        """Return the device that the code's form belongs to: a wrong try must count against one of them only."""
        code = self.cleaned_data["otp_token"]
        wanted = TOTPDevice if code.isdecimal() and len(code) == _APP_CODE_LENGTH else StaticDevice
        return next((d for d in devices_for_user(user, for_verify=True) if isinstance(d, wanted)), None)

    def _update_form(self, user: User) -> None:
        """Leave the form as it is: the package would send the password back to the browser."""
