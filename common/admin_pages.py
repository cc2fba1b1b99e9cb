"""Pages of the admin that ask before they act: a form, where wanted a confirmation, one domain call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django import forms
from django.contrib.admin import ModelAdmin
from django.db.models import Model
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse

from common.errors import TollkeeperError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A line of a summary: what, and its value."""

    label: str
    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class FormSection:
    """Fields that belong together."""

    title: str
    fields: tuple[str, ...]
    description: str = ""
    is_collapsed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPage:
    """What a page says around its form."""

    title: str
    submit_label: str
    cancel_url: str
    intro: str = ""
    confirm_intro: str = ""
    is_danger: bool = False
    # Empty: all fields in one.
    sections: tuple[FormSection, ...] = ()


def run_form_page(
    model_admin: ModelAdmin[Model],
    request: HttpRequest,
    page: FormPage,
    form: forms.Form,
    *,
    act: Callable[[], HttpResponseBase],
    summarise: Callable[[], Sequence[Fact]] | None = None,
) -> HttpResponseBase:
    """Show the form; on a valid POST show what `summarise` says and ask again; once confirmed, `act`.

    A domain error of `act` is shown at the field that it names. Without `summarise` a valid POST acts at once.
    """
    if request.method != "POST" or "_back" in request.POST or not form.is_valid():
        return _render(model_admin, request, page, form, facts=None)
    if summarise is not None and "_confirmed" not in request.POST:
        return _render(model_admin, request, page, form, facts=summarise())
    try:
        return act()
    except TollkeeperError as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return _render(model_admin, request, page, form, facts=None)


def _render(
    model_admin: ModelAdmin[Model],
    request: HttpRequest,
    page: FormPage,
    form: forms.Form,
    *,
    facts: Sequence[Fact] | None,
) -> HttpResponseBase:
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": page.title,
        "media": model_admin.media + form.media,
        "page": page,
        "form": form,
        "facts": facts,
        "sections": arrange_sections(page.sections, form),
    }
    return TemplateResponse(request, "common/admin/form_page.html", context)


def arrange_sections(given: Sequence[FormSection], form: forms.Form) -> list[dict[str, object]]:
    """Return the sections with their bound fields, for a template; without any, all fields in one."""
    sections = given or (FormSection(title="", fields=tuple(form.fields)),)
    listed = []
    for section in sections:
        fields = [form[name] for name in section.fields if name in form.fields and not form[name].is_hidden]
        is_open = not section.is_collapsed or any(field.errors for field in fields)
        listed.append({"section": section, "fields": fields, "is_open": is_open})
    return listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A titled table beside or below a form (template `common/admin/panel.html`)."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    # What it means that there is no row, and what to do about it.
    empty: str
    note: str = ""
    footer: Sequence[object] = ()
    link_url: str = ""
    link_text: str = ""
