"""Checks that an expression cannot make: check digits, ranges. Each returns how much of a match is what it looks like.

A match is as long as it can be; a check may say that only its beginning counts, or (0) nothing.
"""

import re
from ipaddress import ip_address

from keys.tokens import is_well_formed

# By the first digit, longest first: the lengths that issuers of such numbers use.
_CARD_DIGITS = {"2": (16,), "3": (15, 14), "4": (19, 16, 13), "5": (16,), "6": (19, 18, 17, 16)}
# Twice a digit, and of a sum of two digits both.
_DOUBLED = {str(digit): sum(divmod(2 * digit, 10)) for digit in range(10)}
# Length of an IBAN by country (SWIFT IBAN registry, 2026-10), where a wrong one would be the usual false positive.
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20,
    "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GI": 23, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26,
    "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25,
    "QA": 29, "RO": 24, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}  # fmt: skip
_SSN_NEVER = frozenset({"000", "666"})
_PHONE_DIGITS = range(8, 16)
_DATE = re.compile(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}")


def check_card(found: str) -> int:
    """Accept the longest beginning with as many digits as cards have whose last one is right (ISO/IEC 7812-1)."""
    digits = found.replace(" ", "").replace("-", "")
    lengths = _CARD_DIGITS[found[0]]
    if len(digits) < lengths[-1] or len(set(digits)) < 2:
        return 0
    ends = [index + 1 for index, character in enumerate(found) if character.isdigit()]
    for count in lengths:
        # A number does not end in the middle of a group of digits.
        if count > len(ends) or (count < len(ends) and ends[count] == ends[count - 1] + 1):
            continue
        if _is_luhn(digits[:count]):
            return ends[count - 1]
    return 0


def _is_luhn(digits: str) -> bool:
    return (sum(map(int, digits[-1::-2])) + sum(map(_DOUBLED.__getitem__, digits[-2::-2]))) % 10 == 0


def check_iban(found: str) -> int:
    """Accept an account number of its country's length whose check digits are right (ISO 13616, mod 97)."""
    ends = [index + 1 for index, character in enumerate(found) if character.isalnum()]
    length = _IBAN_LENGTHS.get(found[:2].upper(), len(ends))
    if not 15 <= length <= len(ends):
        return 0
    compact = "".join(found[end - 1] for end in ends[:length]).upper()
    number = int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4]))
    end = ends[length - 1]
    return end if number % 97 == 1 and not found[end : end + 1].isalnum() else 0


def check_phone(found: str) -> int:
    """Accept a number with as many digits as telephones have (ITU-T E.164), written as one rather than as a date."""
    digits = "".join(filter(str.isdigit, found))
    if len(digits) not in _PHONE_DIGITS or digits.startswith("000") or _DATE.match(found):
        return 0
    return len(found)


def check_address(found: str) -> int:
    """Accept an address of a machine; those that stand for no machine in particular tell nothing of anybody."""
    text = found.rstrip(".:")
    try:
        address = ip_address(text)
    except ValueError:
        return 0
    return 0 if address.is_unspecified or address.is_loopback else len(text)


def check_ssn(found: str) -> int:
    """Accept a number that the US Social Security Administration can have given (no area 000, 666 or from 900 on)."""
    area, group, serial = found[:3], found[4:6], found[7:11]
    is_given = area not in _SSN_NEVER and area < "900" and group != "00" and serial != "0000" and found[3] == found[6]
    return len(found) if is_given else 0


def check_own_key(found: str) -> int:
    """Accept a key of this platform: its checksum is right."""
    return len(found) if is_well_formed(found) else 0


def check_jwt(found: str) -> int:
    """Accept three parts (RFC 7519); a full stop behind them ends a sentence."""
    text = found.rstrip(".")
    parts = text.split(".")
    return len(text) if len(parts) == 3 and len(parts[1]) >= 8 else 0
