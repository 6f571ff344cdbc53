"""What can be called, by whom, with which arguments: the one table, and the checks that run before a handler starts.

Only what stands in METHODS can be called; `handler` names a method of the object that service.py sets for the family.
Arguments are checked by type and bounds here, so a handler is never given a value it did not ask for.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from licd.daemon.config import MAX_TTL_S, MIN_TTL_S
from licd.license.binding import FACTOR
from licd.license.lines import MAX_SEATS, a_name
from licd.license.members import Check, boolean, choice, integer, matching
from licd.license.versions import VERSION
from licd.rpc.errors import BAD_PARAMS, Refused
from licd.seats.events import KEEP, MAX_WORDS, RELEASE

MAX_CONFIRMS = 100  # leases of one seat.confirm; an array on the wire holds at most 128
MAX_CHANGES = 16  # factors and kinds together are 13
MAX_SECONDS = 2**31  # what a server may say; schedule.py heeds two weeks of it
MAX_LISTED = 100  # leases of one answer to seat.list: some 30 KiB

# Roles: roles.py says who has them. A courier takes documents to the vendor and back, and is no client.
ANY, CLIENT, COURIER, ADMIN = "any", "client", "courier", "admin"

REQUIRED = object()


class Param(NamedTuple):
    """One named argument. `check` returns the value or raises ValueError with what it must be."""

    name: str
    check: Check
    default: Any = REQUIRED


class Method(NamedTuple):
    """`notification`: also carried out when nobody wants an answer; others are then ignored."""

    name: str
    who: str
    handler: str
    params: tuple[Param, ...] = ()
    notification: bool = False


lease_id = matching(re.compile(r"[0-9a-f]{24}"), "a lease id: 24 hexadecimal digits")


def text(most: int) -> Check:
    def check(value: Any) -> str:
        # Lone surrogates (bytes that were not UTF-8) and control characters are not printable.
        if type(value) is str and 0 < len(value) <= most and value.isprintable():
            return value
        raise ValueError(f"must be printable text in UTF-8, 1 to {most} characters")

    return check


def octets(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is str:  # what was not UTF-8 comes back as the bytes it was
        return value.encode("utf-8", "surrogateescape")
    raise ValueError("must be the document's bytes (bin or str)")


def lease_ids(value: Any) -> tuple[str, ...]:
    if type(value) is list and 0 < len(value) <= MAX_CONFIRMS:
        return tuple(lease_id(item) for item in value)
    raise ValueError(f"must be an array of 1 to {MAX_CONFIRMS} lease ids")


def changes(value: Any) -> tuple[str, ...]:
    # Which of them are known, the handler says.
    if type(value) is list and len(value) <= MAX_CHANGES:
        return tuple(_change(each) for each in value)
    raise ValueError(f"must be an array of at most {MAX_CHANGES} names of factors or kinds")


_change = matching(FACTOR, "names of factors or kinds, such as disk")


_VENDOR = Param("vendor", a_name, None)
_LICENSE = Param("license", a_name)
_HOLDER = Param("holder", text(128))
_BY_LEASE = Param("lease", lease_id, None)
_BY_LICENSE = _LICENSE._replace(default=None)
_BY_HOLDER = _HOLDER._replace(default=None)
_VERSION = Param("version", matching(VERSION, "a version such as 5.2.1: up to 8 numbers with dots between"), None)

METHODS = (
    Method("server.hello", ANY, "hello"),
    Method("server.status", CLIENT, "status"),
    Method("seat.acquire", CLIENT, "acquire", (
        _LICENSE,
        _HOLDER,
        Param("seats", integer(1, MAX_SEATS), 1),
        _VERSION,
        Param("ttl", integer(MIN_TTL_S, MAX_TTL_S), 60),
        Param("wait", integer(0, 0), 0),  # a queue comes later; until then there is nothing to wait in
        Param("on_close", choice(KEEP, RELEASE), KEEP),
    )),
    Method("seat.confirm", CLIENT, "confirm", (
        _BY_LEASE, _BY_LICENSE, _BY_HOLDER, Param("leases", lease_ids, None),
    ), notification=True),
    Method("seat.release", CLIENT, "release", (
        _BY_LEASE, _BY_LICENSE, _BY_HOLDER, Param("reason", text(64), None),
    ), notification=True),
    Method("seat.list", CLIENT, "list_seats", (
        _BY_LICENSE, _BY_HOLDER,
        Param("after", integer(-1, 2**53), -1),  # the `next` of the page before
        Param("limit", integer(1, MAX_LISTED), MAX_LISTED),
    )),
    Method("license.check", CLIENT, "check_license", (_LICENSE, _VERSION)),
    Method("license.list", CLIENT, "list_licenses"),
    Method("license.import", ADMIN, "import_license", (Param("document", octets), Param("dry_run", boolean, False))),
    Method("license.export", ADMIN, "export_license", (_VENDOR,)),
    Method("install.import", ADMIN, "import_request", (Param("document", octets),)),
    Method("install.request", ADMIN, "request", (_VENDOR,)),
    Method("renewal.plan", COURIER, "plan"),
    Method("renewal.request", COURIER, "request", (_VENDOR,)),
    Method("renewal.report", COURIER, "report", (
        _VENDOR,
        Param("document", octets, None),
        Param("failure", text(MAX_WORDS), None),
        Param("retry_after", integer(0, MAX_SECONDS), None),
    )),
    Method("device.fingerprint", ADMIN, "fingerprint", (Param("without", changes, None),)),
)  # fmt: skip


class Compiled:
    """A row of the table, made ready for the request path."""

    def __init__(self, method: Method) -> None:
        self.who = method.who
        self.notification = method.notification
        self.names = tuple(param.name for param in method.params)
        self._checks = {param.name: (place, param.check) for place, param in enumerate(method.params)}
        self._defaults = [param.default for param in method.params]

    def arguments(self, params: Any) -> tuple[Any, ...]:
        """The checked arguments of one request in the order of the table, defaults filled in.

        Errors: BAD_PARAMS
        """
        if type(params) is not list or len(params) > 1 or (params and type(params[0]) is not dict):
            raise Refused(BAD_PARAMS, reason="params is an array with at most one map of named arguments")
        values = self._defaults.copy()
        if params:
            checks = self._checks
            for key, value in params[0].items():
                found = checks.get(key)
                if found is None:
                    raise Refused(BAD_PARAMS, reason=f"{_shown(key)} is not an argument of this method")
                place, check = found
                try:
                    values[place] = check(value)
                except ValueError as error:
                    if value is None and values[place] is not REQUIRED:
                        continue  # nil is what a client sends for "not given"
                    raise Refused(BAD_PARAMS, reason=f"{key} {error}") from None
        if REQUIRED in values:
            missing = self.names[values.index(REQUIRED)]
            raise Refused(BAD_PARAMS, reason=f"the argument {missing} is missing")
        return tuple(values)


def _shown(key: Any) -> str:
    return key[:40] if type(key) is str and key.isprintable() else f"{key!r:.40}"


TABLE = {method.name: Compiled(method) for method in METHODS}
