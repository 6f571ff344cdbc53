"""Trusted time in the real process: what clocks do to licenses and leases (design section 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from licd.license.dates import DAY_S, end_of
from tests.support import pki
from tests.support.clients import lease_of, refusal
from tests.support.clocks import Clocked
from tests.support.needs import needs_faketime, needs_root, needs_strace

pytestmark = needs_faketime

HOUR_S = 3600.0
VENDOR = pki.Vendor()
END = end_of("2027-03-31")
LINES: list[dict[str, Any]] = [
    {"name": "kso.scales", "seats": 3, "expires": "2027-03-31"},
    {"name": "kso.camera", "license": "uncounted"},
]


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Shop(Clocked):
    """It is an hour before the end of kso.scales."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, VENDOR, END - HOUR_S)

    def begin(self) -> Shop:
        self.start()
        self.call("license.import", document=VENDOR.license_file(1, LINES))
        return self

    @property
    def clock(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.call("server.status")["clock"]
        return found

    @property
    def trusted(self) -> float:
        return datetime.fromisoformat(self.clock["trusted"]).timestamp()

    @property
    def warned(self) -> bool:
        """Whether status tells of the clock."""
        return any(text.startswith("the clock of this device") for text in self.call("server.status")["warnings"])

    @property
    def valid(self) -> bool:
        valid: bool = self.call("license.check", license="kso.scales")["valid"]
        return valid

    @property
    def journal_bytes(self) -> int:
        self.call("server.hello")  # the turn in which the mark is written, if it is due
        used: int = self.call("server.status")["journal"]["bytes"]
        return used


@pytest.fixture
def shop(folder: Path) -> Iterator[Shop]:
    daemon = Shop(folder)
    with daemon:
        yield daemon


# --- set back, dead battery ----------------------------------------------------------------------------------


@pytest.mark.parametrize("back_s", [2 * HOUR_S, 20 * HOUR_S, 400 * DAY_S])
def test_a_clock_set_back_does_not_revive_an_expired_license(shop: Shop, back_s: float) -> None:
    shop.begin()
    assert shop.valid
    shop.clocks.set_wall(END + 60)
    assert not shop.valid
    shop.clocks.set_wall(END + 60 - back_s)
    assert refusal(shop, "seat.acquire", license="kso.scales", holder="a").name == "LICENSE_EXPIRED"
    assert shop.warned == (back_s > DAY_S)
    shop.kill()  # at once: what the clock said is on record
    shop.start()
    assert refusal(shop, "seat.acquire", license="kso.scales", holder="a").name == "LICENSE_EXPIRED"
    assert shop.stop() == 0
    shop.start()
    assert not shop.valid


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_dead_battery_refuses_nothing_and_costs_nothing(shop: Shop, end: str) -> None:
    shop.begin()
    shop.stop() if end == "stop" else shop.kill()
    shop.clocks.set_wall(5.0)  # 1970
    shop.start()
    assert (shop.clock["state"], shop.warned) == ("behind", True)
    assert abs(shop.trusted - (END - HOUR_S)) < 60
    shop.call("seat.acquire", license="kso.scales", holder="a")
    shop.clocks.elapse(0.9 * HOUR_S)
    assert shop.valid
    shop.clocks.elapse(0.2 * HOUR_S)  # time goes on, wherever the clock stands
    assert not shop.valid
    shop.clocks.set_wall(END + 600)
    assert (shop.clock["state"], shop.warned) == ("ok", False)


def test_a_first_start_with_a_dead_battery_takes_the_date_of_its_license_file_for_the_least(shop: Shop) -> None:
    shop.clocks.set_wall(5.0)
    shop.start()
    assert shop.trusted >= unix("2026-01-01")
    lines = [{"name": "kso.old", "expires": "2026-05-01"}, {"name": "kso.new", "expires": "2026-08-01"}]
    shop.call("license.import", document=VENDOR.license_file(1, lines, issued=unix("2026-07-01")))
    assert shop.trusted >= unix("2026-07-01")
    for _ in range(2):
        assert refusal(shop, "seat.acquire", license="kso.old", holder="a").name == "LICENSE_EXPIRED"
        shop.call("seat.acquire", license="kso.new", holder="a")
        shop.kill()
        for path in shop.state.glob("journal*"):
            path.unlink()  # and with it the mark
        shop.start()


def test_a_clock_set_back_by_an_hour_lets_trusted_time_stand_still_until_it_has_caught_up(shop: Shop) -> None:
    shop.begin()
    before = shop.trusted
    shop.clocks.set_wall(END - 2 * HOUR_S)
    assert before <= shop.trusted < before + 60
    assert (shop.clock["state"], shop.warned) == ("ok", False)
    shop.clocks.elapse(0.5 * HOUR_S)
    assert before <= shop.trusted < before + 60
    shop.clocks.elapse(1.0 * HOUR_S)
    assert before + 0.4 * HOUR_S < shop.trusted < before + 0.6 * HOUR_S


# --- a leap ahead --------------------------------------------------------------------------------------------


def test_a_leap_ahead_that_nothing_confirms_ends_a_license_only_after_a_week_of_uptime(shop: Shop) -> None:
    shop.clocks.set_wall(END - 30 * DAY_S)
    shop.begin()
    shop.clocks.set_wall(END + 300 * DAY_S)
    shop.call("seat.acquire", license="kso.scales", holder="a")
    assert (shop.clock["state"], shop.warned) == ("ahead", True)
    shop.clocks.elapse(3 * DAY_S)
    assert shop.valid
    shop.restart()  # the budget is on record
    shop.clocks.elapse(3.9 * DAY_S)
    assert shop.valid
    shop.clocks.elapse(0.2 * DAY_S)
    assert not shop.valid
    assert (shop.clock["state"], shop.warned) == ("ahead-spent", True)
    shop.clocks.set_wall(END - 22 * DAY_S)  # put right: it has left no trace
    assert shop.valid
    assert (shop.clock["state"], shop.warned) == ("ok", False)


def test_a_leap_ahead_by_less_than_a_day_counts_at_once(shop: Shop) -> None:
    shop.begin()
    shop.clocks.set_wall(END + 20 * HOUR_S)
    assert refusal(shop, "seat.acquire", license="kso.scales", holder="a").name == "LICENSE_EXPIRED"
    assert not shop.warned


@needs_strace
def test_a_leap_ahead_that_the_kernel_confirms_counts_at_once(shop: Shop) -> None:
    shop.clocks.set_wall(END - 30 * DAY_S)
    # adjtimex(2) answers with a struct of zeros: no STA_UNSYNC.
    inject = ("-e", "trace=clock_adjtime,adjtimex", "-e", "inject=clock_adjtime,adjtimex:retval=0")
    shop.wrap = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", *inject)
    shop.begin()
    shop.clocks.set_wall(END + 300 * DAY_S)
    assert not shop.valid
    assert (shop.clock["state"], shop.clock["confirmed"]) == ("ok", True)


@pytest.mark.parametrize("answers", [True, False])
def test_a_leap_ahead_is_confirmed_by_an_answer_to_the_devices_own_request_and_by_no_other_file(
    shop: Shop, answers: bool
) -> None:
    shop.begin()
    shop.call("install.import", document=VENDOR.install_request())
    request = shop.call("install.request")["id"]
    shop.clocks.set_wall(END + 300 * DAY_S)
    assert (shop.clock["state"], shop.clock["confirmed"]) == ("ahead", False)
    header = {"request": request if answers else None}
    shop.call("license.import", document=VENDOR.license_file(2, LINES, issued=END + 300 * DAY_S, header=header))
    assert (shop.clock["state"], shop.clock["confirmed"]) == ("ok", answers)


# --- the promise ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trick", ["set back every day", "set back by 23 hours every day", "stopped every night"])
def test_a_dated_license_runs_at_most_its_term_in_uptime_plus_seven_days(shop: Shop, trick: str) -> None:
    start = END - 10 * DAY_S
    shop.clocks.set_wall(start)
    shop.begin()
    days = 0
    while shop.valid and days < 30:
        shop.clocks.elapse(DAY_S)
        days += 1
        if trick == "set back every day":
            shop.clocks.set_wall(start)
        elif trick == "set back by 23 hours every day":
            shop.clocks.set_wall(shop.clocks.wall - 23 * HOUR_S)
        else:
            shop.call("server.hello")  # a turn, in which the day is seen
            shop.kill()
            shop.clocks.set_wall(start)
            shop.start()
    assert 10 <= days <= 17


# --- what is written, and when -------------------------------------------------------------------------------


def test_the_mark_is_written_every_ten_minutes_and_nothing_else_is_while_nothing_happens(shop: Shop) -> None:
    shop.begin()
    before = shop.journal_bytes
    shop.clocks.elapse(590)
    assert shop.journal_bytes == before
    shop.clocks.elapse(15)
    marked = shop.journal_bytes
    assert before < marked < before + 128
    shop.clocks.elapse(590)
    assert shop.journal_bytes == marked
    shop.kill()
    shop.clocks.set_wall(END - HOUR_S)
    shop.start()
    assert shop.trusted >= END - HOUR_S + 605


@needs_root
@pytest.mark.parametrize(("end", "lost_s"), [("stop", 0), ("kill", 600)])
def test_a_start_without_a_clean_stop_mark_adds_what_may_be_lost(
    shop: Shop, folder: Path, end: str, lost_s: int
) -> None:
    shop.begin()
    mark = shop.trusted
    shop.stop() if end == "stop" else shop.kill()
    # Another boot: how long ago the last record was written cannot be known.
    (folder / "boot_id").write_text("11111111-2222-3333-4444-555555555555\n")
    bind = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    shop.wrap = ("unshare", "--mount", "sh", "-c", bind, str(folder / "boot_id"))
    shop.clocks.set_wall(END - 2 * HOUR_S)
    shop.start()
    assert mark + lost_s <= shop.trusted <= mark + lost_s + 30


# --- leases do not care --------------------------------------------------------------------------------------


def test_no_step_of_the_wall_clock_frees_or_freezes_a_seat(shop: Shop) -> None:
    shop.begin()
    lease = shop.call("seat.acquire", license="kso.camera", holder="a", ttl=60)["lease"]
    for moment in (5.0, END + 300 * DAY_S, END - 2 * HOUR_S):
        shop.clocks.set_wall(moment)
        assert 50 <= lease_of(shop, lease)["expires_s"] <= 60


def test_a_suspend_gives_every_lease_its_full_ttl_and_its_time_counts_for_licenses(shop: Shop) -> None:
    shop.begin()
    with shop.client() as client:
        lease = client.call("seat.acquire", license="kso.camera", holder="a", ttl=30)["lease"]
        shop.clocks.suspend(20)  # less than the ttl, so that this is no stall
        assert lease_of(client, lease)["expires_s"] >= 28
        shop.clocks.suspend(5 * HOUR_S)
        assert lease_of(client, lease)["expires_s"] >= 28
        assert not shop.valid


def test_time_that_passes_awake_counts_for_leases(shop: Shop) -> None:
    shop.begin()
    lease = shop.call("seat.acquire", license="kso.camera", holder="a", ttl=30)["lease"]
    shop.clocks.elapse(20)
    assert lease_of(shop, lease)["expires_s"] <= 10
