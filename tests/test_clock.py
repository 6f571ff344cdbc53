"""Trusted time: each sentence of its rules, on a device whose time the test decides."""

from __future__ import annotations

import math
import time

import pytest

from licd.daemon import server
from licd.device import clock
from licd.device.clock import BUDGET_S, DAY_S, HOUR_S, RECORD_INTERVAL_S, TOLERANCE_S, ClockRecord, TrustedClock
from tests.support.clockwork import DEAD, ROUNDING_S, TODAY, YEAR_S, Device

# --- trusted time, sentence by sentence --------------------------------------------------------------------------


def test_the_first_start_takes_the_wall_clock_for_the_trusted_time() -> None:
    device = Device()
    assert device.now() == TODAY
    assert (device.state, device.clock.confirmed, device.clock.warning()) == ("ok", False, None)


def test_a_first_start_with_a_dead_clock_begins_at_the_earliest_date_and_runs_on_uptime() -> None:
    device = Device(wall=DEAD)
    assert time.gmtime(device.now())[:5] == (2026, 1, 1, 0, 0)
    assert device.run(DAY_S) == clock.EARLIEST_S + DAY_S
    assert device.state == "behind"


@pytest.mark.parametrize("off_s", [-TOLERANCE_S + 1, -HOUR_S, 0.0, HOUR_S, TOLERANCE_S - 1])
def test_a_wall_clock_within_24_hours_is_the_trusted_time_and_never_below_the_mark(off_s: float) -> None:
    device = Device()
    device.run(HOUR_S)
    mark = device.now()
    assert device.set(TODAY + HOUR_S + off_s) == max(mark, TODAY + HOUR_S + off_s)
    assert device.state == "ok"
    assert device.clock.warning() is None


def test_trusted_time_stands_at_the_mark_until_a_wall_clock_set_back_by_an_hour_has_caught_up() -> None:
    device = Device()
    device.set(TODAY - HOUR_S)
    assert device.run(HOUR_S / 2) == TODAY
    assert device.run(HOUR_S) == TODAY + HOUR_S / 2


def test_behind_by_more_than_24_hours_mark_plus_passed_time_counts_for_as_long_as_it_lasts_with_a_warning() -> None:
    device = Device()
    device.run(HOUR_S)
    assert device.set(DEAD) == TODAY + HOUR_S
    for days in (1, 10, 400):
        before = device.now()
        assert device.run(days * DAY_S) == pytest.approx(before + days * DAY_S, abs=ROUNDING_S)
        assert device.state == "behind"
    warning = device.clock.warning()
    assert warning is not None
    assert "1971-02-16" in warning  # what the clock says
    assert "2028-03-01" in warning  # what counts


def test_a_clock_that_was_behind_and_is_set_right_is_the_trusted_time_again() -> None:
    device = Device()
    device.set(DEAD)
    device.run(3 * DAY_S)
    assert device.set(device.true + 5) == device.true + 5
    assert device.state == "ok"
    assert device.clock.warning() is None


def test_ahead_by_more_than_24_hours_and_unconfirmed_mark_plus_passed_time_counts() -> None:
    device = Device()
    assert device.set(TODAY + YEAR_S) == TODAY
    assert device.state == "ahead"
    assert device.run(6 * DAY_S) == pytest.approx(TODAY + 6 * DAY_S, abs=ROUNDING_S)
    assert device.state == "ahead"
    warning = device.clock.warning()
    assert warning is not None
    assert "24 more hours" in warning


def test_after_7_days_of_uptime_ahead_the_wall_clock_counts_while_the_mark_stays() -> None:
    device = Device()
    device.set(TODAY + YEAR_S)
    device.run(BUDGET_S - 1)
    assert device.state == "ahead"
    assert device.run(2) == TODAY + YEAR_S + BUDGET_S + 1
    assert device.state == "ahead-spent"
    assert device.clock.warning() is not None
    assert device.clock.record().mark == pytest.approx(device.true, abs=ROUNDING_S)
    assert device.set(device.true) == pytest.approx(device.true, abs=ROUNDING_S)
    assert device.state == "ok"


def test_uptime_counts_on_while_the_7_days_are_spent() -> None:
    # Else: stay 25 h ahead, which a license hardly feels, and come back to a line that stood still.
    device = Device()
    device.set(TODAY + 25 * HOUR_S)
    device.run(100 * DAY_S)
    assert device.state == "ahead-spent"
    assert device.set(TODAY) == pytest.approx(TODAY + 100 * DAY_S, abs=ROUNDING_S)


def test_the_7_days_are_one_budget_over_all_leaps_and_restarts() -> None:
    device = Device()
    for _ in range(7):
        assert device.state == "ok"
        device.set(device.true + YEAR_S)
        assert device.state == "ahead"
        device.run(DAY_S)
        device.restart(clean=True)
        device.set(device.true)
    device.set(device.true + YEAR_S)
    device.run(1)
    assert device.state == "ahead-spent"


def test_a_restart_without_a_clean_stop_spends_the_ten_minutes_that_are_not_on_record() -> None:
    device = Device()
    device.set(TODAY + YEAR_S)
    device.write()
    for _ in range(int(BUDGET_S / RECORD_INTERVAL_S)):
        device.run(RECORD_INTERVAL_S - 1)
        device.restart(clean=False)
    assert device.state == "ahead-spent"


def test_a_wall_clock_that_comes_back_by_itself_does_not_refill_the_7_days() -> None:
    device = Device()
    device.set(TODAY + YEAR_S)
    device.run(4 * DAY_S)
    device.set(device.true)
    device.run(30 * DAY_S)
    device.set(device.true + YEAR_S)
    device.run(3 * DAY_S + 1)
    assert device.state == "ahead-spent"


@pytest.mark.parametrize("unconfirmed", [False, None])
def test_far_ahead_is_accepted_at_once_if_and_only_if_the_kernel_says_ntp_synchronized(
    unconfirmed: bool | None,
) -> None:
    device = Device(synchronized=unconfirmed)
    device.clock.synchronized = unconfirmed
    assert device.set(TODAY + YEAR_S) == TODAY
    assert not device.clock.confirmed
    assert device.ntp(TODAY + YEAR_S) == TODAY + YEAR_S
    assert device.clock.confirmed
    assert device.state == "ok"
    assert device.clock.record() == ClockRecord(TODAY + YEAR_S, TODAY + YEAR_S, 0.0)


def test_a_start_with_a_synchronized_clock_accepts_it_at_once() -> None:
    device = Device(wall=TODAY + YEAR_S, synchronized=True, record=ClockRecord(TODAY, TODAY, DAY_S))
    assert device.now() == TODAY + YEAR_S
    assert device.clock.confirmed


def test_an_ntp_synchronized_clock_refills_the_7_days() -> None:
    device = Device()
    device.set(TODAY + YEAR_S)
    device.run(8 * DAY_S)
    assert device.state == "ahead-spent"
    device.ntp(device.true)
    assert device.state == "ok"
    device.set(device.true + YEAR_S)
    device.run(6 * DAY_S)
    assert device.state == "ahead"


def test_a_clock_set_by_hand_is_not_confirmed_by_what_the_kernel_said_before() -> None:
    device = Device()
    device.ntp(TODAY)
    device.run(HOUR_S)
    assert device.clock.confirmed
    assert device.set(TODAY + YEAR_S) == TODAY + HOUR_S
    assert device.state == "ahead"
    assert not device.clock.confirmed


def test_an_ntp_synchronized_clock_cannot_lower_the_mark() -> None:
    device = Device()
    device.ntp(TODAY + YEAR_S)
    device.write()
    assert device.ntp(TODAY) == TODAY + YEAR_S
    assert device.state == "behind"
    assert not device.clock.confirmed
    assert device.ntp(TODAY + YEAR_S - HOUR_S) == TODAY + YEAR_S


def test_a_vendors_answer_can_lower_the_mark_to_its_issued() -> None:
    device = Device()
    device.ntp(TODAY + 70 * YEAR_S)  # an NTP server gone mad
    device.set(TODAY)
    assert device.now() == TODAY + 70 * YEAR_S
    assert device.clock.confirm(TODAY - 60, device.wall, device.boot) == TODAY
    assert device.state == "ok"
    assert device.clock.confirmed
    device.restart(clean=True)
    assert device.now() == TODAY


@pytest.mark.parametrize(
    ("least", "then"), [(math.inf, 70 * YEAR_S), (TODAY + DAY_S, DAY_S), (TODAY - DAY_S, 0), (-math.inf, 0)]
)
def test_an_answer_lowers_the_clock_no_further_than_the_other_vendors_say(least: float, then: float) -> None:
    device = Device()
    device.ntp(TODAY + 70 * YEAR_S)
    device.set(TODAY)
    device.clock.confirm(TODAY, device.wall, device.boot, least=least)
    assert device.clock.line == TODAY + then
    assert device.clock.confirmed is (then <= DAY_S)


def test_what_other_vendors_say_raises_nothing() -> None:
    device = Device()
    device.clock.confirm(TODAY, device.wall, device.boot, least=TODAY + YEAR_S)
    assert device.now() == TODAY


def test_a_vendors_answer_confirms_a_clock_far_ahead_up_to_its_issued_and_refills_the_7_days() -> None:
    device = Device()
    device.set(TODAY + YEAR_S)
    device.run(8 * DAY_S)
    device.set(device.true + YEAR_S)
    issued = device.wall - 30 * DAY_S
    assert device.clock.confirm(issued, device.wall, device.boot) == issued
    assert device.state == "ahead"  # the 30 days behind its issued are confirmed by nothing
    assert not device.clock.confirmed
    assert device.run(6 * DAY_S) == pytest.approx(issued + 6 * DAY_S, abs=ROUNDING_S)
    assert device.clock.confirm(device.wall - 5, device.wall, device.boot) == device.wall
    assert device.state == "ok"
    assert device.clock.confirmed


def test_what_a_vendors_answer_confirmed_is_unconfirmed_after_a_leap() -> None:
    device = Device()
    device.clock.confirm(TODAY, device.wall, device.boot)
    device.set(TODAY + YEAR_S)
    device.set(TODAY)
    assert device.state == "ok"
    assert not device.clock.confirmed


def test_a_vendors_answer_that_was_held_back_gains_nothing() -> None:
    device = Device()
    issued = device.true
    device.run(20 * DAY_S)
    device.set(TODAY)  # as if nothing had passed
    assert device.clock.confirm(issued, device.wall, device.boot, asked_s=20 * DAY_S) == pytest.approx(
        TODAY + 20 * DAY_S, abs=ROUNDING_S
    )


def test_the_newest_issued_of_any_verified_document_is_a_floor() -> None:
    device = Device(wall=DEAD)
    assert device.clock.floor(TODAY, device.wall, device.boot) == TODAY
    assert device.clock.floor(TODAY - DAY_S, device.wall, device.boot) == TODAY
    assert device.run(HOUR_S) == TODAY + HOUR_S
    device.restart(clean=True)
    assert device.now() == TODAY + HOUR_S


def test_a_floor_ahead_of_the_wall_clock_counts_until_the_wall_clock_is_past_it() -> None:
    device = Device()
    assert device.clock.floor(TODAY + HOUR_S, device.wall, device.boot) == TODAY + HOUR_S
    assert device.state == "ok"
    assert device.run(HOUR_S + 1) == TODAY + HOUR_S + 1


def test_a_floor_is_no_confirmation_and_refills_nothing() -> None:
    device = Device()
    device.set(TODAY + YEAR_S)
    device.run(8 * DAY_S)
    device.clock.floor(device.wall - HOUR_S, device.wall, device.boot)
    assert device.state == "ok"
    assert not device.clock.confirmed
    device.set(device.wall + YEAR_S)
    assert device.state == "ahead-spent"


# --- restarts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wall", [DEAD, TODAY - HOUR_S, TODAY])
def test_a_start_without_a_clean_stop_mark_whose_clock_is_not_past_the_mark_adds_10_minutes(wall: float) -> None:
    device = Device()
    assert device.restart(clean=False, wall=wall) == TODAY + 600


@pytest.mark.parametrize("wall", [DEAD, TODAY - HOUR_S, TODAY])
def test_a_start_behind_a_clean_stop_adds_nothing(wall: float) -> None:
    device = Device()
    assert device.restart(clean=True, wall=wall) == TODAY


def test_a_start_without_a_clean_stop_mark_whose_clock_is_past_the_mark_goes_by_the_clock() -> None:
    device = Device()
    assert device.restart(clean=False, off_s=20.0) == TODAY + 20


def test_a_device_cut_off_every_ten_minutes_with_its_clock_a_second_past_the_mark_gains_one_day_at_most() -> None:
    device = Device()
    for _ in range(3 * 144):  # three days
        device.run(RECORD_INTERVAL_S - 1)
        assert device.record is not None
        device.restart(clean=False, wall=device.record.mark + 1)
    assert device.now() >= TODAY + 2 * DAY_S


def test_a_process_that_crashes_in_a_loop_costs_no_time_where_the_boot_is_known_to_be_the_same() -> None:
    device = Device(wall=DEAD, record=ClockRecord(TODAY, TODAY, 0.0))
    for _ in range(1000):
        device.run(1.0)
        device.restart(clean=False, off_s=1.0, same_boot=True)
    assert device.now() == pytest.approx(TODAY + 2000, abs=ROUNDING_S)


def test_uptime_without_licd_is_known_to_a_start_in_the_same_boot() -> None:
    device = Device()
    device.restart(clean=True, off_s=3 * DAY_S, same_boot=True)
    assert device.state == "ok"
    assert device.now() == device.true


def test_a_boottime_below_that_of_the_record_is_another_boot() -> None:
    start = TrustedClock(
        ClockRecord(TODAY, TODAY, 0.0), clean_stop=False, wall=DEAD, boot=5.0, synchronized=None, passed=-4000.0
    )
    assert start.now(DEAD, 5.0) == TODAY + RECORD_INTERVAL_S


def test_the_daemon_puts_the_clock_on_record_as_often_as_the_rule_for_crashes_supposes() -> None:
    assert server.MARK_INTERVAL_S <= RECORD_INTERVAL_S


# --- no honest clock fault stops a shop --------------------------------------------------------------------------


def test_a_battery_that_is_dead_for_a_year_of_nights_loses_no_day_of_any_license() -> None:
    device = Device()
    uptime = 0.0
    for _ in range(365):
        device.run(12 * HOUR_S)
        uptime += 12 * HOUR_S
        device.restart(clean=False, off_s=12 * HOUR_S, wall=DEAD)
        assert device.now() <= device.true
    assert device.now() >= TODAY + uptime


def test_a_set_back_by_years_refuses_nothing_and_costs_nothing() -> None:
    device = Device()
    device.set(TODAY - 5 * YEAR_S)
    device.run(90 * DAY_S)
    assert device.now() == pytest.approx(device.true, abs=ROUNDING_S)


def test_an_ntp_client_that_is_frozen_years_ago_costs_nothing() -> None:
    device = Device()
    for _ in range(100):
        device.run(HOUR_S)
        device.ntp(TODAY - 3 * YEAR_S)
    assert device.now() == pytest.approx(device.true, abs=ROUNDING_S)


def test_a_shop_that_was_closed_for_months_goes_on_for_a_week_and_then_by_its_right_clock() -> None:
    device = Device()
    device.restart(clean=True, off_s=90 * DAY_S)
    assert device.run(6 * DAY_S) == pytest.approx(TODAY + 6 * DAY_S, abs=ROUNDING_S)
    assert device.run(2 * DAY_S) == pytest.approx(device.true, abs=ROUNDING_S)


def test_a_leap_ahead_of_72_years_that_is_put_right_within_a_week_leaves_no_trace() -> None:
    device = Device()
    device.set(TODAY + 72 * YEAR_S)
    device.run(5 * DAY_S)
    assert device.set(device.true) == pytest.approx(device.true, abs=ROUNDING_S)
    device.restart(clean=True)
    assert device.now() == pytest.approx(device.true, abs=ROUNDING_S)
    assert device.clock.warning() is None
