"""Clients for what licd.rpc.client never does: many requests in flight, another uid, a death in mid-air."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from licd.rpc import wire
from licd.rpc.client import CallError, Client

ANSWER_S = 10.0


class Pipeline:
    """One connection with any number of requests in flight. `answers` holds what has come back, by msgid."""

    def __init__(self, path: Path) -> None:
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stream.settimeout(ANSWER_S)
        self.stream.connect(str(path))
        self.answers: dict[int, wire.Response] = {}
        self._decoder = wire.Decoder(16 << 20, 10_000)
        self._msgid = 0

    def ask(self, method: str, **params: Any) -> int:
        """The request is sent; its msgid."""
        self._msgid += 1
        self.stream.sendall(wire.encode_request(self._msgid, method, params))
        return self._msgid

    def answer(self, msgid: int) -> Any:
        """The result, when it is there.

        Errors: CallError; AssertionError if the connection ends first, TimeoutError
        """
        while msgid not in self.answers:
            assert self.receive(), "the connection ended before the answer"
        response = self.answers[msgid]
        if response.error is not None:
            raise CallError.from_map(response.error)
        return response.result

    def receive(self) -> bool:
        """What comes next is among the answers; False if the connection has ended."""
        try:
            data = self.stream.recv(65536)
        except ConnectionResetError:
            return False
        self._decoder.feed(data)
        for message in self._decoder:
            if isinstance(message, wire.Response):
                self.answers[message.msgid] = message
        return bool(data)

    def drain(self) -> None:
        """All that was sent before the connection ended is among the answers."""
        while self.receive():
            pass

    def close(self) -> None:
        self.stream.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Program:
    """A client in a process of its own, under any uid; it connects when first asked."""

    def __init__(self, path: Path, uid: int | None = None) -> None:
        # Not a fork of this process: a connection that is open here must end when it is closed here.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, path, uid), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def call(self, method: str, /, **params: Any) -> Any:
        """Errors: CallError"""
        self._pipe.send((method, params))
        assert self._pipe.poll(ANSWER_S), f"{method} was not answered"
        answer, error = self._pipe.recv()
        if error is not None:
            raise CallError.from_map(error)
        return answer

    def kill(self) -> None:
        """It is gone, as by kill -9."""
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _serve(pipe: Any, path: Path, uid: int | None) -> None:
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    client = Client(path, timeout_s=ANSWER_S)
    while True:
        try:
            method, params = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((client.call(method, **params), None))
        except CallError as error:
            pipe.send((None, error.as_map()))


def acquire(who: Any, holder: str, license: str = "kso.scales", **params: Any) -> str:
    """The id of the lease. `who` is anything with call()."""
    lease: str = who.call("seat.acquire", license=license, holder=holder, **params)["lease"]
    return lease


def refusal(who: Any, method: str, /, **params: Any) -> CallError:
    """The refusal that this call gets.

    Errors: AssertionError if it is answered instead
    """
    try:
        result = who.call(method, **params)
    except CallError as error:
        return error
    raise AssertionError(f"{method} was not refused: {result}")


def lease_of(who: Any, lease: str) -> Mapping[str, Any]:
    """The row of this lease in seat.list."""
    for row in who.call("seat.list")["leases"]:
        if row["lease"] == lease:
            found: Mapping[str, Any] = row
            return found
    raise AssertionError(f"there is no lease {lease}")


def leases(who: Any) -> dict[str, str]:
    """All leases that this peer may see.

    Shape:  {lease: holder}
    """
    found: dict[str, str] = {}
    after: int | None = -1
    while after is not None:
        page = who.call("seat.list", after=after)
        found.update((row["lease"], row["holder"]) for row in page["leases"])
        after = page["next"]
    return found


def journal_bytes(who: Any) -> int:
    """How much of the journal is written."""
    used: int = who.call("server.status")["journal"]["bytes"]
    return used


def warnings(who: Any) -> str:
    return "\n".join(who.call("server.status")["warnings"])


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = 5.0) -> None:
    """Until true() is. For what another process does in its own time.

    Errors: AssertionError
    """
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, f"never happened: {what}"
        time.sleep(0.01)
