"""A device in the field and the real server of its vendor, licd-vendor serve over TLS, with the books behind it.

with connected() as place:
    status, said = place.run(run, "activate", place.sell(capsys))
    status, said = place.run(run, "renew")
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from licd.license import code
from tests.support.books import Books
from tests.support.cli import Run
from tests.support.https import Request, Server, answer, web
from tests.support.interrupting import AFTER, BEFORE, nothing
from tests.support.serving import ask
from tests.support.site import Site


class Served:
    """licd-vendor serve as a process, on a port that stays the same."""

    def __init__(self, books: Books, port: int) -> None:
        self._books, self.port = books, port
        self.url = f"https://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--listen", f"127.0.0.1:{self.port}", "--tls-cert", web().certificate, "--tls-key", web().key]
        words = [sys.executable, "-m", "licd_vendor", *self._books.options, "serve", *map(str, options)]
        self._process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, "licd-vendor serve has ended"
            assert time.monotonic() < until, "licd-vendor serve does not listen"
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Front(Server):
    """Stands before the vendor's server, tells of every request before and after it, and is as dead as that is."""

    def __init__(self, served: Served) -> None:
        super().__init__(self._pass_on, always=True)
        self._served = served
        self.forget()

    def forget(self) -> None:
        """Nobody is told any more, and every answer is passed on as it is."""
        self.at: Callable[[str, str], None] = nothing
        self.changes: Callable[[bytes], bytes] = bytes

    def _pass_on(self, stream: socket.socket, request: Request) -> None:
        what, kind = request.target.removeprefix("/"), request.headers["content-type"]
        try:
            self.at(what, BEFORE)
            given = ask(self._served.url, request.target, request.body, ca_file=web().ca_file, Content_Type=kind)
            self.at(what, AFTER)
        except OSError:
            stream.close()
            raise
        more = {"Retry_After": given.headers["retry-after"]} if "retry-after" in given.headers else {}
        answer(given.status, self.changes(given.body), given.headers["content-type"], **more)(stream, request)


class Place(NamedTuple):
    site: Site
    books: Books
    served: Served
    front: Front

    def run(self, run: Run, *words: object) -> tuple[int, str]:
        done = run(*words, "--socket", self.site.socket)
        return done.status, done.out + done.err

    def sell(self, capsys: pytest.CaptureFixture[str], order: int | None = None) -> str:
        """The code of an order, of a new one unless told, as it is printed for people."""
        order = self.books.order() if order is None else order
        capsys.readouterr()
        assert self.books.run("code", "new", order) == 0
        printed = capsys.readouterr().out
        (found,) = (line.strip() for line in printed.splitlines() if _is_code(line))
        return found

    @property
    def issues(self) -> int:
        """How many license files stand in the store."""
        return sum(line.startswith('INSERT INTO "issues"') for line in self.books.dump())

    def in_force(self) -> str:
        document: str = self.site.call("license.export")["document"]
        return document


def _is_code(line: str) -> bool:
    with contextlib.suppress(code.Unreadable):
        code.read(line)
        return True
    return False


@contextlib.contextmanager
def connected(*, front: bool = False, settings: dict[str, object] | None = None) -> Iterator[Place]:
    """front: the device knows the address of what stands before the server, in place of the server's own"""
    with tempfile.TemporaryDirectory(prefix="licd-") as name, socket.create_server(("127.0.0.1", 0)) as free:
        folder = Path(name)
        folder.chmod(0o755)
        port: int = free.getsockname()[1]
        free.close()
        books = Books(folder)
        served = Served(books, port)
        with Front(served) as before, Site(folder, vendors=(), settings=settings) as site:
            shutil.copytree(books.dir / "profile", site.vendors / "acme")
            shutil.copy(web().ca_file, folder / "ca.pem")
            (folder / "ca.pem").chmod(0o644)
            with (site.vendors / "acme" / "vendor.conf").open("a") as conf:
                conf.write(f"url = {before.url if front else served.url}\nca = {folder}/ca.pem\n")
            try:
                served.start()
                site.start()
                yield Place(site, books, served, before)
            finally:
                served.kill()
