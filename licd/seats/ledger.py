"""The ledger of seats: who holds what, and every decision about it. Pure: time, new ids and who asks are arguments.

Every change is first decided, then applied. A decide_* method refuses by name or returns what will happen and changes
nothing. apply() changes recorded state and cannot refuse: it never looks at capacity, owners or time, so that replay
is `for event in journal: ledger.apply(event)`. hold() changes what is not recorded: the deadline, and which connection
used the lease last. A restart makes both anew (promise_all()).

Deadlines are seconds on CLOCK_BOOTTIME. A lease lives until an Expired event is applied, not until its deadline:
whoever is heard before that is in time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

from licd.rpc.errors import HOLDER_IN_USE, LEASE_UNKNOWN, NOT_OWNER, SEATS_WITHDRAWN, Refused
from licd.seats.deadlines import Deadlines
from licd.seats.events import (
    RELEASE,
    Accepted,
    Acquired,
    Event,
    Expired,
    Recognized,
    Released,
    Renewing,
    Started,
    Stopped,
    Used,
)
from licd.seats.pool import Lease, Pool, Session, Total
from licd.seats.usage import Usage

AFTER_REBOOT_TTL_S = 120  # no holder survived the reboot; whoever comes back asks within two minutes
MAX_REMEMBERED = 10_000  # expired leases that a late confirm may revive; the oldest is forgotten first


_tuple = tuple.__new__  # Acquired(...) goes through a function of Python, and takes twice as long

# What a seat.acquire asks for: license, holder, seats, ttl_s, on_close, version.
Wish = tuple[str, str, int, int, str, str | None]

# A decision in the holder's favor: the lease (None: a new one), what is to be recorded (None: it stands as it was), and
# the deadline that hold() will set. Plain tuples: those with names cost 0.2 us each, a thirtieth of a request.
Grant = tuple[Lease | None, Acquired | None, float]


class Ledger:
    """All leases and pools, and what else the journal remembers: files accepted, renewals, usage, device, boot."""

    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}  # in the order of rank
        self.pools: dict[str, Pool] = {}
        self.accepted: dict[str, Accepted] = {}  # by vendor: the highest seq
        self.recognized: dict[str, Recognized] = {}  # by vendor
        self.renewing: dict[str, Renewing] = {}  # by vendor
        self.usage = Usage()
        self.day: str | None = None  # the day that the peaks of the pools are of; None: none has begun yet
        self.boot_id: str | None = None
        self.clean_stop = False
        self._deadlines = Deadlines()
        self.next_rank = 0  # of the next new lease
        self._expired: OrderedDict[str, Lease] = OrderedDict()  # remembered for one more ttl
        self._expired_holders: dict[tuple[str, int, str], str] = {}

    # --- decide: refuse by name, or say what will happen -----------------------------------------------------

    def decide_acquire(self, wish: Wish, session: Session, new_id: str, since: int, now: float) -> Grant:
        """The lease of this (license, uid, holder): the same one refreshed, or a new one.

        Whether the license is valid and covers the version is judged before (terms.Verdict).
        Errors: HOLDER_IN_USE, TOO_MANY_SEATS, NO_SEAT_FREE, SEATS_WITHDRAWN
        Source: licd-rpc(7) seat.acquire
        """
        license, holder, seats, ttl_s, on_close, version = wish
        pool = self.pools.get(license) or Pool(license)
        uid = session.uid
        lease = pool.leases.get((uid, holder))
        deadline = now + ttl_s
        if lease is None:
            pool.check_room(version, seats, None)
            event = _tuple(Acquired, (
                new_id, license, uid, holder, seats, ttl_s,
                on_close, version, self.next_rank, since, session.pid, session.unit,
            ))  # fmt: skip
            return None, event, deadline
        _check_not_in_use(lease, session)
        moves = not pool.same_lines(version, lease.version)  # seats of other lines are as good as new ones
        if pool.over_capacity and pool.in_surplus(lease, seats):
            if seats >= lease.seats or moves:
                raise Refused(SEATS_WITHDRAWN, license=pool.license, total=pool.granted(lease.version))
            deadline = lease.deadline  # shrinking always works, but seats still in surplus are not prolonged
        elif seats > lease.seats or moves:
            pool.check_room(version, seats, lease)
        if (seats, ttl_s, on_close, version) == (lease.seats, lease.ttl_s, lease.on_close, lease.version):
            return lease, None, deadline
        event = lease.as_event()._replace(
            seats=seats, ttl_s=ttl_s, on_close=on_close, version=version, pid=session.pid, unit=session.unit
        )
        return lease, event, deadline

    def decide_confirm(self, lease: Lease, session: Session, now: float, *, by_holder: bool) -> Grant:
        """One more ttl for the lease. An expired one is revived under its old id: an acquire, with an event.

        Errors: NOT_OWNER, HOLDER_IN_USE, SEATS_WITHDRAWN; for an expired one also NO_SEAT_FREE, TOO_MANY_SEATS
        Source: licd-rpc(7) seat.confirm
        """
        if lease.uid != session.uid:
            raise Refused(NOT_OWNER)
        if not lease.live:
            self.pool(lease.license).check_room(lease.version, lease.seats, None)
            event = lease.as_event()._replace(rank=self.next_rank, pid=session.pid, unit=session.unit)
            return None, event, now + lease.ttl_s
        if by_holder and lease.session is not session:
            _check_not_in_use(lease, session)
        pool = self.pools[lease.license]
        if pool.over_capacity and pool.in_surplus(lease, lease.seats):
            raise Refused(SEATS_WITHDRAWN, license=pool.license, total=pool.granted(lease.version))
        return lease, None, now + lease.ttl_s

    def decide_release(self, lease: Lease, session: Session, reason: str | None, *, admin: bool) -> Released:
        """Errors: NOT_OWNER"""
        if lease.uid == session.uid:
            return Released(lease.id, reason)
        if not admin:
            raise Refused(NOT_OWNER)
        return Released(lease.id, reason or "released by an administrator")

    def decide_goodbye(self, session: Session) -> list[Released]:
        """The end of the on_close="release" leases that were last used from this connection."""
        return [Released(lease, "its connection ended") for lease in sorted(session.bound)]

    def decide_expire(self, now: float, most: int) -> list[Expired]:
        """The leases whose deadline has passed, at most `most` of them a call. Each is named once: to be applied."""
        return [Expired(lease.id) for lease in self._deadlines.pop(now, most)]

    def decide_used(self) -> Used | None:
        """The peaks of the day that usage does not know yet; None if there is nothing new."""
        if self.day is None:
            return None
        peaks = self.usage.news(self.day, {pool.license: pool.peak for pool in self.pools.values()})
        return Used(self.day, peaks) if peaks else None

    # --- find ------------------------------------------------------------------------------------------------

    def pool(self, license: str) -> Pool:
        pool = self.pools.get(license)
        return Pool(license) if pool is None else pool

    def find(self, id: str, now: float) -> Lease:
        """The live lease of this id, or the expired one that a confirm could revive.

        Errors: LEASE_UNKNOWN
        """
        lease = self.leases.get(id) or self._remembered(id, now)
        if lease is None:
            raise Refused(LEASE_UNKNOWN)
        return lease

    def find_holder(self, license: str, uid: int, holder: str, now: float) -> Lease:
        """The same by (license, uid, holder). Errors: LEASE_UNKNOWN"""
        pool = self.pools.get(license)
        lease = None if pool is None else pool.leases.get((uid, holder))
        if lease is None:
            lease = self._remembered(self._expired_holders.get((license, uid, holder)), now)
        if lease is None:
            raise Refused(LEASE_UNKNOWN)
        return lease

    def next_deadline(self) -> float:
        """When decide_expire() may next have something to do; infinity if there is no lease."""
        return self._deadlines.first()

    def nothing_due_before(self) -> float:
        """Not later than next_deadline(), and at no cost."""
        return self._deadlines.not_before()

    # --- apply: recorded state -------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """The event is true from now on. It cannot be refused; applying it again changes nothing."""
        self.clean_stop = False
        if type(event) is Acquired:
            self._upsert(event)
        elif type(event) is Released:
            self._remove(event.lease)
        elif isinstance(event, Expired):
            lease = self._remove(event.lease)
            if lease is not None:
                self._remember(lease)
        elif isinstance(event, Accepted):
            if event.vendor not in self.accepted or self.accepted[event.vendor].seq <= event.seq:
                self.accepted[event.vendor] = event
        elif isinstance(event, Recognized):
            self.recognized[event.vendor] = event
        elif isinstance(event, Used):
            self.usage.put(event.day, event.peaks)
        elif isinstance(event, Renewing):
            self.renewing[event.vendor] = event
        elif isinstance(event, Started):
            self.boot_id = event.boot_id
        elif isinstance(event, Stopped):
            self.clean_stop = True

    def _upsert(self, event: Acquired) -> None:
        pool = self.pools.get(event.license)
        if pool is None:
            pool = self.pools[event.license] = Pool(event.license)
        lease = self.leases.get(event.lease)
        if lease is None:
            lease = Lease(event)
            holder = (lease.uid, lease.holder)
            if holder in pool.leases:  # its end was in a frame that was lost
                self._remove(pool.leases[holder].id)
            if self._expired_holders:
                self._forget(lease.license, *holder)
            self.leases[lease.id] = pool.leases[holder] = lease
        else:
            pool.held -= lease.seats
            lease.set_terms(event)
        pool.held += lease.seats
        if pool.held > pool.peak:  # noqa: PLR1730  # max() would take 0.1 us of an acquire's 9
            pool.peak = pool.held
        if lease.rank >= self.next_rank:
            self.next_rank = lease.rank + 1

    def _remove(self, id: str) -> Lease | None:
        lease = self.leases.pop(id, None)
        if lease is None:
            return None
        lease.live = False
        self._deadlines.remove(lease)
        if lease.session is not None:
            if lease.session.bound:
                lease.session.bound.discard(id)
            lease.session = None
        pool = self.pools[lease.license]
        del pool.leases[lease.uid, lease.holder]
        pool.held -= lease.seats
        return lease

    # --- hold: what is not recorded --------------------------------------------------------------------------

    def begin_day(self, day: str) -> None:
        """Peaks are those of this day from now on: they begin with what is held."""
        self.day = day
        for pool in self.pools.values():
            pool.peak = pool.held

    def hold(self, lease: Lease, session: Session, deadline: float, now: float) -> None:
        """The lease is promised until the deadline, and this connection used it last."""
        if lease.session is not session:
            if lease.session is not None:
                lease.session.bound.discard(lease.id)
            lease.session = session
        session.lease = lease
        if lease.on_close == RELEASE:
            session.bound.add(lease.id)
        elif session.bound:
            session.bound.discard(lease.id)
        lease.confirmed = now
        lease.deadline = deadline
        if deadline < lease.due:
            self._deadlines.put(lease)

    def set_pools(self, totals: Mapping[str, Total]) -> None:
        """The pools have these totals from now on; a name that is missing has no seats."""
        for license, (total, grants) in totals.items():
            if license not in self.pools:
                self.pools[license] = Pool(license)
            self.pools[license].set_total(total, grants)
        for license in self.pools.keys() - totals.keys():
            self.pools[license].set_total(0, ())

    def extend_all(self, now: float) -> None:
        """Every lease gets its full ttl: after a stall or a suspend holders slept too."""
        for lease in self.leases.values():
            lease.deadline = max(lease.deadline, now + lease.ttl_s)

    def prolong_all(self, seconds: float) -> None:
        """Of every lease this time does not count: holders waited for answers, and could not confirm meanwhile."""
        for lease in self.leases.values():
            lease.deadline += seconds

    def restart(self, *, same_boot: bool) -> None:
        """After replay: ranks in order; after a reboot no holder is alive, and release leases are gone."""
        self._expired.clear()
        self._expired_holders.clear()
        if not same_boot:
            for lease in [lease for lease in self.leases.values() if lease.on_close == RELEASE]:
                self._remove(lease.id)
        leases = sorted(self.leases.values(), key=attrgetter("rank"))
        self.leases = {lease.id: lease for lease in leases}
        for pool in self.pools.values():
            pool.leases = {}
        for lease in leases:
            self.pools[lease.license].leases[lease.uid, lease.holder] = lease

    def promise_all(self, now: float, *, same_boot: bool) -> None:
        """Every lease has a deadline from now on: its full ttl, after a reboot at most 120 s."""
        for lease in self.leases.values():
            lease.confirmed = now
            lease.deadline = now + (lease.ttl_s if same_boot else min(lease.ttl_s, AFTER_REBOOT_TTL_S))
        self._deadlines = Deadlines(self.leases.values())

    def snapshot(self, ids: Iterable[str]) -> Iterator[Acquired]:
        """The leases among these ids that still live, as the events that make them."""
        for id in ids:
            lease = self.leases.get(id)
            if lease is not None:
                yield lease.as_event()

    # --- the expired, remembered for one more ttl ------------------------------------------------------------

    def _remember(self, lease: Lease) -> None:
        self._expired[lease.id] = lease
        self._expired_holders[lease.license, lease.uid, lease.holder] = lease.id
        if len(self._expired) > MAX_REMEMBERED:
            oldest = next(iter(self._expired.values()))
            self.forget(oldest)

    def _remembered(self, id: str | None, now: float) -> Lease | None:
        lease = self._expired.get(id) if id is not None else None
        if lease is not None and now > lease.deadline + lease.ttl_s:
            self.forget(lease)
            return None
        return lease

    def forget(self, lease: Lease) -> None:
        """An expired lease cannot be revived any more."""
        self._forget(lease.license, lease.uid, lease.holder)

    def _forget(self, license: str, uid: int, holder: str) -> None:
        id = self._expired_holders.pop((license, uid, holder), None)
        if id is not None:
            del self._expired[id]


def _check_not_in_use(lease: Lease, session: Session) -> None:
    # Ten programs under one uid cannot share one seat by choosing one name.
    user = lease.session
    if user is not None and user.open and user.pid != session.pid:
        raise Refused(HOLDER_IN_USE, license=lease.license, holder=lease.holder, pid=user.pid)
