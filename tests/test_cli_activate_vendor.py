"""licd-cli activate between a real device and the vendor's own server, licd-vendor serve, over TLS."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from licd.cli import problems
from licd.license import code
from tests.support.cli import Run
from tests.support.connected import Place, connected
from tests.support.interrupting import AFTER, BEFORE, Interrupted
from tests.support.posting import forget_proxies
from tests.support.site import NEEDS

pytestmark = NEEDS

POINTS = [
    ("server.status", AFTER),  # the code was not sent yet
    ("install.import", BEFORE),  # the install request came
    ("install.import", AFTER),
    ("install.request", AFTER),  # the license request was not sent yet
    ("license.import", BEFORE),  # the license file came
    ("license.import", AFTER),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with connected() as place:
        yield place


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


def test_a_code_of_the_vendor_s_leads_to_licenses_in_force_and_once_more_to_the_same(
    run: Run, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    before, code = place.issues, place.sell(capsys)
    status, said = place.run(run, "activate", *code.split())
    assert status == problems.DONE, said
    assert " of acme is in force now.\n" in said
    assert place.site.valid("kso.scan")
    document = place.in_force()
    status, said = place.run(run, "activate", code)
    assert status == problems.DONE, said
    assert " of acme is in force already; nothing was changed.\n" in said
    assert (place.issues, place.in_force()) == (before + 1, document)


def test_an_install_request_of_the_vendor_s_leads_to_licenses_in_force(run: Run, place: Place, tmp_path: Path) -> None:
    before, file = place.issues, tmp_path / "install.licd"
    assert place.books.run("install-request", "new", place.books.order(), "-o", file) == 0
    for state in ("now.", "already; nothing was changed."):
        status, said = place.run(run, "activate", "--install-request", file)
        assert status == problems.DONE, said
        assert f" of acme is in force {state}\n" in said
    assert place.issues == before + 1


def test_a_code_that_nobody_sold_is_refused_with_the_vendor_s_sentence(run: Run, place: Place) -> None:
    status, said = place.run(run, "activate", code.encode(b"never sold"))
    assert status == problems.REFUSED
    assert "(UNKNOWN_CODE)\nhint: " in said


@pytest.mark.parametrize(("what", "when"), POINTS)
def test_killed_between_two_steps_it_goes_on_and_one_issue_stands_in_the_vendor_s_store(  # noqa: PLR0917  fixtures
    run: Run, place: Place, folder: Path, capsys: pytest.CaptureFixture[str], what: str, when: str
) -> None:
    before, sold = place.issues, place.sell(capsys)
    killed = Interrupted(place.site, folder, (what, when), signal.SIGKILL, sold)
    assert killed.status == -signal.SIGKILL
    status, said = place.run(run, "activate", sold)
    assert status == problems.DONE, said
    assert place.issues == before + 1


@pytest.mark.parametrize("what", ["server.status", "install.request"])
def test_a_vendor_s_server_killed_before_a_step_is_asked_again_by_the_same_command(
    run: Run, place: Place, folder: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    before, sold = place.issues, place.sell(capsys)
    if what == "install.request":  # the first document came, the second does not
        Interrupted(place.site, folder, (what, BEFORE), signal.SIGKILL, sold)
    place.served.kill()
    status, said = place.run(run, "activate", sold)
    assert (status, "(VENDOR_NO_ANSWER)" in said) == (problems.UNREACHABLE, True)
    place.served.start()
    status, said = place.run(run, "activate", sold)
    assert status == problems.DONE, said
    assert place.issues == before + 1
