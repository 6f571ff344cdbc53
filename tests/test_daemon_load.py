"""What licd promises under full load, on the real process: it is stopped, its clocks are set, and clients never pause
meanwhile. kill -9: test_daemon_load_kill.py."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from typing import Any

import pytest

from licd.daemon.server import MARK_INTERVAL_S, THOROUGH_S
from licd.rpc.client import Client
from tests.support.clients import Pipeline, acquire, journal_bytes, leases, wait_until
from tests.support.clocks import Clocks
from tests.support.daemon import Daemon
from tests.support.device import device
from tests.support.load import Ask, Load
from tests.support.needs import needs_faketime, needs_strace
from tests.support.strace import injected

CHANGED = """
import os
import time

from licd.daemon import config

config.MIN_TTL_S = 1  # before methods.py takes it

from licd.daemon import server
from licd.daemon.loop import Loop

server.MARK_INTERVAL_S = {mark_s}
server.THOROUGH_S = {thorough_s}
wait = Loop.wait

def wait_and_stop(self, timeout_s):
    found = wait(self, timeout_s)
    if os.path.exists({stop!r}):
        os.unlink({stop!r})
        time.sleep({stop_s})
    return found

Loop.wait = wait_and_stop
"""
STOP_S = 2.0


def change(licd: Daemon, mark_s: float = MARK_INTERVAL_S, thorough_s: float = THOROUGH_S) -> None:
    """Leases may be as short as a second, marks and thorough turns come as often as that, and licd stops for STOP_S
    between a wait and what follows if there is a file "stop". Python imports this at its start."""
    path = licd.env.get("PYTHONPATH", os.environ.get("PYTHONPATH", "")).split(os.pathsep)
    site = licd.folder / "site"
    site.mkdir(exist_ok=True)
    with (site / "sitecustomize.py").open("a") as file:
        file.write(CHANGED.format(mark_s=mark_s, thorough_s=thorough_s, stop=str(licd.folder / "stop"), stop_s=STOP_S))
    licd.env = licd.env | {"PYTHONPATH": os.pathsep.join(filter(None, dict.fromkeys([str(site), *path])))}


# --- clocks that are set, and a process that is stopped ---------------------------------------------------------------

TTL_S = 2
DAY_S = 86400.0
HOLDERS, PASSERS = 24, 8


class Repeats:
    """Says the same over and over, and is never refused."""

    def __init__(self, number: int, *asks: Ask) -> None:
        self.depth = 1 if number % 4 else 4
        self._asks = deque(asks)

    def ask(self) -> Ask:
        self._asks.rotate(-1)
        return self._asks[-1]

    def told(self, ask: Ask, error: str | None, result: Any) -> None:
        assert error is None, (ask, error)
        assert result.get("released") is not False


def confirms(number: int, license: str) -> Repeats:
    return Repeats(number, ("seat.confirm", {"license": license, "holder": f"till-{number}"}))


def passes(number: int) -> Repeats:
    """Takes a seat and leaves it."""
    words = {"license": "kso.pos", "holder": f"passer-{number}"}
    return Repeats(number, ("seat.acquire", words), ("seat.release", words))


class Rival:
    """Waits for a seat to come free."""

    depth = 1

    def ask(self) -> Ask:
        return "seat.acquire", {"license": "kso.scan", "holder": "rival"}

    def told(self, ask: Ask, error: str | None, result: Any) -> None:
        assert error == "NO_SEAT_FREE", (ask, error, result)


@needs_faketime
def test_clock_steps_suspends_and_stops_under_full_load_take_no_seat_from_who_goes_on_confirming() -> None:
    lines: list[dict[str, Any]] = [{"name": "kso.scan", "seats": HOLDERS}, {"name": "kso.pos", "license": "uncounted"}]
    with device(start=False, lines=lines) as licd:
        clocks = Clocks(licd.folder)
        licd.env = clocks.env
        change(licd)
        licd.start()
        with licd.client() as client:
            held = [acquire(client, f"till-{number}", "kso.scan", ttl=TTL_S) for number in range(HOLDERS)]
        callers = [confirms(number, "kso.scan") for number in range(HOLDERS)]
        callers += [passes(number) for number in range(PASSERS)]
        with Load(licd.socket, [*callers, Rival()]) as load, licd.client() as client:
            dead = acquire(client, "dead", "kso.pos", ttl=TTL_S)
            today = clocks.wall
            for moment in (today + 3 * DAY_S, today - 3600, today + 400 * DAY_S, today):
                clocks.set_wall(moment)
                load.goes_on()
            clocks.set_wall(5.0)
            wait_until(lambda: dead not in leases(client), "the end of a lease that nobody confirms")
            for late_s in (0.5, 0.6, 1.2):
                licd.pause()
                time.sleep(TTL_S + late_s)
                clocks.set_wall(clocks.wall + DAY_S)
                licd.resume()
                load.goes_on()
                clocks.suspend(TTL_S + late_s)
                load.goes_on()
        rows = licd.call("seat.list", license="kso.scan")["leases"]
        assert [row["lease"] for row in rows] == held  # in this order: none was expired and revived
        assert licd.log.count("\n") == 1


# --- licd is held up in the middle of a turn --------------------------------------------------------------------------


@needs_strace
def test_a_lease_that_waited_for_a_sync_longer_than_its_ttl_has_all_of_it_from_then_on(stopped: Daemon) -> None:
    change(stopped)
    with stopped.start().client() as client:
        with injected(stopped, f"fdatasync:delay_exit={TTL_S}500000:when=1"):
            lease = acquire(client, "till", "kso.pos", ttl=TTL_S)
        before = journal_bytes(client)
        time.sleep(0.3)  # more than a window of deadlines: had it been due, it would have expired
        assert client.call("seat.confirm", lease=lease)["lease"] == lease
        assert journal_bytes(client) == before  # it has not been revived


def test_who_asked_before_licd_looks_at_the_clock_is_in_time(stopped: Daemon) -> None:
    change(stopped)
    stopped.start()
    with Pipeline(stopped.socket) as till, Pipeline(stopped.socket) as other:
        lease = till.answer(till.ask("seat.acquire", license="kso.scan", holder="till", ttl=3))["lease"]
        before = journal_bytes(stopped)
        time.sleep(1.5)
        (stopped.folder / "stop").touch()
        other.ask("server.hello")
        wait_until(lambda: not (stopped.folder / "stop").exists(), "a stop")
        asked = till.ask("seat.confirm", lease=lease)  # 1.5 s before the deadline; the stop ends 0.5 s after it
        assert till.answer(asked)["lease"] == lease
        assert journal_bytes(stopped) == before  # it has not been revived


# --- what no client asks for ------------------------------------------------------------------------------------------


class Systemd(threading.Thread):
    """What it hears, and when."""

    def __init__(self, licd: Daemon) -> None:
        super().__init__(daemon=True)
        self._licd = licd
        self._over = threading.Event()
        self.heard: list[tuple[float, str]] = []

    def run(self) -> None:
        while not self._over.is_set():
            message = self._licd.hear(0.1)
            if message is not None:
                self.heard.append((time.monotonic(), message))

    def hears(self, text: str) -> None:
        wait_until(lambda: any(text in message for _, message in self.heard), text)

    def __enter__(self) -> Systemd:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


WATCHDOG_S = 2.0


def grows(client: Client) -> None:
    written = journal_bytes(client)
    wait_until(lambda: journal_bytes(client) > written, "a mark")


@pytest.mark.parametrize("synced", [False, True], ids=["reading", "writing"])
def test_what_no_client_asks_for_happens_in_time_though_they_never_pause(stopped: Daemon, synced: bool) -> None:
    # These clients pause for a moment at times, so a moment is 50 ms here.
    change(stopped, mark_s=1.0, thorough_s=0.05)
    stopped.env["WATCHDOG_USEC"] = f"{WATCHDOG_S * 1e6:.0f}"
    stopped.start()
    began = time.monotonic()
    with stopped.client() as client:
        for number in range(8):
            acquire(client, f"till-{number}", "kso.pos")
        callers = [passes(number) if synced else confirms(number, "kso.pos") for number in range(8)]
        with Load(stopped.socket, callers) as load, Systemd(stopped) as systemd:
            load.goes_on()
            short = acquire(client, "short", "kso.pos", ttl=1)
            for seats in (1, 2):
                acquire(client, f"other-{seats}", "kso.scan")
                systemd.hears(f"{seats} of 3 seats held")
            wait_until(lambda: short not in leases(client), "the end of a lease that nobody confirms")
            if not synced:
                for _ in range(2):
                    grows(client)
            time.sleep(max(0.0, began + 2 * WATCHDOG_S - time.monotonic()))
            ended = time.monotonic()
    pings = [when for when, message in systemd.heard if message == "WATCHDOG=1"]
    assert all(after - before < WATCHDOG_S for before, after in itertools.pairwise([began, *pings, ended]))
