"""licd-cli activate between a real device and the vendor's own server, licd-vendor serve, over TLS."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from licd.cli import problems
from licd.license import code
from tests.support.books import Books
from tests.support.cli import Run
from tests.support.https import web
from tests.support.interrupting import AFTER, BEFORE, Interrupted
from tests.support.posting import forget_proxies
from tests.support.site import NEEDS, Site

pytestmark = NEEDS

POINTS = [
    ("server.status", AFTER),  # the code was not sent yet
    ("install.import", BEFORE),  # the install request came
    ("install.import", AFTER),
    ("install.request", AFTER),  # the license request was not sent yet
    ("license.import", BEFORE),  # the license file came
    ("license.import", AFTER),
]


class Served:
    """licd-vendor serve as a process, on a port that stays the same."""

    def __init__(self, books: Books, port: int) -> None:
        self._books, self.port = books, port
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


class Place(NamedTuple):
    site: Site
    books: Books
    served: Served

    def run(self, run: Run, *words: object) -> tuple[int, str]:
        done = run("activate", *words, "--ca", web().ca_file, "--socket", self.site.socket)
        return done.status, done.out + done.err

    def sell(self, capsys: pytest.CaptureFixture[str]) -> str:
        """The code of a new order, as it is printed for people."""
        order = self.books.order()
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


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="licd-") as name, socket.create_server(("127.0.0.1", 0)) as free:
        folder = Path(name)
        port: int = free.getsockname()[1]
        free.close()
        books = Books(folder)
        with Site(folder, vendors=()) as site:
            shutil.copytree(books.dir / "profile", site.vendors / "acme")
            with (site.vendors / "acme" / "vendor.conf").open("a") as conf:
                conf.write(f"url = https://127.0.0.1:{port}\n")
            served = Served(books, port)
            try:
                served.start()
                site.start()
                yield Place(site, books, served)
            finally:
                served.kill()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


def test_a_code_of_the_vendor_s_leads_to_licenses_in_force_and_once_more_to_the_same(
    run: Run, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    before, code = place.issues, place.sell(capsys)
    status, said = place.run(run, *code.split())
    assert status == problems.DONE, said
    assert " of acme is in force now.\n" in said
    assert place.site.valid("kso.scan")
    document = place.in_force()
    status, said = place.run(run, code)
    assert status == problems.DONE, said
    assert " of acme is in force already; nothing was changed.\n" in said
    assert (place.issues, place.in_force()) == (before + 1, document)


def test_an_install_request_of_the_vendor_s_leads_to_licenses_in_force(run: Run, place: Place, tmp_path: Path) -> None:
    before, file = place.issues, tmp_path / "install.licd"
    assert place.books.run("install-request", "new", place.books.order(), "-o", file) == 0
    for state in ("now.", "already; nothing was changed."):
        status, said = place.run(run, "--install-request", file)
        assert status == problems.DONE, said
        assert f" of acme is in force {state}\n" in said
    assert place.issues == before + 1


def test_a_code_that_nobody_sold_is_refused_with_the_vendor_s_sentence(run: Run, place: Place) -> None:
    status, said = place.run(run, code.encode(b"never sold"))
    assert status == problems.REFUSED
    assert "(UNKNOWN_CODE)\nhint: " in said


@pytest.mark.parametrize(("what", "when"), POINTS)
def test_killed_between_two_steps_it_goes_on_and_one_issue_stands_in_the_vendor_s_store(  # noqa: PLR0917  fixtures
    run: Run, place: Place, folder: Path, capsys: pytest.CaptureFixture[str], what: str, when: str
) -> None:
    before, sold = place.issues, place.sell(capsys)
    killed = Interrupted(place.site, folder, (what, when), signal.SIGKILL, sold, "--ca", web().ca_file)
    assert killed.status == -signal.SIGKILL
    status, said = place.run(run, sold)
    assert status == problems.DONE, said
    assert place.issues == before + 1


@pytest.mark.parametrize("what", ["server.status", "install.request"])
def test_a_vendor_s_server_killed_before_a_step_is_asked_again_by_the_same_command(
    run: Run, place: Place, folder: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    before, sold = place.issues, place.sell(capsys)
    if what == "install.request":  # the first document came, the second does not
        Interrupted(place.site, folder, (what, BEFORE), signal.SIGKILL, sold, "--ca", web().ca_file)
    place.served.kill()
    status, said = place.run(run, sold)
    assert (status, "(VENDOR_NO_ANSWER)" in said) == (problems.UNREACHABLE, True)
    place.served.start()
    status, said = place.run(run, sold)
    assert status == problems.DONE, said
    assert place.issues == before + 1
