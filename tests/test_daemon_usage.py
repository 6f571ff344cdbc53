"""What the real process puts on record by itself: the peaks of each day, and for how long the device has run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from licd.license.dates import DAY_S, later, midnight
from licd.rpc.client import CallError
from licd.seats.events import Used
from licd.seats.replay import Clock, replay
from tests.support import pki
from tests.support.clocks import Clocked
from tests.support.desk import replayed
from tests.support.mounts import fill_up, small_disk
from tests.support.needs import needs_faketime, needs_root
from tests.support.process import comes_to_rest, wake_ups

pytestmark = needs_faketime

VENDOR = pki.Vendor()
LINES: list[dict[str, Any]] = [{"name": "kso.scales", "seats": 5}, {"name": "kso.camera", "license": "uncounted"}]
DAY = "2027-03-10"
NOON = midnight(DAY) + DAY_S / 2
MARK_S = 600.0
JITTER_S = 30.0  # of a test on a busy machine


class Shop(Clocked):
    """It is noon."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, VENDOR, NOON)

    def begin(self) -> Shop:
        self.start()
        self.call("license.import", document=VENDOR.license_file(1, LINES))
        return self

    def hold(self, holder: str, seats: int = 1, license: str = "kso.scales") -> None:
        self.call("seat.acquire", license=license, holder=holder, seats=seats, ttl=3600)

    def give_back(self, holder: str) -> None:
        self.call("seat.release", license="kso.scales", holder=holder)

    def pass_time(self, seconds: float) -> None:
        """So much time passes, and then licd wakes up, as its own timer would have it do."""
        self.clocks.elapse(seconds)
        self.call("server.hello")

    @property
    def records(self) -> list[Used]:
        """The Used records of the journal, in order."""
        return [event for event in replay(self.state).events if isinstance(event, Used)]

    @property
    def used(self) -> dict[str, dict[str, int]]:
        """What a start would make of them."""
        usage = replayed(list(replay(self.state).events)).usage
        return {event.day: dict(event.peaks) for event in usage.events()}

    @property
    def clock(self) -> Clock:
        clock = replay(self.state).clock
        assert clock is not None
        return clock


@pytest.fixture
def shop(folder: Path) -> Iterator[Shop]:
    daemon = Shop(folder)
    with daemon:
        yield daemon


# --- peaks -------------------------------------------------------------------------------------------------------


def test_the_peak_is_on_record_with_the_mark_though_nobody_holds_it_any_more(shop: Shop) -> None:
    shop.begin()
    shop.hold("a", 3)
    shop.hold("b", 1)
    shop.give_back("a")
    shop.hold("c", license="kso.camera")
    assert shop.used == {}
    shop.pass_time(MARK_S + 1)
    assert shop.used == {DAY: {"kso.scales": 4, "kso.camera": 1}}
    shop.kill()
    shop.start()
    assert shop.used == {DAY: {"kso.scales": 4, "kso.camera": 1}}


def test_a_mark_with_nothing_new_says_nothing_of_peaks(shop: Shop) -> None:
    shop.begin()
    shop.hold("a", 2)
    for _ in range(3):
        shop.pass_time(MARK_S + 1)
    assert shop.records == [Used(DAY, {"kso.scales": 2})]
    shop.hold("b", license="kso.camera")
    for _ in range(2):
        shop.pass_time(MARK_S + 1)
    assert shop.records[1:] == [Used(DAY, {"kso.camera": 1})]


def test_the_peak_is_on_record_after_a_clean_stop(shop: Shop) -> None:
    shop.begin()
    shop.hold("a", 5)
    shop.give_back("a")
    assert shop.stop() == 0
    assert shop.used == {DAY: {"kso.scales": 5}}
    shop.start()
    shop.hold("a", 1)
    assert shop.stop() == 0
    assert shop.used == {DAY: {"kso.scales": 5}}


def test_kill_9_loses_no_peak_that_is_still_held_and_at_most_ten_minutes_of_another(shop: Shop) -> None:
    shop.begin()
    shop.hold("a", 1)
    shop.pass_time(MARK_S + 1)
    shop.hold("a", 2)
    shop.hold("gone", 3)
    shop.give_back("gone")
    shop.kill()
    shop.start()
    shop.pass_time(MARK_S + 1)
    assert shop.used == {DAY: {"kso.scales": 2}}


def test_a_new_day_begins_with_what_is_held_and_the_day_before_keeps_its_peak(shop: Shop) -> None:
    shop.begin()
    shop.clocks.set_wall(midnight(later(DAY, 1)) - 300)
    shop.hold("a", 4)
    shop.give_back("a")
    shop.hold("b", 1)
    shop.pass_time(400)
    shop.hold("c", 1)
    assert shop.used == {DAY: {"kso.scales": 4}}  # with the frame of c: at midnight, not at the mark
    shop.give_back("b")
    shop.pass_time(MARK_S + 1)
    assert shop.used == {DAY: {"kso.scales": 4}, later(DAY, 1): {"kso.scales": 2}}


def test_days_on_which_nothing_is_held_leave_no_record(shop: Shop) -> None:
    shop.begin()
    shop.hold("a", 2)
    shop.give_back("a")
    for _ in range(3):
        shop.pass_time(DAY_S)
    assert shop.used == {DAY: {"kso.scales": 2}}


def test_a_day_is_one_of_trusted_time_and_not_of_a_clock_that_is_years_ahead(shop: Shop) -> None:
    shop.begin()
    shop.clocks.set_wall(NOON + 1000 * DAY_S)
    shop.hold("a", 2)
    shop.pass_time(MARK_S + 1)
    assert shop.used == {DAY: {"kso.scales": 2}}


def test_peaks_wake_nobody_up(shop: Shop) -> None:
    shop.clocks.set_wall(midnight(later(DAY, 1)) - 5.0)
    shop.begin()
    shop.hold("a", 2)
    assert comes_to_rest(shop.pid, for_s=1.2)  # the last STATUS= of all that has gone out
    before = wake_ups(shop.pid)
    left_s = midnight(later(DAY, 1)) - shop.clocks.wall
    assert left_s > 0
    time.sleep(left_s + 0.5)
    assert wake_ups(shop.pid) == before
    shop.hold("a", 1)
    shop.stop()
    assert shop.used == {DAY: {"kso.scales": 2}, later(DAY, 1): {"kso.scales": 2}}


def hold_all_there_is_space_for(shop: Shop) -> None:
    for n in range(2000):
        shop.hold(f"till-{n}", license="kso.camera")


@needs_root
def test_a_full_disk_may_cost_a_peak_and_nothing_else(folder: Path) -> None:
    state = folder / "state"
    state.mkdir()
    shop = Shop(folder)
    with small_disk(state, "1m"), shop:
        shop.begin()
        assert comes_to_rest(shop.pid)  # both files of the journal are there
        fill_up(state)
        with pytest.raises(CallError, match="STORAGE_FULL"):
            hold_all_there_is_space_for(shop)
        for _ in range(3):
            shop.pass_time(MARK_S + 1)
        assert shop.call("server.status")["leases"] > 100
        assert shop.stop() == 0
        assert replay(state).problem is None


# --- running time ------------------------------------------------------------------------------------------------


def test_running_time_goes_on_record_and_over_restarts_of_every_kind(shop: Shop, folder: Path) -> None:
    shop.begin()
    shop.pass_time(3 * 3600)
    assert shop.clock.ran_s == pytest.approx(3 * 3600, abs=JITTER_S)
    assert shop.stop() == 0
    shop.start()
    shop.pass_time(3600)
    shop.kill()  # and what passed since the record, in the same boot, is known
    shop.clocks.elapse(1800)
    shop.start()
    assert shop.clock.ran_s == pytest.approx(4.5 * 3600, abs=JITTER_S)
    shop.pass_time(0)
    shop.clocks.suspend(3600)  # CLOCK_BOOTTIME goes on, but nobody could renew anything
    shop.pass_time(1.0)
    assert shop.stop() == 0
    assert shop.clock.ran_s == pytest.approx(4.5 * 3600, abs=JITTER_S)


@needs_root
@pytest.mark.parametrize(("end", "lost_s"), [("stop", 0.0), ("kill", MARK_S)])
def test_running_time_after_a_reboot_is_what_is_on_record_and_what_a_crash_may_have_lost(
    shop: Shop, folder: Path, end: str, lost_s: float
) -> None:
    shop.begin()
    shop.pass_time(3600)
    shop.stop() if end == "stop" else shop.kill()
    shop.clocks.elapse(30 * DAY_S)  # the device is off, its clock goes on
    (folder / "boot_id").write_text("11111111-2222-3333-4444-555555555555\n")
    bind = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    shop.wrap = ("unshare", "--mount", "sh", "-c", bind, str(folder / "boot_id"))
    shop.start()
    assert shop.clock.ran_s == pytest.approx(3600 + lost_s, abs=JITTER_S)
