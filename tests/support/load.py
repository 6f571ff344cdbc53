"""Clients that never pause: all ask at once, again and again, each as its caller says."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgpack

from tests.support.clients import wait_until
from tests.support.raw import request

SILENCE_S = 20.0  # in which not one of all answers comes: some are lost
Ask = tuple[str, dict[str, Any]]


class Caller(Protocol):
    """Who speaks on a connection: what it asks next, and what it is told."""

    depth: int
    """So many requests are sent at once; the next as soon as all are answered."""

    def ask(self) -> Ask: ...

    def told(self, ask: Ask, error: str | None, result: Any) -> None: ...


class Line:
    def __init__(self, path: Path, caller: Caller) -> None:
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stream.connect(str(path))
        self._caller = caller
        self._unpacker = msgpack.Unpacker(raw=False)
        self._msgid = 0
        self.waiting: deque[tuple[int, Ask]] = deque()

    def ask(self) -> None:
        data = b""
        for _ in range(self._caller.depth):
            ask = self._caller.ask()
            self._msgid = (self._msgid + 1) % 100  # in one byte: licd knows the rest of the request again
            self.waiting.append((self._msgid, ask))
            data += request(self._msgid, *ask)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # what it said before is still to be heard
            self.stream.sendall(data)

    def hear(self) -> int:
        """How many answers came; 0: the connection has ended."""
        try:
            data = self.stream.recv(65536)
        except ConnectionResetError:
            return 0
        self._unpacker.feed(data)
        count = 0
        for kind, msgid, error, result in self._unpacker:
            asked, ask = self.waiting.popleft()
            assert (kind, msgid) == (1, asked)
            self._caller.told(ask, error and error["name"], result)
            count += 1
        return count or bool(data)


class Load(threading.Thread):
    """All callers ask at once, again and again, until stop(), or until licd dies.

    >>> with Load(path, callers) as load: ...
    """

    def __init__(self, path: Path, callers: Sequence[Caller], *, dies: bool = False) -> None:
        super().__init__(daemon=True)
        self._lines = {line.stream.fileno(): line for line in (Line(path, caller) for caller in callers)}
        self._dies = dies
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self.answers = 0

    def run(self) -> None:
        try:
            self._talk()
        except BaseException as error:  # told by stop()
            self._failure = error

    def _talk(self) -> None:
        epoll = select.epoll()
        for number, line in self._lines.items():
            epoll.register(number, select.EPOLLIN)
            line.ask()
        while self._lines:
            ready = epoll.poll(SILENCE_S)
            assert ready, "answers are lost"
            for number, _ in ready:
                line = self._lines[number]
                count = line.hear()
                self.answers += count
                if not line.waiting and not self._over.is_set():
                    line.ask()
                elif not line.waiting or not count:
                    assert count or self._dies, "a connection ended"
                    epoll.unregister(number)
                    del self._lines[number]
                    line.stream.close()

    def goes_on(self, answers: int = 200) -> None:
        """So many more are answered."""
        goal = self.answers + answers
        wait_until(lambda: self.answers >= goal or not self.is_alive(), "answers come", SILENCE_S)
        self.check()

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Every request is answered. Errors: whatever a caller did not like"""
        self._over.set()
        self.join()
        self.check()

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.stop()
        self._over.set()
