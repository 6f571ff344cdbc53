"""One license's seats: its leases in order of rank, and whether there is room for one more. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise, takewhile
from typing import Protocol

from licd.rpc.errors import NO_SEAT_FREE, TOO_MANY_SEATS, Refused
from licd.seats.events import Acquired


class Covers(Protocol):
    """A set of software versions (license.versions.Versions)."""

    def covers(self, version: str | None) -> bool: ...


# The lines that count now: (the versions one covers, its seats); None covers every version.
Lines = tuple[tuple[Covers | None, int], ...]
# A pool's seats altogether (None: uncounted), and the lines they come from.
Total = tuple[int | None, Lines]


class Session:
    """One connection, as the seats see it: who is on it, and which leases end with it."""

    __slots__ = ("bound", "lease", "open", "pid", "uid", "unit")

    def __init__(self, uid: int, pid: int) -> None:
        self.uid = uid
        self.pid = pid
        self.unit: str | None = None  # None: not asked for yet; "": in none
        self.open = True
        self.lease: Lease | None = None  # the one last acquired or confirmed from here, alive or not
        self.bound: set[str] = set()  # ids of the on_close="release" leases last used from here


class Lease:
    """Seats of one pool promised to one holder. The first group of fields is recorded, the second is not."""

    # Slots, and no dict: ten thousand leases are to cost less than 1 KiB each.
    __slots__ = (
        *("id", "license", "uid", "holder", "seats", "ttl_s", "on_close", "version", "rank", "since", "pid", "unit"),
        *("confirmed", "deadline", "due", "live", "session"),
    )

    def __init__(self, event: Acquired) -> None:
        (
            self.id, self.license, self.uid, self.holder, self.seats, self.ttl_s,
            self.on_close, self.version, self.rank, self.since, self.pid, self.unit,
        ) = event  # fmt: skip
        self.deadline = 0.0
        self.due = float("inf")  # when Deadlines looks at it
        self.confirmed = 0.0
        self.live = True
        self.session: Session | None = None

    def set_terms(self, event: Acquired) -> None:
        (
            self.id, self.license, self.uid, self.holder, self.seats, self.ttl_s,
            self.on_close, self.version, self.rank, self.since, self.pid, self.unit,
        ) = event  # fmt: skip

    def as_event(self) -> Acquired:
        return Acquired(
            self.id, self.license, self.uid, self.holder, self.seats, self.ttl_s,
            self.on_close, self.version, self.rank, self.since, self.pid, self.unit,
        )  # fmt: skip


class Pool:
    """All seats of one license name."""

    __slots__ = ("_classes", "_mixed", "_tight", "held", "leases", "license", "lines", "peak", "total")

    def __init__(self, license: str) -> None:
        self.license = license
        self.total: int | None = 0  # None: uncounted
        self.lines: Lines = ()
        self.held = 0
        self.peak = 0  # the most held at once on the ledger's day
        self.leases: dict[tuple[int, str], Lease] = {}  # by (uid, holder), in the order of rank
        self._classes: dict[str | None, frozenset[int]] = {}
        self._mixed = False  # the lines cover different versions
        self._tight = False  # since they did, the leases of some versions may not fit

    def set_total(self, total: int | None, lines: Lines) -> None:
        self.total = total
        self.lines = lines
        self._classes = {}
        # Also where one line is uncounted: it says nothing of versions that only a counted one covers.
        self._mixed = self._tight = len({versions for versions, _ in lines}) > 1

    @property
    def over_capacity(self) -> bool:
        """More seats are held than there are, of all versions or of some."""
        if self.total is not None and self.held > self.total:
            return True
        if self._tight:  # until all fit once: no acquire changes that again
            self._tight = not self._place(self.leases.values())[0]
        return self._tight

    def check_room(self, version: str | None, seats: int, lease: Lease | None) -> None:
        """Nothing, if the lease (None: a new one) can have `seats` seats for this version.

        Errors: TOO_MANY_SEATS, NO_SEAT_FREE
        """
        if self.total is not None:
            if seats > self.total:
                raise Refused(TOO_MANY_SEATS, license=self.license, seats=seats, total=self.total)
            if self.held - (lease.seats if lease else 0) + seats > self.total:
                raise Refused(NO_SEAT_FREE, license=self.license, used=self.held, total=self.total)
        if self._mixed:
            found = self._room((other for other in self.leases.values() if other is not lease), version, seats)
            if found < seats:
                total = self._granted(version)
                raise Refused(NO_SEAT_FREE, license=self.license, used=total - found, total=total)

    def _room(self, others: Iterable[Lease], version: str | None, seats: int) -> int:
        """How many of the seats wanted for this version there are beside the other leases, where versions differ."""
        _, free, given = self._place(others)
        return _give(self._class(version), seats, free, given)

    def _place(self, leases: Iterable[Lease]) -> tuple[bool, list[int], Given]:
        """Whether each seat of these leases has a seat of a line that covers it; what is left free; who has what."""
        # Ten seats of 4.* must not become seats of 5.*. Leases fall into classes by the set of lines that cover them.
        # O(leases), but only where versions differ.
        demand: dict[frozenset[int], int] = {}
        for lease in leases:
            lines = self._class(lease.version)
            demand[lines] = demand.get(lines, 0) + lease.seats
        free = [granted for _, granted in self.lines]
        given: Given = {}
        fit = [_give(lines, count, free, given) == count for lines, count in demand.items()]
        return all(fit), free, given

    def granted(self, version: str | None) -> int | None:
        """The seats there are for this version; None: without limit."""
        return self._granted(version) if self._mixed else self.total

    def _granted(self, version: str | None) -> int:
        return sum(self.lines[n][1] for n in self._class(version))

    def same_lines(self, version: str | None, other: str | None) -> bool:
        """Whether the same lines cover both versions, so that a seat of one is as good as a seat of the other."""
        return version == other or self._class(version) == self._class(other)

    def _class(self, version: str | None) -> frozenset[int]:
        lines = self._classes.get(version)
        if lines is None:
            lines = frozenset(
                n for n, (versions, _) in enumerate(self.lines) if versions is None or versions.covers(version)
            )
            if len(self._classes) < 1000:  # versions are the client's words
                self._classes[version] = lines
        return lines

    def in_surplus(self, lease: Lease, seats: int) -> bool:
        """Whether `seats` of this lease and those of all older leases exceed the pool.

        O(leases), but asked only over capacity.
        """
        older = list(takewhile(lambda other: other is not lease, self.leases.values()))
        if self.total is not None and sum(other.seats for other in older) + seats > self.total:
            return True
        return self._mixed and self._room(older, lease.version, seats) < seats


# How many seats of each line the leases of a class have: class -> line -> seats.
Given = dict[frozenset[int], dict[int, int]]


def _give(own: frozenset[int], wanted: int, free: list[int], given: Given) -> int:
    """How many of the seats wanted there are for leases of class `own`; `free` and `given` are then without them.

    Where the lines of this class have none left, leases of other classes move to another of their lines, if that makes
    room: a maximum flow by shortest augmenting paths (Edmonds and Karp), which is exact for any sets of versions.
    """
    found = 0
    while found < wanted:
        came: dict[frozenset[int], tuple[frozenset[int], int] | None] = {own: None}
        queue = [own]
        for lines in queue:
            line = next((n for n in lines if free[n]), None)
            if line is not None:
                break
            for other, theirs in given.items():
                taken = None if other in came else next((n for n in lines if theirs.get(n)), None)
                if taken is not None:
                    came[other] = (lines, taken)
                    queue.append(other)
        else:
            return found
        path = [(lines, line)]  # each class takes this line; all but the last give up the line before theirs
        while (before := came[path[-1][0]]) is not None:
            path.append(before)
        count = min([wanted - found, free[line], *(given[lines][n] for (lines, _), (_, n) in pairwise(path))])
        free[line] -= count
        for (lines, _), (_, n) in pairwise(path):
            given[lines][n] -= count
        for lines, n in path:
            theirs = given.setdefault(lines, {})
            theirs[n] = theirs.get(n, 0) + count
        found += count
    return found
