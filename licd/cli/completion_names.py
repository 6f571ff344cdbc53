"""Names that licd knows, for completion: of licenses, leases, holders, vendors, methods and factors.

All of it is what this user may see anyway, and what licd does not say in time is not offered.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from licd.cli.answers import Answer, as_map, given, listed
from licd.cli.completion_shells import Row
from licd.cli.output import fill, shown, span
from licd.rpc.client import DEFAULT_SOCKET, CallError, Client, ClientError

LICD_MAY_TAKE_S = 0.5  # all questions of one completion together: a key was pressed, and somebody waits

Given = dict[str, list[str]]


class Asking:
    """Calls licd until the time is over. Errors: those of Client.call()"""

    def __init__(self, path: str | None) -> None:
        self._client = Client(path or os.environ.get("LICD_SOCKET") or DEFAULT_SOCKET, retry=False)
        self._until = time.monotonic() + LICD_MAY_TAKE_S

    def call(self, method: str, **params: Any) -> Answer:
        self._client.timeout_s = max(self._until - time.monotonic(), 0.0)
        return as_map(self._client.call(method, **params))


Names = Callable[[Asking, Given, bool], Iterable[tuple[Any, str]]]


def _licenses(licd: Asking, line: Given, option: bool) -> Iterator[tuple[Any, str]]:
    for row in licd.call("license.list")["licenses"]:
        seats = None if row.get("total") is None else fill("{held} of {total} seats held", **row)
        yield row["license"], _told(row.get("title"), row.get("state"), seats)


def _leases(licd: Asking, line: Given, option: bool) -> Iterator[tuple[Any, str]]:
    for row in _held(licd, line):
        seats, left = fill("seats {seats}", **row), fill("{left} left", left=span(row.get("expires_s")))
        yield row["lease"], _told(row.get("license"), row.get("holder"), seats, left)


def _holders(licd: Asking, line: Given, option: bool) -> Iterator[tuple[Any, str]]:
    """As an option the holder of a lease, of the license that was named; as a word any who might want one."""
    holds: dict[Any, list[Any]] = {}
    with contextlib.suppress(ClientError):  # time is over: those of the pages that came
        for row in _held(licd, line if option else {}):
            holds.setdefault(row["holder"], []).append(row.get("license"))
    for holder, licenses in holds.items():
        yield holder, _told(listed(dict.fromkeys(licenses)))


def _held(licd: Asking, line: Given) -> Iterator[Answer]:
    chosen = given(license=_last(line, "license"), holder=_last(line, "holder"))
    answer = licd.call("seat.list", **chosen)
    yield from answer["leases"]
    while answer.get("next") is not None:
        answer = licd.call("seat.list", **chosen, after=answer["next"])
        yield from answer["leases"]


def _last(line: Given, dest: str) -> str | None:
    return line[dest][-1] if line.get(dest) else None


def _vendors(licd: Asking, line: Given, option: bool) -> Iterator[tuple[Any, str]]:
    try:
        answer = licd.call("server.status")
    except CallError:
        answer = licd.call("renewal.plan")  # a courier may ask for nothing else
    for row in answer["vendors"]:
        yield row["vendor"], fill("license file {seq} in force" if row.get("in_force") else "nothing in force", **row)


def _methods(licd: Asking, line: Given, option: bool) -> Iterator[tuple[Any, str]]:
    for name in licd.call("server.hello")["methods"]:
        yield name, ""


def _factors(licd: Asking, line: Given, option: bool) -> Iterator[tuple[Any, str]]:
    kinds: dict[Any, list[Any]] = {}
    for row in licd.call("device.fingerprint")["factors"]:
        if row.get("state") == "found":
            kinds.setdefault(row["kind"], []).append(row["factor"])
            yield row["factor"], fill("{kind}, {strength}", **row)
    for kind, factors in kinds.items():
        yield kind, _told(listed(factors))


def _told(*parts: Any) -> str:
    return ", ".join(shown(part) for part in parts if part)


def _checked(names: Names) -> Callable[[Asking, Given, bool], list[Row]]:
    """The same without repetitions, and without what could not be typed; as far as licd answers, and as licd would."""

    def rows(licd: Asking, line: Given, option: bool) -> list[Row]:
        found: dict[str, Row] = {}
        with contextlib.suppress(ClientError, TypeError, LookupError, AttributeError, ValueError):
            for name, help in names(licd, line, option):
                if _can_be_typed(name):
                    found.setdefault(name, Row(name, help))
        return list(found.values())

    return rows


def _can_be_typed(name: Any) -> bool:
    """It is text of one line without control characters, and the terminal's encoding has all of it."""
    if type(name) is not str or not name or not name.isprintable():
        return False
    try:
        name.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True


# By the dest of an argument.
NAMES = {
    "license": _checked(_licenses),
    "leases": _checked(_leases),
    "holder": _checked(_holders),
    "vendor": _checked(_vendors),
    "method": _checked(_methods),
    "without": _checked(_factors),
}
