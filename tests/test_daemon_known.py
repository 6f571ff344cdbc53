"""Requests that licd has heard before, word for word: it does not read them again, and yet judges them anew."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.device import device
from tests.support.needs import needs_root
from tests.support.process import resident_kib
from tests.support.raw import Raw, connect_as, pack, request

SOMEBODY, OTHER = 51001, 51002  # uids of programs
OVERFLOW = 65534
HOLD = {"license": "kso.scan", "holder": "till-1"}
SETTINGS: dict[str, object] = {"socket_mode": "0666"}


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with device(settings=SETTINGS) as licd:
        yield licd


def reworded(msgid: bytes, method: str, *params: Any) -> bytes:
    """A request whose msgid is in these bytes."""
    said = request(0, method, *params)
    return said[:2] + msgid + said[3:]


MSGIDS = [
    *[(pack(number), number) for number in (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 2**32 - 1)],
    (b"\xcc\x05", 5),  # wider than it needs to be
    (b"\xcd\x00\x05", 5),
    (b"\xce\x00\x00\x00\x05", 5),
    (b"\xcf\x00\x00\x00\x00\x00\x00\x00\x05", 5),
    (b"\xd0\x05", 5),
    (b"\xd3\x00\x00\x00\x00\xff\xff\xff\xff", 2**32 - 1),
]


@pytest.mark.parametrize(("msgid", "number"), MSGIDS, ids=[msgid.hex() for msgid, _ in MSGIDS])
def test_whatever_msgid_comes_with_it_a_known_request_is_answered_under_that(
    daemon: Daemon, msgid: bytes, number: int
) -> None:
    with Raw(daemon.socket) as raw:
        lease = raw.call("seat.acquire", **HOLD)["lease"]
        deadlines = []
        for words in (request(1, "seat.confirm", HOLD), reworded(msgid, "seat.confirm", HOLD)) * 2:
            raw.send(words)
            kind, answered, error, result = raw.read()
            assert (kind, error, result["lease"]) == (1, None, lease)
            deadlines.append(result["deadline"])
        assert answered == number
        assert deadlines == sorted(set(deadlines))  # each was carried out


@pytest.mark.parametrize("msgid", [b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00", b"\xff", b"\xc0", b"\xcb" + bytes(8)])
def test_a_known_request_under_what_is_no_msgid_is_a_violation(daemon: Daemon, msgid: bytes) -> None:
    with Raw(daemon.socket) as raw:
        raw.call("seat.acquire", **HOLD)
        raw.call("seat.confirm", **HOLD)
        raw.send(reworded(msgid, "seat.confirm", HOLD))
        assert raw.goodbye() == "BAD_MESSAGE"


@needs_root
def test_what_an_administrator_said_others_may_not_say_after_him(daemon: Daemon) -> None:
    with Raw(daemon.socket) as admin:
        assert admin.call("license.export")["seq"] == 1
        assert admin.call("license.export")["seq"] == 1
        with connect_as(daemon.socket, SOMEBODY) as client:
            for _ in range(2):
                assert client.refusal("license.export", {}) == "NOT_PERMITTED"
        with connect_as(daemon.socket, OVERFLOW) as nobody:
            admin.call("license.check", license="kso.scan")
            assert nobody.refusal("license.check", {"license": "kso.scan"}) == "PEER_UNKNOWN"
        assert admin.call("license.export")["seq"] == 1


@needs_root
def test_who_is_meant_is_who_says_it_and_not_who_said_it_first(daemon: Daemon) -> None:
    with connect_as(daemon.socket, SOMEBODY) as one, connect_as(daemon.socket, OTHER) as two:
        leases = [raw.call("seat.acquire", **HOLD)["lease"] for raw in (one, two)]
        assert leases[0] != leases[1]
        for _ in range(2):
            assert [raw.call("seat.confirm", **HOLD)["lease"] for raw in (one, two)] == leases
            assert one.call("seat.confirm", lease=leases[0])["lease"] == leases[0]
            assert two.refusal("seat.confirm", {"lease": leases[0]}) == "NOT_OWNER"
        assert [lease["uid"] for lease in one.call("seat.list")["leases"]] == [SOMEBODY]
        assert [lease["uid"] for lease in two.call("seat.list")["leases"]] == [OTHER]


def test_a_known_request_is_answered_as_things_stand_now(daemon: Daemon) -> None:
    with Raw(daemon.socket) as raw, Raw(daemon.socket) as rival:
        first = raw.call("seat.acquire", **HOLD)["lease"]
        assert raw.call("seat.acquire", **HOLD)["lease"] == first
        assert raw.call("seat.release", **HOLD) == {"released": True}
        assert raw.call("seat.release", **HOLD) == {"released": False}
        assert raw.refusal("seat.confirm", HOLD) == "LEASE_UNKNOWN"
        rival.call("seat.acquire", license="kso.scan", holder="rival", seats=3)
        assert raw.refusal("seat.acquire", HOLD) == "NO_SEAT_FREE"
        rival.call("seat.release", license="kso.scan", holder="rival")
        assert raw.call("seat.acquire", **HOLD)["lease"] != first
        assert raw.call("seat.confirm", **HOLD)["deadline"]


def test_a_known_request_is_judged_by_the_configuration_of_now(daemon: Daemon) -> None:
    long = {**HOLD, "ttl": 600}
    with Raw(daemon.socket) as raw:
        for _ in range(2):
            raw.call("seat.acquire", **long)
        daemon.configure(**SETTINGS, max_ttl=60)
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_for("READY=1")
        assert raw.refusal("seat.acquire", long) == "BAD_PARAMS"
        assert raw.call("server.hello")["limits"]["ttl_s"] == 60


def test_a_known_request_in_pieces_or_among_others_is_one_request(daemon: Daemon) -> None:
    with Raw(daemon.socket) as raw, Raw(daemon.socket) as other:
        raw.call("seat.acquire", **HOLD)
        raw.call("seat.confirm", **HOLD)
        for at in (1, 3, 4, 20):
            words = request(7, "seat.confirm", HOLD)
            raw.send(words[:at])
            other.call("server.hello")  # licd has read the piece
            raw.send(words[at:])
            assert raw.read()[:3] == [1, 7, None]
        half = len(words) // 2
        for _ in range(2):
            raw.send(request(8, "seat.confirm", HOLD) + request(9, "seat.confirm", HOLD) + words[:half])
            assert [raw.read()[1] for _ in range(2)] == [8, 9]
            raw.send(words[half:])
            assert raw.read()[1] == 7
        # Known words behind the begin of something longer are a part of that.
        said = request(0, "seat.confirm", HOLD)
        raw.send(b"\x94\x00\x01\xadserver.status\x91\x81\xa1x\xc4" + bytes([len(said)]))
        other.call("server.hello")
        raw.send(said)
        assert raw.read()[2]["name"] == "BAD_PARAMS"
        assert raw.call("seat.confirm", **HOLD)["lease"]


def test_a_notification_in_known_words_is_carried_out_and_not_answered(daemon: Daemon) -> None:
    with Raw(daemon.socket) as raw:
        raw.call("seat.acquire", **HOLD)
        for _ in range(3):
            raw.send(pack([2, "seat.release", [HOLD]]))
            assert raw.refusal("seat.confirm", HOLD) == "LEASE_UNKNOWN"
            assert raw.call("seat.acquire", **HOLD)["seats"] == 1


@needs_root
@pytest.mark.parametrize("meanwhile", [1000, 1500, 2500], ids=["kept", "set-aside", "forgotten"])
def test_words_of_long_ago_are_answered_by_the_same_rules(daemon: Daemon, meanwhile: int) -> None:
    with Raw(daemon.socket) as admin, connect_as(daemon.socket, SOMEBODY) as client:
        lease = admin.call("seat.acquire", **HOLD)["lease"]
        for n in range(2):
            admin.call("seat.confirm", **HOLD)
            assert admin.call("license.export")["seq"] == 1
            for m in range(meanwhile):
                version = f"{n}.{m}"
                admin.call("license.check", license="kso.scan", version=version)
            assert client.refusal("license.export", {}) == "NOT_PERMITTED"
            assert client.refusal("seat.confirm", HOLD) == "LEASE_UNKNOWN"
            assert admin.call("seat.confirm", **HOLD)["lease"] == lease


def test_however_many_different_requests_come_they_are_not_kept(daemon: Daemon) -> None:
    with Raw(daemon.socket) as raw:

        def ask(n: int) -> None:
            raw.send(request(1, "license.check", {"license": "kso.scan", "version": ".".join(["1"] * 7 + [str(n)])}))
            assert raw.read()[2] is None

        for n in range(2000):
            ask(n)
        before = resident_kib(daemon.pid)
        for n in range(20_000, 36_000):
            ask(n)
        assert resident_kib(daemon.pid) < before + 1024
