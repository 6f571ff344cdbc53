"""Dates of licenses as moments of the trusted time. Pure.

A date means that day everywhere on Earth: it begins at UTC+14 and ends at UTC-12, so no shop loses a day it paid for.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

# What a document may say. Beyond, readers disagree: a year of five digits, times before the epoch.
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(9998, 12, 31)

DAY_S = 86400
NOON_S = 12 * 3600  # the day ends last at UTC-12, twelve hours after it ended in UTC,
DAWN_S = 14 * 3600  # and begins first at UTC+14

FOREVER = float("inf")


def midnight(day: str) -> float:
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * float(DAY_S)


def begin_of(day: str) -> float:
    """The moment from which `not_before` holds: this day's first on Earth. Units: Unix seconds"""
    return midnight(day) - DAWN_S


def end_of(day: str) -> float:
    """The moment from which `expires` no longer holds: this day's last on Earth. Units: Unix seconds"""
    return midnight(day) + DAY_S + NOON_S


def day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def timestamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def later(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days)).isoformat()
