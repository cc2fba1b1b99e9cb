"""How long a rotated key goes on working: the choices that people are given, and any date."""

from datetime import UTC, datetime, timedelta

from keys.errors import KeyInvalid

OVERLAPS = {
    "now": timedelta(0),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}


def parse_overlap(text: str, *, now: datetime | None = None) -> timedelta:
    """Return the overlap that `text` means: one of OVERLAPS, or an ISO 8601 moment. Raises KeyInvalid."""
    if text in OVERLAPS:
        return OVERLAPS[text]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise KeyInvalid(
            f"'{text[:40]}' is no overlap: give {', '.join(OVERLAPS)}, or a moment such as 2026-12-31T00:00:00Z.",
            param="overlap",
        ) from None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    overlap = moment - (now or datetime.now(UTC))
    if overlap < timedelta(0):
        raise KeyInvalid("The overlap ends in the past.", param="overlap")
    return overlap
