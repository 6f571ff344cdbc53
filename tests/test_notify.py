"""licd.daemon.notify: what systemd hears, on a real notification socket, and when it wants to hear it."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator

import pytest

from licd.daemon.notify import Notifier


class Systemd:
    """The end of NOTIFY_SOCKET that systemd reads."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def hears(self) -> list[str]:
        heard = []
        try:
            while True:
                heard.append(self._socket.recv(4096).decode("utf-8"))
        except BlockingIOError:
            return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(autouse=True)
def no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    with tempfile.TemporaryDirectory(prefix="licd-") as folder:
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/n")
        systemd = Systemd(f"{folder}/n")
        yield systemd
        systemd.close()


def test_each_word_is_heard_as_systemd_spells_it(systemd: Systemd) -> None:
    notifier = Notifier()
    assert systemd.hears() == []
    notifier.ready()
    notifier.alive()
    notifier.stopping()
    assert systemd.hears() == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_a_reload_says_when_it_began(systemd: Systemd) -> None:
    before = time.monotonic_ns() // 1000
    Notifier().reloading()
    (heard,) = systemd.hears()
    word, stamp = heard.split("\n")
    assert word == "RELOADING=1"
    assert stamp.startswith("MONOTONIC_USEC=")
    assert before <= int(stamp.partition("=")[2]) <= time.monotonic_ns() // 1000


def test_a_status_is_said_when_it_changes_and_only_then(systemd: Systemd) -> None:
    notifier = Notifier()
    for text in ("3 leases", "3 leases", "4 leases", "3 leases"):
        notifier.status(text)
    assert systemd.hears() == ["STATUS=3 leases", "STATUS=4 leases", "STATUS=3 leases"]


@pytest.mark.parametrize("text", ["é", "Лицензия истекла", "ライセンス", "vendor.d/café: 3 €"])
def test_a_status_in_any_language_arrives_in_utf8(systemd: Systemd, text: str) -> None:
    Notifier().status(text)
    assert systemd.hears() == [f"STATUS={text}"]


def test_a_status_with_bytes_that_are_not_utf8_still_arrives(systemd: Systemd) -> None:
    Notifier().status("/srv/\udcff: No such file")
    assert systemd.hears() == ["STATUS=/srv/?: No such file"]


def test_a_status_of_two_lines_says_nothing_else_to_systemd(systemd: Systemd) -> None:
    Notifier().status("the journal is damaged\nREADY=1")
    assert systemd.hears() == ["STATUS=the journal is damaged READY=1"]


def test_an_abstract_socket_hears_just_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"licd-test-{os.getpid()}"
    systemd = Systemd(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    Notifier().ready()
    assert systemd.hears() == ["READY=1"]
    systemd.close()


@pytest.mark.parametrize("address", [None, "", "/no/such/socket", "relative"])
def test_without_a_listener_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notifier = Notifier()
    notifier.ready()
    notifier.reloading()
    notifier.status("3 leases")
    notifier.alive()
    notifier.stopping()


def test_a_systemd_that_has_gone_harms_nobody(systemd: Systemd) -> None:
    notifier = Notifier()
    systemd.close()
    notifier.ready()
    notifier.alive()


# --- the watchdog --------------------------------------------------------------------------------------------


def test_the_watchdog_is_pinged_twice_as_often_as_systemd_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "180000000")
    assert Notifier().watchdog_s == 90.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert Notifier().watchdog_s == 90.0


@pytest.mark.parametrize("pid", ["1", "", "0", "-1", "me"])
def test_a_watchdog_for_another_process_is_none_of_ours(monkeypatch: pytest.MonkeyPatch, pid: str) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "180000000")
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert Notifier().watchdog_s is None


@pytest.mark.parametrize("usec", [None, "", "0", "-1", "1e6", "0x10", "soon", " ", "²"])
def test_without_a_proper_time_there_is_no_watchdog(monkeypatch: pytest.MonkeyPatch, usec: str | None) -> None:
    if usec is not None:
        monkeypatch.setenv("WATCHDOG_USEC", usec)
    assert Notifier().watchdog_s is None
