"""Peaks: what a ledger counts of its seats, and what is kept of that by the day."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licd.license.dates import later
from licd.rpc.errors import Refused
from licd.seats.events import Used, encode
from licd.seats.pool import Session
from licd.seats.usage import MAX_BYTES, MAX_DAYS, MAX_NAMES, MAX_NUMBERS, Usage
from tests.support.desk import TILLS, Desk, replayed

DAY = "2027-01-15"
CAMERA = "kso.camera"


def days(count: int, first: str = DAY) -> list[str]:
    return [later(first, n) for n in range(count)]


# --- the ledger counts -------------------------------------------------------------------------------------------


@pytest.fixture
def desk() -> Desk:
    desk = Desk(tills=None)
    desk.set_total(None, CAMERA)
    desk.ledger.begin_day(DAY)
    return desk


def record_used(desk: Desk) -> dict[str, int] | None:
    """What a mark puts on record."""
    event = desk.ledger.decide_used()
    if event is None:
        return None
    assert event.day == desk.ledger.day
    desk.record(event, sync=False)
    return dict(event.peaks)


def test_the_peak_of_a_day_is_the_most_seats_held_at_once_of_each_license(desk: Desk) -> None:
    user = Session(1000, 10)
    first = desk.acquire(user, "a", seats=2)
    second = desk.acquire(user, "b", seats=3)
    desk.release(user, first.id)
    desk.acquire(user, "c", seats=1)
    desk.acquire(user, "d", license=CAMERA)
    desk.release(user, second.id)
    assert record_used(desk) == {TILLS: 5, CAMERA: 1}


def test_a_lease_that_grows_counts_with_what_it_grew_to_and_one_asked_for_again_counts_once(desk: Desk) -> None:
    user = Session(1000, 10)
    for seats in (1, 1, 4, 2):
        desk.acquire(user, "a", seats=seats)
    assert record_used(desk) == {TILLS: 4}


def test_a_lease_that_is_revived_counts_again(desk: Desk) -> None:
    user = Session(1000, 10)
    lease = desk.acquire(user, "a", seats=2, ttl=60)
    desk.now += 61
    desk.expire()
    desk.ledger.begin_day(later(DAY, 1))
    assert record_used(desk) is None
    desk.confirm(user, lease.id)
    assert record_used(desk) == {TILLS: 2}


def test_a_refused_acquire_counts_for_nothing() -> None:
    desk = Desk(tills=2)
    desk.ledger.begin_day(DAY)
    desk.acquire(Session(1000, 10), "a", seats=2)
    with pytest.raises(Refused, match="NO_SEAT_FREE"):
        desk.acquire(Session(1000, 10), "b")
    assert record_used(desk) == {TILLS: 2}


def test_what_is_on_record_is_not_news_and_only_what_rose_since_is(desk: Desk) -> None:
    user = Session(1000, 10)
    lease = desk.acquire(user, "a", seats=2)
    desk.acquire(user, "b", license=CAMERA)
    record_used(desk)
    assert record_used(desk) is None
    desk.release(user, lease.id)
    desk.acquire(user, "a", seats=2)
    assert record_used(desk) is None
    desk.acquire(user, "c", seats=1)
    assert record_used(desk) == {TILLS: 3}


def test_the_peak_of_a_new_day_begins_with_what_is_held(desk: Desk) -> None:
    user = Session(1000, 10)
    lease = desk.acquire(user, "a", seats=5)
    desk.acquire(user, "b", seats=1)
    record_used(desk)
    desk.release(user, lease.id)
    for day in (later(DAY, 1), later(DAY, 2)):
        desk.ledger.begin_day(day)
        assert record_used(desk) == {TILLS: 1}


def test_a_day_on_which_nothing_is_held_has_nothing_to_record(desk: Desk) -> None:
    assert record_used(desk) is None


def test_before_a_day_has_begun_nothing_is_recorded() -> None:
    desk = Desk(tills=None)
    desk.acquire(Session(1000, 10))
    assert desk.ledger.decide_used() is None


def test_a_restart_knows_the_peaks_on_record_and_counts_on_from_what_is_held(desk: Desk) -> None:
    user = Session(1000, 10)
    desk.acquire(user, "a", seats=1)
    lease = desk.acquire(user, "b", seats=5)
    record_used(desk)
    desk.release(user, lease.id)
    again = Desk(replayed(desk.events), tills=None)
    again.ledger.begin_day(DAY)
    assert record_used(again) is None
    assert again.ledger.usage.report([TILLS], None, DAY) == (DAY, {TILLS: [6]})
    again.acquire(user, "c", seats=6)
    assert record_used(again) == {TILLS: 7}


def test_a_restart_on_another_day_counts_only_what_is_still_held(desk: Desk) -> None:
    user = Session(1000, 10)
    desk.release(user, desk.acquire(user, "a", seats=5).id)
    desk.acquire(user, "b", seats=2)
    again = Desk(replayed(desk.events), tills=None)
    again.ledger.begin_day(later(DAY, 1))
    assert record_used(again) == {TILLS: 2}


# --- what is kept ------------------------------------------------------------------------------------------------


def test_a_peak_is_raised_and_never_lowered_and_what_is_missing_says_nothing() -> None:
    usage = Usage()
    usage.put(DAY, {"a": 3, "b": 1})
    usage.put(DAY, {"a": 2})
    usage.put(DAY, {"b": 4})
    assert usage.report(["a", "b"], None, DAY) == (DAY, {"a": [3], "b": [4]})
    assert list(usage.events()) == [Used(DAY, {"a": 3, "b": 4})]


def test_a_report_begins_with_the_first_day_on_record_and_says_0_of_a_day_without() -> None:
    usage = Usage()
    for day, peak in ((DAY, 3), (later(DAY, 3), 1)):
        usage.put(day, {"a": peak})
    assert usage.report(["a"], None, later(DAY, 4)) == (DAY, {"a": [3, 0, 0, 1, 0]})
    assert usage.report(["a"], later(DAY, 1), later(DAY, 4)) == (later(DAY, 3), {"a": [1, 0]})
    assert usage.report(["a"], later(DAY, 3), later(DAY, 4)) == (later(DAY, 3), {"a": [1, 0]})
    assert usage.report(["a"], later(DAY, 4), later(DAY, 4)) == (None, {})


def test_a_report_tells_of_the_licenses_asked_for_and_of_no_other() -> None:
    usage = Usage()
    usage.put(DAY, {"other": 9})
    usage.put(later(DAY, 1), {"a": 1, "other": 9})
    assert usage.report(["a", "never used"], None, later(DAY, 1)) == (later(DAY, 1), {"a": [1]})
    assert usage.report([], None, later(DAY, 1)) == (None, {})


def test_days_of_a_clock_that_was_ahead_are_not_reported_and_push_no_newer_day_out() -> None:
    usage = Usage()
    for day in days(MAX_DAYS, "2035-01-01"):
        usage.put(day, {"a": 7})
    assert usage.report(["a"], None, DAY) == (None, {})
    for day in days(3):
        usage.put(day, {"a": 1})
    assert usage.report(["a"], None, later(DAY, 2)) == (DAY, {"a": [1, 1, 1]})


def test_of_a_gap_of_years_only_the_last_hundred_days_are_reported() -> None:
    usage = Usage()
    usage.put("2020-01-01", {"a": 5})
    assert usage.report(["a"], None, DAY) == (None, {})
    usage.put(later(DAY, 1 - MAX_DAYS), {"a": 4})
    first, peaks = usage.report(["a"], None, DAY)
    assert (first, peaks["a"]) == (later(DAY, 1 - MAX_DAYS), [4] + [0] * (MAX_DAYS - 1))


def test_the_days_put_first_go_first_when_there_are_more_than_a_hundred() -> None:
    usage = Usage()
    for day in days(MAX_DAYS + 20):
        usage.put(day, {"a": 1})
    assert [event.day for event in usage.events()] == days(MAX_DAYS + 20)[20:]


def test_the_days_put_first_go_first_when_there_are_more_numbers_than_may_be() -> None:
    usage = Usage()
    names = [f"n{n}" for n in range(MAX_NUMBERS // 20)]
    for day in days(25):
        usage.put(day, dict.fromkeys(names, 1))
    assert [event.day for event in usage.events()] == days(25)[5:]


def test_of_one_day_so_many_licenses_are_kept_and_what_would_not_be_is_no_news() -> None:
    usage = Usage()
    names = [f"n{n}" for n in range(MAX_NAMES + 50)]
    usage.put(DAY, dict.fromkeys(names, 1))
    (event,) = usage.events()
    assert list(event.peaks) == names[:MAX_NAMES]
    assert usage.news(DAY, dict.fromkeys(names, 1)) == {}
    assert usage.news(DAY, {names[0]: 2, names[-1]: 2}) == {names[0]: 2}


def test_a_report_never_has_more_names_than_a_renewal_request_takes() -> None:
    usage = Usage()
    names = [f"n{n}" for n in range(2 * MAX_NAMES)]
    usage.put(DAY, dict.fromkeys(names[:MAX_NAMES], 1))
    usage.put(later(DAY, 1), dict.fromkeys(names[MAX_NAMES:], 1))
    _, peaks = usage.report(names, None, later(DAY, 1))
    assert list(peaks) == names[:MAX_NAMES]


def test_a_day_under_way_is_not_pushed_out_by_its_own_bounds() -> None:
    """Even where it came back, by a clock put right, after all the others."""
    usage = Usage()
    for day in days(MAX_DAYS):
        usage.put(day, {f"n{n}": 1 for n in range(MAX_NUMBERS // MAX_DAYS)})
    usage.put(DAY, {"one more": 2})
    assert [event.day for event in usage.events()] == [DAY, *days(MAX_DAYS)[2:]]


puts = st.lists(
    st.tuples(
        st.sampled_from(days(130)),
        st.integers(1, 300),
        st.integers(1, 64),
        st.sampled_from([0, 1, 127, 2**32 - 1]),
    ),
    max_size=60,
)


@given(puts)
def test_whatever_is_put_the_bounds_hold_and_the_records_make_the_same_again(
    puts: list[tuple[str, int, int, int]],
) -> None:
    usage, copy = Usage(), Usage()
    for day, count, length, peak in puts:
        usage.put(day, {f"{n:x<{length}}"[-64:]: peak for n in range(count)})
        events = list(usage.events())
        assert len(events) <= MAX_DAYS
        assert sum(len(event.peaks) for event in events) <= MAX_NUMBERS
        assert all(0 < len(event.peaks) <= MAX_NAMES and min(event.peaks.values()) > 0 for event in events)
        assert sum(len(encode(event)) for event in events) <= MAX_BYTES
        assert not peak or day in [event.day for event in events]
    for event in usage.events():
        copy.put(event.day, event.peaks)
    assert list(copy.events()) == list(usage.events())
    for day in days(3):
        copy.put(day, {"a": 5})
        usage.put(day, {"a": 5})
        assert list(copy.events()) == list(usage.events())


def test_the_bounds_are_used_up_to_the_last_bytes_before_a_day_is_dropped() -> None:
    usage = Usage()
    sizes = []
    for day in days(MAX_DAYS):
        usage.put(day, {f"kso.{n}".ljust(64, "x"): 2**32 - 1 for n in range(40)})
        sizes.append(sum(len(encode(event)) for event in usage.events()))
    one_day = sizes[0]
    assert max(sizes) > MAX_BYTES - one_day
    assert all(after - before in (one_day, 0) for before, after in pairwise(sizes))
