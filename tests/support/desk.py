"""What the daemon does with a ledger: decide, record, hold. Without a socket, and by itself without a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from licd.daemon.seat_methods import RECORD_BYTES
from licd.rpc.errors import Error, Refused
from licd.seats.events import KEEP, Event
from licd.seats.journal import MIN_BYTES, Journal
from licd.seats.ledger import Grant, Ledger
from licd.seats.pool import Lease, Session
from licd.seats.replay import Clock, replay

TILLS = "kso.tills"
SINCE = 1800000000
UID, OTHER_UID = 1000, 1001


def client(pid: int = 10, uid: int = UID) -> Session:
    return Session(uid, pid)


@contextmanager
def refused(error: Error, **data: object) -> Iterator[None]:
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.error is error
    assert caught.value.data.items() >= data.items()
    assert "{" not in caught.value.message  # its data fills the sentence


class Desk:
    """Units: now is seconds on CLOCK_BOOTTIME; it moves only if a test moves it."""

    def __init__(self, ledger: Ledger | None = None, *, tills: int | None = 3) -> None:
        self.ledger = Ledger() if ledger is None else ledger
        self.now = 1000.0
        self.events: list[Event] = []
        self.on_record: Callable[[Event, bool], None] = lambda event, sync: None
        self._ids = count(len(self.ledger.leases))
        self.set_total(tills)

    def set_total(self, total: int | None, license: str = TILLS) -> None:
        totals = {pool.license: (pool.total, pool.lines) for pool in self.ledger.pools.values()}
        self.ledger.set_pools({**totals, license: (total, () if total is None else ((None, total),))})

    def record(self, event: Event, *, sync: bool = True) -> None:
        self.events.append(event)
        self.ledger.apply(event)
        self.on_record(event, sync)

    def decide_acquire(
        self, session: Session, holder: str = "till-1", *, license: str = TILLS, seats: int = 1, ttl: int = 60,
        on_close: str = KEEP, version: str | None = None,
    ) -> Grant:  # fmt: skip
        wish = (license, holder, seats, ttl, on_close, version)
        return self.ledger.decide_acquire(wish, session, f"lease-{next(self._ids)}", SINCE, self.now)

    def carry_out(self, grant: Grant, session: Session) -> Lease:
        lease, event, deadline = grant
        if event is not None:
            self.record(event)
            lease = self.ledger.leases[event.lease]
        assert lease is not None
        self.ledger.hold(lease, session, deadline, self.now)
        return lease

    def acquire(
        self, session: Session, holder: str = "till-1", *, license: str = TILLS, seats: int = 1, ttl: int = 60,
        on_close: str = KEEP, version: str | None = None,
    ) -> Lease:  # fmt: skip
        grant = self.decide_acquire(
            session, holder, license=license, seats=seats, ttl=ttl, on_close=on_close, version=version
        )
        return self.carry_out(grant, session)

    def confirm(self, session: Session, id: str) -> Lease:
        lease = self.ledger.find(id, self.now)
        grant = self.ledger.decide_confirm(lease, session, self.now, by_holder=False)
        return self.carry_out(grant, session)

    def confirm_holder(self, session: Session, holder: str, *, license: str = TILLS) -> Lease:
        lease = self.ledger.find_holder(license, session.uid, holder, self.now)
        grant = self.ledger.decide_confirm(lease, session, self.now, by_holder=True)
        return self.carry_out(grant, session)

    def release(self, session: Session, id: str, reason: str | None = None, *, admin: bool = False) -> None:
        lease = self.ledger.find(id, self.now)
        event = self.ledger.decide_release(lease, session, reason, admin=admin)
        if lease.live:
            self.record(event)
        else:
            self.ledger.forget(lease)

    def goodbye(self, session: Session) -> None:
        session.open = False
        for event in self.ledger.decide_goodbye(session):
            self.record(event)

    def expire(self, most: int = 1000) -> None:
        for event in self.ledger.decide_expire(self.now, most):
            self.record(event, sync=False)


def recorded(ledger: Ledger) -> object:
    """All that the journal is to bring back, in a form that compares."""
    leases = sorted((lease.as_event() for lease in ledger.leases.values()), key=lambda event: event.rank)
    known = (ledger.accepted, ledger.recognized, ledger.renewing)
    return leases, [dict(sorted(each.items())) for each in known], list(ledger.usage.events())


NOTHING = recorded(Ledger())


def replayed(events: list[Event]) -> Ledger:
    ledger = Ledger()
    for event in events:
        ledger.apply(event)
    ledger.restart(same_boot=True)
    return ledger


class Shop:
    """A desk with a journal on a real folder, as a start of the daemon opens it."""

    def __init__(self, folder: Path, *, size: int = MIN_BYTES, boot: str = "boot-1", tills: int | None = None) -> None:
        self.found = replay(folder)
        ledger = Ledger()
        for event in self.found.events:
            ledger.apply(event)
        ledger.restart(same_boot=ledger.boot_id in (None, boot))
        self.stamp = 0.0 if self.found.clock is None else self.found.clock[0]
        self.journal = Journal(folder, size, ledger, self._clock(), boot, keep_aside=self.found.problem is not None)
        self.ledger = ledger
        self.desk = Desk(ledger, tills=tills)
        self.desk.on_record = lambda event, sync: self.journal.stage(event, sync=sync)
        self.session = client()

    def acquire(self, holder: str, seats: int = 1, **more: Any) -> Lease:
        self.journal.reserve(RECORD_BYTES)
        return self.desk.acquire(self.session, holder, seats=seats, **more)

    def release(self, id: str) -> None:
        self.desk.release(self.session, id)

    def commit(self, *, mark: bool = False) -> None:
        self.stamp += 1
        self.journal.commit(self._clock(), mark=mark)

    def tend(self) -> None:
        while self.journal.tend():
            pass

    def _clock(self) -> Clock:
        return Clock(self.stamp, 0.0, 0.0, 0.0, self.stamp)


def on_record(folder: Path) -> object:
    """What a second reader finds in the folder now."""
    return recorded(replayed(list(replay(folder).events)))


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def generation(folder: Path) -> bytes:
    return (folder / "journal").read_bytes()[4:12]
