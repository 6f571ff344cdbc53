"""Whole stories of a ledger against a naive model of the rules of seats: a list of leases, no heap, no events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from licd.rpc.errors import Refused
from licd.seats.events import KEEP, RELEASE, Accepted, Event
from licd.seats.ledger import Ledger
from licd.seats.pool import Session
from tests.support.desk import TILLS, Desk, recorded, replayed

T = TypeVar("T")

SCALES, UNCOUNTED = "kso.scales", "kso.display"
LICENSES = st.sampled_from((TILLS, TILLS, SCALES, UNCOUNTED))
HOLDERS = st.sampled_from(("till-1", "till-2", "till-3"))
PROCESSES = ((1000, 10), (1000, 11), (1001, 20))  # uid, pid
BOOT = 5.0


@dataclass
class Kept:
    """A lease, as a person would note it."""

    id: str
    license: str
    uid: int
    holder: str
    seats: int
    ttl: int
    on_close: str
    version: str | None
    deadline: float
    user: Session | None


class Model:
    """The rules of seats, word by word. A refusal is returned as its name."""

    def __init__(self) -> None:
        self.leases: list[Kept] = []  # in the order of their first acquire
        self.expired: list[Kept] = []
        self.totals: dict[str, int | None] = {}

    def of(self, license: str) -> list[Kept]:
        return [lease for lease in self.leases if lease.license == license]

    def held(self, license: str) -> int:
        return sum(lease.seats for lease in self.of(license))

    def holder(self, license: str, uid: int, holder: str, leases: list[Kept]) -> Kept | None:
        found = [each for each in leases if (each.license, each.uid, each.holder) == (license, uid, holder)]
        assert len(found) <= 1
        return found[0] if found else None

    def no_room(self, license: str, more: int, seats: int) -> str | None:
        total = self.totals[license]
        if total is None:
            return None
        if seats > total:
            return "TOO_MANY_SEATS"
        return "NO_SEAT_FREE" if self.held(license) + more > total else None

    def withdrawn(self, lease: Kept, seats: int) -> bool:
        """Whether the seats of this lease and all older ones exceed a pool that is over capacity."""
        total = self.totals[lease.license]
        if total is None or self.held(lease.license) <= total:
            return False
        pool = self.of(lease.license)
        return sum(older.seats for older in pool[: pool.index(lease)]) + seats > total

    def in_use(self, lease: Kept, session: Session) -> bool:
        return lease.user is not None and lease.user.open and lease.user.pid != session.pid

    def acquire(self, wish: Kept, session: Session, now: float) -> str | Kept:
        mine = self.holder(wish.license, wish.uid, wish.holder, self.leases)
        if mine is None:
            refusal = self.no_room(wish.license, wish.seats, wish.seats)
            if refusal is not None:
                return refusal
            self.leases.append(wish)
            self.expired = [each for each in self.expired if each is not self.holder_of(wish)]
            return wish
        if self.in_use(mine, session):
            return "HOLDER_IN_USE"
        deadline = now + wish.ttl
        if self.withdrawn(mine, wish.seats):
            if wish.seats >= mine.seats:
                return "SEATS_WITHDRAWN"
            deadline = mine.deadline
        elif wish.seats > mine.seats:
            refusal = self.no_room(wish.license, wish.seats - mine.seats, wish.seats)
            if refusal is not None:
                return refusal
        mine.seats, mine.ttl, mine.on_close, mine.version = wish.seats, wish.ttl, wish.on_close, wish.version
        mine.deadline, mine.user = deadline, session
        return mine

    def holder_of(self, wish: Kept) -> Kept | None:
        return self.holder(wish.license, wish.uid, wish.holder, self.expired)

    def confirm(self, lease: Kept | None, session: Session, now: float, *, by_holder: bool) -> str | Kept:
        if lease is None or (lease in self.expired and now > lease.deadline + lease.ttl):
            return "LEASE_UNKNOWN"
        if lease.uid != session.uid:
            return "NOT_OWNER"
        if lease in self.expired:
            refusal = self.no_room(lease.license, lease.seats, lease.seats)
            if refusal is not None:
                return refusal
            self.expired.remove(lease)
            self.leases.append(lease)
        elif by_holder and self.in_use(lease, session):
            return "HOLDER_IN_USE"
        elif self.withdrawn(lease, lease.seats):
            return "SEATS_WITHDRAWN"
        lease.deadline, lease.user = now + lease.ttl, session
        return lease

    def release(self, lease: Kept | None, session: Session, now: float) -> str | None:
        if lease is None or (lease in self.expired and now > lease.deadline + lease.ttl):
            return "LEASE_UNKNOWN"
        if lease.uid != session.uid:
            return "NOT_OWNER"
        (self.expired if lease in self.expired else self.leases).remove(lease)
        return None

    def goodbye(self, session: Session) -> None:
        self.leases = [each for each in self.leases if each.on_close != RELEASE or each.user is not session]

    def expire(self, now: float) -> None:
        for lease in [lease for lease in self.leases if lease.deadline <= now]:
            self.leases.remove(lease)
            lease.user = None
            self.expired.append(lease)

    def restart(self, now: float, *, same_boot: bool) -> None:
        self.expired = []
        if not same_boot:
            self.leases = [lease for lease in self.leases if lease.on_close == KEEP]
        for lease in self.leases:
            lease.user = None
            lease.deadline = now + (lease.ttl if same_boot else min(lease.ttl, 120))


def everything(ledger: Ledger) -> object:
    """All that a decision could have changed."""
    leases = [(lease.as_event(), lease.deadline, lease.confirmed, lease.live, lease.session) for lease in
              ledger.leases.values()]  # fmt: skip
    bound = [(lease.id, sorted(lease.session.bound)) for lease in ledger.leases.values() if lease.session]
    pools = [(pool.license, pool.total, pool.held, [lease.id for lease in pool.leases.values()])
             for pool in ledger.pools.values()]  # fmt: skip
    return leases, bound, pools, list(ledger._expired), ledger.next_deadline(), recorded(ledger)


def outcome(ask: Callable[[], T]) -> T | str:
    """What is answered, or the name of the refusal."""
    try:
        return ask()
    except Refused as refused:
        return refused.error.name


class Stories(RuleBasedStateMachine):
    ids = Bundle("ids")

    @initialize()
    def begin(self) -> None:
        self.desk = Desk(tills=3)
        self.model = Model()
        for license, total in ((TILLS, 3), (SCALES, 2), (UNCOUNTED, None)):
            self.set_total(license, total)
        self.sessions = [Session(uid, pid) for uid, pid in PROCESSES]

    def set_total(self, license: str, total: int | None) -> None:
        self.desk.set_total(total, license)
        self.model.totals[license] = total

    def kept(self, id: str) -> Kept | None:
        return next((lease for lease in self.model.leases + self.model.expired if lease.id == id), None)

    def undisturbed(self, decide: Callable[[], T]) -> T | str:
        """What is decided, or the name of the refusal. Deciding changed nothing."""
        before = everything(self.desk.ledger)
        decided = outcome(decide)
        assert everything(self.desk.ledger) == before
        return decided

    # --- what happens ------------------------------------------------------------------------------------------

    @rule(
        target=ids, process=st.integers(0, 2), license=LICENSES, holder=HOLDERS, seats=st.integers(1, 4),
        ttl=st.sampled_from((10, 60, 300)), on_close=st.sampled_from((KEEP, RELEASE)),
        version=st.sampled_from((None, "5.0", "5.1")),
    )  # fmt: skip
    def acquire(
        self, *, process: int, license: str, holder: str, seats: int, ttl: int, on_close: str, version: str | None
    ) -> str:
        session, desk = self.sessions[process], self.desk
        grant = self.undisturbed(
            lambda: desk.decide_acquire(
                session, holder, license=license, seats=seats, ttl=ttl, on_close=on_close, version=version
            )
        )
        wish = Kept(
            f"lease-{len(self.model.leases)}", license, session.uid, holder, seats, ttl, on_close, version,
            desk.now + ttl, session,
        )  # fmt: skip
        before = self.model.held(license)
        lease = self.model.acquire(wish, session, desk.now)
        if isinstance(grant, str) or isinstance(lease, str):
            assert grant == lease
            return "none"
        granted = desk.carry_out(grant, session)
        if lease is wish:
            lease.id = granted.id
        assert granted.id == lease.id
        total = self.model.totals[license]
        assert total is None or self.model.held(license) <= max(total, before)
        return lease.id

    @rule(process=st.integers(0, 2), id=ids)
    def confirm(self, process: int, id: str) -> None:
        session, now = self.sessions[process], self.desk.now
        lease = self.kept(id)
        live = lease in self.model.leases
        found = outcome(lambda: self.desk.ledger.find(id, now))
        expected = self.model.confirm(lease, session, now, by_holder=False)
        if isinstance(found, str):
            assert found == expected
            return
        grant = self.undisturbed(lambda: self.desk.ledger.decide_confirm(found, session, now, by_holder=False))
        if isinstance(grant, str) or isinstance(expected, str):
            assert grant == expected
            return
        _, event, _ = grant
        assert live == (event is None)
        assert self.desk.carry_out(grant, session).id == expected.id

    @rule(process=st.integers(0, 2), license=LICENSES, holder=HOLDERS)
    def confirm_holder(self, process: int, license: str, holder: str) -> None:
        session, desk = self.sessions[process], self.desk
        mine = self.model.holder(license, session.uid, holder, self.model.leases + self.model.expired)
        expected = self.model.confirm(mine, session, desk.now, by_holder=True)
        lease = outcome(lambda: desk.confirm_holder(session, holder, license=license))
        if isinstance(lease, str) or isinstance(expected, str):
            assert lease == expected
        else:
            assert lease.id == expected.id

    @rule(process=st.integers(0, 2), id=ids)
    def release(self, process: int, id: str) -> None:
        session, desk = self.sessions[process], self.desk
        expected = self.model.release(self.kept(id), session, desk.now)
        assert outcome(lambda: desk.release(session, id)) == expected

    @rule(process=st.integers(0, 2))
    def hang_up(self, process: int) -> None:
        session = self.sessions[process]
        self.undisturbed(lambda: self.desk.ledger.decide_goodbye(session))
        self.desk.goodbye(session)
        self.model.goodbye(session)
        self.sessions[process] = Session(session.uid, session.pid)

    @rule(seconds=st.sampled_from((1, 9, 10, 11, 59, 60, 61, 119, 300, 601)))
    def wait(self, seconds: int) -> None:
        self.desk.now += seconds
        self.desk.expire()
        self.model.expire(self.desk.now)

    @rule(license=st.sampled_from((TILLS, SCALES)), total=st.integers(0, 4))
    def renew(self, license: str, total: int) -> None:
        self.set_total(license, total)

    @rule(vendor=st.sampled_from("ab"), seq=st.integers(1, 9))
    def accept(self, vendor: str, seq: int) -> None:
        before = self.desk.ledger.accepted.get(vendor)
        self.desk.record(Accepted(vendor, seq, f"digest-{seq}"))
        assert self.desk.ledger.accepted[vendor].seq == max(seq, before.seq if before else 0)

    @rule()
    def stall(self) -> None:
        self.desk.ledger.extend_all(self.desk.now)
        for lease in self.model.leases:
            lease.deadline = max(lease.deadline, self.desk.now + lease.ttl)

    @rule(same_boot=st.booleans())
    def restart(self, same_boot: bool) -> None:
        ledger = Ledger()
        for event in self.desk.events:
            ledger.apply(event)
        ledger.restart(same_boot=same_boot)
        before, self.desk = self.desk, Desk(ledger)
        self.desk._ids = before._ids
        self.desk.now = before.now if same_boot else BOOT
        for license, total in self.model.totals.items():
            self.set_total(license, total)
        ledger.promise_all(self.desk.now, same_boot=same_boot)
        self.model.restart(self.desk.now, same_boot=same_boot)
        self.desk.events = [lease.as_event() for lease in ledger.leases.values()]
        self.desk.events += ledger.accepted.values()
        for n, session in enumerate(self.sessions):
            self.sessions[n] = Session(session.uid, session.pid)

    # --- what is always true -----------------------------------------------------------------------------------

    @invariant()
    def the_ledger_is_what_the_model_is(self) -> None:
        actual = [
            Kept(lease.id, lease.license, lease.uid, lease.holder, lease.seats, lease.ttl_s, lease.on_close,
                 lease.version, lease.deadline, lease.session)
            for lease in self.desk.ledger.leases.values()
        ]  # fmt: skip
        assert actual == self.model.leases

    @invariant()
    def the_seats_held_are_the_sum_over_the_leases(self) -> None:
        for license, total in self.model.totals.items():
            pool = self.desk.ledger.pools[license]
            assert pool.held == sum(lease.seats for lease in pool.leases.values()) == self.model.held(license)
            assert pool.over_capacity == (total is not None and self.model.held(license) > total)

    @invariant()
    def the_next_deadline_is_the_earliest(self) -> None:
        deadlines = [lease.deadline for lease in self.model.leases]
        assert self.desk.ledger.next_deadline() == min(deadlines, default=float("inf"))

    @invariant()
    def replaying_brings_back_what_is_recorded_also_if_every_event_comes_twice(self) -> None:
        events = self.desk.events
        assert recorded(replayed(events)) == recorded(self.desk.ledger)
        twice: list[Event] = [event for event in events for _ in range(2)]
        assert recorded(replayed(twice)) == recorded(self.desk.ledger)

    @invariant()
    def each_connection_is_bound_to_its_release_leases_and_to_no_others(self) -> None:
        for session in self.sessions:
            bound = {lease.id for lease in self.model.leases if lease.user is session and lease.on_close == RELEASE}
            assert session.bound == bound


Stories.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestStories = Stories.TestCase
