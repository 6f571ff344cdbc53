"""What a journal file says at start, whatever state it is in. The writing side is journal.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from licd.seats import frames
from licd.seats.events import Event, decode

LATEST_S = 253402300799.0  # the end of the year 9999: beyond it, no time can be told in words


class Clock(NamedTuple):
    """The clocks as they stand in every frame: the numbers of device.clock.ClockRecord, and CLOCK_BOOTTIME.

    Frames of licd 0.1 have four numbers.
    """

    mark: float
    expected: float
    budget_s: float
    boottime: float
    ran_s: float = 0.0


class Replay(NamedTuple):
    """What a journal file says. `problem`: what was wrong with it, in words, or None."""

    events: list[Event]
    clock: Clock | None
    problem: str | None


def replay(folder: Path) -> Replay:
    """The events on record, in order, whatever state the file is in.

    Errors: OSError if there is a file and it cannot be read
    """
    try:
        data = (folder / "journal").read_bytes()
    except FileNotFoundError:
        return Replay([], None, None)
    found = frames.scan(data)
    problem = None
    if found.condition == "damaged":
        problem = f"the journal was damaged; {len(found.payloads)} intact frames were salvaged"
    unknown = "the journal holds records of an unknown kind (a newer licd wrote it?); the others were kept"
    events: list[Event] = []
    clock: Clock | None = None
    for payload in found.payloads:
        try:
            stamp, *records = _unpack(payload)
            clock = _clock(stamp)
        except (ValueError, TypeError):
            problem = unknown
            continue
        for record in records:
            try:
                events.append(decode(record))
            except ValueError:
                problem = unknown
    return Replay(events, clock, problem)


def _clock(stamp: Any) -> Clock:
    clock = Clock(*map(float, stamp[: len(Clock._fields)]))  # a newer licd may have written more
    if not all(0 <= number <= LATEST_S for number in clock):  # nor is NaN
        raise ValueError("no time that any clock shows")
    return clock


def _unpack(payload: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=len(payload))
    unpacker.feed(payload)
    return list(unpacker)
