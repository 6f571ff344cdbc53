"""What the real process starts from: its socket, passed or bound, its configuration, its lock. And starts in vain."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time

import pytest

from tests.support.daemon import Daemon
from tests.support.device import device, hurried
from tests.support.needs import needs_faketime
from tests.support.raw import Raw, request

OK, USAGE, NO_SOCKET, LOCKED, BAD_CONFIG = 0, 2, 71, 75, 78


def ends(licd: Daemon, *flags: str, within_s: float = 10.0) -> tuple[int, str]:
    """How a start that comes to nothing ends, and what it logged."""
    licd.start(*flags, wait=False)
    assert licd.process is not None
    return licd.process.wait(within_s), licd.log


# --- the socket -----------------------------------------------------------------------------------------------

# What systemd does between fork and exec. The socket comes as standard input.
ACTIVATE = """
import os, sys
os.dup2(0, 3)
os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[1])
os.execvp(sys.argv[2], sys.argv[2:])
"""


def activated(licd: Daemon, passed: socket.socket, count: int = 1) -> None:
    """The start of licd, to which this socket is passed as systemd does."""
    licd.wrap = (sys.executable, "-c", ACTIVATE, str(count))
    stdin = os.dup(0)
    os.dup2(passed.fileno(), 0)
    try:
        licd.start(wait=False)
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)


def test_a_socket_passed_by_systemd_is_served_and_outlives_licd(stopped: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stopped.socket))
        listener.listen()
        with Raw(stopped.socket) as early:  # before licd runs at all
            early.send(request(1, "license.check", {"license": "kso.scan"}))
            activated(stopped, listener)
            assert early.read()[3]["valid"] is True
        stopped.wait_for("READY=1")
        with Raw(stopped.socket) as raw:
            lease = raw.call("seat.acquire", license="kso.scan", holder="till-1")["lease"]
        inode = stopped.socket.stat().st_ino
        assert stopped.stop() == OK
        assert stopped.socket.stat().st_ino == inode
        with Raw(stopped.socket) as between:  # while licd does not run
            between.send(request(1, "seat.confirm", {"lease": lease}))
            activated(stopped, listener)
            assert between.read()[3]["lease"] == lease


def test_a_kill_with_a_passed_socket_is_no_refused_connection(stopped: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stopped.socket))
        listener.listen()
        activated(stopped, listener)
        stopped.wait_for("READY=1")
        stopped.kill()
        with Raw(stopped.socket) as waiting:
            waiting.send(request(1, "server.hello"))
            activated(stopped, listener)
            assert waiting.read()[3]["server"] == "licd"


@pytest.mark.parametrize("kind", ["two sockets", "not listening", "datagrams", "no socket"])
def test_what_is_passed_but_cannot_be_served_ends_with_71_and_a_word_for_the_unit(stopped: Daemon, kind: str) -> None:
    type_ = socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, type_) as passed:
        passed.bind(str(stopped.folder / "passed.sock"))
        if kind == "two sockets":
            passed.listen()
        if kind == "no socket":
            stopped.wrap = ("env", "LISTEN_FDS=1", "sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@" 3</dev/null')
            stopped.start(wait=False)
        else:
            activated(stopped, passed, count=2 if kind == "two sockets" else 1)
        assert stopped.process is not None
        assert stopped.process.wait(10) == NO_SOCKET
        assert "licd.socket" in stopped.log or "ListenStream=" in stopped.log
        assert "Traceback" not in stopped.log


def test_a_socket_left_by_a_dead_licd_is_replaced(licd: Daemon) -> None:
    licd.kill()
    assert licd.socket.exists()
    licd.start()
    assert licd.call("server.hello")["server"] == "licd"


def test_a_live_socket_is_never_taken_over(licd: Daemon) -> None:
    inode = licd.socket.stat().st_ino
    with device(start=False) as second:
        second.configure(socket=licd.socket)
        status, log = ends(second)
    assert status == NO_SOCKET
    assert str(licd.socket) in log
    assert licd.socket.stat().st_ino == inode
    assert licd.call("server.hello")["pid"] == licd.call("server.hello")["pid"]


def test_a_live_socket_with_a_full_backlog_is_live_too(stopped: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(stopped.socket))
        busy.listen(0)
        first.connect(str(stopped.socket))
        assert ends(stopped)[0] == NO_SOCKET
        assert stopped.socket.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link to nowhere", "folder missing", "path too long"])
def test_what_is_no_socket_is_never_removed_and_the_start_ends_with_71(stopped: Daemon, kind: str) -> None:
    path = stopped.folder / "x.sock"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to nowhere":
        path.symlink_to(stopped.folder / "nowhere")
    elif kind == "folder missing":
        path = stopped.folder / "missing" / "x.sock"
    else:
        path = stopped.folder / ("x" * 120)
    status, log = ends(stopped, "--socket", str(path))
    assert status == NO_SOCKET
    assert str(path) in log
    assert "Traceback" not in log
    if kind == "file":
        assert path.read_text() == "precious"
    assert path.is_symlink() or path.exists() == (kind in ("file", "folder"))


# --- starts that come to nothing ------------------------------------------------------------------------------


def test_an_unknown_key_ends_with_78_and_is_named_with_file_and_line(stopped: Daemon) -> None:
    stopped.configure(max_conections=5)
    status, log = ends(stopped)
    assert status == BAD_CONFIG
    assert f"{stopped.config}:5: unknown key max_conections" in log


@pytest.mark.parametrize("kind", ["no file", "no section", "value", "profile", "two profiles", "vendors", "state"])
def test_every_configuration_that_cannot_be_used_ends_with_78_and_names_what_is_wrong(
    stopped: Daemon, kind: str
) -> None:
    profile = stopped.vendors / "acme"
    named = stopped.config
    if kind == "no file":
        stopped.config.unlink()
    elif kind == "no section":
        stopped.config.write_text("max_ttl = 60\n")
    elif kind == "value":
        stopped.configure(max_ttl="an hour")
    elif kind == "profile":
        shutil.rmtree(named := profile / "anchors")
        named = profile
    elif kind == "two profiles":
        shutil.copytree(profile, named := stopped.vendors / "acme2")
    elif kind == "vendors":
        shutil.rmtree(named := stopped.vendors)
        named.write_text("no folder")
    else:
        named = stopped.config  # a file, not a folder
        stopped.configure(state=named)
    status, log = ends(stopped)
    assert status == BAD_CONFIG
    assert str(named) in log
    assert "Traceback" not in log


@pytest.mark.parametrize("name", ["x" * 300, "file/below"])
def test_a_state_folder_that_cannot_be_looked_at_ends_with_78_and_not_with_a_traceback(
    stopped: Daemon, name: str
) -> None:
    (stopped.folder / "file").write_text("")
    status, log = ends(stopped, "--state", str(stopped.folder / name))
    assert status == BAD_CONFIG
    assert name in log
    assert "Traceback" not in log


def test_a_wrong_flag_ends_with_2(stopped: Daemon) -> None:
    assert ends(stopped, "--port", "80")[0] == USAGE


@needs_faketime
def test_a_state_folder_that_another_licd_keeps_ends_with_75_after_half_a_minute(licd: Daemon) -> None:
    with device(start=False, env=hurried(60)) as second:
        second.configure(state=licd.state)
        began = time.monotonic()
        status, log = ends(second)
        assert time.monotonic() - began >= 30 / 60
        second.wait_for("STATUS=waiting for pid", 1)
    assert status == LOCKED
    assert f"pid {licd.pid}" in log
    assert licd.call("license.check", license="kso.scan")["valid"] is True
