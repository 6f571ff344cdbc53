"""The records of events: their form stays, and each reads back the same."""

from __future__ import annotations

from typing import Any, get_args

import msgpack
import pytest

from licd.seats.events import (
    KEEP,
    RELEASE,
    Accepted,
    Acquired,
    Event,
    Expired,
    Recognized,
    Released,
    Renewing,
    Started,
    Stopped,
    Used,
    decode,
    encode,
)
from tests.support.desk import TILLS, UID

EVENTS: list[Event] = [
    Acquired("lease-0", TILLS, UID, "касса 1", 2, 60, KEEP, None, 0, 1800000000, 4_194_304, None),
    Acquired("lease-0", TILLS, 2**32 - 3, "h", 1_000_000, 86_400, RELEASE, "5.1-rc1", 2**40, 2**33, 1, "kso.service"),
    Released("lease-0", None),
    Released("lease-0", "продано"),
    Expired("lease-0"),
    Accepted("vendor", 2**53, "00ff"),
    Started(None),
    Started("0a1b"),
    Stopped(),
    Recognized("vendor", "00ff", "0a1b", None, 0.0),
    Recognized("vendor", "00ff", None, 1800000000.25, 86_400.5),
    Used("2027-01-15", {"касса": 2**32 - 1, "kso.scan": 0}),
    Renewing("vendor", "00ff"),
    Renewing("vendor", "00ff", {30: 1.5}, 7, 2.5, 3.5, "нет сети", "2027-02-01", "продано", "2027-01-15", 4.5, "kso.a"),
]
RECORDS: list[tuple[Event, list[object]]] = [
    (EVENTS[0], [1, "lease-0", TILLS, UID, "касса 1", 2, 60, "keep", None, 0, 1800000000, 4_194_304, None]),
    (Released("lease-0", "why"), [2, "lease-0", "why"]),
    (Expired("lease-0"), [3, "lease-0"]),
    (Accepted("vendor", 7, "00ff"), [4, "vendor", 7, "00ff"]),
    (Started("0a1b"), [5, "0a1b"]),
    (Stopped(), [6]),
    (Recognized("vendor", "00ff", None, 1.5, 2.5), [7, "vendor", "00ff", None, 1.5, 2.5]),
    (Used("2027-01-15", {"kso.scan": 3}), [8, "2027-01-15", {"kso.scan": 3}]),
    (
        Renewing("vendor", "00ff", {30: 1.5}, 7, 2.5, 3.5, "why", "stops", "reason", "day", 4.5, "kso.a"),
        [9, "vendor", "00ff", {30: 1.5}, 7, 2.5, 3.5, "why", "stops", "reason", "day", 4.5, "kso.a"],
    ),
]


def unpacked(event: Event) -> Any:
    """As replay.py does."""
    return msgpack.unpackb(encode(event), strict_map_key=False)


def test_every_kind_of_event_has_a_record_here() -> None:
    assert [type(event) for event, _ in RECORDS] == list(get_args(Event))
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize(("event", "record"), RECORDS, ids=lambda value: type(value).__name__)
def test_the_form_of_each_record_is_public_and_stays(event: Event, record: list[object]) -> None:
    assert unpacked(event) == record


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_what_is_recorded_reads_back_the_same(event: Event) -> None:
    back = decode(unpacked(event))
    assert back == event
    assert type(back) is type(event)


@pytest.mark.parametrize(
    "record", [[], [10, "x"], [7], [0, "x"], [1, "too", "short"], [3], [3, "x", "y"], 5, None, [[]], {}]
)
def test_a_record_of_another_kind_is_named_as_such(record: list[object]) -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        decode(record)
