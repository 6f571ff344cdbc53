"""One license's seats: room for one more, by total and by version, and who is in the surplus."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from licd.license.versions import Versions
from licd.rpc.errors import NO_SEAT_FREE, TOO_MANY_SEATS, Refused
from licd.seats.events import KEEP, Acquired, Released
from licd.seats.ledger import Ledger
from licd.seats.pool import Covers, Lease, Pool

ANY = None
NAME = "kso.sales"


class Only:
    """The set of just these versions."""

    def __init__(self, *versions: str) -> None:
        self.versions = versions

    def covers(self, version: str | None) -> bool:
        return version in self.versions


def pool_of(*lines: tuple[Covers | None, int], held: list[tuple[str | None, int]]) -> tuple[Pool, list[Lease]]:
    """A pool of these lines, and leases of (version, seats) in it, oldest first, whatever there is room for."""
    ledger = Ledger()
    ledger.set_pools({NAME: (sum(seats for _, seats in lines), lines)})
    for rank, (version, seats) in enumerate(held):
        ledger.apply(
            Acquired(f"lease-{rank}", NAME, 1, f"till-{rank}", seats, 60, KEEP, version, rank, 1800000000, 1, None)
        )
    return ledger.pools[NAME], list(ledger.leases.values())


def refusal(pool: Pool, version: str | None, seats: int, lease: Lease | None = None) -> Refused | None:
    try:
        pool.check_room(version, seats, lease)
    except Refused as refused:
        return refused
    return None


def test_the_last_free_seat_is_given_and_one_more_is_refused_by_name() -> None:
    pool, _ = pool_of((ANY, 3), held=[(None, 2)])
    assert refusal(pool, None, 1) is None
    refused = refusal(pool, None, 2)
    assert refused is not None
    assert refused.error is NO_SEAT_FREE
    assert refused.data == {"license": NAME, "used": 2, "total": 3}


def test_more_seats_than_there_are_altogether_is_another_refusal_than_none_free() -> None:
    pool, _ = pool_of((ANY, 3), held=[])
    refused = refusal(pool, None, 4)
    assert refused is not None
    assert refused.error is TOO_MANY_SEATS
    assert refused.data == {"license": NAME, "seats": 4, "total": 3}


def test_a_lease_that_grows_needs_only_what_it_does_not_hold_yet() -> None:
    pool, (first, _) = pool_of((ANY, 3), held=[(None, 1), (None, 1)])
    assert refusal(pool, None, 2, first) is None
    refused = refusal(pool, None, 3, first)
    assert refused is not None
    assert refused.error is NO_SEAT_FREE


def test_an_uncounted_license_has_room_without_limit() -> None:
    pool, _ = pool_of((ANY, 1), held=[(None, 500)])
    pool.set_total(None, ())
    assert refusal(pool, "anything", 1_000_000) is None
    assert not pool.over_capacity


def test_a_name_without_lines_has_no_seats() -> None:
    refused = refusal(Pool(NAME), None, 1)
    assert refused is not None
    assert refused.error is TOO_MANY_SEATS


# --- versions --------------------------------------------------------------------------------------------------


def test_ten_seats_of_one_version_never_become_seats_of_another() -> None:
    pool, _ = pool_of((Versions.parse("4.*"), 10), (Versions.parse("5.*"), 1), held=[("5.0", 1)])
    refused = refusal(pool, "5.1", 1)
    assert refused is not None
    assert refused.error is NO_SEAT_FREE
    assert refused.data == {"license": NAME, "used": 1, "total": 1}
    assert refusal(pool, "4.7", 10) is None


def test_a_seat_for_any_version_is_used_once_whichever_versions_ask_for_it() -> None:
    """4.* and 5.* each have a seat of their own and both count on the third: only one of them gets it."""
    lines = ((ANY, 1), (Versions.parse("4.*"), 1), (Versions.parse("5.*"), 1), (Versions.parse("6.*"), 5))
    pool, _ = pool_of(*lines, held=[("4.0", 2), ("5.0", 1)])
    assert refusal(pool, "5.0", 1) is not None
    assert refusal(pool, "4.0", 1) is not None
    assert refusal(pool, "6.0", 5) is None


def test_a_seat_of_a_wide_line_moves_to_a_narrow_one_to_make_room() -> None:
    """Who came first may have been counted on the line for all versions; that must not cost the next one a seat."""
    pool, _ = pool_of((ANY, 1), (Versions.parse("5.*"), 1), held=[("5.0", 1)])
    assert refusal(pool, "4.0", 1) is None
    assert refusal(pool, "5.0", 1) is None


def test_a_lease_whose_line_ended_takes_no_seat_from_other_versions() -> None:
    pool, _ = pool_of((Versions.parse("4.*"), 2), (Versions.parse("5.*"), 4), held=[("3.1", 2), ("4.0", 2)])
    assert refusal(pool, "5.0", 2) is None
    assert refusal(pool, "4.0", 1) is not None


def test_a_holder_that_names_no_version_gets_seats_for_any_version_only() -> None:
    pool, _ = pool_of((ANY, 1), (Versions.parse("5.*"), 9), held=[])
    assert refusal(pool, None, 1) is None
    assert refusal(pool, None, 2) is not None


@pytest.mark.parametrize("version", ["nightly", "", "5..1", "\u0665"])
def test_a_version_that_is_none_gets_seats_for_any_version_only(version: str) -> None:
    pool, _ = pool_of((ANY, 1), (Versions.parse("5.*"), 9), held=[("yesterday's", 1)])
    assert refusal(pool, "5.0", 9) is None
    assert refusal(pool, version, 1) is not None


def test_new_lines_are_looked_at_anew() -> None:
    pool, _ = pool_of((Only("4"), 1), (Only("5"), 1), held=[("4", 1)])
    assert refusal(pool, "4", 1) is not None
    pool.set_total(3, ((Only("4"), 2), (Only("5"), 1)))
    assert refusal(pool, "4", 1) is None
    pool.set_total(3, ((Only("5"), 2), (Only("4"), 1)))
    assert refusal(pool, "4", 1) is not None


VERSIONS = ("1", "2", "3", "4")
LINES = st.lists(
    st.tuples(st.one_of(st.none(), st.frozensets(st.sampled_from(VERSIONS))), st.integers(0, 2)),
    min_size=2,
    max_size=4,
)
HELD = st.lists(st.tuples(st.sampled_from((*VERSIONS, None)), st.integers(1, 2)), max_size=4)


def most_seats(lines: list[tuple[Any, int]], seats: list[str | None]) -> int:
    """How many of these seats, each with its version, can be served at once: every way of serving them is tried."""

    @cache
    def best(n: int, left: tuple[int, ...]) -> int:
        if n == len(seats):
            return 0
        most = best(n + 1, left)
        for i, (versions, _) in enumerate(lines):
            if left[i] and (versions is None or seats[n] in versions):
                most = max(most, 1 + best(n + 1, (*left[:i], left[i] - 1, *left[i + 1 :])))
        return most

    return best(0, tuple(count for _, count in lines))


@given(LINES, HELD, st.sampled_from((*VERSIONS, None)), st.integers(1, 3), st.booleans())
@example([(None, 1), ({"1"}, 1), ({"2"}, 1), ({"3"}, 2)], [("1", 2), ("2", 1)], "2", 1, False)
@example([({"1", "2"}, 1), ({"2", "3"}, 1), ({"3", "4"}, 1), ({"4"}, 2)], [("2", 1), ("3", 1)], "1", 1, False)
@example([({"1", "2"}, 1), ({"2", "3"}, 1), ({"3", "4"}, 1), ({"1"}, 1)], [("1", 1), ("2", 1), ("3", 1)], "1", 1, True)
@example([(None, 1), ({"1"}, 2)], [("1", 1)], "2", 2, False)
@settings(max_examples=400, deadline=None)
def test_there_is_room_exactly_if_all_seats_can_be_matched_to_lines_that_cover_them(
    lines: list[tuple[Any, int]], held: list[tuple[str | None, int]], version: str | None, seats: int, grows: bool
) -> None:
    """Judged by brute force; what is already held may exceed the lines, as after a smaller renewal."""
    grows = grows and bool(held)
    total = sum(count for _, count in lines)
    covering = [(None if versions is None else Only(*versions), count) for versions, count in lines]
    pool, leases = pool_of(*covering, held=held)
    others = [each for each, count in held[grows:] for _ in range(count)]
    fits = most_seats(lines, others + [version] * seats) - most_seats(lines, others) == seats
    fits = fits and len(others) + seats <= total
    assert (refusal(pool, version, seats, leases[0] if grows else None) is None) == fits


# --- fewer seats than are held ---------------------------------------------------------------------------------


def test_over_capacity_the_oldest_leases_are_those_that_stay() -> None:
    pool, leases = pool_of((ANY, 4), held=[(None, 2), (None, 1), (None, 2), (None, 1)])
    assert pool.over_capacity
    assert [pool.in_surplus(lease, lease.seats) for lease in leases] == [False, False, True, True]


def test_a_lease_leaves_the_surplus_by_shrinking_into_what_the_older_ones_leave() -> None:
    pool, (_, second, third) = pool_of((ANY, 3), held=[(None, 2), (None, 2), (None, 1)])
    assert pool.in_surplus(second, 2)
    assert not pool.in_surplus(second, 1)
    assert pool.in_surplus(third, 1)


def test_as_many_seats_held_as_there_are_is_no_surplus() -> None:
    pool, (first, second) = pool_of((ANY, 3), held=[(None, 2), (None, 1)])
    assert not pool.over_capacity
    assert not pool.in_surplus(first, 2)
    assert not pool.in_surplus(second, 1)


def test_seats_held_are_the_sum_over_the_leases() -> None:
    pool, _ = pool_of((ANY, 9), held=[(None, 2), ("5", 3)])
    assert pool.held == 5


def test_fewer_seats_of_one_version_withdraw_by_rank_though_the_pool_has_enough_altogether() -> None:
    four, five = Only("4.1"), Only("5.1")
    pool, leases = pool_of((four, 4), (five, 1), held=[("4.1", 1)] * 4)
    assert not pool.over_capacity
    pool.set_total(8, ((four, 1), (five, 7)))
    assert pool.over_capacity
    assert [pool.in_surplus(lease, lease.seats) for lease in leases] == [False, True, True, True]
    assert pool.granted("4.1") == 1
    assert refusal(pool, "5.1", 4) is None  # what others hold too much of 4.1 takes nothing of 5.1 away


def test_a_version_that_fits_again_is_no_longer_over_capacity() -> None:
    ledger = Ledger()
    four, five = Only("4.1"), Only("5.1")
    for rank in range(2):
        ledger.apply(Acquired(f"lease-{rank}", NAME, 1, f"till-{rank}", 1, 60, KEEP, "4.1", rank, 1800000000, 1, None))
    ledger.set_pools({NAME: (8, ((four, 1), (five, 7)))})
    pool = ledger.pools[NAME]
    assert pool.over_capacity
    ledger.apply(Released("lease-0", None))
    assert not pool.over_capacity
    assert not pool.in_surplus(ledger.leases["lease-1"], 1)
