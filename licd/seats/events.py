"""What can happen to recorded state, and its form in the journal: MessagePack arrays, kind first.

Events are facts: replaying them in order is all there is to a restart. Nothing here is an absolute deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import intern
from typing import Any, NamedTuple

import msgpack

KEEP, RELEASE = "keep", "release"  # on_close: what becomes of a lease when its connection ends


class Acquired(NamedTuple):
    """A lease exists with these terms: new, changed or revived. An upsert by `lease`.

    Units:  ttl_s seconds; since is trusted time, Unix seconds; rank counts up by first acquire
    """

    lease: str
    license: str
    uid: int
    holder: str
    seats: int
    ttl_s: int
    on_close: str
    version: str | None
    rank: int
    since: int
    pid: int
    unit: str | None


class Released(NamedTuple):
    lease: str
    reason: str | None  # None: by its owner


class Expired(NamedTuple):
    lease: str


class Accepted(NamedTuple):
    """A license file of this vendor came into force. The highest seq is remembered even where the file is lost."""

    vendor: str
    seq: int
    digest: str


class Recognized(NamedTuple):
    """How this device compared with the one that a vendor's file in force is bound to.

    Shape:  boot_id of the last boot in which it was the same; lost_since None: it is the same
    Units:  lost_since is Unix seconds on the line of the trusted clock; grace_used_s: what earlier times took of the
            grace, seconds
    """

    vendor: str
    digest: str
    boot_id: str | None
    lost_since: float | None
    grace_used_s: float


class Started(NamedTuple):
    """A process began to write here. boot_id None: it could not be read."""

    boot_id: str | None


class Stopped(NamedTuple):
    """The clean-stop mark: nothing was lost behind this record."""


class Used(NamedTuple):
    """So many seats of each license were held at once on that day, at least. Known peaks are raised by it, never
    lowered; a license that is missing says nothing.

    Shape:  day is a date of the trusted time in UTC
    """

    day: str
    peaks: Mapping[str, int]


class Renewing(NamedTuple):
    """How the renewal of a vendor's file in force stands. The newest of a vendor counts.

    Shape:  digest of the license file; due: by every_days, when that attempt became due; outcome: of the attempt last
            made, in words; stops, reason: of a refusal in force; reported: the day up to which usage is answered for;
            heard: when the newest answer that came in was issued, by the vendor's clock alone; less: the licenses of
            which the file grants less than the one before
    Units:  due is running time (TrustedClock.ran_s), retry_at and tried are trusted time, heard is the vendor's, Unix
            seconds
    Bounds: 16 numbers in due, MAX_WORDS characters of outcome and of reason, at most 200 of less: kept by who makes it
    """

    vendor: str
    digest: str
    due: Mapping[int, float] = {}
    failures: int = 0
    retry_at: float = float("-inf")
    tried: float | None = None
    outcome: str | None = None
    stops: str | None = None
    reason: str | None = None
    reported: str | None = None
    heard: float | None = None
    less: str | None = None


MAX_WORDS = 200  # a copy of the journal must find room for what its records say

Event = Acquired | Released | Expired | Accepted | Started | Stopped | Recognized | Used | Renewing

# Public: part of the journal's format. Numbers are never reused.
_KINDS: dict[int, Callable[..., Event]] = {
    1: Acquired, 2: Released, 3: Expired, 4: Accepted, 5: Started, 6: Stopped, 7: Recognized, 8: Used, 9: Renewing,
}  # fmt: skip
_ACQUIRED = 1
_NUMBERS = {kind: number for number, kind in _KINDS.items()}

pack: Callable[[object], bytes] = msgpack.Packer(use_bin_type=True).pack


def encode(event: Event) -> bytes:
    return pack((_NUMBERS[type(event)], *event))


def decode(record: list[Any]) -> Event:
    """The event of one unpacked record.

    Errors: ValueError if the record is of no kind known here (a newer licd wrote it)
    """
    try:
        if record[0] == _ACQUIRED:  # ten thousand leases share a few strings
            _, lease, license, uid, holder, seats, ttl_s, on_close, version, rank, since, pid, unit = record
            version, unit = version and intern(version), unit and intern(unit)
            return Acquired(
                lease, intern(license), uid, holder, seats, ttl_s, intern(on_close), version, rank, since, pid, unit
            )
        return _KINDS[record[0]](*record[1:])  # a frame's checksum vouches for the types
    except (ValueError, KeyError, TypeError, IndexError):
        raise ValueError(f"a record of unknown kind: {record!r:.80}") from None
