"""Fewer seats than are held: the older leases go on, and nothing is taken away before its deadline."""

from __future__ import annotations

from licd.rpc.errors import NO_SEAT_FREE, SEATS_WITHDRAWN, TOO_MANY_SEATS
from licd.seats.pool import Session
from tests.support.desk import TILLS, Desk, client, refused


def surplus_desk() -> tuple[Desk, Session]:
    """Four leases of one seat each, of which a smaller renewal leaves the older two."""
    desk, till = Desk(tills=4), client()
    for n in range(4):
        desk.acquire(till, f"till-{n}", ttl=60)
    desk.now += 30
    desk.set_total(2)
    return desk, till


def test_over_capacity_the_older_leases_go_on_and_the_younger_are_withdrawn_with_deadlines_unchanged() -> None:
    desk, till = surplus_desk()
    for n in (0, 1):
        assert desk.confirm(till, f"lease-{n}").deadline == desk.now + 60
    for n in (2, 3):
        with refused(SEATS_WITHDRAWN, license=TILLS, total=2):
            desk.confirm(till, f"lease-{n}")
        with refused(SEATS_WITHDRAWN):
            desk.acquire(till, f"till-{n}", ttl=60)
        assert desk.ledger.leases[f"lease-{n}"].deadline == desk.now + 30


def test_over_capacity_nothing_is_taken_away_before_its_deadline() -> None:
    desk, _ = surplus_desk()
    assert desk.ledger.decide_expire(desk.now + 29, 10) == []
    assert desk.ledger.pools[TILLS].held == 4


def test_over_capacity_nothing_new_is_acquired_grown_or_revived() -> None:
    desk, till = surplus_desk()
    with refused(NO_SEAT_FREE, used=4, total=2):
        desk.acquire(till, "till-9")
    with refused(NO_SEAT_FREE):
        desk.acquire(till, "till-0", seats=2)
    desk.now += 31
    desk.confirm(till, "lease-0")
    desk.expire()
    desk.set_total(0)
    with refused(TOO_MANY_SEATS):
        desk.confirm(till, "lease-3")


def test_a_lease_leaves_the_surplus_when_older_ones_end() -> None:
    desk, till = surplus_desk()
    desk.release(till, "lease-0")
    assert desk.confirm(till, "lease-2").deadline == desk.now + 60
    with refused(SEATS_WITHDRAWN):
        desk.confirm(till, "lease-3")
    desk.release(till, "lease-1")
    assert desk.confirm(till, "lease-3").deadline == desk.now + 60


def test_shrinking_in_the_surplus_works_but_prolongs_nothing_that_is_still_surplus() -> None:
    desk, till = Desk(tills=6), client()
    for n in range(2):
        desk.acquire(till, f"till-{n}", seats=3, ttl=60)
    desk.set_total(4)
    deadline = desk.now + 60
    desk.now += 30
    assert desk.acquire(till, "till-1", seats=2, ttl=60).deadline == deadline
    assert desk.acquire(till, "till-1", seats=1, ttl=60).deadline == desk.now + 60


def test_leases_rank_by_their_first_acquire_not_by_their_last() -> None:
    desk, till = Desk(tills=2), client()
    desk.acquire(till, "till-0")
    desk.acquire(till, "till-1")
    desk.acquire(till, "till-0", ttl=90)
    desk.set_total(1)
    assert desk.confirm(till, "lease-0")
    with refused(SEATS_WITHDRAWN):
        desk.confirm(till, "lease-1")


def test_a_license_that_is_gone_withdraws_all_its_seats() -> None:
    desk, till = Desk(), client()
    lease = desk.acquire(till)
    desk.ledger.set_pools({})
    with refused(SEATS_WITHDRAWN, total=0):
        desk.confirm(till, lease.id)
