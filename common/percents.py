"""Percentages are integer hundredths of a percent (basis points), or finer where said so; text is a plain decimal."""

from decimal import Decimal, InvalidOperation


def parse_percent(text: str, *, decimals: int = 2) -> int:
    """Return the hundredths of a percent in a plain decimal such as "12.5" or "-10 %".

    With other `decimals` it is that many places: four make millionths of the whole. Raises ValueError for exponents
    and more decimals than that.
    """
    cleaned = text.strip().removesuffix("%").strip()
    try:
        scaled = Decimal(cleaned).scaleb(decimals)
    except InvalidOperation:
        raise ValueError(f"'{text}' is not a percentage; write a plain decimal such as 12.5") from None
    if "e" in cleaned.lower() or not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise ValueError(f"'{text}' is not a plain decimal with at most {_COUNTS[decimals]} decimals, such as 12.5")
    return int(scaled)


def format_percent(points: int, *, with_sign: bool = False, decimals: int = 2) -> str:
    """Return hundredths of a percent (or what `decimals` says) as text: "12.5 %", with a sign "+12.5 %"."""
    whole, fraction = divmod(abs(points), 10**decimals)
    digits = f".{fraction:0{decimals}d}".rstrip("0") if fraction else ""
    sign = "-" if points < 0 else "+" if with_sign else ""
    return f"{sign}{whole}{digits} %"


_COUNTS = {2: "two", 4: "four"}
