"""licd.daemon.listener: the socket, bound or inherited."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import licd
from licd.daemon import listener
from licd.daemon.listener import ListenError
from tests.support.needs import needs_root

GROUP = "daemon"  # base-passwd: on every Debian


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "s"


def bind(path: Path, mode: int = 0o660, group: str | None = None) -> socket.socket:
    return listener.bind(path, mode, group)


def dead_socket(path: Path, kind: int = socket.SOCK_STREAM) -> None:
    """A socket file whose process is gone."""
    with socket.socket(socket.AF_UNIX, kind) as gone:
        gone.bind(str(path))


def hears(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


# --- the path ------------------------------------------------------------------------------------------------


def test_a_bound_socket_listens_without_blocking_and_is_not_inherited_by_children(path: Path) -> None:
    with bind(path) as bound:
        assert not bound.getblocking()
        assert not bound.get_inheritable()
        with pytest.raises(BlockingIOError):
            bound.accept()
        assert hears(path)
        bound.accept()[0].close()


def test_many_clients_may_wait_until_they_are_accepted(path: Path) -> None:
    with bind(path), contextlib.ExitStack() as clients:
        for _ in range(200):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect(str(path))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_dead_socket_is_removed_and_its_path_taken(path: Path, kind: int) -> None:
    dead_socket(path, kind)
    with bind(path):
        assert hears(path)


def test_a_live_socket_is_never_taken_over(path: Path) -> None:
    with bind(path) as first:
        inode = path.lstat().st_ino
        with pytest.raises(ListenError, match="another process listens"):
            bind(path)
        assert path.lstat().st_ino == inode
        first.accept()[0].close()  # the look whether it is alive
        assert hears(path)


def test_a_live_socket_with_a_full_backlog_is_never_taken_over(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as clients:
        busy.bind(str(path))
        busy.listen(0)
        for _ in range(5):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(path))
        inode = path.lstat().st_ino
        began = time.monotonic()
        with pytest.raises(ListenError, match="another process listens"):
            bind(path)
        assert time.monotonic() - began < 1
        assert path.lstat().st_ino == inode


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_live_socket_of_another_kind_is_never_removed(path: Path, kind: int) -> None:
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        if kind == socket.SOCK_SEQPACKET:
            other.listen()
        inode = path.lstat().st_ino
        with pytest.raises(ListenError, match="cannot tell whether"):
            bind(path)
        assert path.lstat().st_ino == inode


@needs_root
def test_a_live_socket_that_may_not_be_connected_to_is_never_removed(path: Path) -> None:
    with bind(path, 0o600):
        path.parent.chmod(0o777)
        status = as_user("from licd.daemon import listener; listener.bind(Path(sys.argv[1]), 0o660, None)", str(path))
        assert "cannot tell whether" in status
        assert hears(path)


def test_a_file_that_is_no_socket_is_never_removed(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ListenError, match="is not a socket"):
        bind(path)
    assert path.read_text() == "precious"


def test_a_folder_is_never_removed(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ListenError, match="is not a socket"):
        bind(path)
    assert path.is_dir()


@pytest.mark.parametrize("target", ["dead", "file", "nothing"])
def test_a_symbolic_link_is_never_followed_or_removed(folder: Path, path: Path, target: str) -> None:
    dead_socket(folder / "dead")
    (folder / "file").touch()
    path.symlink_to(folder / target)
    with pytest.raises(ListenError, match="is not a socket"):
        bind(path)
    assert path.is_symlink()
    assert (folder / "dead").exists()


def test_a_missing_folder_is_said(folder: Path) -> None:
    with pytest.raises(ListenError, match=r"cannot listen on .*/missing/s: No such file or directory"):
        bind(folder / "missing" / "s")


def test_a_path_of_108_bytes_is_too_long_and_one_of_107_is_not(folder: Path) -> None:
    longest = folder / ("x" * (107 - len(str(folder)) - 1))
    assert len(os.fsencode(longest)) == 107
    with bind(longest):
        assert hears(longest)
    with pytest.raises(ListenError, match=r"cannot listen on .*too long"):
        bind(Path(f"{longest}x"))


def test_a_dead_socket_at_a_path_too_long_to_be_asked_is_never_removed(folder: Path) -> None:
    dead_socket(folder / "dead")
    long = folder / ("x" * 120)
    (folder / "dead").rename(long)
    with pytest.raises(ListenError, match="too long"):
        bind(long)
    assert stat.S_ISSOCK(long.lstat().st_mode)


# --- mode and group ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
def test_the_mode_is_the_one_asked_for_whatever_the_umask_which_stays_as_it_was(
    path: Path, mode: int, umask: int
) -> None:
    before = os.umask(umask)
    try:
        with bind(path, mode):
            assert stat.S_IMODE(path.lstat().st_mode) == mode
    finally:
        assert os.umask(before) == umask


def test_the_umask_stays_as_it_was_when_binding_fails(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        with pytest.raises(ListenError):
            bind(folder / "missing" / "s")
    finally:
        assert os.umask(before) == 0o027


@needs_root
def test_the_socket_belongs_to_the_group_asked_for(path: Path) -> None:
    with bind(path, 0o660, GROUP):
        assert path.lstat().st_gid == grp.getgrnam(GROUP).gr_gid
        assert path.lstat().st_uid == os.geteuid()


def test_without_a_group_the_socket_keeps_the_group_of_its_process(path: Path) -> None:
    with bind(path):
        assert path.lstat().st_gid == os.getegid()


def test_a_group_that_does_not_exist_is_said_and_nothing_is_touched(path: Path) -> None:
    dead_socket(path)
    inode = path.lstat().st_ino
    with pytest.raises(ListenError, match="no group no-such-group"):
        bind(path, 0o660, "no-such-group")
    assert path.lstat().st_ino == inode


@needs_root
def test_a_group_that_this_user_may_not_give_is_said(folder: Path) -> None:
    folder.chmod(0o777)
    program = f"from licd.daemon import listener; listener.bind(Path(sys.argv[1]), 0o660, {GROUP!r})"
    assert "Operation not permitted" in as_user(program, str(folder / "s"))


def as_user(program: str, *arguments: str) -> str:
    """The message of the ListenError that the program ends with, as an ordinary user."""
    reader, writer = os.pipe()
    child = os.fork()  # not a new process: the interpreter may lie where only root can read
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(65_533)
            os.setuid(65_533)
            sys.argv = ["-", *arguments]
            try:
                exec(program, {"sys": sys, "Path": Path})
            except ListenError as error:
                os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


# --- inherited -----------------------------------------------------------------------------------------------

# What systemd does between fork and exec; {pid} stands for the pid that the program will have.
_EXEC = """
import json, os, sys
fd, env, program = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
if fd >= 0:
    os.dup2(fd, 3)
    os.set_inheritable(3, True)
env = {key: value.format(pid=os.getpid()) for key, value in env.items()}
os.execve(sys.executable, [sys.executable, "-c", program], {**os.environ, **env})
"""
_PROGRAM = """
import json, os
from licd.daemon import listener
try:
    passed = listener.inherited()
except listener.ListenError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({
        "fd": passed and passed.fileno(),
        "blocking": passed and passed.getblocking(),
        "inheritable": passed and passed.get_inheritable(),
        "left": sorted(key for key in os.environ if key.startswith("LISTEN_")),
    }), flush=True)
    if passed:
        import select
        select.select([passed], [], [], 5)
        passed.accept()[0].send(b"served")
"""
PASSED = {"LISTEN_PID": "{pid}", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "licd.socket"}


def start_with(fd: int, env: dict[str, str]) -> subprocess.Popen[str]:
    env = {**env, "PYTHONPATH": str(Path(licd.__file__).parent.parent)}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LISTEN_")}
    return subprocess.Popen(
        [sys.executable, "-ISc", _EXEC, str(fd), json.dumps(env), _PROGRAM],
        pass_fds=() if fd < 0 else (fd,), stdout=subprocess.PIPE, text=True, env=clean,
    )  # fmt: skip


def told(fd: int, env: dict[str, str]) -> dict[str, Any]:
    """What a process that systemd started so finds."""
    with start_with(fd, env) as process:
        assert process.stdout is not None
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        process.terminate()
    return answer


@pytest.fixture
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield listening


def test_a_client_that_connected_before_licd_ran_is_served_through_the_passed_socket(
    path: Path, listening: socket.socket
) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        with start_with(listening.fileno(), PASSED) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == {
                "fd": 3, "blocking": False, "inheritable": False, "left": [],
            }  # fmt: skip
            assert client.recv(100) == b"served"


@pytest.mark.parametrize("pid", ["1", "", "{pid}0"])
def test_a_socket_for_another_process_is_left_alone(listening: socket.socket, pid: str) -> None:
    answer = told(listening.fileno(), {**PASSED, "LISTEN_PID": pid})
    assert answer["fd"] is None
    assert answer["left"] == ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID"]


def test_without_systemd_nothing_is_inherited(listening: socket.socket) -> None:
    assert told(listening.fileno(), {})["fd"] is None


def test_no_passed_sockets_are_none(listening: socket.socket) -> None:
    assert told(listening.fileno(), {**PASSED, "LISTEN_FDS": "0"}) == {
        "fd": None, "blocking": None, "inheritable": None, "left": [],
    }  # fmt: skip


@pytest.mark.parametrize("count", ["2", "17", "-1", "many"])
def test_any_other_number_of_sockets_than_one_is_refused(listening: socket.socket, count: str) -> None:
    assert "exactly one ListenStream=" in told(listening.fileno(), {**PASSED, "LISTEN_FDS": count})["error"]


def wrong_sockets(folder: Path) -> Iterator[tuple[str, socket.socket, str]]:
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagram.bind(str(folder / "datagram"))
    yield "datagram", datagram, "not a Unix stream socket"
    packets = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    packets.bind(str(folder / "packets"))
    packets.listen()
    yield "packets", packets, "not a Unix stream socket"
    tcp = socket.socket(socket.AF_INET)
    tcp.bind(("127.0.0.1", 0))
    tcp.listen()
    yield "tcp", tcp, "not a Unix stream socket"
    unheard = socket.socket(socket.AF_UNIX)
    unheard.bind(str(folder / "unheard"))
    yield "not listening", unheard, "Accept=no"
    connected, other = socket.socketpair()
    yield "connected", connected, "Accept=no"
    other.close()


def test_a_passed_socket_that_is_not_a_listening_unix_stream_is_refused(folder: Path) -> None:
    for name, wrong, reason in wrong_sockets(folder):
        with wrong:
            assert reason in told(wrong.fileno(), PASSED).get("error", ""), name


def test_a_passed_descriptor_that_is_no_socket_is_refused(folder: Path) -> None:
    with (folder / "file").open("w") as file:
        assert "is not a socket" in told(file.fileno(), PASSED)["error"]
    assert "is not a socket" in told(-1, PASSED)["error"]
