"""Customers, as far as they are about access: plan, limits, status, keys. `billing.admin.customers` adds the money."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.enums import ActionVariant

from common.admin_base import adopt, page_action
from common.admin_display import admin_link, admin_url, badge, code, utc
from common.admin_pages import FormPage, Panel, run_form_page
from keys.admin.features import flags_panel
from keys.admin.key_states import state_badge
from keys.admin.limit_pages import LimitPages
from keys.admin.limits import EXPLAIN_CUSTOMER, LimitTexts, limit_fieldsets, limits_of, show_inherited
from keys.admin_trail import admin_actor
from keys.customers import create_customer, set_customer_status
from keys.models import ApiKey, Customer, CustomerStatus

_SHOWN_KEYS = 20


class CustomerForm(forms.ModelForm[Customer]):
    """Shows the plan's limits where the customer has none of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None:
            show_inherited(self, self.instance.plan, "plan")


class CustomerAdmin(LimitTexts, LimitPages[Customer]):
    view_names = LimitTexts.limit_view_names
    form = CustomerForm
    list_display: Any = ("name", "plan", "status_badge", "email", "created")
    list_filter = (("status", ChoicesDropdownFilter), ("plan", RelatedDropdownFilter))
    list_select_related = ("plan",)
    search_fields = ("name", "email", "public_id")
    search_help_text = "Name, e-mail or id"
    ordering = ("name", "id")
    fieldsets = (
        (None, {"fields": ("name", "email", "plan", "status_badge", "public_id", "created", "note")}),
        *limit_fieldsets(EXPLAIN_CUSTOMER),
    )
    add_fieldsets = (
        (None, {"fields": ("name", "email", "plan", "note")}),
        *limit_fieldsets(EXPLAIN_CUSTOMER),
    )
    readonly_fields = ("status_badge", "public_id", "created")
    actions_detail: Sequence[str] = ("new_key", "raise_limit", "suspend", "reactivate")  # type: ignore[assignment]

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Keys, usage and money point at it for good; suspend it instead.
        return False

    @admin.display(description="Status", ordering="status")
    def status_badge(self, customer: Customer) -> SafeString:
        if customer.status == CustomerStatus.ACTIVE:
            return badge("Active", "success")
        return badge("Suspended", "danger", title="Every call is refused")

    @admin.display(description="Created", ordering="created_at")
    def created(self, customer: Customer) -> SafeString | str:
        return utc(customer.created_at)

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        created = create_customer(
            name=obj.name,
            plan=obj.plan,
            email=obj.email,
            note=obj.note,
            limits=limits_of(form.cleaned_data),
            actor=admin_actor(request),
        )
        adopt(obj, created)

    # ---- the page of one customer

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        customer = self.get_object(request, object_id) if object_id else None
        context = self.read_customer_context(customer) if customer is not None else {}
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def read_customer_context(self, customer: Customer) -> dict[str, Any]:
        """Return what the page shows beside the form."""
        return {"panels": [_keys_panel(customer), flags_panel(customer)]}

    # ---- actions

    def has_edit_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("keys.change_customer")

    def has_new_key_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("keys.add_apikey")

    @override
    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Offer the one of suspend and reactivate that changes something."""
        status = Customer.objects.filter(pk=object_id).values_list("status", flat=True).first()
        hidden = "suspend" if status == CustomerStatus.SUSPENDED else "reactivate"
        return [a for a in super().get_actions_detail(request, object_id) if a.path != hidden]

    @page_action(description="New API key", url_path="new-key", icon="add", permission="new_key")
    def new_key(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return redirect(f"{admin_url('keys.apikey', 'add')}?customer={int(object_id)}")

    @page_action(
        description="Suspend",
        url_path="suspend",
        icon="block",
        variant=ActionVariant.DANGER,
        permission="edit",
    )
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return self._ask_status(request, object_id, CustomerStatus.SUSPENDED)

    @page_action(description="Reactivate", url_path="reactivate", icon="check_circle", permission="edit")
    def reactivate(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return self._ask_status(request, object_id, CustomerStatus.ACTIVE)

    def _ask_status(self, request: HttpRequest, object_id: str, status: CustomerStatus) -> HttpResponseBase:
        customer = get_object_or_404(Customer, pk=object_id)
        if not self.has_edit_permission(request):
            raise PermissionDenied
        suspends = status is CustomerStatus.SUSPENDED
        verb = "Suspend" if suspends else "Reactivate"
        back = admin_url("keys.customer", "change", customer.pk)

        def act() -> HttpResponseBase:
            set_customer_status(customer_id=customer.pk, status=status, actor=admin_actor(request))
            messages.success(request, f"{customer.name} is {'suspended' if suspends else 'active again'}.")
            return redirect(back)

        page = FormPage(
            title=f"{verb} {customer.name}",
            submit_label=f"{verb} {customer.name}",
            cancel_url=back,
            is_danger=suspends,
            intro=(
                "Every key of this customer is refused from its next call on, on every server, until you reactivate "
                "it. Calls in flight end normally and are charged."
                if suspends
                else "Its keys work again from their next call on. Revoked and expired keys stay as they are."
            ),
        )
        return run_form_page(self, request, page, forms.Form(request.POST or None), act=act)


def _keys_panel(customer: Customer) -> Panel:
    keys = list(ApiKey.objects.filter(customer=customer).order_by("-created_at", "-id")[: _SHOWN_KEYS + 1])
    return Panel(
        title="API keys",
        headers=("Key", "Name", "State", "Last used", "Created"),
        rows=[
            (
                admin_link("keys.apikey", key.pk, code(f"{key.prefix}…")),
                key.name,
                state_badge(key),
                utc(key.last_used_at, never="never"),
                utc(key.created_at),
            )
            for key in keys[:_SHOWN_KEYS]
        ],
        empty="No key yet. Issue one with 'New API key' above; its secret is shown once.",
        link_url=f"{admin_url('keys.apikey', 'changelist')}?customer__id__exact={customer.pk}",
        link_text="All keys" if len(keys) > _SHOWN_KEYS else "In the list",
    )
