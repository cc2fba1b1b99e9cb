"""A provider's own usage as CSV: per UTC day and model, tokens in and out, and calls where the file counts them.

Columns are known by several names, because providers rename them (OpenAI's usage export and usage API, Anthropic's
console and usage report; as of 2026-11). Classes of input are added up: a provider that lists cached tokens within its
input (OpenAI) and one that lists them beside it (Anthropic) are told apart by the columns that the file has.
"""

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from billing.errors import ProviderFileInvalid

_LARGEST_BYTES = 200_000_000
_MOMENTS = (
    "date",
    "day",
    "start_time",
    "start_time_iso",
    "usage_date",
    "usage_date_utc",
    "bucket_start_time",
    "timestamp",
)
_MODELS = ("model", "model_version", "model_name", "snapshot_id")
_CALLS = ("num_model_requests", "num_requests", "n_requests", "requests", "request_count")
# Anthropic's: what was not cached, read from the cache and written to it are columns beside each other.
_INPUT_BESIDE = (
    "usage_input_tokens_no_cache",
    "uncached_input_tokens",
    "usage_input_tokens_cache_read",
    "cache_read_input_tokens",
    "usage_input_tokens_cache_write",
    "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h",
    "cache_creation_input_tokens",
    "cache_creation.ephemeral_5m_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens",
)
# OpenAI's: one column has everything, cached tokens are a part of it.
_INPUT_WHOLE = ("input_tokens", "n_context_tokens_total", "context_tokens", "prompt_tokens")
_OUTPUT = ("output_tokens", "usage_output_tokens", "n_generated_tokens_total", "generated_tokens", "completion_tokens")
_WHOLE_OF_CACHE = frozenset({"input_cached_tokens", "cached_input_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderUsage:
    """What one day and model used; `calls` is None where the file does not count them."""

    calls: int | None
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFile:
    """A file's contents, by day and model."""

    name: str
    sha256: str
    usage: Mapping[tuple[date, str], ProviderUsage]

    @property
    def days(self) -> tuple[date, date]:
        """Return the first and the last day."""
        days = [day for day, _ in self.usage]
        return min(days), max(days)


def read_provider_file(path: Path) -> ProviderFile:
    """Return what a file says. Raises ProviderFileInvalid with the line and column that cannot be read."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ProviderFileInvalid(
                f"{path} is larger than {_LARGEST_BYTES:,} bytes; split it by days.", param="file"
            )
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ProviderFileInvalid(f"{path} is not text in UTF-8.", param="file") from None
    except OSError as error:
        raise ProviderFileInvalid(f"{path} cannot be read: {error.strerror}.", param="file") from None
    reader = csv.DictReader(text.splitlines())
    columns = _find_columns([(name or "").strip().lower() for name in reader.fieldnames or ()])
    reader.fieldnames = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    found: dict[tuple[date, str], ProviderUsage] = {}
    for row in reader:
        model = (row[columns.model] or "").strip()
        if not model:
            continue
        name = (_parse_day(row[columns.moment], reader.line_num), model)
        found[name] = _add(found.get(name), columns, row, reader.line_num)
    if not found:
        raise ProviderFileInvalid(f"{path} has no line of usage with a model.", param="file")
    return ProviderFile(name=path.name, sha256=hashlib.sha256(raw).hexdigest(), usage=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    moment: str
    model: str
    calls: str | None
    inputs: Sequence[str]
    output: str


def _find_columns(names: Sequence[str]) -> _Columns:
    def first(known: Sequence[str]) -> str | None:
        return next((name for name in known if name in names), None)

    moment, model, output = first(_MOMENTS), first(_MODELS), first(_OUTPUT)
    beside = [name for name in _INPUT_BESIDE if name in names]
    whole = first(_INPUT_WHOLE)
    inputs = beside
    if whole is not None:
        # Beside "input_tokens", cache columns are further input (Anthropic), unless OpenAI's word for a part is there.
        extra = [] if _WHOLE_OF_CACHE & set(names) or whole != "input_tokens" else beside
        inputs = [whole, *extra]
    missing = [
        f"{what} ({' or '.join(known[:3])})"
        for what, known, is_there in (
            ("a day", _MOMENTS, moment),
            ("a model", _MODELS, model),
            ("input tokens", (*_INPUT_WHOLE[:1], *_INPUT_BESIDE[:2]), inputs),
            ("output tokens", _OUTPUT, output),
        )
        if not is_there
    ]
    if moment is None or model is None or output is None or missing:
        raise ProviderFileInvalid(f"The file has no column for {', '.join(missing)}.", param="file")
    return _Columns(moment=moment, model=model, calls=first(_CALLS), inputs=inputs, output=output)


def _add(known: ProviderUsage | None, columns: _Columns, row: Mapping[str, str | None], line: int) -> ProviderUsage:
    calls = None if columns.calls is None else _parse_count(row, columns.calls, line)
    return ProviderUsage(
        calls=calls if calls is None or known is None else calls + (known.calls or 0),
        input_tokens=sum(_parse_count(row, name, line) for name in columns.inputs)
        + (known.input_tokens if known else 0),
        output_tokens=_parse_count(row, columns.output, line) + (known.output_tokens if known else 0),
    )


def _parse_count(row: Mapping[str, str | None], column: str, line: int) -> int:
    text = (row.get(column) or "").strip().replace(",", "")
    if not text:
        return 0
    # Spreadsheets make "12.0" of 12.
    if not re.fullmatch(r"\d{1,18}(\.0+)?", text):
        raise ProviderFileInvalid(f"Line {line}: '{text[:40]}' in column {column} is no count of tokens.", param="file")
    return int(text.partition(".")[0])


def _parse_day(text: str | None, line: int) -> date:
    given = (text or "").strip()
    try:
        if re.fullmatch(r"\d{9,11}", given):
            return datetime.fromtimestamp(int(given), UTC).date()
        moment = datetime.fromisoformat(given)
    except (ValueError, OverflowError):
        raise ProviderFileInvalid(
            f"Line {line}: '{given[:40]}' is no day; it is 2026-11-21, a moment, or seconds since 1970.", param="file"
        ) from None
    return (moment if moment.tzinfo is None else moment.astimezone(UTC)).date()
