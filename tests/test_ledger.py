"""The rules of seats, sentence by sentence. tests/test_ledger_model.py compares whole stories with a naive model."""

from __future__ import annotations

from typing import Any

import pytest

from licd.license.versions import Versions
from licd.rpc.errors import HOLDER_IN_USE, LEASE_UNKNOWN, NO_SEAT_FREE, NOT_OWNER, TOO_MANY_SEATS, Refused
from licd.seats.events import KEEP, RELEASE, Released
from tests.support.desk import OTHER_UID, TILLS, Desk, client, refused

# --- acquire ---------------------------------------------------------------------------------------------------


def test_the_same_holder_that_asks_again_gets_the_same_lease_refreshed_and_nothing_to_record() -> None:
    desk, till = Desk(), client()
    first = desk.acquire(till, "till-1", ttl=60)
    desk.now += 50
    again = desk.decide_acquire(till, "till-1", ttl=60)
    assert again == (first, None, desk.now + 60)
    assert desk.carry_out(again, till).deadline == desk.now + 60
    assert desk.ledger.pools[TILLS].held == 1


def test_a_lost_reply_costs_no_seat_also_when_the_connection_was_lost_with_it() -> None:
    desk, till = Desk(tills=1), client()
    first = desk.acquire(till)
    desk.goodbye(till)
    assert desk.acquire(client(pid=11)).id == first.id


@pytest.mark.parametrize("changed", [{"seats": 2}, {"ttl": 90}, {"on_close": RELEASE}, {"version": "5.1"}], ids=str)
def test_acquiring_again_is_recorded_if_seats_ttl_on_close_or_version_changed(changed: dict[str, Any]) -> None:
    desk = Desk()
    first = desk.acquire(client(pid=10)).as_event()
    grant = desk.decide_acquire(client(pid=10), **changed)
    _, event, _ = grant
    assert event == first._replace(**{"ttl_s" if name == "ttl" else name: value for name, value in changed.items()})
    assert desk.carry_out(grant, client(pid=10)).as_event() == event


def test_another_license_uid_or_holder_is_another_lease() -> None:
    desk = Desk()
    desk.set_total(1, "kso.scales")
    leases = [
        desk.acquire(client(), "till-1"),
        desk.acquire(client(), "till-2"),
        desk.acquire(client(uid=OTHER_UID), "till-1"),
        desk.acquire(client(), "till-1", license="kso.scales"),
    ]
    assert len({lease.id for lease in leases}) == 4
    assert desk.ledger.pools[TILLS].held == 3


def test_an_acquire_that_is_refused_leaves_the_lease_as_it_was() -> None:
    desk, till = Desk(tills=3), client()
    lease = desk.acquire(till, seats=2)
    desk.acquire(client(), "till-2")
    before = (lease.as_event(), lease.deadline)
    desk.now += 10
    with refused(NO_SEAT_FREE, used=3, total=3):
        desk.acquire(till, seats=3, ttl=90, on_close=RELEASE)
    assert (lease.as_event(), lease.deadline) == before


def test_growing_needs_free_seats_and_shrinking_always_works() -> None:
    desk, till = Desk(tills=3), client()
    desk.acquire(till, seats=2)
    assert desk.acquire(till, seats=3).seats == 3
    with refused(TOO_MANY_SEATS, seats=4, total=3):
        desk.acquire(till, seats=4)
    desk.set_total(1)
    assert desk.acquire(till, seats=2).seats == 2
    assert desk.acquire(till, seats=1).seats == 1
    assert desk.ledger.pools[TILLS].held == 1


def test_no_seat_is_given_twice() -> None:
    desk = Desk(tills=2)
    desk.acquire(client(), "till-1")
    desk.acquire(client(), "till-2")
    with refused(NO_SEAT_FREE, license=TILLS, used=2, total=2):
        desk.acquire(client(), "till-3")


def test_an_uncounted_license_is_acquired_the_same_way_without_limit() -> None:
    desk = Desk(tills=None)
    assert len({desk.acquire(client(), f"till-{n}", seats=1000).id for n in range(500)}) == 500
    assert desk.acquire(client(), "till-7", seats=1000).id == "lease-7"


# --- versions --------------------------------------------------------------------------------------------------


def versions_desk(**seats: int) -> Desk:
    """Lines of the versions 4.* and 5.*, as many seats each as given: four=, five=."""
    desk = Desk()
    set_versions(desk, **seats)
    return desk


def set_versions(desk: Desk, *, four: int, five: int) -> None:
    lines = ((Versions.parse("4.*"), four), (Versions.parse("5.*"), five))
    desk.ledger.set_pools({TILLS: (four + five, lines)})


def test_a_holder_that_changes_to_a_version_of_other_lines_needs_a_seat_of_these() -> None:
    desk, till = versions_desk(four=3, five=1), client()
    lease = desk.acquire(till, "till-1", version="4.1")
    desk.acquire(client(), "till-2", version="5.1")
    with refused(NO_SEAT_FREE):
        desk.acquire(till, "till-1", version="5.1")
    assert lease.version == "4.1"
    assert desk.acquire(till, "till-1", version="4.2").version == "4.2"


@pytest.mark.parametrize("older", [0, 1])
def test_over_capacity_shrinking_is_no_way_around_the_seats_of_a_version(older: int) -> None:
    """Whether in the surplus or among those that stay."""
    desk, till = versions_desk(four=4, five=1), client()
    for n in range(older):
        desk.acquire(client(), f"older-{n}", version="4.0")
    desk.acquire(till, "till-1", version="4.0", seats=2)
    desk.acquire(client(), "till-2", version="5.0")
    desk.acquire(client(), "till-3", version="4.0")
    set_versions(desk, four=0, five=1)
    with pytest.raises(Refused):
        desk.acquire(till, "till-1", version="5.0", seats=1)
    assert desk.acquire(till, "till-1", version="4.0", seats=1).seats == 1


def test_over_capacity_an_update_within_the_same_lines_goes_on() -> None:
    desk, till = versions_desk(four=3, five=1), client()
    lease = desk.acquire(till, "till-1", version="4.0")
    desk.acquire(till, "till-2", version="4.0", seats=2)
    set_versions(desk, four=2, five=0)
    assert desk.acquire(till, "till-1", version="4.1") is lease
    assert lease.version == "4.1"


# --- holders and owners ----------------------------------------------------------------------------------------


def test_a_holder_is_in_use_while_the_connection_of_another_process_that_used_it_last_is_open() -> None:
    desk, till = Desk(), client(pid=10)
    lease = desk.acquire(till)
    with refused(HOLDER_IN_USE, holder="till-1", license=TILLS, pid=10):
        desk.acquire(client(pid=11))
    with refused(HOLDER_IN_USE, pid=10):
        desk.confirm_holder(client(pid=11), "till-1")
    assert desk.acquire(client(pid=10)).id == lease.id, "another connection of the same process"
    assert desk.confirm_holder(client(pid=10), "till-1").id == lease.id


def test_a_holder_is_free_again_once_that_connection_has_ended() -> None:
    desk, till = Desk(), client(pid=10)
    lease = desk.acquire(till)
    desk.goodbye(till)
    successor = client(pid=11)
    assert desk.confirm_holder(successor, "till-1").id == lease.id
    with refused(HOLDER_IN_USE, pid=11):
        desk.acquire(client(pid=10))


def test_who_knows_the_id_of_a_lease_confirms_it_from_any_process_and_is_then_its_user() -> None:
    desk = Desk()
    lease = desk.acquire(client(pid=10))
    assert desk.confirm(client(pid=11), lease.id).id == lease.id
    with refused(HOLDER_IN_USE, pid=11):
        desk.confirm_holder(client(pid=10), "till-1")


def test_another_uid_neither_confirms_nor_releases() -> None:
    desk = Desk()
    lease = desk.acquire(client())
    with refused(NOT_OWNER):
        desk.confirm(client(uid=OTHER_UID), lease.id)
    with refused(NOT_OWNER):
        desk.release(client(uid=OTHER_UID), lease.id)
    with refused(LEASE_UNKNOWN):
        desk.confirm_holder(client(uid=OTHER_UID), "till-1")


def test_another_uid_does_not_revive_an_expired_lease_either() -> None:
    desk = Desk()
    lease = desk.acquire(client())
    desk.now += 61
    desk.expire()
    with refused(NOT_OWNER):
        desk.confirm(client(uid=OTHER_UID), lease.id)


def test_an_administrator_releases_what_is_not_his_and_the_reason_is_recorded() -> None:
    desk, admin = Desk(), client(uid=0)
    ids = [desk.acquire(client(), f"till-{n}").id for n in range(3)]
    desk.release(admin, ids[0], "till 0 is sold", admin=True)
    desk.release(admin, ids[1], admin=True)
    desk.release(client(), ids[2])
    reasons = [event.reason for event in desk.events if isinstance(event, Released)]
    assert reasons == ["till 0 is sold", "released by an administrator", None]
    assert desk.ledger.pools[TILLS].held == 0


def test_a_released_seat_is_free_and_the_lease_unknown() -> None:
    desk, till = Desk(tills=1), client()
    lease = desk.acquire(till)
    desk.release(till, lease.id)
    with refused(LEASE_UNKNOWN):
        desk.confirm(till, lease.id)
    assert desk.acquire(till).id != lease.id


# --- connections -----------------------------------------------------------------------------------------------


def test_on_close_release_ends_with_its_connection_and_on_close_keep_does_not() -> None:
    desk, till = Desk(), client()
    desk.acquire(till, "till-1", on_close=RELEASE)
    desk.acquire(till, "till-2", on_close=RELEASE)
    kept = desk.acquire(till, "till-3", on_close=KEEP)
    desk.goodbye(till)
    assert list(desk.ledger.leases) == [kept.id]
    assert [event for event in desk.events if isinstance(event, Released)] == [
        Released("lease-0", "its connection ended"),
        Released("lease-1", "its connection ended"),
    ]


@pytest.mark.parametrize("how", ["acquire", "confirm"])
def test_a_release_lease_is_bound_to_the_connection_that_last_acquired_or_confirmed_it(how: str) -> None:
    desk, first, second = Desk(), client(), client()
    lease = desk.acquire(first, on_close=RELEASE)
    if how == "acquire":
        desk.acquire(second, on_close=RELEASE)
    else:
        desk.confirm(second, lease.id)
    desk.goodbye(first)
    assert lease.id in desk.ledger.leases
    desk.goodbye(second)
    assert lease.id not in desk.ledger.leases


def test_a_lease_is_bound_as_it_was_last_asked_for() -> None:
    desk, till = Desk(), client()
    now_kept = desk.acquire(till, "till-1", on_close=RELEASE)
    desk.acquire(till, "till-1", on_close=KEEP)
    desk.acquire(till, "till-2", on_close=KEEP)
    desk.acquire(till, "till-2", on_close=RELEASE)
    desk.goodbye(till)
    assert list(desk.ledger.leases) == [now_kept.id]


def test_a_lease_that_ended_before_its_connection_does_not_end_twice() -> None:
    desk, till = Desk(), client()
    lease = desk.acquire(till, "till-1", on_close=RELEASE)
    desk.acquire(till, "till-2", on_close=RELEASE, ttl=10)
    desk.release(till, lease.id)
    desk.now += 11
    desk.expire()
    desk.acquire(client(), "till-2")
    assert desk.ledger.decide_goodbye(till) == []
