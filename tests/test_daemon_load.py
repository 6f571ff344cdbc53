"""What licd promises under full load, on the real process: it is killed, stopped, its clocks are set, and clients never
pause meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgpack
import pytest

from licd.daemon.server import MARK_INTERVAL_S, THOROUGH_S
from licd.rpc.client import Client
from tests.support.clients import Pipeline, acquire, journal_bytes, lease_of, leases, wait_until
from tests.support.clocks import Clocks
from tests.support.daemon import Daemon
from tests.support.device import device
from tests.support.needs import needs_faketime, needs_strace
from tests.support.raw import request
from tests.support.strace import injected

SILENCE_S = 20.0  # in which not one of all answers comes: some are lost
LONG = "fdatasync:delay_enter=3000000"
Ask = tuple[str, dict[str, Any]]


# --- clients that never pause ---------------------------------------------------------------------------------------


class Caller(Protocol):
    """Who speaks on a connection: what it asks next, and what it is told."""

    depth: int
    """So many requests are sent at once; the next as soon as all are answered."""

    def ask(self) -> Ask: ...

    def told(self, ask: Ask, error: str | None, result: Any) -> None: ...


class Line:
    def __init__(self, path: Path, caller: Caller) -> None:
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stream.connect(str(path))
        self._caller = caller
        self._unpacker = msgpack.Unpacker(raw=False)
        self._msgid = 0
        self.waiting: deque[tuple[int, Ask]] = deque()

    def ask(self) -> None:
        data = b""
        for _ in range(self._caller.depth):
            ask = self._caller.ask()
            self._msgid = (self._msgid + 1) % 100  # in one byte: licd knows the rest of the request again
            self.waiting.append((self._msgid, ask))
            data += request(self._msgid, *ask)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # what it said before is still to be heard
            self.stream.sendall(data)

    def hear(self) -> int:
        """How many answers came; 0: the connection has ended."""
        try:
            data = self.stream.recv(65536)
        except ConnectionResetError:
            return 0
        self._unpacker.feed(data)
        count = 0
        for kind, msgid, error, result in self._unpacker:
            asked, ask = self.waiting.popleft()
            assert (kind, msgid) == (1, asked)
            self._caller.told(ask, error and error["name"], result)
            count += 1
        return count or bool(data)


class Load(threading.Thread):
    """All callers ask at once, again and again, until stop(), or until licd dies.

    >>> with Load(path, callers) as load: ...
    """

    def __init__(self, path: Path, callers: Sequence[Caller], *, dies: bool = False) -> None:
        super().__init__(daemon=True)
        self._lines = {line.stream.fileno(): line for line in (Line(path, caller) for caller in callers)}
        self._dies = dies
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self.answers = 0

    def run(self) -> None:
        try:
            self._talk()
        except BaseException as error:  # told by stop()
            self._failure = error

    def _talk(self) -> None:
        epoll = select.epoll()
        for number, line in self._lines.items():
            epoll.register(number, select.EPOLLIN)
            line.ask()
        while self._lines:
            ready = epoll.poll(SILENCE_S)
            assert ready, "answers are lost"
            for number, _ in ready:
                line = self._lines[number]
                count = line.hear()
                self.answers += count
                if not line.waiting and not self._over.is_set():
                    line.ask()
                elif not line.waiting or not count:
                    assert count or self._dies, "a connection ended"
                    epoll.unregister(number)
                    del self._lines[number]
                    line.stream.close()

    def goes_on(self, answers: int = 200) -> None:
        """So many more are answered."""
        goal = self.answers + answers
        wait_until(lambda: self.answers >= goal or not self.is_alive(), "answers come", SILENCE_S)
        self.check()

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Every request is answered. Errors: whatever a caller did not like"""
        self._over.set()
        self.join()
        self.check()

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.stop()
        self._over.set()


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


# --- kill -9 --------------------------------------------------------------------------------------------------------


@needs_strace
@pytest.mark.parametrize("arrived", ["all", "nothing", "a-part"])
def test_what_was_told_before_a_sync_that_never_came_is_true_and_nobody_was_told_the_rest(
    licd: Daemon, arrived: str
) -> None:
    """arrived: of the frame that was not synced, on the medium."""
    ttl = 600

    def take(who: Pipeline, holder: str) -> int:
        return who.ask("seat.acquire", license="kso.pos", holder=holder, ttl=ttl)

    with Pipeline(licd.socket) as till, Pipeline(licd.socket) as asks, Pipeline(licd.socket) as other:
        lease = till.answer(take(till, "till"))["lease"]
        synced = other.answer(take(other, "synced"))["lease"]
        gone = other.answer(take(other, "gone"))["lease"]
        other.answer(other.ask("seat.release", lease=gone))
        for _ in range(2):
            till.answer(till.ask("seat.confirm", lease=lease))
            asks.answer(asks.ask("license.check", license="kso.pos"))
        end = journal_bytes(licd)
        with injected(licd, LONG):
            licd.pause()
            taken, left = take(other, "new"), other.ask("seat.release", lease=synced)
            confirmed = till.ask("seat.confirm", lease=lease)
            checked = asks.ask("license.check", license="kso.pos")
            licd.resume()
            deadline = till.answer(confirmed)["deadline"]
            assert asks.answer(checked)["valid"] is True
            journal = licd.state / "journal"
            wait_until(lambda: any(journal.read_bytes()[end:]), "the frame is written")
            licd.kill()
        other.drain()
        assert not other.answers.keys() & {taken, left}
    if arrived != "all":
        data = journal.read_bytes()
        kept = end if arrived == "nothing" else end + 40
        journal.write_bytes(data[:kept].ljust(len(data), b"\0"))
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    licd.start()
    held = leases(licd)
    assert held.keys() >= {lease}
    assert gone not in held
    assert (synced in held) == (arrived != "all")
    assert ("new" in held.values()) == (arrived == "all")
    expires = lease_of(licd, lease)["expires_s"] + 1 + time.clock_gettime(time.CLOCK_BOOTTIME)
    assert expires >= max(deadline, before + ttl)
    assert licd.call("server.status")["warnings"] == []
    with licd.client() as again:
        assert acquire(again, "new", "kso.pos") in leases(again)


FREE, TAKING, HELD, LEAVING = "free", "taking", "held", "leaving"


class Book:
    """Of one holder's lease: what was asked last, and what was told."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.state = FREE
        self.lease = ""
        self.life = 0  # counts its leases
        self.told_there = self.told_gone = False


class Teller:
    """Takes and leaves leases of its own holders."""

    def __init__(self, books: Sequence[Book], depth: int, chance: random.Random) -> None:
        self.depth = depth
        self._books = {book.holder: book for book in books}
        self._idle = list(self._books)
        self._chance = chance
        self.released: set[str] = set()

    def ask(self) -> Ask:
        holder = self._idle.pop(self._chance.randrange(len(self._idle)))
        book = self._books[holder]
        if book.state == FREE:
            book.state, book.lease, book.life = TAKING, "", book.life + 1
            book.told_there = book.told_gone = False
            on_close = "release" if holder.endswith("0") else "keep"
            return "seat.acquire", {"license": "kso.pos", "holder": holder, "ttl": 600, "on_close": on_close}
        if self._chance.random() < 0.5:
            return "seat.confirm", {"license": "kso.pos", "holder": holder}
        book.state = LEAVING
        return "seat.release", {"license": "kso.pos", "holder": holder}

    def told(self, ask: Ask, error: str | None, result: Any) -> None:
        assert error is None
        book = self._books[ask[1]["holder"]]
        self._idle.append(book.holder)
        if ask[0] == "seat.release":
            assert result == {"released": True}
            self.released.add(book.lease)
            book.state = FREE
        else:
            assert book.lease in ("", result["lease"])
            book.state, book.lease = HELD, result["lease"]

    def after_restart(self, there: dict[str, str]) -> None:
        """Errors: AssertionError if that contradicts what was told"""
        for lease, holder in there.items():
            if holder in self._books:
                book = self._books[holder]
                assert book.state != FREE
                assert not book.told_gone
                assert book.lease in ("", lease)
        assert not self.released & there.keys()
        found = {holder: lease for lease, holder in there.items()}
        for book in self._books.values():
            if book.state == HELD or (book.state == TAKING and book.told_there):
                assert found[book.holder] == book.lease
            book.lease = found.get(book.holder, "")
            book.state = HELD if book.lease else FREE
        self._idle = list(self._books)


class Witness:
    """Confirms leases that others take and leave this moment: it may be told nothing that is not on the medium."""

    depth = 1

    def __init__(self, books: Sequence[Book], chance: random.Random) -> None:
        self._books = list(books)
        self._chance = chance
        self._seen = (self._books[0], 0, FREE)

    def ask(self) -> Ask:
        wanted = [book for book in self._books if book.state in (TAKING, LEAVING)]
        book = self._chance.choice(wanted or self._books)
        self._seen = (book, book.life, book.state)
        return "seat.confirm", {"license": "kso.pos", "holder": book.holder}

    def told(self, ask: Ask, error: str | None, result: Any) -> None:
        assert error in (None, "LEASE_UNKNOWN")
        book, life, state = self._seen
        if book.life != life:
            return
        if error is None and book.state == TAKING:
            assert book.lease in ("", result["lease"])
            book.told_there, book.lease = True, result["lease"]
        if error is not None and book.state == state == LEAVING:
            book.told_gone = True


def test_kill_9_at_any_moment_under_full_load_makes_nothing_untrue_that_was_told() -> None:
    chance = random.Random(1)
    with device(settings={"journal_size": 256 * 1024}) as licd:  # many compactions
        tellers, witnesses = [], []
        for number, depth in enumerate((1, 1, 1, 1, 6, 6)):
            books = [Book(f"till-{number}-{each}") for each in range(20)]
            tellers.append(Teller(books, depth, chance))
            witnesses.append(Witness(books, chance))
        for _ in range(12):
            load = Load(licd.socket, [*tellers, *witnesses], dies=True)
            load.start()
            load.goes_on()
            time.sleep(chance.uniform(0.0, 0.2))
            licd.restart()
            load.stop()
            there = leases(licd)
            for teller in tellers:
                teller.after_restart(there)
        assert sum(len(teller.released) for teller in tellers) > 100


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
        time.sleep(0.3)
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
