"""Percentages are integer hundredths of a percent (basis points); text is a plain decimal."""

from decimal import Decimal, InvalidOperation


def parse_percent(text: str) -> int:
    """Return the hundredths of a percent in a plain decimal such as "12.5" or "-10 %".

    Raises ValueError for exponents and more than two decimals.
    """
    cleaned = text.strip().removesuffix("%").strip()
    try:
        scaled = Decimal(cleaned).scaleb(2)
    except InvalidOperation:
        raise ValueError(f"'{text}' is not a percentage; write a plain decimal such as 12.5") from None
    if "e" in cleaned.lower() or not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise ValueError(f"'{text}' is not a plain decimal with at most two decimals, such as 12.5")
    return int(scaled)


def format_percent(basis_points: int, *, with_sign: bool = False) -> str:
    """Return hundredths of a percent as text: "12.5 %", with a sign "+12.5 %"."""
    whole, fraction = divmod(abs(basis_points), 100)
    digits = f".{fraction:02d}".rstrip("0") if fraction else ""
    sign = "-" if basis_points < 0 else "+" if with_sign else ""
    return f"{sign}{whole}{digits} %"
