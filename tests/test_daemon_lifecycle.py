"""The life of the real process as systemd sees it: start, words, signals, watchdog, end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.device import as_user, device
from tests.support.needs import needs_root
from tests.support.process import comes_to_rest, cpu_s, wake_ups
from tests.support.raw import Raw, request

OK = 0
STATUS = "STATUS=2 of 2 licenses valid, "


def heard(licd: Daemon, seconds: float) -> list[str]:
    """All that systemd is told meanwhile."""
    until, messages = time.monotonic() + seconds, []
    while (left := until - time.monotonic()) > 0:
        message = licd.hear(left)
        if message is not None:
            messages.append(message)
    return messages


# --- start ----------------------------------------------------------------------------------------------------


def test_ready_is_said_once_and_from_then_on_clients_are_served(stopped: Daemon) -> None:
    stopped.start(wait=False)
    assert not stopped.socket.exists()
    while stopped.hear(10.0) != "READY=1":
        assert stopped.poll() is None
    with Raw(stopped.socket, 2.0) as raw:
        assert raw.call("license.check", license="kso.scan")["valid"] is True
    assert "READY=1" not in heard(stopped, 0.3)


def test_status_tells_licenses_and_seats_in_words_and_follows_them(licd: Daemon) -> None:
    licd.wait_for(STATUS + "0 of 3 seats held")
    with Raw(licd.socket) as raw:
        raw.call("seat.acquire", license="kso.scan", holder="till-1", seats=2)
        licd.wait_for(STATUS + "2 of 3 seats held", timeout_s=3)
        raw.call("seat.release", license="kso.scan", holder="till-1")
        licd.wait_for(STATUS + "0 of 3 seats held", timeout_s=3)


def test_status_is_told_at_most_once_a_second_however_much_happens(licd: Daemon) -> None:
    with Raw(licd.socket) as raw:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            raw.call("seat.acquire", license="kso.scan", holder="till-1")
            raw.call("seat.release", license="kso.scan", holder="till-1")
    assert len(heard(licd, 0.1)) <= 3


def test_a_start_logs_one_line_and_a_stop_another(licd: Daemon) -> None:
    assert licd.stop() == OK
    first, last = licd.log.splitlines()
    assert f"serves {licd.socket}: 2 of 2 licenses valid" in first
    assert last.endswith("stopped")


def test_by_hand_without_systemd_it_runs_just_as_well() -> None:
    with device(start=False, wrap=("env", "-u", "NOTIFY_SOCKET")) as licd:
        licd.start(wait=False)
        until = time.monotonic() + 10
        while "serves" not in licd.log and time.monotonic() < until:
            time.sleep(0.02)
        with Raw(licd.socket) as raw:
            assert raw.call("seat.acquire", license="kso.scan", holder="till-1")["seats"] == 1
        assert heard(licd, 0.1) == []
        assert licd.process is not None
        licd.process.send_signal(signal.SIGINT)
        assert licd.process.wait(10) == OK


def test_state_and_socket_come_from_systemds_environment_unless_the_file_or_a_flag_names_them(stopped: Daemon) -> None:
    runtime = stopped.folder / "run"
    runtime.mkdir()
    stopped.env = {"STATE_DIRECTORY": f"{stopped.state}:/nowhere", "RUNTIME_DIRECTORY": str(runtime)}
    stopped.config.write_text(f"[licd]\nvendors = {stopped.vendors}\n")
    stopped.start()
    with Raw(runtime / "licd.sock") as raw:
        assert raw.call("license.check", license="kso.scan")["valid"] is True
    stopped.stop()
    stopped.configure()  # the file names the socket
    stopped.start()
    assert stopped.call("server.hello")["server"] == "licd"
    stopped.stop()
    flag = stopped.folder / "flag.sock"
    stopped.start("--socket", str(flag))
    with Raw(flag) as raw:
        assert raw.call("server.hello")["server"] == "licd"
    assert not stopped.socket.exists()


# --- stop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_end_says_stopping_closes_everything_and_exits_0(licd: Daemon, number: signal.Signals) -> None:
    assert licd.process is not None
    with Raw(licd.socket) as raw:
        lease = raw.call("seat.acquire", license="kso.scan", holder="till-1", ttl=600)["lease"]
        licd.process.send_signal(number)
        assert licd.process.wait(10) == OK
        assert raw.rest() == []
    assert "STOPPING=1" in heard(licd, 0.1)
    assert not licd.socket.exists()
    licd.start()
    assert [row["lease"] for row in licd.call("seat.list")["leases"]] == [lease]


def test_a_stop_answers_what_it_has_carried_out(licd: Daemon) -> None:
    with Raw(licd.socket) as raw:
        names = [{"license": "kso.pos", "holder": f"till-{n}"} for n in range(300)]
        raw.send(b"".join(request(n, "seat.acquire", name) for n, name in enumerate(names)))
        raw.read()
        licd.stop()
        answered = 1 + len(raw.rest())
    licd.start()
    with Raw(licd.socket) as raw:
        held = raw.call("server.status")["leases"]
    assert held == answered


def test_a_stop_leaves_alone_a_socket_that_another_has_bound_at_its_path(licd: Daemon) -> None:
    licd.socket.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(licd.socket))
        other.listen()
        assert licd.stop() == OK
        assert licd.socket.exists()


def test_a_death_by_a_fault_of_the_processor_or_of_a_library_leaves_word_of_where_it_was(licd: Daemon) -> None:
    lease = licd.call("seat.acquire", license="kso.pos", holder="till")["lease"]
    os.kill(licd.pid, signal.SIGSEGV)
    assert licd.process is not None
    assert licd.process.wait(10) == -signal.SIGSEGV  # systemd sees what it was, and starts it again
    assert "Fatal Python error: Segmentation fault" in licd.log
    assert " in turn\n" in licd.log
    licd.start()
    assert licd.call("seat.confirm", lease=lease)["lease"] == lease


# --- watchdog -------------------------------------------------------------------------------------------------


def test_the_watchdog_is_pinged_at_half_its_interval() -> None:
    with device(env={"WATCHDOG_USEC": "400000"}) as licd:
        pings = heard(licd, 1.5).count("WATCHDOG=1")
        assert 5 <= pings <= 9  # 8, but a busy machine may stretch some


@pytest.mark.parametrize(
    "env", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "often"}]
)
def test_without_a_watchdog_of_its_own_there_are_no_pings(env: dict[str, str]) -> None:
    with device(env=env) as licd:
        assert "WATCHDOG=1" not in heard(licd, 0.4)


def test_a_process_that_hangs_pings_no_more() -> None:
    with device(env={"WATCHDOG_USEC": "100000"}) as licd:
        assert "WATCHDOG=1" in heard(licd, 0.5)
        licd.pause()
        heard(licd, 0.1)
        assert heard(licd, 0.4) == []
        licd.resume()
        assert "WATCHDOG=1" in heard(licd, 0.5)


def test_a_systemd_that_does_not_listen_holds_no_client_up() -> None:
    # Its socket takes net.unix.max_dgram_qlen messages, mostly 10, and then makes the sender wait.
    with device(env={"WATCHDOG_USEC": "10000"}) as licd:
        time.sleep(1.0)
        with Raw(licd.socket, 5.0) as raw:
            for n in range(20):
                raw.call("seat.acquire", license="kso.pos", holder=f"till-{n}")
        assert "WATCHDOG=1" in heard(licd, 0.5)


# --- rest -----------------------------------------------------------------------------------------------------


def test_an_idle_licd_does_not_wake_at_all_with_clients_connected_and_seats_held(licd: Daemon) -> None:
    raws = [Raw(licd.socket) for _ in range(5)]
    for n, raw in enumerate(raws):
        raw.call("seat.acquire", license="kso.pos", holder=f"till-{n}", ttl=3600)
        raw.call("seat.acquire", license="kso.pos", holder=f"till-{n}", ttl=3600, on_close="release")
    assert comes_to_rest(licd.pid, for_s=1.5)  # the last STATUS has gone out, at most a second late
    before = wake_ups(licd.pid), cpu_s(licd.pid)
    time.sleep(5.0)
    assert (wake_ups(licd.pid), cpu_s(licd.pid)) == before
    for raw in raws:
        assert raw.call("server.hello")["server"] == "licd"
        raw.close()


def test_behind_a_burst_of_requests_licd_wakes_once_and_then_rests(licd: Daemon) -> None:
    with Raw(licd.socket) as raw:
        raw.call("seat.acquire", license="kso.pos", holder="till", ttl=3600)
        assert comes_to_rest(licd.pid, for_s=1.5)
        before = wake_ups(licd.pid)
        for _ in range(20):
            raw.call("seat.confirm", license="kso.pos", holder="till")
        time.sleep(0.5)
        assert wake_ups(licd.pid) <= before + 20 + 1


def test_what_the_last_request_of_a_burst_changed_is_told_though_nothing_more_comes(licd: Daemon) -> None:
    with Raw(licd.socket) as raw:
        raw.call("server.hello")
        assert comes_to_rest(licd.pid, for_s=1.5)
        raw.call("server.hello")
        raw.call("seat.acquire", license="kso.scan", holder="till", ttl=3600)
        licd.wait_for("1 of 3 seats held", 3.0)


# --- a state folder that cannot be written ---------------------------------------------------------------------

READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


def serves_but_grants_nothing(licd: Daemon) -> None:
    licd.wait_for(STATUS + "0 of 3 seats held; the state folder cannot be written")
    with Raw(licd.socket) as raw:
        assert raw.call("license.check", license="kso.scan")["valid"] is True
        assert raw.refusal("seat.acquire", {"license": "kso.scan", "holder": "till-1"}) == "STATE_NOT_WRITABLE"
        status = raw.call("server.status")
        assert (status["health"], status["journal"]["writable"]) == ("warning", False)
    assert comes_to_rest(licd.pid)
    assert "cannot be written" in licd.log or str(licd.state) in licd.log
    assert licd.stop() == OK


@needs_root
def test_a_state_folder_mounted_read_only_is_served_from_and_nothing_is_granted() -> None:
    with device(start=False) as licd:
        before = {path: path.read_bytes() for path in licd.state.rglob("*") if path.is_file()}
        licd.wrap = ("unshare", "--mount", "sh", "-c", READ_ONLY, str(licd.state))
        licd.start()
        serves_but_grants_nothing(licd)
        assert {path: path.read_bytes() for path in licd.state.rglob("*") if path.is_file()} == before


@needs_root
def test_a_state_folder_of_somebody_else_is_served_from_and_nothing_is_granted() -> None:
    with device(wrap=as_user(51100)) as licd:
        serves_but_grants_nothing(licd)


@needs_root
def test_a_lock_of_somebody_else_does_not_let_two_licds_write_one_journal() -> None:
    with device(wrap=as_user(51100), owner=51100, start=False) as licd:
        (licd.state / "lock").write_text("")  # ours: root ran licd here once by hand
        licd.start()
        serves_but_grants_nothing(licd)


def test_a_state_folder_that_is_missing_is_made(stopped: Daemon) -> None:
    made = stopped.folder / "a" / "b"
    stopped.start("--state", str(made))
    assert made.stat().st_mode & 0o777 == 0o750
    assert stopped.call("server.status")["journal"]["writable"] is True


def test_the_version_is_told_without_starting_anything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "licd.daemon.main", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("licd ")
