"""What a license file says: the members of its lines, their types and bounds, read into values. Pure.

All of a line's members are required (but "x", which is the vendor's to fill), and no other is allowed: a member that
an older licd would overlook could take back what it reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from licd.license.binding import Binding, binding
from licd.license.dates import DAY_S, FOREVER, begin_of, end_of
from licd.license.document import MAX_INTEGER, MAX_LINES, Record
from licd.license.members import (
    Check,
    a_date,
    a_stamp,
    any_object,
    boolean,
    choice,
    integer,
    matching,
    members,
    octets,
    or_null,
    part,
    title,
)
from licd.license.versions import Versions
from licd.rpc.errors import BAD_DOCUMENT, LINES_DO_NOT_FIT, Refused

COUNTED, UNCOUNTED = "counted", "uncounted"
NEEDS = NONE, OPTIONAL, REQUIRED = "none", "optional", "required"  # of a renewal, the strictest last

MAX_SEATS = 1_000_000  # a number nobody orders; sums of lines stay far below 2^53
MAX_GRACE_DAYS = 365  # a longer grace is a longer term; so 9998-12-31 plus grace is still a date
MAX_RENEWAL_DAYS = 3650
MAX_PERIODS = 16  # different every_days in one file: each is kept account of on its own
MAX_VERSIONS = 200  # characters

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


# --- values ---------------------------------------------------------------------------------------------


class Renewal(NamedTuple):
    """Whether and how often the file goes back to the vendor. Days are None where need is none."""

    need: str  # none | optional | required
    every_days: int | None
    grace_days: int | None


class Line(NamedTuple):
    """One license. `seats` is 0 where it is uncounted.

    Units: begins, ends, grace_ends, issued are Unix seconds; it counts from begins until before grace_ends
    """

    file: str
    n: int
    id: str
    name: str
    title: str
    license: str  # counted | uncounted
    seats: int
    not_before: str | None
    expires: str | None
    versions: Versions | None
    grace_days: int
    renewal: Renewal
    replaces: str | None
    issued: float
    x: Mapping[str, Any]
    begins: float
    ends: float
    grace_ends: float


class Header(NamedTuple):
    """What the first line of a license file says."""

    file: str
    vendor: str
    device: Binding | None
    seq: int
    request: str | None
    issued: float
    licenses: int
    renewal: Renewal
    device_grace_days: int
    x: Mapping[str, Any]


class LicenseFile(NamedTuple):
    """A verified license file. `text` is what is stored and exported, `digest` its SHA-256 in hexadecimal.

    Units: issued and signer_expires (the signing certificate's end) are Unix seconds
    """

    file: str
    profile: str
    vendor: str
    device: Binding | None
    seq: int
    request: str | None
    issued: float
    renewal: Renewal
    device_grace_days: int
    lines: tuple[Line, ...]
    text: bytes
    digest: str
    signer_expires: float
    x: Mapping[str, Any]


# --- what is allowed ----------------------------------------------------------------------------------------

a_name = matching(NAME, "a name: a-z, 0-9, '.', '_' and '-', at most 64, not beginning with a sign")
an_id = matching(_ID, "an id: letters, digits, '.', '_' and '-', at most 64, not beginning with a sign")
_need = choice(*NEEDS)
_RENEWAL = {
    "need": _need,
    "every_days": integer(1, MAX_RENEWAL_DAYS),
    "grace_days": integer(0, MAX_RENEWAL_DAYS),
}


def _renewal(value: Any) -> Renewal:
    if type(value) is dict and value.get("need") == NONE:
        return Renewal(part({"need": _need})(value)["need"], None, None)
    return Renewal(**part(_RENEWAL)(value))


def _versions(value: Any) -> Versions:
    if type(value) is not str or len(value) > MAX_VERSIONS:
        raise ValueError('must be text such as "5.*", "<=4.2" or ">=4,<6"')
    return Versions.parse(value)


def _keys(value: Any) -> dict[str, bool]:
    if type(value) is not list:
        raise ValueError("must be an array")
    try:
        entries = [part(_ENTRY)(each) for each in value]
    except ValueError as error:
        raise ValueError(f"holds an entry that {error}") from None
    return {entry["key#S256"]: entry["void"] for entry in entries}


# RFC 8259 objects have no order; these are in the order of licd-license(5).
_FILE: dict[str, Check] = {
    "id": an_id,
    "vendor": a_name,
    "device": or_null(binding),
    "seq": integer(1, MAX_INTEGER),
    "request": or_null(an_id),
    "issued": a_stamp,
    "lines": integer(0, MAX_LINES - 1),
    "renewal": _renewal,
    "device_grace_days": integer(0, MAX_GRACE_DAYS),
    "x": any_object,
}
_LICENSE: dict[str, Check] = {
    "file": an_id,
    "n": integer(1, MAX_LINES),
    "id": an_id,
    "name": a_name,
    "title": title,
    "license": choice(COUNTED, UNCOUNTED),
    "seats": or_null(integer(1, MAX_SEATS)),
    "not_before": or_null(a_date),
    "expires": or_null(a_date),
    "versions": or_null(_versions),
    "grace_days": integer(0, MAX_GRACE_DAYS),
    "renewal": or_null(_renewal),
    "replaces": or_null(an_id),
    "issued": a_stamp,
    "x": any_object,
}
_WITHDRAWN: dict[str, Check] = {
    "vendor": a_name,
    "seq": integer(1, MAX_INTEGER),
    "issued": a_stamp,
    "keys": _keys,
    "x": any_object,
}
_ENTRY: dict[str, Check] = {
    "key#S256": octets(32),
    "void": boolean,
}


def read(record: Record, checks: Mapping[str, Check]) -> dict[str, Any]:
    """The members of a line but licd and type, checked; an "x" that may be there and is not, is empty.

    Errors: BAD_DOCUMENT
    """
    value = record.value  # has checked these two
    del value["licd"], value["type"]
    if "x" in checks:
        value.setdefault("x", {})
    try:
        return members(value, checks)
    except ValueError as error:
        raise _wrong(record, str(error)) from None


def _wrong(record: Record, reason: str) -> Refused:
    return Refused(BAD_DOCUMENT, line=record.number, reason=reason)


def read_header(record: Record) -> Header:
    """Errors: BAD_DOCUMENT"""
    of = read(record, _FILE)
    return Header(file=of.pop("id"), licenses=of.pop("lines"), **of)


def read_line(record: Record, header: Header, n: int) -> Line:
    """The n-th license of the file. Errors: BAD_DOCUMENT, LINES_DO_NOT_FIT"""
    of = read(record, _LICENSE)
    if of["file"] != header.file:
        raise Refused(LINES_DO_NOT_FIT, line=record.number, reason=f"it belongs to the license file {of['file']}")
    if of["n"] != n or n > header.licenses:
        reason = f"it is line {of['n']} of {header.licenses}, but stands in place {n}"
        raise Refused(LINES_DO_NOT_FIT, line=record.number, reason=reason)
    if (of["license"] == COUNTED) != (of["seats"] is not None):
        reason = f"the member seats must be an integer from 1 to {MAX_SEATS} if counted, null if uncounted"
        raise _wrong(record, reason)
    not_before, expires = of["not_before"], of["expires"]
    if not_before is not None and expires is not None and expires < not_before:
        raise _wrong(record, "it expires before it begins")
    if of["issued"] > header.issued:
        raise _wrong(record, "it was issued later than the first line")
    of["seats"] = of["seats"] or 0
    of["renewal"] = of["renewal"] or header.renewal
    ends = FOREVER if expires is None else end_of(expires)
    return Line(
        **of,
        begins=-FOREVER if not_before is None else begin_of(not_before),
        ends=ends,
        grace_ends=ends + of["grace_days"] * DAY_S,
    )


def check_whole(record: Record, lines: tuple[Line, ...]) -> None:
    """Nothing, if the lines of one file fit each other. Errors: BAD_DOCUMENT"""
    replaced_by = {line.id: line.replaces for line in lines}
    if len(replaced_by) != len(lines):
        raise _wrong(record, "two of its licenses have the same id")
    fine: set[str] = set()
    for line in lines:
        path: set[str] = set()
        at: str | None = line.id
        while at is not None and at not in fine:
            if at in path:
                raise _wrong(record, f"the license {at} replaces itself in the end")
            path.add(at)
            at = replaced_by.get(at)
        fine |= path
    if len({line.renewal.every_days for line in lines} - {None}) > MAX_PERIODS:
        raise _wrong(record, f"its licenses are to be renewed at more than {MAX_PERIODS} different intervals")


def read_withdrawn(record: Record) -> tuple[str, int, float, dict[str, bool]]:
    """Shape:  vendor, seq, issued, {key_print(): void}. Errors: BAD_DOCUMENT"""
    of = read(record, _WITHDRAWN)
    return of["vendor"], of["seq"], of["issued"], of["keys"]
