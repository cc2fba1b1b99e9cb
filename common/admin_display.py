"""How the admin shows things: exact money, UTC moments, states as badges, links."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from common.money import format_usd

Tone = Literal["neutral", "success", "warning", "danger", "info"]

_TONES: dict[Tone, str] = {
    "neutral": "bg-base-500/8 text-base-700 dark:bg-base-500/20 dark:text-base-200",
    "success": "bg-green-100 text-green-700 dark:bg-green-500/20 dark:text-green-400",
    "warning": "bg-orange-100 text-orange-700 dark:bg-orange-500/20 dark:text-orange-400",
    "danger": "bg-red-100 text-red-700 dark:bg-red-500/20 dark:text-red-400",
    "info": "bg-blue-100 text-blue-700 dark:bg-blue-500/20 dark:text-blue-400",
}


def badge(text: str, tone: Tone = "neutral", *, title: str = "") -> SafeString:
    """Return a state as a coloured word; `title` explains it on hover."""
    return format_html(
        '<span class="tk-badge inline-block font-semibold rounded-default whitespace-nowrap {}" title="{}">{}</span>',
        _TONES[tone],
        title,
        text,
    )


def money(amount_nanousd: int) -> SafeString:
    """Return an exact amount, aligned by its digits."""
    return format_html('<span class="tk-number">{}</span>', format_usd(amount_nanousd))


def number(value: int | None) -> SafeString | str:
    """Return an integer with thin groups of digits, or a dash."""
    if value is None:
        return "-"
    return format_html('<span class="tk-number">{}</span>', f"{value:,}")


def utc(moment: datetime | None, *, never: str = "-", zone: str = " UTC") -> SafeString | str:
    """Return a moment to the second, in UTC and labelled so (SQLite may hand out naive ones, which are UTC).

    An empty `zone` is for columns whose heading says UTC.
    """
    if moment is None:
        return never
    aware = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return format_html(
        '<time class="whitespace-nowrap" datetime="{}">{}{}</time>',
        aware.isoformat(),
        f"{aware:%Y-%m-%d %H:%M:%S}",
        zone,
    )


def code(text: str) -> SafeString:
    """Return an identifier in a fixed-width face."""
    return format_html('<span class="tk-code">{}</span>', text)


def short_code(text: str) -> SafeString:
    """Return an identifier of which lists show both ends; the whole of it on hover."""
    if len(text) <= 16:
        return code(text)
    return format_html('<span class="tk-code" title="{}">{}…{}</span>', text, text[:6], text[-6:])


def link(url: str, text: object) -> SafeString:
    """Return a link."""
    return format_html('<a class="text-link" href="{}">{}</a>', url, text)


def admin_link(model_label: str, pk: object, text: object) -> SafeString:
    """Return a link to the page of a row; `model_label` is like "keys.customer"."""
    return link(admin_url(model_label, "change", pk), text)


def admin_url(model_label: str, view: str, *args: object) -> str:
    """Return the address of an admin view; `model_label` is like "keys.customer"."""
    return reverse(f"admin:{model_label.replace('.', '_')}_{view}", args=args)


def usd_column(attribute: str, description: str) -> Callable[[Any, Any], SafeString]:
    """Return a method of an admin class: a column that shows a nano-USD attribute in exact USD."""

    @admin.display(description=description)
    def column(_: Any, obj: Any) -> SafeString:
        return money(getattr(obj, attribute))

    return column


def utc_column(
    attribute: str, description: str, *, never: str = "-", zone: str = " UTC"
) -> Callable[[Any, Any], SafeString | str]:
    """Return a method of an admin class: a column that shows a moment in UTC."""

    @admin.display(description=description)
    def column(_: Any, obj: Any) -> SafeString | str:
        return utc(getattr(obj, attribute), never=never, zone=zone)

    return column
