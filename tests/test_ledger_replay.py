"""What events make of a ledger: replayed, after a restart, after a reboot."""

from __future__ import annotations

import pytest

from licd.rpc.errors import SEATS_WITHDRAWN
from licd.seats.events import KEEP, RELEASE, Accepted, Acquired, Expired, Recognized, Released, Started, Stopped
from licd.seats.ledger import AFTER_REBOOT_TTL_S, Ledger
from tests.support.desk import TILLS, UID, Desk, client, recorded, refused, replayed


def test_applying_never_looks_at_capacity() -> None:
    ledger = Ledger()
    ledger.set_pools({TILLS: (0, ())})
    ledger.apply(Acquired("lease-0", TILLS, UID, "till-1", 7, 60, KEEP, None, 0, 1, 1, None))
    assert ledger.pools[TILLS].held == 7


def test_events_of_leases_that_are_not_there_change_nothing() -> None:
    ledger = Ledger()
    for event in (Released("lease-0", None), Expired("lease-0")):
        ledger.apply(event)
    assert recorded(ledger) == recorded(Ledger())


def test_a_holder_whose_release_was_lost_has_one_lease_the_later_one() -> None:
    ledger = Ledger()
    first = Acquired("lease-0", TILLS, UID, "till-1", 2, 60, KEEP, None, 0, 1, 1, None)
    later = first._replace(lease="lease-1", seats=1, rank=5)
    for event in (first, later):
        ledger.apply(event)
    assert list(ledger.leases) == ["lease-1"]
    assert ledger.pools[TILLS].held == 1


def test_a_lease_whose_expiry_was_lost_is_ranked_by_its_revival_and_no_other_gets_its_rank() -> None:
    first = Acquired("lease-0", TILLS, UID, "till-1", 1, 60, KEEP, None, 0, 1, 1, None)
    other = first._replace(lease="lease-1", holder="till-2", rank=1)
    desk = Desk(replayed([first, other, first._replace(rank=2)]), tills=9)
    desk.acquire(client(), "till-3")
    assert [(lease.id, lease.rank) for lease in desk.ledger.leases.values()] == [
        ("lease-1", 1),
        ("lease-0", 2),
        ("lease-2", 3),
    ]


@pytest.mark.parametrize("on_close", [KEEP, RELEASE])
def test_after_a_restart_in_the_same_boot_every_lease_has_its_full_ttl(on_close: str) -> None:
    desk = Desk()
    desk.acquire(client(), on_close=on_close, ttl=600)
    desk.now += 599
    ledger = replayed(desk.events)
    ledger.restart(same_boot=True)
    ledger.promise_all(desk.now, same_boot=True)
    assert ledger.leases["lease-0"].deadline == ledger.next_deadline() == desk.now + 600
    assert ledger.decide_expire(desk.now + 600, 10) == [Expired("lease-0")]


def test_after_a_reboot_release_leases_are_gone_and_keep_leases_have_two_minutes_at_most() -> None:
    desk, till = Desk(tills=9), client()
    desk.acquire(till, "gone", on_close=RELEASE, seats=4)
    desk.acquire(till, "long", ttl=600)
    desk.acquire(till, "short", ttl=60)
    ledger = replayed(desk.events)
    ledger.restart(same_boot=False)
    ledger.promise_all(5.0, same_boot=False)
    assert [(lease.holder, lease.deadline) for lease in ledger.leases.values()] == [
        ("long", 5.0 + AFTER_REBOOT_TTL_S),
        ("short", 65.0),
    ]
    assert AFTER_REBOOT_TTL_S == 120
    assert ledger.pools[TILLS].held == 2


def test_no_connection_uses_a_lease_after_a_restart() -> None:
    desk = Desk()
    desk.acquire(client(pid=10), on_close=RELEASE)
    after = Desk(replayed(desk.events))
    assert after.confirm_holder(client(pid=11), "till-1").id == "lease-0"


def test_ranks_outlive_a_restart_and_new_leases_rank_behind_whatever_order_the_records_had() -> None:
    """A compacted journal holds new leases before old ones."""
    desk, till = Desk(tills=3), client()
    for n in range(3):
        desk.acquire(till, f"till-{n}")
    after = Desk(replayed([desk.events[2], desk.events[0], desk.events[1]]), tills=4)
    after.acquire(till, "till-9")
    assert [(lease.rank, lease.holder) for lease in after.ledger.leases.values()] == [
        (0, "till-0"),
        (1, "till-1"),
        (2, "till-2"),
        (3, "till-9"),
    ]
    after.set_total(2)
    with refused(SEATS_WITHDRAWN):
        after.confirm(till, "lease-2")
    assert after.confirm(till, "lease-1")


def test_the_highest_seq_of_each_vendor_is_remembered() -> None:
    ledger = Ledger()
    for event in (Accepted("a", 3, "x"), Accepted("a", 5, "y"), Accepted("a", 4, "z"), Accepted("b", 1, "w")):
        ledger.apply(event)
    assert ledger.accepted == {"a": Accepted("a", 5, "y"), "b": Accepted("b", 1, "w")}


def test_how_the_device_compared_last_is_remembered_of_each_vendor() -> None:
    ledger = Ledger()
    first, second = Recognized("a", "x", "boot-1", None, 0.0), Recognized("a", "x", "boot-1", 1800000000.0, 0.0)
    for event in (first, Recognized("b", "y", None, None, 0.0), second):
        ledger.apply(event)
    assert ledger.recognized == {"a": second, "b": Recognized("b", "y", None, None, 0.0)}


def test_a_stop_is_clean_if_nothing_was_recorded_behind_it() -> None:
    ledger = Ledger()
    assert not ledger.clean_stop
    ledger.apply(Stopped())
    assert ledger.clean_stop
    ledger.apply(Started("boot-2"))
    assert not ledger.clean_stop
    assert ledger.boot_id == "boot-2"
