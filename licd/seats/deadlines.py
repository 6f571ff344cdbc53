"""Which leases are due next. Pure: leases lie in windows of an eighth of a second, by the end of the window in which
their deadline is.

Not a heap of leases: one that is released would leave its entry behind, and to clear away 200,000 of those took 150 ms
at once. A lease that is confirmed stays where it is until its window is looked at; then it moves on.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from math import ceil
from operator import attrgetter

from licd.seats.pool import Lease

WINDOWS = 8  # in a second; a lease outlives its deadline by no more than one
MOVES_AT_ONCE = 1000  # of confirmed leases, in one call: below 1 ms
NEVER = float("inf")


class Deadlines:
    """Units: seconds on the clock of Lease.deadline"""

    def __init__(self, leases: Iterable[Lease] = ()) -> None:
        self._windows: dict[float, dict[str, Lease]] = {}  # by their ends
        self._ends: list[float] = []  # a heap
        for lease in leases:
            lease.due = NEVER
            self.put(lease)

    def put(self, lease: Lease) -> None:
        """It is due by its deadline. Nothing needs to be done while that is not before lease.due."""
        end = ceil(lease.deadline * WINDOWS) / WINDOWS
        if lease.due != NEVER:
            if lease.due <= end:
                return
            self.remove(lease)
        window = self._windows.get(end)
        if window is None:
            window = self._windows[end] = {}
            heapq.heappush(self._ends, end)
        window[lease.id] = lease
        lease.due = end

    def remove(self, lease: Lease) -> None:
        """It is not due any more, if it was."""
        if lease.due != NEVER:
            del self._windows[lease.due][lease.id]
            lease.due = NEVER

    def first(self) -> float:
        """When the next one is due, or earlier if there is much to move first; infinity if there is none."""
        for _ in range(MOVES_AT_ONCE):
            window = self._first_window()
            if window is None:
                return NEVER
            lease = window[next(reversed(window))]
            if lease.deadline <= lease.due:
                break
            self._move(lease)
        return self.not_before()

    def not_before(self) -> float:
        """Not later than first(), and at no cost."""
        return self._ends[0] if self._ends else NEVER

    def pop(self, now: float, most: int) -> list[Lease]:
        """At most `most` of those that are due, in windows that have ended, by deadline. They are out of here."""
        found: list[Lease] = []
        for _ in range(most + MOVES_AT_ONCE):
            window = self._first_window()
            if window is None or self.not_before() > now or len(found) == most:
                break
            lease = window[next(reversed(window))]
            if lease.deadline > now:
                self._move(lease)
            else:
                self.remove(lease)
                found.append(lease)
        return sorted(found, key=attrgetter("deadline"))

    def _move(self, lease: Lease) -> None:
        self.remove(lease)
        self.put(lease)

    def _first_window(self) -> dict[str, Lease] | None:
        while self._ends:
            window = self._windows[self._ends[0]]
            if window:
                return window
            del self._windows[heapq.heappop(self._ends)]
        return None
