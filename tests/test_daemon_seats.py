"""Seats on the real process over the real socket: each rule of design section 6."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from licd.seats.events import Acquired, Released
from licd.seats.replay import replay
from tests.support.clients import (
    ANSWER_S,
    Pipeline,
    Program,
    acquire,
    journal_bytes,
    lease_of,
    leases,
    refusal,
    wait_until,
)
from tests.support.daemon import Daemon
from tests.support.device import started

TILL, OTHER = 4001, 4002  # uids of two programs
OVERFLOW = 65534
YESTERDAY = (datetime.now(UTC) - timedelta(days=3)).strftime("%Y-%m-%d")  # over everywhere on Earth

LINES: list[dict[str, Any]] = [
    {"name": "kso.scales", "seats": 3},
    {"name": "kso.single", "seats": 1},
    {"name": "kso.camera", "license": "uncounted"},
    {"name": "kso.old", "seats": 3, "expires": "2026-02-01"},
    {"name": "kso.grace", "seats": 3, "expires": YESTERDAY, "grace_days": 30},
    {"name": "kso.later", "seats": 3, "not_before": "9000-01-01"},
    {"name": "kso.pay", "seats": 2, "versions": "4.*"},
    {"name": "kso.pay", "seats": 1, "versions": "5.*"},
]

# A program that holds the only seat of kso.single and, when told, ends behind 150 KiB that nobody has read yet.
TALKATIVE = """
import socket
import sys

from licd.rpc import wire

stream = socket.socket(socket.AF_UNIX)
stream.connect(sys.argv[1])
stream.sendall(wire.encode_request(1, "seat.acquire", {"license": "kso.single", "holder": "till"}))
stream.recv(65536)
print("holds", flush=True)
sys.stdin.readline()
for n in range(3):
    stream.sendall(wire.encode_request(2 + n, "server.hello", {"x": "x" * 50000}))
"""


@pytest.fixture
def shop(folder: Path) -> Iterator[Daemon]:
    with started(folder, LINES) as daemon:
        yield daemon


# --- acquire is idempotent -----------------------------------------------------------------------------------


def test_acquiring_again_gives_the_same_lease_and_takes_no_second_seat(shop: Daemon) -> None:
    with shop.client() as client:
        first = acquire(client, "till-1")
        assert acquire(client, "till-1") == first
        assert client.call("server.status")["seats"]["held"] == 1


def test_acquiring_again_with_the_same_terms_writes_nothing(shop: Daemon) -> None:
    with shop.client() as client:
        acquire(client, "till-1", version="5.1")
        before = journal_bytes(shop)
        acquire(client, "till-1", version="5.1")
        assert journal_bytes(shop) == before


@pytest.mark.parametrize("change", [{"seats": 2}, {"ttl": 61}, {"on_close": "release"}, {"version": "5.2"}])
def test_acquiring_again_with_other_terms_is_recorded_under_the_same_id(shop: Daemon, change: dict[str, Any]) -> None:
    terms: dict[str, Any] = {"seats": 1, "ttl": 60, "on_close": "keep", "version": "5.1"}
    with shop.client() as client:
        first = acquire(client, "till-1", **terms)
        assert acquire(client, "till-1", **(terms | change)) == first
        recorded = [event for event in replay(shop.state).events if isinstance(event, Acquired)][-1]
    told = {"seats": recorded.seats, "ttl": recorded.ttl_s, "on_close": recorded.on_close, "version": recorded.version}
    assert told == terms | change


def test_a_lost_reply_costs_no_seat(shop: Daemon) -> None:
    lost = Pipeline(shop.socket)
    lost.ask("seat.acquire", license="kso.single", holder="till-1")
    wait_until(lambda: bool(leases(shop)), "the lease")
    lost.close()  # the reply was never read
    (lease,) = leases(shop)
    assert shop.call("seat.acquire", license="kso.single", holder="till-1")["lease"] == lease


def test_a_holder_of_another_uid_or_license_is_another_holder(shop: Daemon) -> None:
    with Program(shop.socket, TILL) as one, Program(shop.socket, OTHER) as two:
        ids = {acquire(one, "till"), acquire(two, "till"), acquire(two, "till", "kso.pay", version="4.0")}
    assert len(ids) == 3


def test_an_expired_license_an_uncovered_version_and_an_unknown_name_are_refused_by_name(shop: Daemon) -> None:
    with shop.client() as client:
        assert refusal(client, "seat.acquire", license="kso.old", holder="a").name == "LICENSE_EXPIRED"
        assert refusal(client, "seat.acquire", license="kso.later", holder="a").name == "LICENSE_NOT_YET_VALID"
        assert refusal(client, "seat.acquire", license="kso.none", holder="a").name == "NO_SUCH_LICENSE"
        error = refusal(client, "seat.acquire", license="kso.pay", holder="a", version="6.0")
        assert (error.name, error.data["covers"]) == ("VERSION_NOT_COVERED", "4.* or 5.*")
    assert leases(shop) == {}


def test_a_refused_acquire_leaves_the_lease_as_it_was(shop: Daemon) -> None:
    with shop.client() as client:
        acquire(client, "till-1", "kso.pay", version="4.1", ttl=30)
        (before,) = client.call("seat.list")["leases"]
        bytes_before = journal_bytes(shop)
        assert refusal(client, "seat.acquire", license="kso.pay", holder="till-1", version="6.0").code == 23
        assert refusal(client, "seat.acquire", license="kso.pay", holder="till-1", version="4.1", seats=4).code == 41
        (after,) = client.call("seat.list")["leases"]
        assert journal_bytes(shop) == bytes_before
    assert after == before | {"confirmed_s": after["confirmed_s"], "expires_s": after["expires_s"]}
    assert after["expires_s"] <= before["expires_s"]


def test_the_fourth_of_three_seats_is_refused_by_name(shop: Daemon) -> None:
    with shop.client() as client:
        for holder in ("a", "b", "c"):
            acquire(client, holder)
        error = refusal(client, "seat.acquire", license="kso.scales", holder="d")
        assert (error.name, error.data["used"], error.data["total"]) == ("NO_SEAT_FREE", 3, 3)
        assert refusal(client, "seat.acquire", license="kso.scales", holder="d", seats=4).name == "TOO_MANY_SEATS"
        client.call("seat.release", license="kso.scales", holder="b")
        acquire(client, "d")


def test_growing_needs_free_seats_and_shrinking_always_works(shop: Daemon) -> None:
    with shop.client() as client:
        lease = acquire(client, "a")
        acquire(client, "b")
        assert refusal(client, "seat.acquire", license="kso.scales", holder="a", seats=3).name == "NO_SEAT_FREE"
        assert acquire(client, "a", seats=2) == lease
        assert refusal(client, "seat.acquire", license="kso.scales", holder="c").name == "NO_SEAT_FREE"
        assert acquire(client, "a", seats=1) == lease
        acquire(client, "c")
        assert client.call("server.status")["seats"]["held"] == 3


def test_seats_of_one_version_do_not_become_seats_of_another(shop: Daemon) -> None:
    with shop.client() as client:
        acquire(client, "a", "kso.pay", version="5.0")
        assert refusal(client, "seat.acquire", license="kso.pay", holder="b", version="5.1").name == "NO_SEAT_FREE"
        acquire(client, "c", "kso.pay", version="4.0", seats=2)
        error = refusal(client, "seat.acquire", license="kso.pay", holder="a", version="4.9")
        assert error.name == "NO_SEAT_FREE"  # moving over to the other version is no way around it


def test_an_uncounted_license_is_held_without_limit(shop: Daemon) -> None:
    with shop.client() as client:
        for n in range(50):
            acquire(client, f"till-{n}", "kso.camera", seats=1000)
        assert len(client.call("seat.list", license="kso.camera")["leases"]) == 50


def test_a_license_in_its_grace_is_granted_with_a_warning(shop: Daemon) -> None:
    with shop.client() as client:
        assert client.call("seat.acquire", license="kso.grace", holder="a")["warnings"] == ["GRACE"]
        assert client.call("seat.acquire", license="kso.scales", holder="a")["warnings"] == []
        assert any("kso.grace" in text and "grace" in text for text in client.call("server.status")["warnings"])


@pytest.mark.parametrize("ttl", [-1, 0, 9, 121, 2**40])
def test_a_ttl_out_of_bounds_is_refused_and_grants_nothing(folder: Path, ttl: int) -> None:
    with started(folder, LINES, max_ttl=120) as shop:
        assert refusal(shop, "seat.acquire", license="kso.scales", holder="a", ttl=ttl).name == "BAD_PARAMS"
        assert leases(shop) == {}
        for fine in (10, 120):
            lease = acquire(shop, f"till-{fine}", ttl=fine)
            assert fine - 2 <= lease_of(shop, lease)["expires_s"] <= fine


def test_there_are_never_more_leases_than_max_leases(folder: Path) -> None:
    with started(folder, LINES, max_leases=2) as shop, shop.client() as client:
        first = acquire(client, "a", "kso.camera")
        acquire(client, "b", "kso.camera")
        error = refusal(client, "seat.acquire", license="kso.camera", holder="c")
        assert (error.name, error.data["limit"]) == ("TOO_MANY_LEASES", 2)
        assert acquire(client, "a", "kso.camera", ttl=30) == first  # no new one
        client.call("seat.release", lease=first)
        acquire(client, "c", "kso.camera")


# --- who is asking -------------------------------------------------------------------------------------------


def test_a_second_program_cannot_share_a_seat_by_choosing_the_same_name(shop: Daemon) -> None:
    with Program(shop.socket, TILL) as one, Program(shop.socket, TILL) as two:
        lease = acquire(one, "till")
        error = refusal(two, "seat.acquire", license="kso.scales", holder="till")
        assert (error.name, error.data["pid"]) == ("HOLDER_IN_USE", one.pid)
        assert refusal(two, "seat.confirm", license="kso.scales", holder="till").name == "HOLDER_IN_USE"
        assert one.call("seat.confirm", license="kso.scales", holder="till")["lease"] == lease


def test_a_program_that_was_killed_hands_its_lease_to_its_successor(shop: Daemon) -> None:
    with Program(shop.socket, TILL) as one, Program(shop.socket, TILL) as two:
        lease = acquire(one, "till")
        one.kill()
        assert acquire(two, "till") == lease


def test_a_successor_heard_in_the_very_turn_in_which_its_predecessor_ended_gets_the_lease(shop: Daemon) -> None:
    with Program(shop.socket) as one:
        lease = acquire(one, "till")
        shop.pause()
        one.kill()
        with Pipeline(shop.socket) as two:
            asked = two.ask("seat.acquire", license="kso.scales", holder="till")
            shop.resume()
            assert two.answer(asked)["lease"] == lease


def test_another_uid_is_told_not_owner_and_changes_nothing(shop: Daemon) -> None:
    with Program(shop.socket, TILL) as owner, Program(shop.socket, OTHER) as stranger:
        lease = acquire(owner, "till", ttl=10)
        assert refusal(stranger, "seat.confirm", lease=lease).name == "NOT_OWNER"
        assert refusal(stranger, "seat.release", lease=lease).name == "NOT_OWNER"
        assert refusal(stranger, "seat.confirm", license="kso.scales", holder="till").name == "LEASE_UNKNOWN"
        answers = stranger.call("seat.confirm", leases=[lease])["results"]
        assert [answer["error"]["name"] for answer in answers] == ["NOT_OWNER"]
        assert stranger.call("seat.list")["leases"] == []
        assert owner.call("seat.confirm", lease=lease)["lease"] == lease


def test_an_administrator_releases_anybodys_lease_and_the_reason_is_recorded(shop: Daemon) -> None:
    with Program(shop.socket, TILL) as owner:
        lease = acquire(owner, "till")
        assert shop.call("seat.release", lease=lease, reason="till 4 burned down") == {"released": True}
        assert refusal(owner, "seat.confirm", lease=lease).name == "LEASE_UNKNOWN"
    assert Released(lease, "till 4 burned down") in list(replay(shop.state).events)


def test_an_administrator_does_not_confirm_for_others(shop: Daemon) -> None:
    with Program(shop.socket, TILL) as owner:
        lease = acquire(owner, "till")
        assert refusal(shop, "seat.confirm", lease=lease).name == "NOT_OWNER"


def test_a_peer_whom_the_kernel_cannot_name_holds_nothing(shop: Daemon) -> None:
    with Program(shop.socket, OVERFLOW) as nobody:
        assert nobody.call("server.hello")["roles"] == []
        assert refusal(nobody, "seat.acquire", license="kso.camera", holder="a").name == "PEER_UNKNOWN"
    assert leases(shop) == {}


def test_releasing_what_is_gone_is_no_error(shop: Daemon) -> None:
    with shop.client() as client:
        lease = acquire(client, "a")
        assert client.call("seat.release", lease=lease) == {"released": True}
        assert client.call("seat.release", lease=lease) == {"released": False}
        assert client.call("seat.release", license="kso.scales", holder="a") == {"released": False}
        assert refusal(client, "seat.confirm", lease=lease).name == "LEASE_UNKNOWN"
        assert acquire(client, "a") != lease


# --- confirm -------------------------------------------------------------------------------------------------


def test_a_confirm_of_a_live_lease_writes_nothing(shop: Daemon) -> None:
    with shop.client() as client:
        lease = acquire(client, "a")
        before = journal_bytes(shop)
        for _ in range(20):
            client.call("seat.confirm", lease=lease)
        assert journal_bytes(shop) == before


def test_many_confirms_are_answered_each_for_itself(shop: Daemon) -> None:
    with Program(shop.socket, TILL) as till, Program(shop.socket, OTHER) as other:
        mine, gone, theirs = acquire(till, "a"), acquire(till, "b"), acquire(other, "c")
        till.call("seat.release", lease=gone)
        results = till.call("seat.confirm", leases=[mine, gone, theirs, "0" * 24, mine])["results"]
    assert [row["lease"] for row in results] == [mine, gone, theirs, "0" * 24, mine]
    names = [row["error"]["name"] if "error" in row else "fine" for row in results]
    assert names == ["fine", "LEASE_UNKNOWN", "NOT_OWNER", "LEASE_UNKNOWN", "fine"]
    assert results[0]["deadline"] > time.clock_gettime(time.CLOCK_BOOTTIME) + 55


def test_a_confirm_names_its_lease_in_one_way_only(shop: Daemon) -> None:
    with shop.client() as client:
        lease = acquire(client, "a")
        for params in (
            {},
            {"license": "kso.scales"},
            {"lease": lease, "license": "kso.scales", "holder": "a"},
            {"leases": [lease], "lease": lease},
        ):
            assert refusal(client, "seat.confirm", **params).name == "BAD_PARAMS"


# --- the end of a connection ---------------------------------------------------------------------------------


def test_a_kept_lease_outlives_its_killed_client_and_a_bound_one_is_free_at_once(shop: Daemon) -> None:
    with Program(shop.socket) as till, shop.client() as client:
        kept = acquire(till, "kept")
        bound = acquire(till, "bound", "kso.single", on_close="release")
        assert refusal(client, "seat.acquire", license="kso.single", holder="next").name == "NO_SEAT_FREE"
        till.kill()
        assert acquire(client, "next", "kso.single") != bound
        assert kept in leases(shop)


def test_a_seat_is_free_in_the_very_turn_in_which_its_connection_ended(shop: Daemon) -> None:
    with Program(shop.socket) as till, Pipeline(shop.socket) as rival:
        acquire(till, "till", "kso.single", on_close="release")
        rival.answer(rival.ask("server.hello"))
        time.sleep(0.05)  # licd waits again: what happens now is one turn, in this order
        shop.pause()
        till.kill()
        asked = rival.ask("seat.acquire", license="kso.single", holder="rival")
        shop.resume()
        assert rival.answer(asked)["holder"] == "rival"


def test_a_violation_of_the_protocol_frees_the_bound_leases_of_its_connection(shop: Daemon) -> None:
    with Pipeline(shop.socket) as rude, shop.client() as client:
        lease = rude.answer(rude.ask("seat.acquire", license="kso.single", holder="rude", on_close="release"))["lease"]
        rude.stream.sendall(b"\xc1")
        rude.drain()
        assert acquire(client, "next", "kso.single") != lease


def test_a_bound_lease_belongs_to_the_connection_that_used_it_last(shop: Daemon) -> None:
    first, second = shop.client(), shop.client()
    lease = acquire(first, "a", on_close="release")
    second.call("seat.confirm", lease=lease)
    first.close()
    assert first.call("server.hello")["pid"] == os.getpid()  # a turn later
    assert lease in leases(shop)
    second.close()
    wait_until(lambda: leases(shop) == {}, "the release at the end of the second connection")
    first.close()


def test_turning_a_bound_lease_into_a_kept_one_keeps_it(shop: Daemon) -> None:
    with shop.client() as client:
        lease = acquire(client, "a", on_close="release")
        assert acquire(client, "a", on_close="keep") == lease
    assert leases(shop).keys() == {lease}
    assert leases(shop).keys() == {lease}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_neither_the_stop_of_licd_nor_its_death_frees_a_bound_lease(shop: Daemon, end: str) -> None:
    with Program(shop.socket) as till:
        lease = acquire(till, "a", on_close="release")
        shop.stop() if end == "stop" else shop.kill()
        shop.start()
        assert leases(shop).keys() == {lease}
        assert till.call("seat.confirm", lease=lease)["lease"] == lease  # by a new connection, which it is bound to now
        till.kill()
        wait_until(lambda: leases(shop) == {}, "the release at the end of the new connection")


def test_an_acquire_whose_connection_hung_up_is_not_carried_out(shop: Daemon) -> None:
    gone = Pipeline(shop.socket)
    gone.answer(gone.ask("server.hello"))
    shop.pause()
    gone.ask("seat.acquire", license="kso.scales", holder="a")
    gone.ask("seat.acquire", license="kso.camera", holder="a", on_close="release")
    gone.close()
    shop.resume()
    assert leases(shop) == {}
    assert not [event for event in replay(shop.state).events if isinstance(event, Acquired)]


def test_an_acquire_whose_connection_hung_up_does_not_take_a_bound_lease_away_from_the_next(shop: Daemon) -> None:
    # A client that lost patience closes its connection and asks again on another: the first request, still unread,
    # must not bind the lease to the connection that is gone.
    with Pipeline(shop.socket) as patient:
        gone = Pipeline(shop.socket)
        gone.answer(gone.ask("server.hello"))
        lease = patient.answer(patient.ask("seat.acquire", license="kso.single", holder="a", on_close="release"))[
            "lease"
        ]
        shop.pause()
        gone.ask("seat.acquire", license="kso.single", holder="a", on_close="release")
        gone.close()
        shop.resume()
        assert patient.answer(patient.ask("seat.confirm", lease=lease))["lease"] == lease
        assert leases(shop).keys() == {lease}


def test_a_client_that_only_says_that_it_sends_no_more_still_gets_its_lease(shop: Daemon) -> None:
    with Pipeline(shop.socket) as half:
        asked = half.ask("seat.acquire", license="kso.scales", holder="a")
        half.stream.shutdown(1)
        lease = half.answer(asked)["lease"]
    assert leases(shop).keys() == {lease}


def test_what_somebody_said_last_is_heard_though_he_left_answers_unread(shop: Daemon) -> None:
    gone = Pipeline(shop.socket)
    lease = gone.answer(gone.ask("seat.acquire", license="kso.single", holder="a"))["lease"]
    gone.ask("server.hello")
    select.select([gone.stream], [], [], ANSWER_S)
    shop.pause()
    gone.ask("seat.release", lease=lease)
    gone.close()
    shop.resume()
    assert leases(shop) == {}


def test_a_lease_is_free_for_its_next_user_however_much_the_last_one_said_before_it_ended(shop: Daemon) -> None:
    till = subprocess.Popen(
        [sys.executable, "-c", TALKATIVE, shop.socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert till.stdin is not None
    assert till.stdout is not None
    with till, Pipeline(shop.socket) as rival:
        assert till.stdout.readline() == b"holds\n"
        (lease,) = leases(shop)
        rival.answer(rival.ask("server.hello"))
        time.sleep(0.05)  # licd waits again: what happens now is one turn
        shop.pause()
        till.stdin.write(b"end\n")
        till.stdin.flush()
        assert till.wait() == 0
        asked = rival.ask("seat.acquire", license="kso.single", holder="till")
        shop.resume()
        assert rival.answer(asked)["lease"] == lease  # and not HOLDER_IN_USE
