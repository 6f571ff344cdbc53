"""What trusted time promises, whatever is done to the wall clock, licd and the power."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from licd.device.clock import DAY_S, HOUR_S, RECORD_INTERVAL_S, TOLERANCE_S
from tests.support.clockwork import DEAD, ROUNDING_S, TODAY, YEAR_S, Device

amounts = st.one_of(
    st.floats(0, 2 * DAY_S),
    st.sampled_from([0.5, 599.0, RECORD_INTERVAL_S, HOUR_S, 23 * HOUR_S, DAY_S - 1, DAY_S + 1, 8 * DAY_S]),
)
# Against trusted time, the line, or nothing at all: an attacker knows the rules.
walls = st.one_of(
    st.tuples(st.sampled_from(["mark", "expected", "wall"]), st.one_of(amounts, amounts.map(lambda s: -s))),
    st.tuples(st.just("absolute"), st.sampled_from([DEAD, TODAY - YEAR_S, TODAY, TODAY + 10 * YEAR_S])),
)
steps = st.one_of(
    st.tuples(st.just("run"), amounts),
    st.tuples(st.just("set"), walls),
    st.tuples(st.just("frame"), st.none()),
    st.tuples(
        st.just("restart"), st.tuples(st.booleans(), amounts)
    ),  # of the process: clean or not, seconds it is gone
    st.tuples(st.just("reboot"), st.tuples(st.booleans(), st.one_of(st.none(), walls))),  # None: with the clock dead
)
Step = tuple[str, Any]


def place(device: Device, where: tuple[str, float]) -> float:
    base, offset = where
    record = device.clock.record()
    known = {"mark": record.mark, "expected": record.expected, "wall": device.wall, "absolute": 0.0}
    return max(0.0, known[base] + offset)


def do(device: Device, step: Step) -> None:
    """Any step but "run"."""
    match step:
        case ("set", where):
            device.set(place(device, where))
        case ("frame", _):
            device.stop()
        case ("restart", (clean, gone_s)):
            device.restart(clean=clean, off_s=gone_s, same_boot=True)
        case ("reboot", (clean, where)):
            device.restart(clean=clean, wall=DEAD if where is None else place(device, where))
        case ("ntp", where):
            device.ntp(place(device, where))
        case _:
            raise AssertionError(step)


def serve(device: Device, seconds: float, deadline: float) -> Iterator[float]:
    """Runs the device, waking when the clock says so; yields the uptime before trusted time was deadline."""
    while seconds > 1e-6:
        until = device.clock.until(deadline, device.wall, device.boot)
        slice_s = min(seconds, max(until, 1e-5)) if until else seconds
        device.run(slice_s)
        seconds -= slice_s
        yield slice_s if until else 0.0


@settings(max_examples=300, deadline=None)
@given(
    st.lists(steps, max_size=30),
    st.floats(HOUR_S, 30 * DAY_S),
    st.sampled_from([TODAY, DEAD, TODAY + YEAR_S]),
)
@example([("run", 23 * HOUR_S), ("set", ("wall", -23 * HOUR_S))] * 40, 3 * DAY_S, TODAY)
@example([("run", 599.0), ("reboot", (False, ("mark", 1.0)))] * 600, 2 * DAY_S, TODAY)
@example([("run", 599.0), ("reboot", (False, ("expected", 8 * DAY_S)))] * 600, 2 * DAY_S, TODAY)
@example([("run", 599.0), ("restart", (False, 0.5)), ("set", ("wall", -599.0))] * 600, 2 * DAY_S, TODAY)
@example([("set", ("expected", DAY_S + 1)), ("run", 8 * DAY_S), ("set", ("expected", -DAY_S))] * 5, 20 * DAY_S, TODAY)
def test_a_dated_license_runs_at_most_its_term_in_uptime_plus_a_day_whatever_is_done_to_the_clock(
    steps: list[Step], term_s: float, first_wall: float
) -> None:
    # Stronger than the 7 days that are promised. Nothing is added for crashes: a record is never older than 10 minutes.
    device = Device(wall=first_wall)
    deadline = device.now() + term_s
    uptime = 0.0
    for kind, amount in steps:
        if kind == "run":
            uptime += sum(serve(device, amount, deadline))
        else:
            do(device, (kind, amount))
    assert uptime <= term_s + TOLERANCE_S + ROUNDING_S


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(steps, st.tuples(st.just("ntp"), walls)), max_size=30))
def test_trusted_time_never_goes_back_but_with_a_wall_clock_far_ahead_and_never_below_the_mark_on_record(
    steps: list[Step],
) -> None:
    device = Device()
    highest = device.now()  # of what was trusted, but for the wall clock when the 7 days were spent
    for kind, amount in steps:
        before = device.clock.record()
        if kind == "run":
            device.run(amount)
        else:
            do(device, (kind, amount))
        trusted, after = device.now(), device.clock.record()
        if kind in {"restart", "reboot"}:
            assert device.record is not None
            # Without a clean stop the last minutes may be forgotten, never more than what was not on record.
            highest = min(highest, device.record.mark)
        else:
            assert after.mark >= before.mark
            assert after.expected >= before.expected
            assert after.budget_s >= before.budget_s or device.clock.confirmed
        assert trusted >= highest
        assert after.mark <= after.expected
        assert after.expected - TOLERANCE_S - ROUNDING_S <= trusted
        if device.state != "ahead-spent":
            assert trusted == after.mark
            highest = trusted


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(amounts, st.floats(-60 * YEAR_S, TOLERANCE_S), st.booleans()), max_size=20))
def test_no_wall_clock_that_is_wrong_towards_the_past_makes_trusted_time_more_than_a_day_fast(
    faults: list[tuple[float, float, bool]],
) -> None:
    device = Device()
    for amount, error_s, crash in faults:
        device.run(amount)
        device.set(max(0.0, device.true + error_s))
        if crash:
            device.restart(clean=False, off_s=2.0, same_boot=True)
        assert device.now() <= device.true + TOLERANCE_S + ROUNDING_S


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=12), st.floats(-DAY_S, 60 * DAY_S))
def test_until_is_when_trusted_time_reaches_the_deadline_or_the_7_days_end_and_nothing_changes_before(
    steps: list[Step], ahead_s: float
) -> None:
    device = Device()
    for kind, amount in steps:
        if kind == "run":
            device.run(amount)
        else:
            do(device, (kind, amount))
    deadline, state = device.now() + ahead_s, device.state
    until = device.clock.until(deadline, device.wall, device.boot)
    assert (until == 0.0) == (device.now() >= deadline)
    assert until <= max(0.0, ahead_s) + TOLERANCE_S + ROUNDING_S
    if until > 2 * ROUNDING_S:
        device.run(until - ROUNDING_S)
        assert device.now() < deadline
        assert device.state == state
        device.run(2 * ROUNDING_S)
        assert device.now() >= deadline or (state, device.state) == ("ahead", "ahead-spent")


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=30))
def test_running_time_is_never_less_than_the_uptime_and_a_crash_adds_at_most_what_it_may_have_lost(
    steps: list[Step],
) -> None:
    device = Device()
    uptime = crashes = 0.0
    for kind, amount in steps:
        before = device.clock.ran_s
        if kind == "run":
            device.run(amount)
            uptime += amount
        else:
            do(device, (kind, amount))
            if kind == "restart":
                uptime += amount[1]  # the machine ran meanwhile
            crashes += kind == "reboot" and not amount[0]
        assert device.clock.ran_s >= before or kind == "reboot"
    ran_s = device.clock.ran_s
    assert uptime - ROUNDING_S <= ran_s <= uptime + crashes * RECORD_INTERVAL_S + ROUNDING_S


def test_until_for_no_deadline_at_all_is_never_or_the_end_of_the_7_days() -> None:
    device = Device()
    never = float("inf")
    assert device.clock.until(never, device.wall, device.boot) == never
    device.set(DEAD)
    assert device.clock.until(never, device.wall, device.boot) == never
    device.set(TODAY + YEAR_S)
    device.run(DAY_S)
    assert device.clock.until(never, device.wall, device.boot) == pytest.approx(6 * DAY_S)
