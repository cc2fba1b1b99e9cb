"""API keys: issued, shown once, edited, revoked. Registered by `gateway.admin.api_keys`, which knows the models."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.enums import ActionVariant

from common.admin_base import page_action
from common.admin_display import admin_url, badge, code, link, utc
from common.admin_pages import FormPage, FormSection, run_form_page
from common.ids import make_id
from keys.admin.filters import KeyAttentionFilter, KeyStateFilter
from keys.admin.key_forms import IssueKeyForm, KeyForm, RevokeKeyForm, RotateKeyForm
from keys.admin.key_states import state_badge
from keys.admin.limit_pages import LimitPages
from keys.admin.limits import EXPLAIN_KEY, LimitTexts, limit_fieldsets, limits_of
from keys.admin_trail import admin_actor
from keys.issuing import IssuedKey, issue_key, revoke_key, rotate_key
from keys.limits import LIMIT_COLUMNS
from keys.lines import share_limits
from keys.models import ApiKey, KeyEnvironment

# Forms that were opened and not sent yet, so that a reload of the page with the secret cannot issue another key.
_SESSION_FORMS = "open_key_forms"
_OPEN_FORMS_LIMIT = 20
_MOST_MADE_KEYS = 20


class ApiKeyAdmin(LimitTexts, LimitPages[ApiKey]):
    view_names = {
        **LimitTexts.limit_view_names,
        "scopes": "scopes_text",
        "allowed_models": "allowed_models_text",
        "allowed_prompts": "allowed_prompts_text",
        "allowed_networks": "allowed_networks_text",
        "expires_at": "expiry",
    }
    form = KeyForm
    list_display = (
        "prefix_text",
        "name",
        "customer",
        "state_badge",
        "environment_badge",
        "last_used",
        "created",
    )
    list_display_links = ("prefix_text", "name")
    list_filter = (
        KeyStateFilter,
        KeyAttentionFilter,
        ("environment", ChoicesDropdownFilter),
        ("customer", AutocompleteSelectFilter),
    )
    list_select_related = ("customer",)
    search_fields = ("prefix__startswith", "name", "customer__name", "public_id__exact")
    search_help_text = "Prefix (tk_live_ab12…), name or customer"
    ordering = ("-created_at", "-id")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "prefix_text",
                    "customer",
                    "state_detail",
                    "name",
                    "scopes",
                    "allowed_models",
                    "allowed_prompts",
                    "allowed_networks",
                    "expires_at",
                )
            },
        ),
        *limit_fieldsets(EXPLAIN_KEY),
        (
            "History",
            {
                "fields": (
                    "public_id",
                    "environment_badge",
                    "api_version_text",
                    "created",
                    "created_by",
                    "family",
                    "last_used",
                    "last_used_address",
                )
            },
        ),
    )
    readonly_fields = (
        "prefix_text",
        "customer",
        "state_detail",
        "public_id",
        "environment_badge",
        "api_version_text",
        "created",
        "created_by",
        "family",
        "last_used",
        "last_used_address",
    )
    actions_detail = ("rotate", "raise_limit", "revoke")  # type: ignore[assignment]

    def find_model_names(self) -> list[str]:
        """Return the names of the models that a key may be limited to; this app knows none."""
        return []

    # ---- permissions

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_final = isinstance(obj, ApiKey) and obj.revoked_at is not None
        return not is_final and super().has_change_permission(request, obj)

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Usage points at it for good; revoke it instead.
        return False

    def has_revoke_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("keys.change_apikey")

    # ---- editing

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            share_limits(obj, [column for column in LIMIT_COLUMNS if column in form.changed_data])

    # ---- list

    @override
    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        # People paste the prefix as the pages show it, with its ellipsis.
        return super().get_search_results(request, queryset, search_term.replace("…", ""))

    @admin.display(description="Key")
    def prefix_text(self, key: ApiKey) -> SafeString:
        return code(f"{key.prefix}…")

    @admin.display(description="State")
    def state_badge(self, key: ApiKey) -> SafeString:
        return state_badge(key)

    @admin.display(description="State")
    def state_detail(self, key: ApiKey) -> SafeString:
        if key.state() == "rotated" and key.successor is not None:
            text = (
                f"Rotated on {key.deprecated_at:%Y-%m-%d %H:%M} UTC; works until {key.expires_at:%Y-%m-%d %H:%M} UTC."
            )
            return format_html(
                "{} Successor: {}",
                badge(text, "warning"),
                link(admin_url("keys.apikey", "change", key.successor.pk), f"{key.successor.prefix}…"),
            )
        if key.revoked_at is None:
            return state_badge(key)
        text = f"Revoked on {key.revoked_at:%Y-%m-%d %H:%M:%S} UTC: {key.revoked_reason}"
        return badge(text, "danger")

    @admin.display(description="Scopes")
    def scopes_text(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="Allowed models")
    def allowed_models_text(self, key: ApiKey) -> str:
        return ", ".join(key.allowed_models) or "every active model"

    @admin.display(description="Allowed prompts")
    def allowed_prompts_text(self, key: ApiKey) -> str:
        return ", ".join(key.allowed_prompts) or "every released prompt"

    @admin.display(description="Allowed networks")
    def allowed_networks_text(self, key: ApiKey) -> str:
        return ", ".join(key.allowed_networks) or "from anywhere"

    @admin.display(description="Expires")
    def expiry(self, key: ApiKey) -> SafeString | str:
        return utc(key.expires_at, never="never")

    @admin.display(description="Environment")
    def environment_badge(self, key: ApiKey) -> SafeString:
        return badge(key.get_environment_display(), "info" if key.environment == KeyEnvironment.LIVE else "neutral")

    @admin.display(description="API version")
    def api_version_text(self, key: ApiKey) -> str:
        return key.api_version or "the newest, once it calls"

    @admin.display(description="Last used", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> SafeString | str:
        return utc(key.last_used_at, never="never")

    @admin.display(description="Related keys")
    def family(self, key: ApiKey) -> SafeString:
        """Tell whose limits its calls share, and whose calls share its own."""
        found = [("made by", key.maker)] if key.maker is not None else []
        found += [("rotated from", old) for old in ApiKey.objects.filter(successor=key)]
        found += [("has made", made) for made in ApiKey.objects.filter(maker=key).order_by("-id")[:_MOST_MADE_KEYS]]
        rows = ((what, link(admin_url("keys.apikey", "change", of.pk), f"{of.prefix}…"), of.name) for what, of in found)
        return format_html_join(SafeString("<br>"), "{} {} ({})", rows) or SafeString("-")

    @admin.display(description="Created", ordering="created_at")
    def created(self, key: ApiKey) -> SafeString | str:
        return utc(key.created_at)

    # ---- issuing

    @override
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_add_permission(request):
            raise PermissionDenied
        list_url = admin_url("keys.apikey", "changelist")
        open_forms: list[str] = request.session.get(_SESSION_FORMS, [])
        if request.method == "POST" and request.POST.get("form_id") not in open_forms:
            messages.warning(
                request,
                "That form was sent before, and its key was issued then. A secret is shown once: if it is lost, revoke "
                "the key and issue another.",
            )
            return redirect(list_url)
        form_id = request.POST.get("form_id") or make_id("form")
        if request.method != "POST":
            request.session[_SESSION_FORMS] = [*open_forms, form_id][-_OPEN_FORMS_LIMIT:]
        initial = {"form_id": form_id, "customer": request.GET.get("customer")}
        form = IssueKeyForm(request.POST or None, initial=initial, model_names=self.find_model_names())

        def act() -> HttpResponseBase:
            issued = self._issue(request, form)
            request.session[_SESSION_FORMS] = [f for f in open_forms if f != form_id]
            return self._show_secret(request, issued)

        page = FormPage(
            title="Issue an API key",
            submit_label="Issue key",
            cancel_url=list_url,
            intro="The next page shows the secret, once. Only a keyed hash of it is stored.",
            sections=(
                FormSection(title="", fields=("customer", "name", "environment", "expires_at")),
                FormSection(title="Rights", fields=("scopes", "allowed_models", "allowed_prompts", "allowed_networks")),
                FormSection(
                    title="Limits of this key",
                    description=EXPLAIN_KEY,
                    fields=LIMIT_COLUMNS,
                    is_collapsed=True,
                ),
            ),
        )
        return run_form_page(self, request, page, form, act=act)

    def _issue(self, request: HttpRequest, form: IssueKeyForm) -> IssuedKey:
        data = form.cleaned_data
        return issue_key(
            customer_id=data["customer"].pk,
            name=data["name"],
            author=request.user.get_username(),
            environment=KeyEnvironment(data["environment"]),
            scopes=data["scopes"],
            allowed_models=data["allowed_models"],
            allowed_prompts=data["allowed_prompts"],
            allowed_networks=data["allowed_networks"],
            expires_at=data["expires_at"],
            limits=limits_of(data),
            actor=admin_actor(request),
        )

    def _show_secret(self, request: HttpRequest, issued: IssuedKey) -> HttpResponseBase:
        """Answer the POST itself: a redirect would need the secret kept somewhere on the way."""
        key = issued.key
        names = [n for n in key.allowed_models if not n.endswith("*")] or self.find_model_names()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Key issued",
            "key": key,
            "secret": issued.token,
            "model": names[0] if names else "",
            "calls_url": request.build_absolute_uri("/v1/chat/completions"),
            "models_url": request.build_absolute_uri("/v1/models"),
            "key_url": admin_url("keys.apikey", "change", key.pk),
        }
        response = TemplateResponse(request, "keys/admin/key_issued.html", context)
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        return response

    # ---- rotating and revoking

    @override
    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Offer what can still be done to the key."""
        key = ApiKey.objects.filter(pk=object_id).first()
        state = "revoked" if key is None else key.state()
        hidden = {"active": set(), "rotated": {"rotate"}, "expired": {"rotate", "raise-limit"}}.get(
            state, {"rotate", "raise-limit", "revoke", "api-version"}
        )
        return [a for a in super().get_actions_detail(request, object_id) if a.path not in hidden]

    @page_action(description="Rotate", url_path="rotate", icon="autorenew", permission="revoke")
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        key = get_object_or_404(ApiKey.objects.select_related("customer"), pk=object_id)
        back = admin_url("keys.apikey", "change", key.pk)
        form = RotateKeyForm(request.POST or None)

        def act() -> HttpResponseBase:
            issued = rotate_key(
                key_id=key.pk,
                overlap=form.read_overlap(),
                reason=form.cleaned_data["reason"],
                author=request.user.get_username(),
                actor=admin_actor(request),
            )
            return self._show_secret(request, issued)

        page = FormPage(
            title=f"Rotate {key.prefix}…",
            submit_label="Issue the successor",
            cancel_url=back,
            intro=(
                f"A new key with the rights and limits of '{key.name}' of {key.customer.name} is made and shown once. "
                "Until the old one ends, both work, and the old one's answers carry Deprecation and Sunset headers."
            ),
        )
        return run_form_page(self, request, page, form, act=act)

    @page_action(
        description="Revoke",
        url_path="revoke",
        icon="block",
        variant=ActionVariant.DANGER,
        permission="revoke",
    )
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        key = get_object_or_404(ApiKey.objects.select_related("customer"), pk=object_id)
        back = admin_url("keys.apikey", "change", key.pk)
        form = RevokeKeyForm(request.POST or None)

        def act() -> HttpResponseBase:
            ended = revoke_key(key_id=key.pk, reason=form.cleaned_data["reason"], actor=admin_actor(request))
            others = f", and with it {len(ended) - 1} that it made" if len(ended) > 1 else ""
            messages.success(request, f"{key.prefix}… is revoked and will never work again{others}.")
            return redirect(back)

        page = FormPage(
            title=f"Revoke {key.prefix}…",
            submit_label="Revoke this key for good",
            cancel_url=back,
            is_danger=True,
            intro=(
                f"'{key.name}' of {key.customer.name} is refused from its next call on, on every server. "
                f"{_made_by(key)}This cannot be undone; issue a new key where one is still needed."
            ),
        )
        return run_form_page(self, request, page, form, act=act)


def _made_by(key: ApiKey) -> str:
    made = ApiKey.objects.filter(maker=key, revoked_at__isnull=True).count()
    return f"The {made} keys that it made end with it. " if made else ""
