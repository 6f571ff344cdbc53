"""Software versions, and the sets of them that a license covers. Pure.

A version is up to eight numbers with dots between; numbers that are missing count as 0, and what follows "-", "+" or
"~" is ignored, so that 5.1.3-rc1 is covered like 5.1.3.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

MAX_CONDITIONS = 8  # two make a range; more than a few is a mistake

_NUMBERS = r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,7}"
VERSION = re.compile(rf"({_NUMBERS})(?:[-+~][0-9A-Za-z.+~-]{{1,40}})?")
_CONDITION = re.compile(rf"(<=|>=|<|>|)({_NUMBERS})(\.\*)?")

Numbers = tuple[int, ...]
_COMPARE: dict[str, Callable[[Numbers, Numbers], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "": operator.eq,
}


@lru_cache(maxsize=1024)  # the same few are asked again and again; bounded, because they are the clients' words
def _numbers_of(version: str) -> Numbers | None:
    match = VERSION.fullmatch(version)
    return None if match is None else _numbers(match[1])


def _numbers(text: str) -> Numbers:
    """Without trailing zeros, so that tuples compare as versions do."""
    numbers = [int(part) for part in text.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


class Versions(NamedTuple):
    """The versions for which every condition holds, e.g. "5.*", "<=4.2", ">=4,<6", "5.2". str() is the text signed."""

    text: str
    conditions: tuple[tuple[str, Numbers, int], ...]

    @classmethod
    def parse(cls, text: str) -> Versions:
        """Errors: ValueError"""
        conditions = []
        for part in text.split(","):
            match = _CONDITION.fullmatch(part.strip(" "))
            if match is None or (match[1] and match[3]):
                raise ValueError('is not a set of versions such as "5.*", "<=4.2" or ">=4,<6"')
            prefix = match[2].count(".") + 1 if match[3] else 0  # how many numbers stand before the asterisk
            conditions.append((match[1], _numbers(match[2]), prefix))
        if len(conditions) > MAX_CONDITIONS:
            raise ValueError(f"has more than {MAX_CONDITIONS} conditions")
        return cls(text, tuple(conditions))

    def covers(self, version: str | None) -> bool:
        """Whether every condition holds for the version; false of a text that is no version, and of none."""
        numbers = None if version is None else _numbers_of(version)
        return numbers is not None and all(
            _padded(numbers, prefix) == _padded(bound, prefix) if prefix else _COMPARE[sign](numbers, bound)
            for sign, bound, prefix in self.conditions
        )

    def __str__(self) -> str:
        return self.text


def _padded(numbers: Numbers, length: int) -> Numbers:
    return (*numbers, *(0,) * length)[:length]
