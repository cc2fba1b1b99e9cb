"""Money is an integer count of nano-USD (1e-9 USD). No float touches it; text is exact decimal, never an exponent."""

from decimal import Context, Decimal, Inexact, InvalidOperation

NANO_PER_USD = 1_000_000_000
# Columns are signed 64-bit: 9.2e18 nano-USD, i.e. 9.2 billion USD.
MAX_NANOUSD = 2**63 - 1
_EXACT = Context(prec=60, traps=[InvalidOperation, Inexact])


def parse_usd(text: str) -> int:
    """Return the nano-USD in a plain decimal such as "12.50".

    Raises ValueError for exponents, more than nine decimals, or an amount that a column cannot hold.
    """
    cleaned = text.strip()
    if "e" in cleaned.lower():
        raise ValueError(f"'{text}' is not a plain decimal amount")
    try:
        # A context of its own: the default one would round silently beyond 28 digits.
        scaled = Decimal(cleaned).scaleb(9, _EXACT)
    except (InvalidOperation, Inexact):
        raise ValueError(f"'{text}' is not a decimal amount in USD") from None
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise ValueError(f"'{text}' has more than nine decimals; the smallest unit is 0.000000001 USD")
    if abs(scaled) > MAX_NANOUSD:
        raise ValueError(f"'{text}' is out of range")
    return int(scaled)


def format_usd(amount_nanousd: int, *, min_decimals: int = 2) -> str:
    """Return the exact plain decimal: all significant digits, at least `min_decimals` of them, no exponent."""
    if amount_nanousd < 0:
        return "-" + format_usd(-amount_nanousd, min_decimals=min_decimals)
    whole, fraction = divmod(amount_nanousd, NANO_PER_USD)
    digits = f"{fraction:09d}".rstrip("0")
    if len(digits) < min_decimals:
        digits = digits.ljust(min_decimals, "0")
    return f"{whole}.{digits}" if digits else f"{whole}"


def divide_half_even(numerator: int, denominator: int) -> int:
    """Return numerator / denominator rounded half to even, in integers only (denominator > 0)."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient % 2 == 1):
        quotient += 1
    return quotient
