"""A plain socket and plain msgpack, none of our code: for what no proper client sends, from any user."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack

from tests.support.process import cpu_s

GOODBYE = "server.goodbye"
PATIENCE_CPU_S = 0.5  # licd's own work between an ordinary client's question and the answer
PATIENCE_S = 5.0  # the whole of that wait; machines that run tests are busy


def pack(value: Any) -> bytes:
    """MessagePack. Lone surrogates (os.fsdecode) become bytes that are not UTF-8, as Neovim sends blobs."""
    data: bytes = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogateescape")
    return data


def request(msgid: int, method: str, *params: Any) -> bytes:
    return pack([0, msgid, method, list(params)])


class Raw:
    """A connection, and what arrives on it."""

    def __init__(self, path: Path, timeout_s: float = 10.0) -> None:
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stream.connect(str(path))  # without a timeout, which would not wait for a place in a full backlog
        self.stream.settimeout(timeout_s)
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)

    def send(self, data: bytes | bytearray) -> None:
        self.stream.sendall(data)

    def send_all_there_is_room_for(self, data: bytes) -> int:
        """How many bytes the kernel took: all, or until licd has not read for half a second, or has closed."""
        sent = 0
        while sent < len(data) and select.select([], [self.stream], [], 0.5)[1]:
            try:
                sent += self.stream.send(data[sent : sent + 65536], socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                break
        return sent

    def read(self) -> Any:
        """The next message.

        Errors: EOFError if the connection ends before, TimeoutError
        """
        while True:
            for message in self._unpacker:
                return message
            try:
                data = self.stream.recv(65536)
            except ConnectionResetError:  # licd closed with something unread
                data = b""
            if not data:
                raise EOFError
            self._unpacker.feed(data)

    def call(self, method: str, **params: Any) -> Any:
        """The result of one request. Errors: AssertionError with the error's name"""
        self.send(request(1, method, params))
        kind, msgid, error, result = self.read()
        assert (kind, msgid) == (1, 1)
        assert error is None, error
        return result

    def refusal(self, method: str, *params: Any) -> str:
        """The name of the error that answers one request."""
        self.send(request(2, method, *params))
        kind, msgid, error, result = self.read()
        assert (kind, msgid, result) == (1, 2, None)
        name: str = error["name"]
        return name

    def rest(self) -> list[Any]:
        """Everything that still arrives until the other end closes."""
        messages = []
        with contextlib.suppress(EOFError):
            while True:
                messages.append(self.read())
        return messages

    def goodbye(self) -> str:
        """The name of the error in the goodbye that is the only thing still said, before the connection ends."""
        ((kind, method, params),) = self.rest()
        assert (kind, method) == (2, GOODBYE)
        name: str = params[0]["error"]["name"]
        return name

    def end_sending(self) -> None:
        with contextlib.suppress(OSError):  # the other end has closed already
            self.stream.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.stream.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def user(uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> Iterator[None]:
    """What connects meanwhile connects as this user: the kernel notes who calls connect(2)."""
    before = os.getgroups()
    os.setgroups(list(groups))
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def connect_as(path: Path, uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> Raw:
    with user(uid, gid, groups):
        return Raw(path)


class Bystander(threading.Thread):
    """An ordinary client that asks for something every few milliseconds, and how long it had to wait.

    >>> with bystander.watching(): ...
    """

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(daemon=True)
        self._raw = Raw(path, 60.0)
        self._pid = pid
        self._busy = threading.Event()
        self._asking = threading.Lock()
        self.failure: BaseException | None = None
        self.longest_s = 0.0
        self.longest_cpu_s = 0.0  # what licd computed meanwhile: it tells licd's doing from a busy machine's
        self.start()

    def run(self) -> None:
        try:
            lease = self._raw.call("seat.acquire", license="kso.pos", holder="bystander", on_close="release")["lease"]
            while self._busy.wait():
                with self._asking:
                    began, computed = time.monotonic(), cpu_s(self._pid)
                    self._raw.call("seat.confirm", lease=lease)
                    self.longest_s = max(self.longest_s, time.monotonic() - began)
                    self.longest_cpu_s = max(self.longest_cpu_s, cpu_s(self._pid) - computed)
                time.sleep(0.003)
        except (OSError, EOFError, AssertionError) as error:
            self.failure = error

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """What happens within breaks nothing for this client, and does not keep it waiting."""
        self.longest_s = self.longest_cpu_s = 0.0
        self._busy.set()
        yield
        self._busy.clear()
        with self._asking:
            pass
        assert self.failure is None, f"another client's connection broke: {self.failure!r}"
        assert self.longest_cpu_s < PATIENCE_CPU_S
        assert self.longest_s < PATIENCE_S

    def close(self) -> None:
        self._raw.stream.shutdown(socket.SHUT_RDWR)
        self._raw.close()
