"""The windows of budgets: UTC days and calendar months as numbers, computed from the clock alone.

Every limit, page and header takes its windows from here, so that they begin and end at the same moment everywhere.
"""

DAY_US = 86_400_000_000


def day_number(now_us: int) -> int:
    """Return the number of the UTC day since 1970-01-01."""
    return now_us // DAY_US


def month_number(now_us: int) -> int:
    """Return year * 12 + month - 1 of the UTC calendar month.

    Civil-from-days, Howard Hinnant, http://howardhinnant.github.io/date_algorithms.html: datetime costs ten times it.
    """
    shifted = now_us // DAY_US + 719_468
    era, day_of_era = divmod(shifted, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    # The algorithm's year begins in March, so its months 10 and 11 are January and February of the next year.
    return (year_of_era + era * 400) * 12 + shifted_month + 2


def month_start_day(month: int) -> int:
    """Return the day number of the first day of a month number (the inverse of `month_number`)."""
    year, month_index = divmod(month, 12)
    shifted_year, shifted_month = (year, month_index - 2) if month_index >= 2 else (year - 1, month_index + 10)
    era, year_of_era = divmod(shifted_year, 400)
    day_of_era = 365 * year_of_era + year_of_era // 4 - year_of_era // 100 + (153 * shifted_month + 2) // 5
    return era * 146_097 + day_of_era - 719_468


def day_ends_us(day: int) -> int:
    """Return the first moment after the UTC day of that number."""
    return (day + 1) * DAY_US


def month_ends_us(month: int) -> int:
    """Return the first moment after the UTC calendar month of that number."""
    return month_start_day(month + 1) * DAY_US
