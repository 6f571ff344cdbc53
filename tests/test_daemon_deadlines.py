"""When leases end on the real process: fewer seats than are held, deadlines, stalls, restarts."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from licd.rpc.client import CallError
from licd.seats.events import Acquired, Expired
from licd.seats.replay import replay
from tests.support.clients import Pipeline, Program, acquire, journal_bytes, lease_of, leases, refusal
from tests.support.daemon import Daemon
from tests.support.device import grant, started

TILL = 4001  # the uid of a program

LINES: list[dict[str, Any]] = [
    {"name": "kso.scales", "seats": 3},
    {"name": "kso.single", "seats": 1},
    {"name": "kso.camera", "license": "uncounted"},
]


@pytest.fixture
def shop(folder: Path) -> Iterator[Daemon]:
    with started(folder, LINES) as daemon:
        yield daemon


# --- fewer seats than are held -------------------------------------------------------------------------------


def test_after_a_smaller_renewal_the_youngest_leases_are_withdrawn_at_their_deadline(shop: Daemon) -> None:
    with shop.client() as client:
        first, second, third = (acquire(client, holder, ttl=100) for holder in ("a", "b", "c"))
        acquire(client, "a", ttl=100)  # using it again does not make it younger
        grant(shop, [{"name": "kso.scales", "seats": 2}], seq=2)
        deadline = lease_of(client, third)["expires_s"]
        time.sleep(1.1)
        error = refusal(client, "seat.confirm", lease=third)
        assert (error.name, error.data["total"]) == ("SEATS_WITHDRAWN", 2)
        assert refusal(client, "seat.acquire", license="kso.scales", holder="c", ttl=100).name == "SEATS_WITHDRAWN"
        assert lease_of(client, third)["expires_s"] < deadline  # not prolonged, and not taken away
        assert client.call("seat.confirm", lease=first)["lease"] == first
        assert client.call("seat.confirm", lease=second)["lease"] == second
        assert refusal(client, "seat.acquire", license="kso.scales", holder="d").name == "NO_SEAT_FREE"
        warnings = client.call("server.status")["warnings"]
        assert any("kso.scales" in text and "3" in text and "2" in text for text in warnings)
        client.call("seat.release", lease=first)
        assert client.call("seat.confirm", lease=third)["lease"] == third


def test_the_rank_of_a_lease_outlives_a_restart_and_its_size_counts(shop: Daemon) -> None:
    with shop.client() as client:
        big = acquire(client, "z", seats=2)
        small = acquire(client, "a")
        shop.restart()
        grant(shop, [{"name": "kso.scales", "seats": 2}], seq=2)
        assert client.call("seat.confirm", lease=big)["lease"] == big
        assert refusal(client, "seat.confirm", lease=small).name == "SEATS_WITHDRAWN"
        grant(shop, [{"name": "kso.scales", "seats": 1}], seq=3)
        assert refusal(client, "seat.confirm", lease=big).name == "SEATS_WITHDRAWN"
        assert acquire(client, "z", seats=1) == big  # shrinking always works
        assert client.call("seat.confirm", lease=big)["lease"] == big


def test_the_leases_of_a_license_that_is_gone_end_at_their_deadline(shop: Daemon) -> None:
    with shop.client() as client:
        counted, uncounted = acquire(client, "a"), acquire(client, "a", "kso.camera")
        grant(shop, [{"name": "kso.single", "seats": 1}], seq=2)
        for lease in (counted, uncounted):
            assert refusal(client, "seat.confirm", lease=lease).name == "SEATS_WITHDRAWN"
            assert lease in leases(shop)
        assert refusal(client, "seat.acquire", license="kso.scales", holder="b").name == "NO_SUCH_LICENSE"
        assert client.call("seat.release", lease=counted) == {"released": True}


# --- deadlines, stalls, restarts -----------------------------------------------------------------------------
#
# A lease lives at least ten seconds, so these run beside the tests above: each begins, with a licd of its own, when the
# first test does.

Story = Callable[[Daemon], None]
STORIES: list[Story] = []


def story(function: Story) -> Callable[[Mapping[str, Future[None]]], None]:
    STORIES.append(function)

    def test(running: Mapping[str, Future[None]]) -> None:
        running[function.__name__].result()

    return test


def _tell(function: Story) -> None:
    with tempfile.TemporaryDirectory(prefix="licd-") as name:
        os.chmod(name, 0o755)
        with started(Path(name), LINES) as daemon:
            function(daemon)


@pytest.fixture(scope="module", autouse=True)
def running() -> Iterator[Mapping[str, Future[None]]]:
    with ThreadPoolExecutor(len(STORIES)) as pool:
        yield {function.__name__: pool.submit(_tell, function) for function in STORIES}


def age(began: float, seconds: float) -> None:
    time.sleep(max(0.0, began + seconds - time.monotonic()))


@story
def test_a_lease_ends_at_its_deadline_and_its_seat_goes_to_the_next(shop: Daemon) -> None:
    with shop.client() as client:
        lease, began = acquire(client, "till", "kso.single", ttl=10), time.monotonic()
        kept = acquire(client, "kept", ttl=10)
        age(began, 5)
        client.call("seat.confirm", lease=kept)
        age(began, 9.7)
        assert refusal(client, "seat.acquire", license="kso.single", holder="next").name == "NO_SEAT_FREE"
        age(began, 10.2)
        assert acquire(client, "next", "kso.single") != lease
        age(began, 12)
        assert lease_of(client, kept)["expires_s"] in (2, 3)  # confirmed at 5, so until 15


@story
def test_a_late_confirm_revives_the_lease_under_its_old_id_while_its_seat_is_free(shop: Daemon) -> None:
    with shop.client() as client:
        by_id, by_holder = acquire(client, "a", ttl=10), acquire(client, "b", ttl=10)
        taken, began = acquire(client, "till", "kso.single", ttl=10), time.monotonic()
        age(began, 10.3)
        assert leases(shop) == {}
        before = journal_bytes(shop)
        assert client.call("seat.confirm", lease=by_id)["lease"] == by_id
        assert journal_bytes(shop) > before  # like an acquire: recorded
        assert client.call("seat.confirm", license="kso.scales", holder="b")["lease"] == by_holder
        rival = acquire(client, "rival", "kso.single", ttl=10)
        assert refusal(client, "seat.confirm", lease=taken).name == "NO_SEAT_FREE"
        client.call("seat.release", lease=rival)
        assert client.call("seat.confirm", lease=taken)["lease"] == taken
        shop.restart()
        assert leases(shop).keys() == {by_id, by_holder, taken}


@story
def test_an_expired_lease_is_unknown_once_released_or_after_one_more_ttl(shop: Daemon) -> None:
    with shop.client() as client:
        lease, released = acquire(client, "a", ttl=10), acquire(client, "b", ttl=10)
        began = time.monotonic()
        age(began, 10.3)
        assert client.call("seat.release", lease=released) == {"released": False}
        assert refusal(client, "seat.confirm", lease=released).name == "LEASE_UNKNOWN"
        age(began, 20.2)
        assert refusal(client, "seat.confirm", lease=lease).name == "LEASE_UNKNOWN"
        assert refusal(client, "seat.confirm", license="kso.scales", holder="a").name == "LEASE_UNKNOWN"
        assert acquire(client, "a") != lease


@story
def test_an_expired_lease_is_not_remembered_over_a_restart(shop: Daemon) -> None:
    with shop.client() as client:
        lease, began = acquire(client, "a", ttl=10), time.monotonic()
        age(began, 10.3)
        acquire(client, "b")  # with this frame the end goes onto the disk
        shop.restart()
        assert refusal(client, "seat.confirm", lease=lease).name == "LEASE_UNKNOWN"


@story
def test_the_end_of_a_lease_alone_is_not_written_and_goes_out_with_the_next_frame(shop: Daemon) -> None:
    with shop.client() as client:
        lease, began = acquire(client, "a", ttl=10), time.monotonic()
        before = journal_bytes(shop)
        age(began, 10.3)
        assert (leases(shop), journal_bytes(shop)) == ({}, before)
        other = acquire(client, "b", seats=3)  # these seats are free because the first lease ended
        ended, granted = list(replay(shop.state).events)[-2:]
        assert ended == Expired(lease)
        assert isinstance(granted, Acquired)
        assert granted.lease == other


@story
def test_whoever_can_be_read_in_a_turn_is_in_time(shop: Daemon) -> None:
    with Pipeline(shop.socket) as rival, Pipeline(shop.socket) as holder, shop.client() as client:
        old = acquire(client, "old", "kso.single", ttl=10)
        new, began = acquire(client, "new", ttl=10), time.monotonic()
        rival.answer(rival.ask("server.hello"))
        holder.answer(holder.ask("server.hello"))
        before = journal_bytes(shop)
        age(began, 9.6)
        shop.pause()
        time.sleep(0.05)  # it has stopped: what follows is ready only when its wait has been interrupted
        rivals = rival.ask("seat.acquire", license="kso.single", holder="rival")
        holders = holder.ask("seat.confirm", lease=old)
        with Pipeline(shop.socket) as stranger:  # still to be accepted
            strangers = stranger.ask("seat.confirm", lease=new)
            age(began, 10.4)
            shop.resume()  # late by less than what counts as a stall
            with pytest.raises(CallError, match="NO_SEAT_FREE"):
                rival.answer(rivals)
            assert holder.answer(holders)["lease"] == old
            assert stranger.answer(strangers)["lease"] == new
        assert journal_bytes(shop) == before  # neither had expired: a revival would have been recorded


@story
def test_a_stall_gives_every_lease_its_full_ttl(shop: Daemon) -> None:
    with shop.client() as client, Pipeline(shop.socket) as rival:
        lease, began = acquire(client, "till", ttl=10), time.monotonic()
        before = journal_bytes(shop)
        shop.pause()
        asked = rival.ask("seat.acquire", license="kso.scales", holder="rival", seats=3)
        age(began, 12)  # two seconds after the deadline
        shop.resume()
        with pytest.raises(CallError, match="NO_SEAT_FREE"):
            rival.answer(asked)
        assert lease_of(client, lease)["expires_s"] >= 9
        assert journal_bytes(shop) == before  # it did not expire in between


def test_a_restart_gives_every_lease_its_full_ttl_again(shop: Daemon) -> None:
    with Program(shop.socket, TILL) as till:
        kept, bound = acquire(till, "a", ttl=10), acquire(till, "b", ttl=10, on_close="release")
        time.sleep(2.1)
        assert lease_of(shop, kept)["expires_s"] <= 7
        shop.restart()
        assert lease_of(shop, kept)["expires_s"] >= 9
        assert lease_of(shop, bound)["expires_s"] >= 9
