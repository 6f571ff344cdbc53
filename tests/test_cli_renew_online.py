"""licd-cli renew between a real device and the vendor's own server, licd-vendor serve, over TLS."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from licd.cli import problems
from licd.license.document import parse
from tests.support.books import Machine
from tests.support.cli import Run, as_other_user, runner
from tests.support.connected import Place, connected
from tests.support.courier import row as courier_row
from tests.support.https import needs_tinyproxy, tinyproxy
from tests.support.interrupting import AFTER, BEFORE, Interrupted
from tests.support.posting import forget_proxies
from tests.support.site import NEEDS

pytestmark = NEEDS

COURIERS = next(group for group in grp.getgrall() if 0 < group.gr_gid < 1000)
SETTINGS: dict[str, object] = {"socket_mode": "0666", "courier_group": COURIERS.gr_name}
STEPS = ["renewal.plan", "renewal.request", "renewal", "renewal.report"]
POINTS = [(what, when) for what in STEPS for when in (BEFORE, AFTER)]


class Device(NamedTuple):
    """With licenses of one order in force, bought with a code."""

    place: Place
    order: int

    def renew(self, run: Run, *words: object) -> tuple[int, str]:
        return self.place.run(run, "renew", *words)

    def set_seats(self, seats: int) -> None:
        """The vendor sells otherwise from now on."""
        assert self.place.books.run("order", "set", self.order, "--license", f"kso.scan,seats={seats}") == 0

    @property
    def seats(self) -> int:
        """Those in force."""
        found: int = self.place.site.call("license.list")["licenses"][0]["total"]
        return found

    @property
    def seq(self) -> int:
        seq: int = self.place.site.row()["seq"]
        return seq

    def plan(self) -> dict[str, Any]:
        (row,) = self.place.site.call("renewal.plan")["vendors"]
        assert isinstance(row, dict)
        return row


@contextlib.contextmanager
def sold(capsys: pytest.CaptureFixture[str], *, front: bool) -> Iterator[Device]:
    with connected(front=front, settings=SETTINGS) as place:
        order = place.books.order("--renewal", "required,every=30,grace=14")
        status, said = place.run(runner(capsys), "activate", place.sell(capsys, order))
        assert status == problems.DONE, said
        yield Device(place, order)


@pytest.fixture(scope="module")
def devices() -> Iterator[Callable[..., Device]]:
    """One device for each way to the server, made when the first test asks for it."""
    made: dict[bool, Device] = {}
    with contextlib.ExitStack() as stack:

        def device(capsys: pytest.CaptureFixture[str], *, front: bool) -> Device:
            if front not in made:
                made[front] = stack.enter_context(sold(capsys, front=front))
            return made[front]

        yield device


@pytest.fixture
def device(devices: Callable[..., Device], capsys: pytest.CaptureFixture[str]) -> Device:
    """Asks the server itself."""
    return devices(capsys, front=False)


@pytest.fixture
def behind(devices: Callable[..., Device], capsys: pytest.CaptureFixture[str]) -> Device:
    """Asks the server through what tells of each request."""
    return devices(capsys, front=True)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


def test_the_scripted_licd_of_other_tests_tells_of_the_same(device: Device) -> None:
    assert courier_row().keys() == device.plan().keys()


# --- the whole way -------------------------------------------------------------------------------------------


def test_what_the_vendor_changed_comes_with_the_next_renewal_and_then_all_is_unchanged(
    run: Run, device: Device
) -> None:
    before, seq = device.place.issues, device.seq
    device.set_seats(5)
    status, said = device.renew(run)
    assert (status, device.seats, device.seq) == (problems.DONE, 5, seq + 1), said
    assert f"acme: renewed; the license file {seq + 1} is in force now, in place of {seq}. Next renewal: 20" in said
    assert re.search(r"kso\.scan +changed +valid, seats: \d+, .* valid, seats: 5, ", said)
    document = device.place.in_force()
    for _ in range(2):
        status, said = device.renew(run)
        assert status == problems.DONE, said
        assert "acme: unchanged; the license file in force goes on. Next renewal: 20" in said
    assert (device.place.issues, device.place.in_force()) == (before + 1, document)


def test_fewer_seats_are_in_force_and_loud(run: Run, device: Device) -> None:
    device.set_seats(2)
    device.renew(run)
    device.set_seats(1)
    status, said = device.renew(run)
    assert (status, device.seats) == (problems.DONE, 1)
    assert re.search(r"(?m)^warning: kso\.scan is granted LESS than before: .* seats: 2, .* -> .* seats: 1, ", said)


def test_what_is_not_due_is_not_asked_by_the_timer(run: Run, device: Device) -> None:
    device.renew(run)
    device.place.served.kill()
    assert device.renew(run, "--due") == (problems.DONE, "")
    device.place.served.start()


def test_a_signed_refusal_is_told_and_the_licenses_go_on_until_its_date(run: Run, device: Device) -> None:
    device.renew(run)
    seats, books = device.seats, device.place.books
    assert books.run("order", "suspend", device.order, "--reason", "not paid") == 0
    for _ in range(2):
        status, said = device.renew(run)
        assert status == problems.REFUSED
        assert re.search(r"acme: REFUSED; the last day of the licenses is 20[0-9-]{8}\.", said)
        assert re.search(
            r"error: acme: The vendor REFUSES .*: .*not paid\. Their last day is .* \(RENEWAL_REFUSED\)\n", said
        )
        assert device.place.site.valid("kso.scan")
    assert books.run("order", "resume", device.order) == 0
    status, said = device.renew(run)
    assert (status, device.seats, device.plan()["refused"]) == (problems.DONE, seats, None), said


def test_a_server_that_is_down_is_asked_again_later_and_nothing_changes(run: Run, device: Device) -> None:
    device.renew(run)
    document = device.place.in_force()
    device.place.served.kill()
    for failures in (1, 2):
        status, said = device.renew(run)
        assert (status, "(VENDOR_NO_ANSWER)" in said) == (problems.UNREACHABLE, True)
        assert re.search(
            r"(?m)^acme: not renewed; nothing was changed\. Next try: 20.* licenses stop from 20.* on\.$", said
        )
        assert (device.plan()["failures"], device.plan()["last"]["outcome"]) == (failures, "VENDOR_NO_ANSWER")
    device.place.served.start()
    assert device.place.in_force() == document
    assert device.renew(run)[0] == problems.DONE
    assert device.plan()["failures"] == 0


def test_a_list_of_withdrawn_certificates_comes_along_and_what_it_voids_is_replaced(run: Run, device: Device) -> None:
    books, served = device.place.books, device.place.served
    old = (books.dir / "signer.pem").read_bytes()
    assert books.run("signer", "new") == 0
    (device.place.site.folder / "old.pem").write_bytes(old)
    assert books.run("withdraw", device.place.site.folder / "old.pem", "--void") == 0
    served.kill()
    served.start()
    device.set_seats(8)
    status, said = device.renew(run)
    assert (status, device.seats) == (problems.DONE, 8), said
    assert "A list of withdrawn certificates came with it (number 1)." in said
    status, said = device.renew(run)
    assert (status, "acme: unchanged" in said, "withdrawn" in said) == (problems.DONE, True, False), said


@needs_tinyproxy
def test_it_goes_through_a_proxy(run: Run, device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device.set_seats(7)
    with tinyproxy(tmp_path) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        status, said = device.renew(run)
        log = (tmp_path / "proxy.log").read_text()
    assert (status, device.seats) == (problems.DONE, 7), said
    assert log.count(f"CONNECT 127.0.0.1:{device.place.served.port}") == 1


def test_by_file_it_is_the_same(run: Run, device: Device, tmp_path: Path) -> None:
    before = device.place.issues
    device.set_seats(9)
    asked, answer = tmp_path / "asked.licd", tmp_path / "answer.licd"
    for _ in range(2):  # the same request, and the same file for it
        status, said = device.renew(run, "--export", asked)
        assert status == problems.DONE, said
        answer.unlink(missing_ok=True)
        assert device.place.books.run("renew", asked, "-o", answer) == 0
    for word in ("renewed; the license file", "this answer was taken in before;"):
        status, said = device.renew(run, "--import", answer)
        assert (status, f"acme: {word}" in said, device.seats) == (problems.DONE, True, 9), said
    assert device.place.issues == before + 1
    status, said = device.renew(run, "--import", asked)
    assert (status, "error: " in said, device.seats) == (problems.REFUSED, True, 9)


def test_a_license_file_for_another_device_changes_nothing_and_is_a_failure(
    run: Run, behind: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the vendor's server took one device for another."""
    foreign = _file_of_another(behind.place)
    document = behind.place.in_force()
    monkeypatch.setattr(behind.place.front, "changes", lambda _: foreign)
    status, said = behind.renew(run)
    assert (status, "error: acme: " in said, "(WRONG_DEVICE)" in said) == (problems.REFUSED, True, True), said
    assert behind.place.in_force() == document
    assert (behind.plan()["failures"], behind.plan()["last"]["outcome"]) == (1, "WRONG_DEVICE")


def _file_of_another(place: Place) -> bytes:
    order = place.books.order()
    return place.books.issue(Machine(7).request(place.books.ask(order))).text


# --- interrupted ---------------------------------------------------------------------------------------------


@pytest.fixture
def goes_on(run: Run, behind: Device) -> Callable[[], None]:
    """The vendor sells one seat more from now on. Called, the same command again ends with that in force, and with one
    new file for it in the store."""
    before, seats = behind.place.issues, behind.seats + 1
    behind.set_seats(seats)

    def check() -> None:
        status, said = behind.renew(run)
        assert status == problems.DONE, said
        assert (behind.seats, behind.place.issues) == (seats, before + 1)
        (header, *_) = parse(behind.place.in_force().encode())[0].records
        assert header.value["seq"] == behind.seq

    return check


@pytest.mark.parametrize(("what", "when"), POINTS)
def test_killed_between_any_two_steps_it_goes_on_and_one_issue_stands(
    behind: Device, goes_on: Callable[[], None], folder: Path, what: str, when: str
) -> None:
    place = behind.place
    killed = Interrupted(place.site, folder, (what, when), signal.SIGKILL, server=place.front, does="renew")
    assert killed.status == -signal.SIGKILL
    goes_on()


@pytest.mark.parametrize("what", STEPS)
def test_ctrl_c_ends_it_without_a_traceback_and_it_goes_on(
    behind: Device, goes_on: Callable[[], None], folder: Path, what: str
) -> None:
    place = behind.place
    ended = Interrupted(place.site, folder, (what, BEFORE), signal.SIGINT, server=place.front, does="renew")
    assert (ended.status, "Traceback" in ended.err) == (problems.INTERRUPTED, False)
    goes_on()


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_a_vendor_s_server_killed_at_the_request_is_asked_again_by_the_same_command(
    run: Run, behind: Device, goes_on: Callable[[], None], when: str
) -> None:
    place = behind.place

    def die(at: str, moment: str) -> None:
        if moment == when:
            place.served.kill()
            raise OSError

    place.front.at = die
    status, said = behind.renew(run)
    place.front.forget()
    assert (status, "(VENDOR_CUT)" in said) == (problems.UNREACHABLE, True), said
    place.served.start()
    goes_on()


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_licd_killed_while_the_vendor_is_asked_goes_on_after_its_restart(
    run: Run, behind: Device, goes_on: Callable[[], None], when: str
) -> None:
    place = behind.place

    def kill(at: str, moment: str) -> None:
        if moment == when:
            place.site.kill()

    place.front.at = kill
    status, said = behind.renew(run)
    place.front.forget()
    assert (status, "(NOT_LISTENING)" in said) == (problems.UNREACHABLE, True), said
    place.site.start()
    goes_on()


@pytest.mark.parametrize("news", [1, 0])
def test_two_at_once_end_alike_and_with_one_issue_at_most(run: Run, behind: Device, news: int) -> None:
    behind.renew(run)
    place, seats = behind.place, behind.seats + news
    before = place.issues
    behind.set_seats(seats)
    done: list[tuple[int, str]] = []
    together = threading.Barrier(2)

    def meet(at: str, moment: str) -> None:
        if moment == BEFORE:
            together.wait(20)

    place.front.at = meet
    other = threading.Thread(target=lambda: done.append(_in_a_process(behind)))
    other.start()
    done.append(_in_a_process(behind))
    other.join(30)
    place.front.forget()
    assert [status for status, _ in done] == [problems.DONE] * 2, done
    assert (behind.seats, place.issues, behind.plan()["failures"]) == (seats, before + news, 0)


def _in_a_process(device: Device) -> tuple[int, str]:
    done = as_other_user("renew", "--socket", device.place.site.socket, groups=[COURIERS.gr_gid])
    return done.status, done.out + done.err


# --- as a courier --------------------------------------------------------------------------------------------


@pytest.fixture
def closed(device: Device) -> Iterator[Device]:
    """Nothing of licd's but its socket can be seen by others."""
    site = device.place.site
    paths = [site.state, site.vendors, site.config]
    modes = [path.stat().st_mode for path in paths]
    for path in paths:
        path.chmod(0o700)
    yield device
    for path, mode in zip(paths, modes, strict=True):
        path.chmod(mode)


def courier(device: Device, *words: object, groups: tuple[int, ...] = (COURIERS.gr_gid,)) -> Any:
    return as_other_user(*words, "--socket", device.place.site.socket, groups=groups)


def test_a_courier_needs_no_other_right_than_its_group(run: Run, closed: Device, tmp_path: Path) -> None:
    closed.set_seats(4)
    done = courier(closed, "renew", "--json")
    assert done.status == problems.DONE, done
    (row,) = json.loads(done.out)["vendors"]
    assert (row["outcome"], closed.seats) == ("renewed", 4)
    done = courier(closed, "renew", "--due")
    assert (done.status, done.out, done.err) == (problems.DONE, "", "")

    closed.set_seats(6)
    os.chmod(tmp_path, 0o777)
    done = courier(closed, "renew", "--export", "-")
    (tmp_path / "asked").write_text(done.out)
    assert closed.place.books.run("renew", tmp_path / "asked", "-o", tmp_path / "answer") == 0
    done = as_other_user("renew", "--import", "-", "--socket", closed.place.site.socket,
                         document=(tmp_path / "answer").read_bytes(), groups=[COURIERS.gr_gid])  # fmt: skip
    assert (done.status, closed.seats) == (problems.DONE, 6), done


@pytest.mark.parametrize("words", [["status"], ["licenses"], ["acquire", "kso.scan", "a"], ["license", "export"]])
def test_a_courier_may_do_nothing_else(closed: Device, words: list[str]) -> None:
    done = courier(closed, *words)
    assert (done.status, "(NOT_PERMITTED)" in done.err) == (problems.REFUSED, True)


def test_who_is_no_courier_renews_nothing(closed: Device) -> None:
    for words in (["renew"], ["renew", "--due"], ["renew", "--export", "-"]):
        done = courier(closed, *words, groups=())
        assert (done.status, done.out, "(NOT_PERMITTED)" in done.err) == (problems.REFUSED, "", True)
