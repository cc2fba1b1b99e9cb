"""Counts in sentences."""


def counted(count: int, noun: str) -> str:
    """Return "1 call", "1,200 calls": a count with its regular noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
