"""Flags: who has new behaviour switched on or off, since when, until when, and why."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelect2Widget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from common.admin_base import PlatformModelAdmin, page_action
from common.admin_display import admin_link, admin_url, badge, code, utc
from common.admin_pages import FormPage, FormSection, Panel, run_form_page
from common.clock import SYSTEM_CLOCK, from_us
from keys.admin_trail import admin_actor
from keys.features import FEATURES
from keys.flagging import end_feature_rule, set_feature
from keys.models import ApiKey, Customer, FeatureRule

_SHOWN_RULES = 20


class ReasonForm(forms.Form):
    """Why something is done."""

    reason = forms.CharField(
        max_length=200, widget=UnfoldAdminTextareaWidget({"rows": 3}), help_text="Stays in the audit trail."
    )


class FeatureRuleForm(ReasonForm):
    """What `keys.flagging.set_feature` needs."""

    feature = forms.ChoiceField(label="Flag", widget=UnfoldAdminRadioSelectWidget(radio_style=0))
    is_on = forms.TypedChoiceField(
        label="Is",
        choices=[("on", "On"), ("off", "Off, whatever a wider rule or the default says")],
        coerce=lambda value: value == "on",
        initial="on",
        widget=UnfoldAdminRadioSelectWidget(radio_style=0),
    )
    customer = forms.ModelChoiceField(
        queryset=Customer.objects.order_by("name", "id"),
        required=False,
        widget=UnfoldAdminSelect2Widget(),
        empty_label="All customers",
    )
    api_key = forms.CharField(
        label="API key",
        max_length=32,
        required=False,
        widget=UnfoldAdminTextInputWidget({"autocomplete": "off"}),
        help_text="Its id (key_...) or its first characters (tk_live_ab12). It counts for successors of the key too.",
    )
    share_percent = forms.IntegerField(
        label="Share of all customers (%)",
        min_value=1,
        max_value=100,
        initial=100,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Who is in it stays in it while the share grows.",
    )
    starts_at = forms.SplitDateTimeField(
        label="Starts", required=False, widget=UnfoldAdminSplitDateTimeWidget(), help_text="UTC. Empty: now."
    )
    ends_at = forms.SplitDateTimeField(
        label="Ends",
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget(),
        help_text="UTC. Empty: until somebody ends it.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["feature"]
        field.choices = [(name, f"{name}: {feature.description}") for name, feature in FEATURES.items()]

    def clean_api_key(self) -> ApiKey | None:
        """Return the key. Raises ValidationError for one that is not there, or not the only one."""
        text = self.cleaned_data["api_key"].strip().removesuffix("…")
        if not text:
            return None
        found = list(ApiKey.objects.filter(public_id=text) or ApiKey.objects.filter(prefix=text)[:2])
        if len(found) != 1:
            raise forms.ValidationError("No such key." if not found else "Several keys begin so: write the id.")
        return found[0]

    @override
    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("customer") is not None and data.get("api_key") is not None:
            self.add_error("api_key", "A rule is for a customer or for a key, not for both.")
        return data


@admin.register(FeatureRule)
class FeatureRuleAdmin(PlatformModelAdmin[FeatureRule]):
    list_display = ("feature", "state_badge", "meant_for", "share", "starts", "ends", "reason", "created_by")
    list_filter = (("customer", AutocompleteSelectFilter),)
    list_select_related = ("customer", "api_key")
    search_fields = ("feature", "reason", "customer__name", "api_key__prefix__startswith")
    search_help_text = "Flag, reason, customer or key"
    ordering = ("-id",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "feature",
                    "what_it_does",
                    "state_badge",
                    "meant_for",
                    "share",
                    "starts",
                    "ends",
                    "reason",
                    "created_by",
                    "created",
                )
            },
        ),
    )
    actions_detail = ("end",)

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # What a rule says never changes: end it and make another.
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_end_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("keys.change_featurerule")

    @admin.display(description="What it does")
    def what_it_does(self, rule: FeatureRule) -> str:
        feature = FEATURES.get(rule.feature)
        return feature.description if feature is not None else "Nothing any more: no code declares this flag."

    @admin.display(description="State")
    def state_badge(self, rule: FeatureRule) -> SafeString:
        return rule_badge(rule)

    @admin.display(description="For")
    def meant_for(self, rule: FeatureRule) -> SafeString | str:
        if rule.customer is not None:
            return admin_link("keys.customer", rule.customer.pk, rule.customer.name)
        if rule.api_key is not None:
            return admin_link("keys.apikey", rule.api_key.pk, code(f"{rule.api_key.prefix}…"))
        return "All customers"

    @admin.display(description="Share")
    def share(self, rule: FeatureRule) -> str:
        return f"{rule.share_percent} %"

    @admin.display(description="Starts", ordering="starts_at")
    def starts(self, rule: FeatureRule) -> SafeString | str:
        return utc(rule.starts_at)

    @admin.display(description="Ends", ordering="ends_at")
    def ends(self, rule: FeatureRule) -> SafeString | str:
        return utc(rule.ends_at, never="until ended")

    @admin.display(description="Created")
    def created(self, rule: FeatureRule) -> SafeString | str:
        return utc(rule.created_at)

    @override
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_add_permission(request):
            raise PermissionDenied
        given = {"customer": request.GET.get("customer"), "api_key": request.GET.get("api_key")}
        form = FeatureRuleForm(request.POST or None, initial={k: v for k, v in given.items() if v})

        def act() -> HttpResponseBase:
            data = form.cleaned_data
            rule = set_feature(
                feature=data["feature"],
                is_on=data["is_on"],
                owner=data["customer"] or data["api_key"],
                share_percent=data["share_percent"],
                starts_at=data["starts_at"],
                ends_at=data["ends_at"],
                reason=data["reason"],
                actor=admin_actor(request),
            )
            messages.success(request, f"{rule} counts from {rule.starts_at:%Y-%m-%d %H:%M} UTC on, on every server.")
            return redirect(admin_url("keys.featurerule", "change", rule.pk))

        page = FormPage(
            title="Switch a flag",
            submit_label="Switch it",
            cancel_url=admin_url("keys.featurerule", "changelist"),
            intro=(
                "New behaviour for some before it is for all. A rule of a key counts before one of its customer, that "
                "before one of all customers; of several of one kind the latest."
            ),
            sections=(
                FormSection(title="", fields=("feature", "is_on")),
                FormSection(title="For whom", fields=("customer", "api_key", "share_percent")),
                FormSection(title="When and why", fields=("starts_at", "ends_at", "reason")),
            ),
        )
        return run_form_page(self, request, page, form, act=act)

    @page_action(description="End", url_path="end", icon="block", variant=ActionVariant.DANGER, permission="end")
    def end(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        rule = get_object_or_404(FeatureRule, pk=object_id)
        back = admin_url("keys.featurerule", "change", rule.pk)
        form = ReasonForm(request.POST or None)

        def act() -> HttpResponseBase:
            end_feature_rule(rule_id=rule.pk, reason=form.cleaned_data["reason"], actor=admin_actor(request))
            messages.success(request, f"{rule} has ended; what else is set counts from the next call on.")
            return redirect(back)

        page = FormPage(
            title=f"End '{rule}'",
            submit_label="End it now",
            cancel_url=back,
            is_danger=True,
            intro="Wider rules, or the flag's default, count from the next call on, on every server.",
        )
        return run_form_page(self, request, page, form, act=act)


def rule_badge(rule: FeatureRule) -> SafeString:
    """Return "On" or "Off" for a rule that runs, "Planned" or "Ended" for one that does not."""
    now = from_us(SYSTEM_CLOCK.now_us())
    if rule.ends_at is not None and rule.ends_at <= now:
        return badge("Ended", "neutral")
    if rule.starts_at > now:
        return badge("Planned: on" if rule.is_on else "Planned: off", "info")
    return badge("On", "success") if rule.is_on else badge("Off", "warning")


def flags_panel(customer: Customer) -> Panel:
    """Return the rules of a customer and of its keys, for its page."""
    own = FeatureRule.objects.filter(customer=customer) | FeatureRule.objects.filter(api_key__customer=customer)
    rules = own.select_related("api_key").order_by("-id")[:_SHOWN_RULES]
    return Panel(
        title="Flags",
        headers=("Flag", "State", "For", "Starts", "Ends", "Reason"),
        rows=[
            (
                admin_link("keys.featurerule", rule.pk, rule.feature),
                rule_badge(rule),
                "the customer" if rule.api_key is None else code(f"{rule.api_key.prefix}…"),
                utc(rule.starts_at),
                utc(rule.ends_at, never="until ended"),
                rule.reason,
            )
            for rule in rules
        ],
        empty="No rule of its own: defaults, and shares of all customers, count.",
        link_url=f"{admin_url('keys.featurerule', 'add')}?customer={customer.pk}",
        link_text="Switch a flag",
    )
