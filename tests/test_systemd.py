"""licd as a service of a real systemd, from the package: how it is started, watched, reloaded and ended."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from licd.rpc.client import CallError, Client, ClientError
from tests.support import pki
from tests.support.needs import needs_container, needs_debhelper
from tests.support.shop import SOCKET, STATE, Load, Shop

pytestmark = [needs_container, needs_debhelper]


@pytest.fixture(scope="module")
def machine() -> Iterator[Shop]:
    with Shop() as shop:
        yield shop


@pytest.fixture
def shop(machine: Shop) -> Iterator[Shop]:
    """Runs, with a license in force and no seats held; what a test has put beside the unit is gone after it."""
    machine.systemctl("start", "licd.service")
    if not machine.call("license.list")["licenses"]:
        machine.license()
    yield machine
    machine.drop_in("licd.service", "")
    machine.systemctl("reset-failed")
    for holder, lease in machine.leases().items():
        machine.call("seat.release", lease=lease, reason=f"{holder}: the test is over")


def in_background(licd: Shop | Client, method: str, **params: Any) -> tuple[threading.Thread, list[Any]]:
    """A call, and where its answer will be, or its error."""
    answers: list[Any] = []

    def ask() -> None:
        try:
            answers.append(licd.call(method, **params))
        except ClientError as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, answers


def another_runs(shop: Shop, pid: int) -> None:
    """Soon, in the place of this one."""
    shop.wait_until(lambda: shop.pid not in (0, pid))


@contextlib.contextmanager
def locked(shop: Shop) -> Iterator[None]:
    """Another process has the state folder."""
    with shop.path(f"{STATE}/lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- the start -------------------------------------------------------------------------------------------------


def test_the_first_connect_starts_it(machine: Shop) -> None:
    assert machine.systemctl("is-active", "licd.socket", "licd.service").split() == ["active", "inactive"]
    assert machine.call("server.status")["health"] == "ok"
    assert machine.systemctl("is-active", "licd.socket", "licd.service").split() == ["active", "active"]


def test_it_is_ready_only_when_clients_are_served_and_says_meanwhile_what_it_waits_for(shop: Shop) -> None:
    shop.systemctl("stop", "licd.service")
    with locked(shop):
        waiting, answers = in_background(shop, "server.status")
        shop.wait_until(lambda: "waiting for" in shop.status)
        assert shop.systemctl("is-active", "licd.service") == "activating"
        assert not answers
    waiting.join()
    assert answers[0]["health"] == "ok"
    assert shop.systemctl("is-active", "licd.service") == "active"


def test_a_lock_that_is_held_longer_than_a_start_may_take_is_waited_for(shop: Shop) -> None:
    shop.systemctl("stop", "licd.service")
    shop.drop_in("licd.service", "[Service]\nTimeoutStartSec=1s\n")
    with locked(shop):
        starting = shop.popen("systemctl", "start", "licd.service")
        time.sleep(4)
        assert shop.systemctl("is-active", "licd.service") == "activating"
    assert starting.wait() == 0
    assert shop.show("licd.service", "NRestarts") == {"NRestarts": "0"}


# --- what it tells -----------------------------------------------------------------------------------------------


def test_status_tells_licenses_and_seats(shop: Shop) -> None:
    assert shop.status.startswith("1 of 1 licenses valid, 0 of 5000 seats held")
    shop.call("seat.acquire", license="kso.scan", holder="till", seats=3)
    shop.wait_until(lambda: "3 of 5000 seats held" in shop.status)


def test_messages_have_their_priority_in_the_journal(shop: Shop) -> None:
    shop.systemctl("restart", "licd.service")
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(shop.path(SOCKET)))
        stream.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stream.recv(1 << 16)
    stop, start, violation = shop.journal("licd.service", "--lines=3")
    assert stop == "6 stopped"
    assert start.startswith("6 licd ")
    assert violation.startswith("4 closed a connection of uid 0")


# --- the end, and what comes after --------------------------------------------------------------------------------


def test_kill_9_under_load_costs_no_lease_and_no_client_more_than_a_reconnect(shop: Shop) -> None:
    inode, pid = shop.path(SOCKET).stat().st_ino, shop.pid
    with Load(shop) as load:
        for _ in range(3):
            shop.run("kill", "-KILL", shop.pid)
            load.goes_on()
    assert not load.errors
    assert load.granted.items() <= shop.leases().items()
    assert shop.path(SOCKET).stat().st_ino == inode
    assert shop.pid != pid


def test_who_connected_to_one_that_was_killed_before_it_answered_is_served_by_the_next(shop: Shop) -> None:
    pid = shop.pid
    shop.run("kill", "-STOP", pid)
    with shop.client() as licd:
        licd.retry = False
        waiting, answers = in_background(licd, "server.status")
        time.sleep(0.2)
        shop.run("kill", "-KILL", pid)
        waiting.join()
    assert answers[0]["pid"] not in (0, pid)


def test_sigterm_under_load_costs_no_answered_lease(shop: Shop) -> None:
    with Load(shop) as load:
        shop.systemctl("restart", "licd.service")
        load.goes_on()
    assert not load.errors
    assert load.granted.items() <= shop.leases().items()


def test_more_kills_than_any_start_limit_still_leave_the_shop_open(shop: Shop) -> None:
    shop.drop_in("licd.service", "[Service]\nRestartSec=1ms\n")
    for _ in range(12):  # systemd's default is 5 in 10 s
        pid = shop.pid
        shop.run("kill", "-KILL", pid)
        another_runs(shop, pid)
    assert shop.call("server.status")["health"] == "ok"


def test_one_that_hangs_is_ended_by_the_watchdog_and_comes_back(shop: Shop) -> None:
    assert shop.show("licd.service", "WatchdogUSec") == {"WatchdogUSec": "3min"}
    shop.drop_in("licd.service", "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n")
    shop.systemctl("restart", "licd.service")
    lease = shop.call("seat.acquire", license="kso.scan", holder="till", ttl=600)["lease"]
    pid = shop.pid
    time.sleep(3)
    assert shop.pid == pid  # it pings
    shop.run("kill", "-STOP", pid)
    another_runs(shop, pid)
    assert shop.leases() == {"till": lease}
    assert "watchdog" in shop.run("journalctl", "--unit=licd.service", "--lines=20").lower()


@pytest.mark.parametrize("status", [70, 71, 74, 75])
def test_after_a_failure_that_may_pass_it_is_started_again_without_limit(shop: Shop, status: int) -> None:
    failing = f"[Service]\nType=exec\nRestartSec=1ms\nExecStart=\nExecStart=/bin/sh -c 'exit {status}'\n"
    shop.systemctl("stop", "licd.service")
    shop.drop_in("licd.service", failing)
    shop.systemctl("start", "licd.service")
    shop.wait_until(lambda: int(shop.show("licd.service", "NRestarts")["NRestarts"]) > 6)  # default: 5 in 10 s
    shop.drop_in("licd.service", "")
    assert shop.call("server.status")["health"] == "ok"


def test_a_wrong_configuration_does_not_restart_and_the_client_that_waits_is_served_once_it_is_right(
    shop: Shop,
) -> None:
    right = shop.path("/etc/licd/licd.conf").read_text()
    shop.systemctl("stop", "licd.service")
    shop.drop_in("licd.service", "[Service]\nExecStopPost=\nExecStopPost=/bin/sleep 1\n")  # in place of its 10 seconds
    shop.put(f"{right}\nmax_ttl = 1\n", "/etc/licd/licd.conf")
    try:
        shop.systemctl("start", "licd.service")
        time.sleep(2.5)  # RestartSec=
        assert shop.show("licd.service", "ActiveState", "Result", "NRestarts", "ExecMainStatus") == {
            "ActiveState": "failed",
            "Result": "exit-code",
            "NRestarts": "0",
            "ExecMainStatus": "78",
        }
        assert any(line.startswith("3 ") and "max_ttl must be" in line for line in shop.journal("licd.service"))
        waiting, answers = in_background(shop, "server.status")
        time.sleep(2.5)
        tries = shop.journal("licd.service")
        assert not answers
    finally:
        shop.put(right, "/etc/licd/licd.conf")
    waiting.join()
    assert answers[0]["health"] == "ok"
    assert sum("max_ttl must be" in line for line in tries) <= 5  # one a second, not as fast as the processor can


def test_the_unit_is_held_for_seconds_after_a_wrong_configuration_only(shop: Shop) -> None:
    commands = shop.show("licd.service", "ExecStopPost")["ExecStopPost"]
    assert "sleep 10" in commands
    shop.run("systemctl", "stop", "licd.service", timeout_s=5)


# --- reload ------------------------------------------------------------------------------------------------------


def test_a_reload_brings_configuration_and_trust_anchors(shop: Shop) -> None:
    umbra = pki.Vendor("umbra", ("umb.*",))
    umbra.write_profile(shop.path("/etc/licd/vendor.d"))
    right = shop.path("/etc/licd/licd.conf").read_text()
    shop.put(f"{right}\nmax_ttl = 60\n", "/etc/licd/licd.conf")
    document, pid = umbra.license_file(1, [{"name": "umb.pos", "seats": 1}]), shop.pid
    with pytest.raises(CallError):
        shop.call("license.import", document=document)
    assert shop.call("seat.acquire", license="kso.scan", holder="before", ttl=600)
    try:
        shop.reload()
        assert shop.pid == pid
        shop.call("license.import", document=document)
        assert shop.call("license.check", license="umb.pos")
        with pytest.raises(CallError, match="at most 60 s"):
            shop.call("seat.acquire", license="kso.scan", holder="after", ttl=600)
    finally:
        shop.put(right, "/etc/licd/licd.conf")
        shop.reload()


def test_a_reload_of_a_broken_configuration_changes_nothing_and_says_so(shop: Shop) -> None:
    right = shop.path("/etc/licd/licd.conf").read_text()
    shop.put(f"{right}\nmax_ttl = 1\n", "/etc/licd/licd.conf")
    try:
        shop.reload()
        shop.wait_until(lambda: "the reload was refused" in shop.status)
        assert shop.journal("licd.service", "--lines=1")[0].startswith("3 the reload was refused")
        assert shop.call("seat.acquire", license="kso.scan", holder="till", ttl=600)
    finally:
        shop.put(right, "/etc/licd/licd.conf")
    shop.reload()
    shop.wait_until(lambda: "refused" not in shop.status)


# --- what it leaves alone ------------------------------------------------------------------------------------------


def test_idle_it_neither_wakes_nor_writes(shop: Shop) -> None:
    shop.call("seat.acquire", license="kso.scan", holder="till", ttl=600)
    time.sleep(1.5)  # the last STATUS=
    pid = shop.pid

    def counted() -> tuple[str, str]:
        # Of write(2), not what reached a disk: the container is in memory.
        woken, written = f"grep ctxt /proc/{pid}/status", f"grep -E 'wchar|syscw' /proc/{pid}/io"
        return shop.run("sh", "-c", woken), shop.run("sh", "-c", written)

    before = counted()
    time.sleep(5)
    assert counted() == before
    # The controls: what happens is counted.
    shop.call("server.status")
    asked = counted()
    assert asked[0] != before[0]
    shop.call("seat.acquire", license="kso.scan", holder="another till", ttl=600)
    assert counted()[1] != asked[1]


def test_socket_and_state_folder_are_for_those_they_are_for(shop: Shop) -> None:
    shown = shop.run(
        "sh", "-c", f"stat -c '%U %G %a %n' {SOCKET} {STATE} {STATE}/device.key {STATE}/journal {STATE}/lock"
    )
    assert shown.splitlines() == [
        f"root licd-client 660 {SOCKET}",
        f"licd licd 700 {STATE}",
        f"licd licd 600 {STATE}/device.key",
        f"licd licd 600 {STATE}/journal",
        f"licd licd 600 {STATE}/lock",
    ]
    assert shop.run("find", STATE, "!", "-user", "licd") == ""


def test_it_has_written_nowhere_but_into_its_state_folder(shop: Shop) -> None:
    places = ("/dev/shm", "/etc", "/home", "/opt", "/run", "/srv", "/tmp", "/usr/lib/licd", "/var")
    found = shop.run("find", *places, "-user", "licd").splitlines()
    assert STATE in found
    assert [path for path in found if path != STATE and not path.startswith(f"{STATE}/")] == []
