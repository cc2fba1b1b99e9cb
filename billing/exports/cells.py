"""How values are written as text: exact, and the same on both databases.

The writers remember what they wrote last: models, statuses, tags and most amounts come again and again, and looking
them up costs a tenth of writing them.
"""

from functools import lru_cache

import orjson

from common.money import format_usd

_FORMULA_STARTS = frozenset("=+-@\t\r")
_REMEMBERED = 4_096


@lru_cache(_REMEMBERED)
def write_plain(text: str | None) -> str:
    """Return a text that no spreadsheet takes for a formula (OWASP, CSV injection): with a leading apostrophe."""
    if not text:
        return ""
    return f"'{text}" if text[0] in _FORMULA_STARTS else text


@lru_cache(_REMEMBERED)
def write_usd(amount_nanousd: int) -> str:
    """Return an amount as a plain decimal in USD."""
    return format_usd(amount_nanousd)


@lru_cache(256)
def write_json(text: str) -> str:
    """Return a JSON object with sorted keys and no spaces, for PostgreSQL keeps no order; "" for an empty one."""
    parsed = orjson.loads(text)
    return orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS).decode() if parsed else ""


def write_flag(value: object) -> str:
    """Return true or false."""
    return "true" if value else "false"
