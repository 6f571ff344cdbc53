"""When a device that wants to renew is served, and when it is asked to come again later."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from licd.license.dates import DAY_S
from licd_vendor.pacing import CALM, CEILING, FREE, MAX_WAIT_S, MIN_WAIT_S, PATIENCE_S, SPARE_S, wait_s

DONE = st.integers(0, 100_000)
EXPECTED = st.floats(0, 50_000)
SLACK = st.one_of(st.floats(-90 * DAY_S, 400 * DAY_S), st.just(math.inf))
OVERDUE = st.floats(-DAY_S, 400 * DAY_S)
CHANCE = st.floats(0, 1, exclude_max=True)
BUSY = 1_000_000


def wait(slack_s: float, *, overdue_s: float = 0, chance: float = 0.5, done: int = BUSY, expected: float = 300) -> int:
    seconds = wait_s(done=done, expected=expected, slack_s=slack_s, overdue_s=overdue_s, chance=chance)
    assert seconds is not None
    return seconds


@given(DONE, EXPECTED, SLACK, OVERDUE, CHANCE)
def test_on_a_calm_day_everybody_is_served(
    done: int, expected: float, slack_s: float, overdue_s: float, chance: float
) -> None:
    assume(done < CALM * expected)
    assert wait_s(done=done, expected=expected, slack_s=slack_s, overdue_s=overdue_s, chance=chance) is None


@given(st.integers(0, FREE - 1), EXPECTED, SLACK, OVERDUE, CHANCE)
def test_a_vendor_with_few_renewals_a_day_makes_nobody_wait(
    done: int, expected: float, slack_s: float, overdue_s: float, chance: float
) -> None:
    assert wait_s(done=done, expected=expected, slack_s=slack_s, overdue_s=overdue_s, chance=chance) is None


@given(DONE, EXPECTED, SLACK, OVERDUE, CHANCE)
def test_a_wait_is_two_hours_to_fourteen_days_and_leaves_half_of_the_time_and_a_weekend(
    done: int, expected: float, slack_s: float, overdue_s: float, chance: float
) -> None:
    seconds = wait_s(done=done, expected=expected, slack_s=slack_s, overdue_s=overdue_s, chance=chance)
    if seconds is not None:
        assert MIN_WAIT_S <= seconds <= MAX_WAIT_S
        assert slack_s - seconds >= max(slack_s / 2, SPARE_S) or slack_s == math.inf


@given(DONE, EXPECTED, st.floats(-90 * DAY_S, SPARE_S), OVERDUE, CHANCE)
def test_who_has_little_time_left_or_none_is_served_however_busy_it_is(
    done: int, expected: float, slack_s: float, overdue_s: float, chance: float
) -> None:
    assert wait_s(done=done, expected=expected, slack_s=slack_s, overdue_s=overdue_s, chance=chance) is None


@given(st.integers(FREE, 100_000), SLACK, OVERDUE, CHANCE)
def test_beyond_the_ceiling_who_has_time_waits(done: int, slack_s: float, overdue_s: float, chance: float) -> None:
    assume(slack_s >= SPARE_S + MIN_WAIT_S)
    wait(slack_s, overdue_s=overdue_s, chance=chance, done=done, expected=done / CEILING)


@given(DONE, EXPECTED, st.tuples(SLACK, SLACK), st.tuples(OVERDUE, OVERDUE), CHANCE)
def test_who_has_less_time_and_waited_longer_is_served_wherever_another_is(
    done: int, expected: float, slacks: tuple[float, float], overdues: tuple[float, float], chance: float
) -> None:
    def served(slack_s: float, overdue_s: float) -> bool:
        return wait_s(done=done, expected=expected, slack_s=slack_s, overdue_s=overdue_s, chance=chance) is None

    assert served(min(slacks), max(overdues)) >= served(max(slacks), min(overdues))


def test_between_a_calm_day_and_the_ceiling_the_time_used_up_decides() -> None:
    def most_done(overdue_days: float, slack_days: float) -> int:
        """After how many renewals in 24 h such a device is put off."""
        slack_s, overdue_s = slack_days * DAY_S, overdue_days * DAY_S
        waits = (wait_s(done=n, expected=1000, slack_s=slack_s, overdue_s=overdue_s, chance=0) for n in range(2000))
        return next(done for done, seconds in enumerate(waits) if seconds is not None)

    assert [most_done(*days) for days in ((0, 14), (3, 11), (9, 5), (99, math.inf))] == [1200, 1238, 1313, 1200]


@given(SLACK, OVERDUE, OVERDUE, CHANCE)
def test_who_waited_longer_comes_again_no_later(slack_s: float, one: float, other: float, chance: float) -> None:
    assume(slack_s >= SPARE_S + MIN_WAIT_S)
    less, more = sorted((one, other))
    assert wait(slack_s, overdue_s=more, chance=chance) <= wait(slack_s, overdue_s=less, chance=chance)


def test_a_device_that_was_put_off_for_weeks_is_put_off_by_at_most_a_day() -> None:
    assert wait(math.inf, overdue_s=30 * DAY_S, chance=0.999) <= PATIENCE_S


@pytest.mark.parametrize(
    ("slack_days", "most_days"), [(math.inf, 14), (100, 14), (28, 14), (14, 7), (8, 4), (5, 2.5), (4, 2), (3, 1)]
)
def test_the_waits_are_spread_evenly_over_the_days_that_a_device_has(slack_days: float, most_days: float) -> None:
    waits = [wait(slack_days * DAY_S, chance=n / 1000) for n in range(1000)]
    assert waits[0] == MIN_WAIT_S
    assert most_days * DAY_S * 0.998 < waits[-1] <= most_days * DAY_S
    steps = {later - earlier for earlier, later in itertools.pairwise(waits)}
    assert max(steps) - min(steps) <= 1
