"""The vendor's server as a process of its own, and a device that asks it.

with serving(books, "--tls-cert", ..., "--tls-key", ...) as server:
    answer = ask(server.url, "/health")
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from licd_vendor import serve
from tests.support.books import Books

TYPES = {
    "/install-request": serve.CODE,
    "/license-file": serve.LICENSE_REQUEST,
    "/renewal": serve.RENEWAL_REQUEST,
}


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(url: str, path: str, body: bytes | str | None = None, *, ca_file: Path | None = None, **headers: str) -> Answer:
    """What the server answers: to a POST if there is a body, else to a GET. Errors: OSError, HTTPException"""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca_file)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=30, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    with contextlib.closing(connection):
        kind = {"Content-Type": TYPES[path]} if path in TYPES else {}
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", parts.path + path, body, kind | sent)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


class Server:
    """A process that serves. `said` grows by what it writes to standard error."""

    def __init__(self, process: subprocess.Popen[str], pattern: str) -> None:
        self.process = process
        self.said: list[str] = []
        self.url = self._listens(pattern)

    def _listens(self, pattern: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(pattern, line):
                threading.Thread(target=self._read, daemon=True).start()
                return found[1]
        raise AssertionError(f"it did not start: {''.join(self.said)}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


@contextlib.contextmanager
def run(command: Sequence[str | Path], pattern: str, **more: str) -> Iterator[Server]:
    """The process of this command; `pattern` finds its address in what it says."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **more}
    )
    try:
        yield Server(process, pattern)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


LISTENS = r"licd-vendor serve: (\S+)"


@contextlib.contextmanager
def serving(books: Books, *options: str | Path) -> Iterator[Server]:
    """`licd-vendor serve` on a free port of loopback."""
    command = [sys.executable, "-m", "licd_vendor", *books.options, "serve", "--listen", "127.0.0.1:0", *options]
    with run([*map(str, command)], LISTENS) as server:
        yield server


@contextlib.contextmanager
def gunicorn(books: Books, workers: int) -> Iterator[Server]:
    """The same by gunicorn, as licd-vendor(1) says it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-w",
        str(workers),
        "-b",
        f"127.0.0.1:{port}",
        "licd_vendor.serve:app()",
    ]
    environment = {"LICD_VENDOR_DIR": str(books.dir), "LICD_VENDOR_DATABASE": str(books.database)}
    with run(command, r"Listening at: (\S+)", **environment) as server:
        wait_for(server.url)
        yield server


def wait_for(url: str) -> None:
    until = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ask(url, "/health").status == 200:
                return
        assert time.monotonic() < until, "it does not serve"
        time.sleep(0.05)
