"""Who may do what at the real licd, by the kernel's word about who connected."""

from __future__ import annotations

import grp
import os
import signal
from collections.abc import Iterator, Sequence

import pytest

from tests.support.daemon import Daemon
from tests.support.device import as_user, device, vendor
from tests.support.needs import needs_root
from tests.support.raw import Raw, connect_as, pack, request

pytestmark = needs_root

ADMINS, COURIERS = [group for group in grp.getgrall() if 0 < group.gr_gid < 1000][:2]
OVERFLOW_UID = 65534
DAEMON_UID = 51100

CLIENT_METHODS = {
    *("server.hello", "server.status", "seat.acquire", "seat.confirm", "seat.release", "seat.list"),
    *("license.check", "license.list"),
}
COURIER_METHODS = {"renewal.plan", "renewal.request", "renewal.report"}
ADMIN_METHODS = {
    *("license.import", "license.export", "install.import", "install.request", "device.fingerprint"),
    *COURIER_METHODS,
}
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with device(
        settings={"socket_mode": "0666", "admin_group": ADMINS.gr_name, "courier_group": COURIERS.gr_name},
        wrap=as_user(DAEMON_UID),
        owner=DAEMON_UID,
    ) as licd:
        yield licd


def roles(raw: Raw) -> list[str]:
    with raw:
        found: list[str] = raw.call("server.hello")["roles"]
        return found


MANY_GROUPS = [*range(60_000, 60_299), ADMINS.gr_gid]  # more than Python's getsockopt can take in one call


@pytest.mark.parametrize(
    ("uid", "gid", "groups"),
    [
        (0, 0, []),
        (DAEMON_UID, DAEMON_UID, []),
        (51001, ADMINS.gr_gid, []),
        (51001, 51001, [ADMINS.gr_gid]),
        (51001, 51001, [60_000, ADMINS.gr_gid, 60_001]),
        (51001, 51001, MANY_GROUPS),
        (51001, COURIERS.gr_gid, [ADMINS.gr_gid]),
    ],
    ids=[
        *("root", "licd itself", "the group", "a group besides", "one of many groups", "the last of 300 groups"),
        "a courier besides",
    ],
)
def test_root_licds_own_user_and_the_admin_group_are_administrators(
    daemon: Daemon, uid: int, gid: int, groups: Sequence[int]
) -> None:
    assert roles(connect_as(daemon.socket, uid, gid, groups)) == ["client", "courier", "admin"]


@pytest.mark.parametrize(
    ("uid", "gid", "groups"),
    [(51001, 51001, []), (51001, 0, [0]), (ADMINS.gr_gid, 51001, []), (51001, 51001, MANY_GROUPS[:-1])],
    ids=["a user", "the group of root", "a uid with the number of the admin group", "299 other groups"],
)
def test_everybody_else_is_a_client(daemon: Daemon, uid: int, gid: int, groups: Sequence[int]) -> None:
    assert roles(connect_as(daemon.socket, uid, gid, groups)) == ["client"]


def test_what_hello_lists_is_what_may_be_called_and_nothing_else_may(daemon: Daemon) -> None:
    with connect_as(daemon.socket, 51001) as client, Raw(daemon.socket) as admin:
        assert set(client.call("server.hello")["methods"]) == CLIENT_METHODS
        assert set(admin.call("server.hello")["methods"]) == CLIENT_METHODS | ADMIN_METHODS
        for method in ADMIN_METHODS:
            assert client.refusal(method, {}) == "NOT_PERMITTED"
        for method in CLIENT_METHODS - {"server.hello", "server.status", "seat.list", "license.list"}:
            assert client.refusal(method, {}) == "BAD_PARAMS"  # it came as far as its arguments


def test_a_client_cannot_import_even_a_good_file(daemon: Daemon) -> None:
    document = vendor().license_file(seq=2, lines=[{"name": "kso.extra", "seats": 9}])
    with connect_as(daemon.socket, 51001) as client:
        for dry_run in (True, False):
            assert client.refusal("license.import", {"document": document, "dry_run": dry_run}) == "NOT_PERMITTED"
        assert client.call("license.check", license="kso.extra")["valid"] is False


def test_a_member_of_the_admin_group_may_import_and_send_a_megabyte(daemon: Daemon) -> None:
    with connect_as(daemon.socket, 51001, groups=[ADMINS.gr_gid]) as admin:
        assert admin.call("license.import", document=vendor().license_file(seq=2), dry_run=True)["dry_run"] is True
        document = b"#" * (MEGABYTE - 1) + b"\n"
        assert admin.refusal("license.import", {"document": document}) in ("BAD_DOCUMENT", "DAMAGED_DOCUMENT")


# --- couriers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gid", "groups"),
    [(COURIERS.gr_gid, []), (51001, [COURIERS.gr_gid]), (51001, [60_000, COURIERS.gr_gid, 60_001])],
    ids=["its own group", "a group besides", "one of many groups"],
)
def test_a_member_of_the_courier_group_is_a_courier_and_no_client(
    daemon: Daemon, gid: int, groups: Sequence[int]
) -> None:
    assert roles(connect_as(daemon.socket, 51001, gid, groups)) == ["courier"]


@pytest.mark.parametrize(
    ("uid", "gid", "groups"), [(COURIERS.gr_gid, 51001, []), (51001, 51001, [0, 60_000])], ids=["a uid", "others"]
)
def test_nobody_else_is_a_courier(daemon: Daemon, uid: int, gid: int, groups: Sequence[int]) -> None:
    assert roles(connect_as(daemon.socket, uid, gid, groups)) == ["client"]


def test_a_courier_may_say_hello_and_carry_renewals_and_nothing_else(daemon: Daemon) -> None:
    with connect_as(daemon.socket, 51001, groups=[COURIERS.gr_gid]) as courier:
        assert set(courier.call("server.hello")["methods"]) == {"server.hello", *COURIER_METHODS}
        for method in (CLIENT_METHODS | ADMIN_METHODS) - COURIER_METHODS - {"server.hello"}:
            assert courier.refusal(method, {}) == "NOT_PERMITTED"
        assert courier.refusal("seat.acquire", {"license": "kso.pos", "holder": "courier"}) == "NOT_PERMITTED"
        document = vendor().license_file(seq=2)
        assert courier.refusal("license.import", {"document": document, "dry_run": True}) == "NOT_PERMITTED"
        for method in COURIER_METHODS:
            assert courier.refusal(method, {"no": "such argument"}) == "BAD_PARAMS"


def test_the_refusal_of_a_courier_says_what_it_would_need(daemon: Daemon) -> None:
    with connect_as(daemon.socket, 51001, groups=[COURIERS.gr_gid]) as courier:
        courier.send(request(1, "server.status", {}))
        error = courier.read()[2]
        assert error["name"] == "NOT_PERMITTED"
        assert error["data"]["needs"] == "client"


def test_a_client_carries_no_renewals(daemon: Daemon) -> None:
    with connect_as(daemon.socket, 51001) as client:
        for method in COURIER_METHODS:
            assert client.refusal(method, {}) == "NOT_PERMITTED"


def test_notifications_of_a_courier_change_nothing(daemon: Daemon) -> None:
    with Raw(daemon.socket) as admin, connect_as(daemon.socket, 0) as holder:
        lease = holder.call("seat.acquire", license="kso.pos", holder="till", ttl=60)["lease"]
        with connect_as(daemon.socket, 51001, groups=[COURIERS.gr_gid]) as courier:
            courier.send(pack([2, "seat.release", [{"lease": lease}]]))
            courier.call("server.hello")
        assert lease in [each["lease"] for each in admin.call("seat.list")["leases"]]
        assert holder.call("seat.release", lease=lease)["released"] is True


@pytest.mark.parametrize("who", ["courier", "admin"])
def test_a_courier_may_send_as_much_as_a_document_has_and_not_more(daemon: Daemon, who: str) -> None:
    groups = {"courier": [COURIERS.gr_gid], "admin": [ADMINS.gr_gid]}[who]
    with connect_as(daemon.socket, 51001, groups=groups) as raw:
        limit = raw.call("server.hello")["limits"]["message_bytes"]
        assert raw.refusal("server.hello", {"document": bytes(MEGABYTE)}) == "BAD_PARAMS"
        raw.send_all_there_is_room_for(request(3, "server.hello", {"document": bytes(limit)}))
        assert raw.goodbye() == "MESSAGE_TOO_LARGE"


def test_a_client_may_not(daemon: Daemon) -> None:
    with connect_as(daemon.socket, 51001) as client:
        client.send_all_there_is_room_for(request(3, "server.hello", {"document": bytes(MEGABYTE)}))
        assert client.goodbye() == "MESSAGE_TOO_LARGE"


def test_without_a_courier_group_nobody_but_administrators_carries_renewals() -> None:
    with device(settings={"socket_mode": "0666"}) as licd:
        assert roles(connect_as(licd.socket, 51001, groups=[COURIERS.gr_gid])) == ["client"]


def test_a_reload_makes_couriers_of_those_who_come_later() -> None:
    settings: dict[str, object] = {"socket_mode": "0666"}
    with device(settings=settings) as licd:
        before = connect_as(licd.socket, 51001, groups=[COURIERS.gr_gid])
        before.call("server.hello")  # now it has been accepted
        licd.configure(**settings, courier_group=COURIERS.gr_name)
        os.kill(licd.pid, signal.SIGHUP)
        licd.wait_for("READY=1")
        assert roles(connect_as(licd.socket, 51001, groups=[COURIERS.gr_gid])) == ["courier"]
        assert roles(before) == ["client"]


# --- whom the kernel cannot name ---------------------------------------------------------------------------------


def test_a_peer_whom_the_kernel_cannot_name_may_say_hello_and_nothing_else(daemon: Daemon) -> None:
    with connect_as(daemon.socket, OVERFLOW_UID) as nobody:
        hello = nobody.call("server.hello")
        assert (hello["roles"], hello["methods"]) == ([], ["server.hello"])
        for method in CLIENT_METHODS | ADMIN_METHODS:
            if method != "server.hello":
                assert nobody.refusal(method, {}) == "PEER_UNKNOWN"
        assert nobody.refusal("seat.acquire", {"license": "kso.pos", "holder": "nobody"}) == "PEER_UNKNOWN"


@pytest.mark.parametrize("group", [OVERFLOW_UID, 0, ADMINS.gr_gid, COURIERS.gr_gid])
def test_no_group_makes_an_administrator_or_courier_of_a_peer_whom_the_kernel_cannot_name(
    daemon: Daemon, group: int
) -> None:
    assert roles(connect_as(daemon.socket, OVERFLOW_UID, group, [group])) == []


def test_a_licd_that_runs_as_nobody_takes_not_everybody_for_itself() -> None:
    with device(settings={"socket_mode": "0666"}, wrap=as_user(OVERFLOW_UID), owner=OVERFLOW_UID) as licd:
        assert roles(connect_as(licd.socket, OVERFLOW_UID)) == []
        assert roles(connect_as(licd.socket, 0)) == ["client", "courier", "admin"]


# --- the socket itself -------------------------------------------------------------------------------------------


def test_the_rights_of_a_connection_are_those_of_the_moment_it_was_accepted(daemon: Daemon) -> None:
    with connect_as(daemon.socket, 51001) as client:  # this process is root again when it asks
        assert client.refusal("license.export", {}) == "NOT_PERMITTED"
        assert client.call("server.hello")["uid"] == 51001


def test_a_client_sees_only_its_own_leases_and_an_administrator_all(daemon: Daemon) -> None:
    with connect_as(daemon.socket, 51001) as one, connect_as(daemon.socket, 51002) as two, Raw(daemon.socket) as admin:
        for raw in (one, two):
            raw.call("seat.acquire", license="kso.pos", holder="till", on_close="release")
        assert [lease["uid"] for lease in one.call("seat.list")["leases"]] == [51001]
        assert [lease["uid"] for lease in two.call("seat.list")["leases"]] == [51002]
        assert [lease["uid"] for lease in admin.call("seat.list")["leases"]] == [51001, 51002]


def test_without_an_admin_group_only_root_and_licds_own_user_are_administrators() -> None:
    with device(settings={"socket_mode": "0666"}, wrap=as_user(DAEMON_UID), owner=DAEMON_UID) as licd:
        assert roles(connect_as(licd.socket, 51001, groups=[ADMINS.gr_gid])) == ["client"]
        assert roles(connect_as(licd.socket, DAEMON_UID)) == ["client", "courier", "admin"]


def test_the_mode_of_the_socket_keeps_others_out() -> None:
    with device(settings={"socket_mode": "0600"}) as licd:
        with pytest.raises(PermissionError):
            connect_as(licd.socket, 51001)
        assert licd.socket.stat().st_mode & 0o777 == 0o600


def test_the_group_of_the_socket_lets_its_members_in() -> None:
    with device(settings={"socket_mode": "0660", "socket_group": ADMINS.gr_name}) as licd:
        with pytest.raises(PermissionError):
            connect_as(licd.socket, 51001)
        assert roles(connect_as(licd.socket, 51001, groups=[ADMINS.gr_gid])) == ["client"]
