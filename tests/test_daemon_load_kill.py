"""kill -9 between an answer and a sync, and at any moment under full load: what was told stays true."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.clients import Pipeline, acquire, journal_bytes, lease_of, leases, wait_until
from tests.support.daemon import Daemon
from tests.support.device import device
from tests.support.load import Ask, Load
from tests.support.needs import needs_strace
from tests.support.strace import injected

LONG = "fdatasync:delay_enter=3000000"


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
