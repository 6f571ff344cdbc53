"""licd.seats.deadlines: which leases are due, beside a plain list of them."""

from __future__ import annotations

import time

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from licd.seats.deadlines import MOVES_AT_ONCE, NEVER, WINDOWS, Deadlines
from licd.seats.events import KEEP, Acquired
from licd.seats.pool import Lease

WINDOW_S = 1 / WINDOWS


def a_lease(number: int, deadline: float) -> Lease:
    lease = Lease(Acquired(f"{number:024}", "kso.till", 0, f"till-{number}", 1, 60, KEEP, None, number, 0, 1, None))
    lease.deadline = deadline
    return lease


class Beside(RuleBasedStateMachine):
    """The same leases in Deadlines and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines()
        self.leases: list[Lease] = []
        self.number = 0
        self.now = 0.0

    @rule(seconds=st.floats(0, 100))
    def put(self, seconds: float) -> None:
        self.number += 1
        lease = a_lease(self.number, self.now + seconds)
        self.leases.append(lease)
        self.deadlines.put(lease)

    @rule(at=st.integers(0, 99), seconds=st.floats(0, 100))
    def change(self, at: int, seconds: float) -> None:
        """Later, as by a confirm, or earlier, as by an acquire with a shorter ttl."""
        if self.leases:
            lease = self.leases[at % len(self.leases)]
            lease.deadline = self.now + seconds
            if lease.deadline < lease.due:
                self.deadlines.put(lease)

    @rule(at=st.integers(0, 99))
    def remove(self, at: int) -> None:
        if self.leases:
            self.deadlines.remove(self.leases.pop(at % len(self.leases)))

    @rule(seconds=st.floats(0, 30), most=st.integers(1, 5))
    def pop(self, seconds: float, most: int) -> None:
        self.now += seconds
        late = [lease for lease in self.leases if lease.deadline <= self.now - WINDOW_S]
        found = self.deadlines.pop(self.now, most)
        assert len(found) <= most
        assert all(lease.deadline <= self.now and lease.due == NEVER for lease in found)
        assert len(found) >= min(most, len(late))
        self.leases = [lease for lease in self.leases if lease not in found]

    @invariant()
    def nobody_is_forgotten(self) -> None:
        first = min((lease.deadline for lease in self.leases), default=NEVER)
        assert self.deadlines.not_before() <= self.deadlines.first()
        if first == NEVER:
            assert self.deadlines.first() == NEVER
        else:
            assert first <= self.deadlines.first() <= first + WINDOW_S


TestBeside = Beside.TestCase
TestBeside.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_deadline_on_the_second_is_met_on_the_second() -> None:
    deadlines = Deadlines([a_lease(1, 60.0)])
    assert deadlines.first() == 60.0
    assert deadlines.pop(59.99, 10) == []
    assert [lease.id for lease in deadlines.pop(60.0, 10)] == [f"{1:024}"]


def test_a_hundred_thousand_that_are_released_leave_nothing_and_hold_nobody_up() -> None:
    """An hour's ttl, acquired and released at once."""
    deadlines = Deadlines(a_lease(n, 3600.0) for n in range(1000))
    longest = 0.0
    for n in range(100_000):
        lease = a_lease(1000 + n, 3600 + n / 10_000)
        began = time.thread_time()
        deadlines.put(lease)
        deadlines.remove(lease)
        longest = max(longest, time.thread_time() - began)
    assert len(deadlines._windows) <= 10 * WINDOWS + 2
    assert sum(map(len, deadlines._windows.values())) == 1000
    assert longest < 0.02


def test_very_many_that_were_confirmed_move_on_a_thousand_at_a_time() -> None:
    leases = [a_lease(n, 60.0) for n in range(4 * MOVES_AT_ONCE)]
    deadlines = Deadlines(leases)
    for lease in leases:
        lease.deadline = 90.0
    assert deadlines.first() == 60.0  # it says so too early, rather than to move all
    assert deadlines.pop(60.0, 10) == []
    assert deadlines.first() == 60.0
    assert deadlines.first() == 90.0
