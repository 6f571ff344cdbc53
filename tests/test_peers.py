"""licd.daemon.listener: who is at the other end, by the kernel's word."""

from __future__ import annotations

import contextlib
import grp
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from licd.daemon import listener
from licd.daemon.listener import Peer
from tests.support.needs import needs_root

GROUP = "daemon"  # base-passwd: on every Debian


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "s"


# --- peers ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(
    path: Path, uid: int | None = None, gid: int = 0, groups: Sequence[int] = ()
) -> Iterator[tuple[int, Peer]]:
    """The pid of a process connected to the path, as another user if asked, and whom the kernel says it is."""
    with listener.bind(path, 0o666, None) as listening:
        listening.setblocking(True)
        listening.settimeout(10)
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                if uid is not None:
                    os.setgroups(groups)
                    os.setgid(gid)
                    os.setuid(uid)
                client = socket.socket(socket.AF_UNIX)
                client.connect(str(path))
                signal.pause()
            os._exit(1)
        try:
            with listening.accept()[0] as stream:
                yield child, listener.peer(stream)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_a_peer_is_known_by_its_uid_its_groups_and_its_pid(path: Path) -> None:
    with connected(path) as (pid, peer):
        assert peer == Peer(os.getuid(), frozenset((os.getgid(), *os.getgroups())), pid)


@needs_root
@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 1000])
def test_a_peer_is_in_all_its_groups_however_many(path: Path, count: int) -> None:
    groups = range(5000, 5000 + count)
    with connected(path, 4001, 4002, groups) as (pid, peer):
        assert peer == Peer(4001, frozenset((4002, *groups)), pid)


@needs_root
def test_a_uid_and_gids_beyond_31_bits_are_what_they_are(path: Path) -> None:
    with connected(path, 3_000_000_000, 3_000_000_001, [3_000_000_002]) as (_, peer):
        assert peer[:2] == (3_000_000_000, frozenset((3_000_000_001, 3_000_000_002)))


def test_a_peer_is_still_known_after_it_has_ended(path: Path) -> None:
    with listener.bind(path, 0o660, None) as listening:
        listening.setblocking(True)
        child = os.fork()
        if child == 0:
            socket.socket(socket.AF_UNIX).connect(str(path))
            os._exit(0)
        os.waitpid(child, 0)
        with listening.accept()[0] as stream:
            assert listener.peer(stream)[::2] == (os.getuid(), child)


def test_where_the_kernel_does_not_say_who_it_is_that_is_an_oserror(path: Path) -> None:
    stream = socket.socket(socket.AF_UNIX)
    stream.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        listener.peer(stream)


def test_the_gid_of_a_group_is_looked_up_by_its_name() -> None:
    assert listener.group_id(GROUP) == grp.getgrnam(GROUP).gr_gid
    assert listener.group_id(None) is None


def test_the_overflow_uid_is_the_kernels() -> None:
    assert listener.overflow_uid() == int(Path("/proc/sys/kernel/overflowuid").read_text())
