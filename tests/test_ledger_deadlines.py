"""When leases end, and how an expired one comes back."""

from __future__ import annotations

from licd.rpc.errors import LEASE_UNKNOWN, NO_SEAT_FREE, SEATS_WITHDRAWN, Refused
from licd.seats.events import Expired
from licd.seats.ledger import MAX_REMEMBERED
from tests.support.desk import TILLS, UID, Desk, client, refused, replayed


def test_a_confirm_of_a_live_lease_moves_its_deadline_and_records_nothing() -> None:
    desk, till = Desk(), client()
    lease = desk.acquire(till, ttl=60)
    desk.now += 59
    written = len(desk.events)
    assert desk.confirm(till, lease.id).deadline == desk.now + 60
    assert len(desk.events) == written
    desk.now += 59
    assert desk.ledger.decide_expire(desk.now, 10) == []


def test_a_lease_expires_at_its_deadline_and_not_before() -> None:
    desk = Desk()
    lease = desk.acquire(client(), ttl=60)
    assert desk.ledger.next_deadline() == lease.deadline == desk.now + 60
    assert desk.ledger.decide_expire(lease.deadline - 0.001, 10) == []
    assert desk.ledger.decide_expire(lease.deadline, 10) == [Expired(lease.id)]


def test_a_shorter_ttl_brings_the_deadline_forward_and_a_longer_one_puts_it_off() -> None:
    desk, till = Desk(), client()
    desk.acquire(till, "another", ttl=300)
    desk.acquire(till, ttl=600)
    desk.acquire(till, ttl=10)
    assert desk.ledger.next_deadline() == desk.now + 10
    desk.acquire(till, ttl=30)
    assert desk.ledger.next_deadline() == desk.now + 30
    assert desk.ledger.decide_expire(desk.now + 29, 10) == []
    assert len(desk.ledger.decide_expire(desk.now + 30, 10)) == 1


def test_many_that_expire_together_go_in_portions() -> None:
    desk = Desk(tills=None)
    for n in range(25):
        desk.acquire(client(), f"till-{n}")
    desk.now += 60
    sizes = []
    while desk.ledger.leases:
        before = len(desk.ledger.leases)
        desk.expire(most=10)
        sizes.append(before - len(desk.ledger.leases))
    assert sizes == [10, 10, 5]


def test_a_late_confirm_revives_an_expired_lease_under_its_old_id_and_is_recorded() -> None:
    desk, till = Desk(tills=1), client()
    lease = desk.acquire(till, ttl=60)
    before = lease.as_event()
    desk.now += 61
    desk.expire()
    desk.now += 50
    revived = desk.confirm(till, lease.id)
    assert desk.events[-1] == before._replace(rank=1)
    assert revived.id == lease.id
    assert revived.deadline == desk.now + 60
    assert desk.ledger.leases == {lease.id: revived}
    with refused(NO_SEAT_FREE):
        desk.acquire(client(), "till-2")


def test_a_late_confirm_by_holder_revives_the_same_lease() -> None:
    desk, till = Desk(), client()
    lease = desk.acquire(till, ttl=60)
    desk.now += 61
    desk.expire()
    assert desk.confirm_holder(client(pid=11), "till-1").id == lease.id


def test_a_late_confirm_is_refused_once_its_seats_are_taken() -> None:
    desk, till = Desk(tills=2), client()
    lease = desk.acquire(till, seats=2)
    desk.now += 61
    desk.expire()
    desk.acquire(client(), "till-2")
    with refused(NO_SEAT_FREE, used=1, total=2):
        desk.confirm(till, lease.id)


def test_a_revived_lease_ranks_behind_those_that_came_while_it_was_expired() -> None:
    desk, till = Desk(tills=2), client()
    lease = desk.acquire(till)
    desk.now += 61
    desk.expire()
    other = desk.acquire(client(), "till-2")
    desk.confirm(till, lease.id)
    desk.set_total(1)
    desk.confirm(client(), other.id)
    with refused(SEATS_WITHDRAWN):
        desk.confirm(till, lease.id)


def test_an_expired_lease_is_remembered_for_one_more_ttl_and_then_unknown() -> None:
    desk, till = Desk(), client()
    lease = desk.acquire(till, ttl=60)
    deadline = lease.deadline
    desk.now = deadline + 0.5
    desk.expire()
    assert desk.ledger.find(lease.id, deadline + 60) is lease
    assert desk.ledger.find_holder(TILLS, UID, "till-1", deadline + 60) is lease
    with refused(LEASE_UNKNOWN):
        desk.ledger.find_holder(TILLS, UID, "till-1", deadline + 60.1)
    with refused(LEASE_UNKNOWN):
        desk.ledger.find(lease.id, deadline + 60.1)


def test_an_expired_lease_is_forgotten_when_its_holder_acquires_anew_or_releases_it() -> None:
    desk, till = Desk(tills=None), client()
    old = [desk.acquire(till, holder) for holder in ("till-1", "till-2")]
    desk.now += 61
    desk.expire()
    desk.acquire(till, "till-1")
    desk.release(till, old[1].id)
    for lease in old:
        with refused(LEASE_UNKNOWN):
            desk.confirm(till, lease.id)


def test_expired_leases_are_remembered_in_bounded_number_the_oldest_forgotten_first() -> None:
    desk, till = Desk(tills=None), client()
    for n in range(MAX_REMEMBERED + 3):
        desk.acquire(till, f"till-{n}")
        desk.now += 0.001
    desk.now += 61
    desk.expire(most=MAX_REMEMBERED + 3)
    known = []
    for n in (0, 2, 3, MAX_REMEMBERED + 2):
        try:
            known.append(desk.ledger.find(f"lease-{n}", desk.now).id)
        except Refused:
            continue
    assert known == ["lease-3", f"lease-{MAX_REMEMBERED + 2}"]


def test_expired_leases_are_not_remembered_over_a_restart() -> None:
    desk, till = Desk(), client()
    lease = desk.acquire(till)
    desk.now += 61
    desk.expire()
    with refused(LEASE_UNKNOWN):
        replayed(desk.events).find(lease.id, 0)


def test_nothing_wakes_the_daemon_for_a_lease_that_was_confirmed_or_released() -> None:
    desk, till = Desk(), client()
    lease = desk.acquire(till, "till-1", ttl=60)
    gone = desk.acquire(till, "till-2", ttl=10)
    desk.release(till, gone.id)
    desk.now += 30
    desk.confirm(till, lease.id)
    assert desk.ledger.next_deadline() == desk.now + 60
    desk.release(till, lease.id)
    assert desk.ledger.next_deadline() == float("inf")


def test_after_a_stall_or_a_suspend_every_lease_gets_its_full_ttl() -> None:
    desk, till = Desk(), client()
    leases = [desk.acquire(till, f"till-{n}", ttl=60 * n) for n in (1, 2)]
    desk.now += 1000
    desk.ledger.extend_all(desk.now)
    assert [lease.deadline for lease in leases] == [desk.now + 60, desk.now + 120]
    assert desk.ledger.decide_expire(desk.now + 59, 10) == []
    assert desk.ledger.decide_expire(desk.now + 60, 10) == [Expired(leases[0].id)]


def test_a_stall_shortens_no_deadline() -> None:
    desk, till = Desk(), client()
    lease = desk.acquire(till, ttl=600)
    desk.acquire(till, ttl=600)
    desk.ledger.extend_all(desk.now - 100)
    assert lease.deadline == desk.now + 600
