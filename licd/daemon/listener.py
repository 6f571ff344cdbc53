"""The listening socket, inherited or bound, and who connects to it, by the kernel's word."""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import socket
import stat
import struct
from pathlib import Path
from typing import NamedTuple

SO_PEERGROUPS = 59  # asm-generic/socket.h; no constant in Python 3.11
_MAX_GROUPS = 65536  # NGROUPS_MAX
_UCRED = struct.Struct("iII")
_BACKLOG = 1024  # connects that wait while a turn is under way, or while licd restarts


class ListenError(Exception):
    """The socket cannot be used; the message says why and what to do."""


class Peer(NamedTuple):
    uid: int
    gids: frozenset[int]
    pid: int


def inherited() -> socket.socket | None:
    """The socket that systemd passes (sd_listen_fds(3)); None without one.

    Errors: ListenError if what was passed is not one listening Unix stream socket
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "0")
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(variable, None)
    if count == "0":
        return None
    if count != "1":
        raise ListenError(f"{count} sockets were passed; licd.socket must have exactly one ListenStream=")
    try:
        os.set_inheritable(3, False)
        passed = socket.socket(fileno=3)
    except OSError as error:
        raise ListenError(f"descriptor 3 is not a socket ({error.strerror}); use ListenStream= with a path") from None
    if passed.family != socket.AF_UNIX or passed.type != socket.SOCK_STREAM:
        raise ListenError("the socket passed is not a Unix stream socket; use ListenStream= with a path")
    if not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ListenError("the socket passed does not listen; licd.socket must have Accept=no")
    passed.setblocking(False)
    return passed


def bind(path: Path, mode: int, group: str | None) -> socket.socket:
    """A socket listening at the path. A dead socket there is removed first; a live one or another file never is.

    Errors: ListenError
    """
    try:
        gid = -1 if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ListenError(f"there is no group {group} (socket_group); create it or correct licd.conf") from None
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.setblocking(False)
    before = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
        os.chown(path, -1, gid)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return listener


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there; if the folder is missing, bind() says so
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path} is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)  # nobody listens: its process is gone
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINPROGRESS):  # a full backlog is a live listener too
                raise ListenError(f"cannot tell whether {path} is in use: {error.strerror or error}") from None
    raise ListenError(f"another process listens on {path}; stop it first")


def peer(connection: socket.socket) -> Peer:
    """Who is at the other end.

    Errors: OSError if the kernel does not say
    """
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(uid, frozenset((gid, *_supplementary(connection))), pid)


def _supplementary(connection: socket.socket) -> tuple[int, ...]:
    try:
        data = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)  # the most that Python's call takes
    except OSError as error:
        if error.errno != errno.ERANGE:
            return ()
        data = _many_groups(connection)
    return struct.unpack(f"{len(data) // 4}I", data)


def _many_groups(connection: socket.socket) -> bytes:
    buffer = ctypes.create_string_buffer(4 * _MAX_GROUPS)
    length = ctypes.c_uint(len(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(connection.fileno(), socket.SOL_SOCKET, SO_PEERGROUPS, buffer, ctypes.byref(length)):
        return b""
    return buffer.raw[: length.value]


def group_id(name: str | None) -> int | None:
    """The gid of a group that licd.conf names; config.py has seen that it exists."""
    return None if name is None else grp.getgrnam(name).gr_gid


def overflow_uid() -> int:
    """The uid that stands for every user from outside this user namespace (user_namespaces(7))."""
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return 65534
