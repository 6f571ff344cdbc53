"""licd-cli activate against the real licd and a server that signs: interrupted anywhere, run again, one issue."""

from __future__ import annotations

import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from licd.cli import problems
from licd.cli.activate_commands import CODE, INSTALL_REQUEST, LICENSE_FILE, LICENSE_REQUEST
from licd.license import code
from licd.license.install import verify_license_request
from tests.support.cli import Run
from tests.support.https import Request, Server, answer
from tests.support.interrupting import AFTER, BEFORE, Interrupted, nothing
from tests.support.posting import surroundings
from tests.support.site import ACME, NEEDS, Asked, Site

pytestmark = NEEDS

POINTS = [
    (what, when)
    for what in (
        "server.status",
        "install-request",
        "install.import",
        "install.request",
        "license-file",
        "license.import",
    )
    for when in (BEFORE, AFTER)
]


class Issue(NamedTuple):
    device: str
    document: bytes


class Shop(Server):
    """A vendor's server: codes sold, and for each install request and device one license file, ever the same."""

    def __init__(self) -> None:
        super().__init__(self._serve_one, always=True)
        self.sold: dict[str, Asked] = {}
        self.issued: dict[str, Issue] = {}
        self.seq = 0
        self.at: Callable[[str, str], None] = nothing
        self.foreign = False

    def sell(self) -> str:
        symbols = code.encode(len(self.sold).to_bytes(10, "big"))
        self.sold[symbols] = Asked(ACME)
        return symbols

    def _serve_one(self, stream: socket.socket, request: Request) -> None:
        what = request.target.removeprefix("/")
        self.at(what, BEFORE)
        document = {"install-request": self._asked, "license-file": self._file}[what](request)
        answer(200, document, INSTALL_REQUEST if what == "install-request" else LICENSE_FILE)(stream, request)
        self.at(what, AFTER)

    def _asked(self, request: Request) -> bytes:
        assert request.headers["content-type"] == CODE
        return self.sold[request.body.decode()].document

    def _file(self, request: Request) -> bytes:
        assert request.headers["content-type"] == LICENSE_REQUEST
        wants = verify_license_request(request.body)
        (asked,) = (each for each in self.sold.values() if each.members["id"] == wants.install_request)
        if wants.install_request not in self.issued:
            self.seq += 1
            bound = {"key": "A" * 43, "fingerprint": {"disk": ["000000"]}} if self.foreign else {}
            self.issued[wants.install_request] = Issue(wants.device, asked.file(wants, self.seq, device=bound))
        issue = self.issued[wants.install_request]
        assert issue.device == wants.device
        return issue.document


class Place(NamedTuple):
    site: Site
    shop: Shop
    socket: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="licd-") as name, Shop() as shop, Site(Path(name), vendors=()) as site:
        ACME.write_profile(site.vendors, url=shop.url)
        site.start()
        yield Place(site, shop, str(site.socket))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(monkeypatch)


def issues(shop: Shop, symbols: str) -> int:
    return sum(1 for each in shop.issued if each == shop.sold[symbols].members["id"])


def file_of(place: Place, symbols: str) -> bytes:
    return place.shop.issued[place.shop.sold[symbols].members["id"]].document


def in_force(place: Place) -> bytes:
    document: str = place.site.call("license.export")["document"]
    return document.encode()


@pytest.mark.parametrize(("mode", "by_file"), [(2, True), (3, False)])
def test_one_command_leads_to_licenses_in_force(
    run: Run, place: Place, tmp_path: Path, mode: int, by_file: bool
) -> None:
    symbols = place.shop.sell()
    words: list[object] = [symbols]
    if by_file:
        (tmp_path / "f").write_bytes(place.shop.sold[symbols].document)
        words = ["--install-request", tmp_path / "f"]
    done = run("activate", *words, "--socket", place.socket)
    assert done.status == problems.DONE, done.err
    assert f"The license file {place.shop.seq} of acme is in force now." in done.out
    assert [line[:4] for line in done.err.splitlines()] == ["1/4 ", "2/4 ", "3/4 ", "4/4 "]
    assert (issues(place.shop, symbols), in_force(place)) == (1, file_of(place, symbols))
    assert place.site.valid()

    again = run("activate", *words, "--socket", place.socket)
    assert again.status == problems.DONE, again.err
    assert f"The license file {place.shop.seq} of acme is in force already; nothing was changed." in again.out
    assert (issues(place.shop, symbols), in_force(place)) == (1, file_of(place, symbols))


@pytest.mark.parametrize(("what", "when"), POINTS)
def test_killed_between_any_two_steps_it_goes_on_and_one_issue_stands(
    run: Run, place: Place, folder: Path, what: str, when: str
) -> None:
    symbols = place.shop.sell()
    killed = Interrupted(place.site, folder, (what, when), signal.SIGKILL, symbols, server=place.shop)
    assert killed.status == -signal.SIGKILL
    again = run("activate", symbols, "--socket", place.socket)
    assert again.status == problems.DONE, again.err
    assert (issues(place.shop, symbols), in_force(place)) == (1, file_of(place, symbols))


@pytest.mark.parametrize("what", ["install-request", "install.import", "license-file"])
def test_ctrl_c_ends_it_without_a_traceback_and_it_goes_on(run: Run, place: Place, folder: Path, what: str) -> None:
    symbols = place.shop.sell()
    ended = Interrupted(place.site, folder, (what, BEFORE), signal.SIGINT, symbols, server=place.shop)
    assert (ended.status, "Traceback" in ended.err) == (problems.INTERRUPTED, False)
    again = run("activate", symbols, "--socket", place.socket)
    assert again.status == problems.DONE, again.err
    assert (issues(place.shop, symbols), in_force(place)) == (1, file_of(place, symbols))


@pytest.mark.parametrize("what", ["install-request", "license-file"])
@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_a_server_that_dies_at_a_request_is_asked_again_by_the_same_command(
    run: Run, place: Place, what: str, when: str
) -> None:
    def die(at: str, moment: str) -> None:
        if at == what and moment == BEFORE:
            if when == AFTER:  # it has decided, and the answer is lost
                place.shop.at = nothing
                getattr(place.shop, "_asked" if what == "install-request" else "_file")(place.shop.asked[-1])
            place.shop.streams[-1].close()
            raise OSError

    symbols = place.shop.sell()
    place.shop.at = die
    done = run("activate", symbols, "--socket", place.socket)
    place.shop.at = nothing
    assert (done.status, "(VENDOR_CUT)" in done.err) == (problems.UNREACHABLE, True)
    again = run("activate", symbols, "--socket", place.socket)
    assert again.status == problems.DONE, again.err
    assert (issues(place.shop, symbols), in_force(place)) == (1, file_of(place, symbols))


def test_licd_killed_between_two_steps_goes_on_after_its_restart(run: Run, place: Place, folder: Path) -> None:
    symbols = place.shop.sell()
    Interrupted(place.site, folder, ("license-file", BEFORE), signal.SIGKILL, symbols, server=place.shop)
    place.site.kill()
    done = run("activate", symbols, "--socket", place.socket)
    assert done.status == problems.UNREACHABLE
    place.site.start()
    again = run("activate", symbols, "--socket", place.socket)
    assert again.status == problems.DONE, again.err
    assert (issues(place.shop, symbols), in_force(place)) == (1, file_of(place, symbols))


def test_a_license_file_for_another_device_is_refused_and_what_is_in_force_stays(run: Run, place: Place) -> None:
    symbols = place.shop.sell()
    assert run("activate", symbols, "--socket", place.socket).status == problems.DONE
    before = in_force(place)
    place.shop.foreign = True
    other = place.shop.sell()
    done = run("activate", other, "--socket", place.socket, "--json")
    place.shop.foreign = False
    assert (done.status, done.value["error"]["name"]) == (problems.REFUSED, "WRONG_DEVICE")
    assert "4/4" in done.err
    assert in_force(place) == before
    assert place.site.valid()
