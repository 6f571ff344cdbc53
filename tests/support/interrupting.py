"""licd-cli activate or renew, interrupted at one point between two steps: a call of licd, or a request to a server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from licd.rpc import wire
from licd.rpc.client import CallError
from tests.support.cli import command
from tests.support.peer import Peer
from tests.support.site import Site

BEFORE, AFTER = "before", "after"


def nothing(what: str, when: str) -> None:
    """At no point."""


class Relay(Peer):
    """Stands before the real licd, and tells of every call before and after it."""

    def __init__(self, path: str, site: Site, at: Callable[[str, str], None]) -> None:
        super().__init__(path, *[self._pass_on] * 1000)
        self._site, self._at = site, at

    def _pass_on(self, stream: socket.socket, request: wire.Request) -> None:
        self._at(request.method, BEFORE)
        named = request.params[0] if request.params else {}
        try:
            result = self._site.call(request.method, **named)
            stream.sendall(wire.encode_response(request.msgid, None, result))
        except CallError as error:
            stream.sendall(wire.encode_response(request.msgid, error.as_map(), None))
        self._at(request.method, AFTER)


class Interrupted:
    """A command line that gets a signal at one point, once."""

    def __init__(
        self,
        site: Site,
        folder: Path,
        point: tuple[str, str],
        signal_: int,
        *words: object,
        server: Any = None,
        does: str = "activate",
    ) -> None:
        """server: its `at` is called at each request too"""
        self._point, self._signal, self._hit = point, signal_, False
        if server is not None:
            server.at = self._at
        relay = Relay(f"{folder}/relay", site, self._at)
        self._process = subprocess.Popen(
            command(does, *words, "--socket", f"{folder}/relay"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _, err = self._process.communicate(timeout=30)
        finally:
            self._process.kill()
            relay.close()
            if server is not None:
                server.at = nothing
        self.status, self.err = self._process.returncode, err.decode()
        assert self._hit, f"it never came to {point}: {self.err}"

    def _at(self, what: str, when: str) -> None:
        if (what, when) == self._point and not self._hit:
            self._hit = True
            os.kill(self._process.pid, self._signal)
            if self._signal == signal.SIGKILL:
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)  # it is gone before anything goes on
