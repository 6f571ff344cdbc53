"""The members of a JSON object, checked one by one: types, bounds, none missing, none unknown. Pure.

A check returns the value, or raises ValueError with the rest of a sentence that begins "the member NAME ...". Those
that know nothing of JSON also check the arguments of calls (daemon.methods).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from licd.license.dates import FIRST_DAY, LAST_DAY, midnight
from licd.license.document import b64url_decode

MAX_TITLE = 200

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_STAMP = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])Z")

Check = Callable[[Any], Any]


def matching(pattern: re.Pattern[str], what: str) -> Check:
    def check(value: Any) -> str:
        if type(value) is str and pattern.fullmatch(value):
            return value
        raise ValueError(f"must be {what}")

    return check


def integer(least: int, most: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is int and least <= value <= most:
            return value
        raise ValueError(f"must be an integer from {least} to {most}" if least < most else f"must be {most}")

    return check


def choice(*values: str) -> Check:
    def check(value: Any) -> str:
        if type(value) is str and value in values:
            return value
        raise ValueError(f"must be one of: {', '.join(values)}")

    return check


def boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise ValueError("must be true or false")


def or_null(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def any_object(value: Any) -> dict[str, Any]:
    if type(value) is dict:
        return value
    raise ValueError("must be an object")


def printable(most: int, least: int = 0) -> Check:
    # It is shown on terminals, whose control characters have no business in it.
    def check(value: Any) -> str:
        if type(value) is str and least <= len(value) <= most and value.isprintable():
            return value
        raise ValueError(f"must be printable text of {f'{least} to' if least else 'at most'} {most} characters")

    return check


title = printable(MAX_TITLE)


def a_date(value: Any) -> str:
    if type(value) is str and _DATE.fullmatch(value):
        try:
            if FIRST_DAY <= date.fromisoformat(value) <= LAST_DAY:
                return value
        except ValueError:
            pass
    raise ValueError(f"must be a date, YYYY-MM-DD, from {FIRST_DAY} to {LAST_DAY}")


def a_stamp(value: Any) -> float:
    match = _STAMP.fullmatch(value) if type(value) is str else None
    if match is None:
        raise ValueError("must be a time in UTC, YYYY-MM-DDTHH:MM:SSZ")
    return midnight(a_date(match[1])) + int(match[2]) * 3600 + int(match[3]) * 60 + int(match[4])


def members(value: dict[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
    """The members by name, checked: exactly those of `checks`."""
    for name in value:
        if name not in checks:
            raise ValueError(f"the member {name[:64]!a} is unknown")
    result = {}
    for name, check in checks.items():
        if name not in value:
            raise ValueError(f"the member {name} is missing")
        try:
            result[name] = check(value[name])
        except ValueError as error:
            raise ValueError(f"the member {name} {error}") from None
    return result


def part(checks: Mapping[str, Check]) -> Check:
    def check(value: Any) -> dict[str, Any]:
        try:
            return members(any_object(value), checks)
        except ValueError as error:
            raise ValueError(f"is wrong: {error}" if type(value) is dict else str(error)) from None

    return check


def octets(length: int) -> Check:
    def check(value: Any) -> str:
        try:
            if type(value) is str and len(b64url_decode(value.encode("ascii"))) == length:
                return value
        except ValueError:
            pass
        raise ValueError(f"must be {length} bytes in base64url")

    return check
