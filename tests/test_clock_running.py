"""For how long a device has run under licd: what grows it, what does not, and what a crash costs."""

from __future__ import annotations

import pytest

from licd.device.clock import DAY_S, HOUR_S, RECORD_INTERVAL_S, ClockRecord
from tests.support.clockwork import DEAD, ROUNDING_S, TODAY, YEAR_S, Device


def test_running_time_begins_with_the_first_start_and_is_uptime_whatever_the_wall_clock_says() -> None:
    device = Device()
    assert device.clock.ran_s == 0.0
    for wall in (TODAY + HOUR_S, DEAD, TODAY + YEAR_S, TODAY - 20 * HOUR_S):
        device.set(wall)
        device.run(HOUR_S)
    assert device.clock.ran_s == pytest.approx(4 * HOUR_S, abs=ROUNDING_S)


def test_running_time_is_left_alone_by_documents_that_move_the_clock() -> None:
    device = Device()
    device.run(HOUR_S)
    device.clock.floor(TODAY + YEAR_S, device.wall, device.boot)
    device.clock.confirm(TODAY - YEAR_S, device.wall, device.boot, asked_s=60.0)
    assert device.clock.ran_s == pytest.approx(HOUR_S, abs=ROUNDING_S)
    device.run(HOUR_S)
    assert device.clock.ran_s == pytest.approx(2 * HOUR_S, abs=ROUNDING_S)


def test_what_the_running_time_was_is_on_record() -> None:
    device = Device()
    device.run(3 * HOUR_S)
    device.stop()
    assert device.record is not None
    assert device.record.ran_s == device.clock.ran_s


def test_a_suspend_is_no_running_time() -> None:
    device = Device()
    device.run(3 * HOUR_S)
    device.clock.slept(2 * HOUR_S)
    assert device.clock.ran_s == pytest.approx(HOUR_S, abs=ROUNDING_S)
    device.clock.slept(YEAR_S)
    assert device.clock.ran_s == 0.0


def test_months_off_are_no_running_time() -> None:
    device = Device()
    device.run(HOUR_S)
    device.restart(clean=True, off_s=90 * DAY_S)
    assert device.ntp(device.true) == device.true
    assert device.clock.ran_s == pytest.approx(HOUR_S, abs=ROUNDING_S)


def test_a_crash_within_a_boot_loses_no_running_time() -> None:
    device = Device()
    device.run(RECORD_INTERVAL_S / 2)
    device.restart(clean=False, off_s=20.0, same_boot=True)
    assert device.clock.ran_s == pytest.approx(RECORD_INTERVAL_S / 2 + 20.0, abs=ROUNDING_S)


def test_after_a_power_cut_the_running_time_that_may_be_lost_is_added() -> None:
    device = Device()
    device.run(RECORD_INTERVAL_S * 2.5)
    device.restart(clean=False, off_s=HOUR_S)
    assert device.clock.ran_s == pytest.approx(RECORD_INTERVAL_S * 3, abs=ROUNDING_S)


def test_a_record_without_a_running_time_is_of_a_licd_that_counted_none() -> None:
    device = Device(record=ClockRecord(TODAY, TODAY, 0.0))
    device.run(HOUR_S)
    assert device.clock.ran_s == pytest.approx(HOUR_S, abs=ROUNDING_S)
