"""The rules of seats, sentence by sentence. tests/test_ledger_model.py compares whole stories with a naive model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import pytest

from licd.license.versions import Versions
from licd.rpc.errors import (
    HOLDER_IN_USE,
    LEASE_UNKNOWN,
    NO_SEAT_FREE,
    NOT_OWNER,
    SEATS_WITHDRAWN,
    TOO_MANY_SEATS,
    Error,
    Refused,
)
from licd.seats.events import KEEP, RELEASE, Accepted, Acquired, Event, Expired, Recognized, Released, Started, Stopped
from licd.seats.events import decode as decode_event
from licd.seats.events import encode as encode_event
from licd.seats.ledger import AFTER_REBOOT_TTL_S, MAX_REMEMBERED, MIN_DUE, Ledger, Wish
from licd.seats.pool import Session
from tests.support.desk import TILLS, Desk, recorded, replayed

UID, OTHER_UID = 1000, 1001


def client(pid: int = 10, uid: int = UID) -> Session:
    return Session(uid, pid)


@contextmanager
def refused(error: Error, **data: object) -> Iterator[None]:
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.error is error
    assert caught.value.data.items() >= data.items()
    assert "{" not in caught.value.message  # its data fills the sentence


# --- acquire ---------------------------------------------------------------------------------------------------


def test_the_same_holder_that_asks_again_gets_the_same_lease_refreshed_and_nothing_to_record() -> None:
    desk, till = Desk(), client()
    first = desk.acquire(till, "till-1", ttl=60)
    desk.now += 50
    again = desk.decide_acquire(till, "till-1", ttl=60)
    assert again.lease == first.id
    assert again.event is None
    assert desk.carry_out(again, till).deadline == desk.now + 60
    assert desk.ledger.pools[TILLS].held == 1


def test_a_lost_reply_costs_no_seat_also_when_the_connection_was_lost_with_it() -> None:
    desk, till = Desk(tills=1), client()
    first = desk.acquire(till)
    desk.goodbye(till)
    assert desk.acquire(client(pid=11)).id == first.id


WISH = Wish(TILLS, "till-1", seats=1, ttl_s=60, on_close=KEEP, version=None)


@pytest.mark.parametrize(
    "wish",
    [WISH._replace(seats=2), WISH._replace(ttl_s=90), WISH._replace(on_close=RELEASE), WISH._replace(version="5.1")],
)
def test_acquiring_again_is_recorded_if_seats_ttl_on_close_or_version_changed(wish: Wish) -> None:
    desk = Desk()
    first = desk.acquire(client(pid=10)).as_event()
    grant = desk.ledger.decide_acquire(wish, client(pid=10), "not-needed", 0, desk.now)
    assert grant.event == first._replace(
        seats=wish.seats, ttl_s=wish.ttl_s, on_close=wish.on_close, version=wish.version
    )
    assert desk.carry_out(grant, client(pid=10)).as_event() == grant.event


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


# --- deadlines, expiry, revival --------------------------------------------------------------------------------


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


def test_the_leases_of_the_past_leave_nothing_in_memory_before_their_deadlines_either() -> None:
    """An hour's ttl, ten thousand leases acquired and released at once: no deadline of theirs is kept for the hour."""
    desk, till = Desk(), client()
    kept = desk.acquire(till, "kept", ttl=3600)
    for _ in range(10 * MIN_DUE):
        desk.release(till, desk.acquire(till, ttl=3600).id)
    for n in range(10 * MIN_DUE):
        desk.acquire(till, "kept", ttl=100_000 - n)
    assert len(desk.ledger._due) <= MIN_DUE + 3
    assert desk.ledger.next_deadline() == kept.deadline == desk.now + 100_001 - 10 * MIN_DUE


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


# --- fewer seats than are held ---------------------------------------------------------------------------------


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


# --- replay, restart, reboot -----------------------------------------------------------------------------------


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


EVENTS: list[Event] = [
    Acquired("lease-0", TILLS, UID, "касса 1", 2, 60, KEEP, None, 0, 1800000000, 4_194_304, None),
    Acquired("lease-0", TILLS, 2**32 - 3, "h", 1_000_000, 86_400, RELEASE, "5.1-rc1", 2**40, 2**33, 1, "kso.service"),
    Released("lease-0", None),
    Released("lease-0", "продано"),
    Expired("lease-0"),
    Accepted("vendor", 2**53, "00ff"),
    Started(None),
    Started("0a1b"),
    Stopped(),
    Recognized("vendor", "00ff", "0a1b", None, 0.0),
    Recognized("vendor", "00ff", None, 1800000000.25, 86_400.5),
]


@pytest.mark.parametrize(
    ("event", "record"),
    [
        (EVENTS[0], [1, "lease-0", TILLS, UID, "касса 1", 2, 60, "keep", None, 0, 1800000000, 4_194_304, None]),
        (Released("lease-0", "why"), [2, "lease-0", "why"]),
        (Expired("lease-0"), [3, "lease-0"]),
        (Accepted("vendor", 7, "00ff"), [4, "vendor", 7, "00ff"]),
        (Started("0a1b"), [5, "0a1b"]),
        (Stopped(), [6]),
        (Recognized("vendor", "00ff", None, 1.5, 2.5), [7, "vendor", "00ff", None, 1.5, 2.5]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_form_of_each_record_is_public_and_stays(event: Event, record: list[object]) -> None:
    assert msgpack.unpackb(encode_event(event)) == record


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_what_is_recorded_reads_back_the_same(event: Event) -> None:
    back = decode_event(msgpack.unpackb(encode_event(event)))
    assert back == event
    assert type(back) is type(event)


@pytest.mark.parametrize("record", [[], [8], [7], [0, "x"], [1, "too", "short"], [3], [3, "x", "y"], 5, None, [[]], {}])
def test_a_record_of_another_kind_is_named_as_such(record: list[object]) -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        decode_event(record)
