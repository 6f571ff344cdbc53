"""What leaves before the sync of its turn and what does not, and who comes into a turn that is to be synced.

The real process, but a turn waits for those who ask meanwhile as long as a test needs, and leases may be as short as a
second: Python imports a module sitecustomize, if there is one on its path, before the program.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

from licd.rpc import wire
from licd.seats import frames
from licd.seats.events import Acquired
from licd.seats.replay import replay
from tests.support.clients import Pipeline, Program, acquire, leases, wait_until
from tests.support.daemon import Daemon
from tests.support.device import device
from tests.support.needs import needs_strace
from tests.support.strace import injected

LOOK_S = 0.2  # between two looks
PATIENT = f"""
import time

from licd.daemon import config

config.MIN_TTL_S = 1  # before methods.py takes it

from licd.daemon import server
from licd.daemon.loop import Loop

server.GATHER_S = 4.0
look = Loop.look

def look_later(self):
    time.sleep({LOOK_S})
    return look(self)

Loop.look = look_later

import os

from licd.daemon.clients import Clients

begin_turn = Clients.begin_turn

def begin_long(self):
    long = os.path.join(os.path.dirname(__file__), "turn")
    if os.path.exists(long):  # what follows comes late in this turn
        os.remove(long)
        time.sleep(1.5)
    begin_turn(self)

Clients.begin_turn = begin_long
"""
MEANWHILE_S = 0.05  # after a request: its turn has begun, and looks around for others
SOON_S = 2.0  # a turn that does not wait until GATHER_S is over
SYNC_FAILS = "fdatasync:error=EIO:when=1"
JOURNAL_FAILED = 74


@pytest.fixture
def shop() -> Iterator[Daemon]:
    with device(start=False) as licd:
        (licd.folder / "sitecustomize.py").write_text(PATIENT)
        licd.env = {"PYTHONPATH": os.pathsep.join([str(licd.folder), *filter(None, [os.environ.get("PYTHONPATH")])])}
        yield licd.start()


@pytest.fixture
def till(shop: Daemon) -> Iterator[Pipeline]:
    """Holds the lease of `held`, and has confirmed and checked before, in the words of `confirm` and `check`."""
    with Pipeline(shop.socket) as till:
        held(till)
        for _ in range(2):
            till.answer(confirm(till))
            till.answer(check(till))
        yield till


def held(till: Pipeline) -> str:
    lease: str = till.answer(take(till, "till"))["lease"]
    return lease


def take(who: Pipeline, holder: str) -> int:
    return who.ask("seat.acquire", license="kso.pos", holder=holder, ttl=60)


def confirm(who: Pipeline) -> int:
    return who.ask("seat.confirm", license="kso.pos", holder="till")


def check(who: Pipeline) -> int:
    return who.ask("license.check", license="kso.pos")


def frames_on_record(shop: Daemon) -> int:
    return len(frames.scan((shop.state / "journal").read_bytes()).payloads)


def ends_unheard(shop: Daemon) -> None:
    assert shop.process is not None
    assert shop.process.wait(10) == JOURNAL_FAILED


# --- what leaves before the sync ------------------------------------------------------------------------------------


@needs_strace
@pytest.mark.parametrize("ask", [confirm, check])
def test_an_answer_that_tells_nothing_of_the_turn_leaves_before_the_sync_and_one_that_does_waits(
    shop: Daemon, till: Pipeline, ask: object
) -> None:
    with Pipeline(shop.socket) as other:
        other.answer(other.ask("server.hello"))
        with injected(shop, "fdatasync:delay_exit=1500000:when=1"):
            shop.pause()
            taken = take(other, "other")
            asked = confirm(till) if ask is confirm else check(till)
            shop.resume()
            till.answer(asked)
            assert not select.select([other.stream], [], [], 0)[0]
            assert other.answer(taken)["holder"] == "other"


@needs_strace
def test_what_was_confirmed_before_a_sync_that_failed_is_held_after_the_restart(shop: Daemon, till: Pipeline) -> None:
    lease = held(till)
    with Pipeline(shop.socket) as other:
        other.answer(other.ask("server.hello"))
        with injected(shop, SYNC_FAILS):
            shop.pause()
            taken, told = take(other, "other"), confirm(till)
            shop.resume()
            till.drain()
            other.drain()
            ends_unheard(shop)
    assert till.answer(told)["lease"] == lease
    assert taken not in other.answers
    shop.start()
    assert lease in leases(shop)


@needs_strace
def test_an_answer_that_may_leave_takes_none_along_that_waits_on_the_same_connection(
    shop: Daemon, till: Pipeline
) -> None:
    released = till.answer(take(till, "new"))["lease"]
    till.answer(till.ask("seat.release", lease=released))
    with injected(shop, SYNC_FAILS):
        taken = take(till, "new")  # in words that licd knows
        time.sleep(MEANWHILE_S)
        told = confirm(till)
        till.drain()
        ends_unheard(shop)
    assert not till.answers.keys() & {taken, told}


@needs_strace
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "before-one-that-lives"])
def test_the_revival_of_an_expired_lease_is_not_told_before_it_is_on_the_medium(
    shop: Daemon, till: Pipeline, alone: bool
) -> None:
    lives = held(till)
    late = till.answer(till.ask("seat.acquire", license="kso.pos", holder="late", ttl=2))["lease"]
    words: dict[str, object] = {"lease": late} if alone else {"leases": [late, lives]}
    till.answer(till.ask("seat.confirm", **words))
    time.sleep(2.2)
    assert leases(shop).keys() == {lives}
    till.answer(take(till, "another"))  # the expiry goes on record with it
    with injected(shop, SYNC_FAILS):
        asked = till.ask("seat.confirm", **words)
        till.drain()
        ends_unheard(shop)
    assert asked not in till.answers


@needs_strace
@pytest.mark.parametrize("holder", ["new", "till"], ids=["made", "changed"])
def test_a_confirm_of_a_lease_that_the_turn_made_or_changed_waits(shop: Daemon, till: Pipeline, holder: str) -> None:
    words = {"license": "kso.pos", "holder": holder}
    made = till.answer(take(till, "new"))["lease"]
    till.answer(till.ask("seat.confirm", **words))
    till.answer(till.ask("seat.release", lease=made))
    with Pipeline(shop.socket) as other:
        other.answer(other.ask("server.hello"))
        with injected(shop, SYNC_FAILS):
            other.ask("seat.acquire", ttl=600, **words)
            time.sleep(MEANWHILE_S)
            asked = till.ask("seat.confirm", **words)
            till.drain()
            ends_unheard(shop)
    assert asked not in till.answers


@needs_strace
def test_what_somebody_says_last_while_his_answer_waits_for_a_sync_is_heard(shop: Daemon, till: Pipeline) -> None:
    lease = held(till)
    with Pipeline(shop.socket) as other:
        other.answer(other.ask("server.hello"))
        with injected(shop, "fdatasync:delay_exit=2000000:when=1"):
            shop.pause()
            taken = take(other, "other")
            till.ask("server.status")
            shop.resume()
            # Each look takes its time: by then both are read, and the sync has begun.
            time.sleep(3 * LOOK_S)
            till.ask("seat.release", lease=lease)
            till.close()
            other.answer(taken)
    wait_until(lambda: lease not in leases(shop), "the release")


# --- who comes into the turn ----------------------------------------------------------------------------------------


def test_who_asks_while_a_turn_waits_shares_its_sync(shop: Daemon, till: Pipeline) -> None:
    with Pipeline(shop.socket) as other:
        other.answer(other.ask("server.hello"))
        before = frames_on_record(shop)
        asked = take(till, "first")
        time.sleep(MEANWHILE_S)
        also = take(other, "second")
        till.answer(asked)
        other.answer(also)
        assert frames_on_record(shop) == before + 1
        new = [event.holder for event in replay(shop.state).events if isinstance(event, Acquired)]
        assert new[-2:] == ["first", "second"]


@pytest.mark.parametrize("end", ["close", "shut"])
def test_one_whose_connection_ends_does_not_keep_the_turn_waiting(shop: Daemon, till: Pipeline, end: str) -> None:
    with Pipeline(shop.socket) as goes:
        goes.answer(goes.ask("server.hello"))
        began = time.monotonic()
        asked = take(till, "new")
        time.sleep(MEANWHILE_S)
        goes.close() if end == "close" else goes.stream.shutdown(1)
        till.answer(asked)
        assert time.monotonic() - began < SOON_S


def test_one_who_floods_does_not_keep_the_turn_waiting_and_is_not_read_without_end(
    shop: Daemon, till: Pipeline
) -> None:
    flood = wire.encode_request(1, "server.status", {}) * 50_000
    with Pipeline(shop.socket) as rude:
        rude.answer(rude.ask("server.hello"))
        began = time.monotonic()
        asked = take(till, "new")
        time.sleep(MEANWHILE_S)
        sent = 0
        rude.stream.setblocking(False)
        while not select.select([till.stream], [], [], 0.01)[0]:
            if select.select([], [rude.stream], [], 0)[1]:
                sent += rude.stream.send(flood[: 64 * 1024])
        till.answer(asked)
        assert time.monotonic() - began < SOON_S
        assert sent < 1 << 20  # what the socket holds, and little more


def test_a_successor_heard_while_the_turn_waits_gets_the_lease_of_one_who_ended_meanwhile(
    shop: Daemon, till: Pipeline
) -> None:
    with Program(shop.socket) as before, Pipeline(shop.socket) as after:
        lease = acquire(before, "shared", "kso.pos")
        after.answer(after.ask("server.hello"))
        asked = take(till, "new")
        time.sleep(MEANWHILE_S)
        before.kill()
        assert after.answer(take(after, "shared"))["lease"] == lease
        till.answer(asked)


def test_the_seats_of_one_who_came_and_went_while_the_turn_waits_are_free_for_the_next(
    shop: Daemon, till: Pipeline
) -> None:
    seats = {"license": "kso.scan", "seats": 3, "on_close": "release"}
    with Pipeline(shop.socket) as goes, Pipeline(shop.socket) as after:
        for who in (goes, after):
            who.answer(who.ask("server.hello"))
        asked = take(till, "new")
        time.sleep(MEANWHILE_S)
        goes.ask("seat.acquire", holder="goes", **seats)
        time.sleep(LOOK_S)
        goes.close()
        assert after.answer(after.ask("seat.acquire", holder="after", **seats))["seats"] == 3
        till.answer(asked)


def test_an_acquire_of_one_who_hung_up_early_in_a_long_turn_is_not_carried_out(shop: Daemon, till: Pipeline) -> None:
    # As where many users send dear requests, and each has its slice of the turn first.
    gone = Pipeline(shop.socket)
    gone.answer(take(gone, "known"))
    begun = shop.folder / "turn"
    begun.touch()
    take(gone, "gone")
    wait_until(lambda: not begun.exists(), "a long turn")
    gone.close()
    assert "gone" not in leases(shop).values()


# --- hurried turns --------------------------------------------------------------------------------------------------


def test_under_a_client_that_never_pauses_leases_end_and_systemd_hears_of_it(shop: Daemon, till: Pipeline) -> None:
    short = till.answer(till.ask("seat.acquire", license="kso.pos", holder="short", ttl=1))["lease"]
    over = threading.Event()

    def never_pause() -> None:
        with Pipeline(shop.socket) as busy:
            while not over.is_set():
                busy.answer(check(busy))

    thread = threading.Thread(target=never_pause)
    thread.start()
    try:
        began = time.monotonic()
        while short in leases(shop):
            assert time.monotonic() - began < 3.0
            time.sleep(0.05)
        assert time.monotonic() - began > 0.7
        shop.notified.clear()
        take(till, "more")
        shop.wait_for("STATUS=", 3.0)
    finally:
        over.set()
        thread.join()
