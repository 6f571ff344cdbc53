"""What a renewal is refused, and how: signed, which takes licenses away; or as a problem, which takes nothing."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licd.license.dates import DAY_S, day, end_of
from licd.license.document import LICENSE_FILE, REFUSAL, UNCHANGED
from licd.license.lines import LicenseFile
from licd.license.renewal import Usage
from licd.rpc.errors import ANOTHER_DEVICE, ANOTHER_VENDOR, REHOST_LIMIT, WEAK_FINGERPRINT, Refused
from licd_vendor import answers, load, pacing
from licd_vendor.keys import Failure
from licd_vendor.load import Load
from licd_vendor.main import main
from licd_vendor.orders import NotIssued
from tests.support.books import Books, Machine, Web, problem

Capture = pytest.CaptureFixture[str]
NOW = float(int(time.time()))
MONTHLY = ("--renewal", "required,every=30,grace=14")
BOARD = ("system_uuid", "board_serial", "product_serial")


@pytest.fixture
def order(books: Books) -> int:
    return books.order(*MONTHLY)


@pytest.fixture
def machine() -> Machine:
    return Machine(1)


@pytest.fixture
def file(books: Books, order: int, machine: Machine) -> LicenseFile:
    return books.issue(machine.request(books.ask(order)))


@pytest.fixture
def web(books: Books, file: LicenseFile) -> Web:
    return books.web()


def name_of(web: Web, body: bytes) -> tuple[str, int]:
    answer = web.post("/renewal", body)
    return str(problem(answer)["name"]), answer.status_code


# --- what is no renewal request of this vendor ----------------------------------------------------------------------


def test_a_file_that_this_store_did_not_issue_is_unknown_whoever_signed_it(
    web: Web, machine: Machine, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "other").mkdir()
    books, other = web.books, Books(tmp_path / "other")
    foreign = other.issue(machine.request(other.ask(other.order())))
    assert name_of(web, machine.renewal(foreign).text) == ("UNKNOWN_LICENSE_FILE", 404)
    (tmp_path / "request").write_bytes(machine.renewal(foreign).text)
    capsys.readouterr()
    assert books.run("renew", tmp_path / "request", "-o", tmp_path / "out") == 1
    assert f"The license file {foreign.file}, seq 1, is none that was issued" in capsys.readouterr().err
    assert books.count("renewals") == 0


def test_the_id_of_a_file_with_another_file_s_bytes_is_unknown(
    web: Web, books: Books, machine: Machine, file: LicenseFile
) -> None:
    text = file.text.replace(b'"seats":3', b'"seats":9')
    assert text != file.text
    forged = file._replace(text=text, digest=sha256(text).hexdigest())
    assert name_of(web, machine.renewal(forged).text) == ("UNKNOWN_LICENSE_FILE", 404)
    assert books.seqs() == [1]


@pytest.mark.parametrize(
    ("body", "name", "status"),
    [
        (b"", "DAMAGED_DOCUMENT", 400),
        (b"\x00" * 2000, "DAMAGED_DOCUMENT", 400),
        (b"x" * (1024 * 1024 + 64 * 1024 + 1), "DOCUMENT_TOO_LARGE", 413),
        (b"\n" * 20_000, "DOCUMENT_TOO_LARGE", 413),
    ],
)
def test_what_is_no_renewal_request_is_refused_by_name(web: Web, body: bytes, name: str, status: int) -> None:
    assert name_of(web, body) == (name, status)


def test_other_documents_and_halves_of_one_are_refused_by_name(
    web: Web, books: Books, order: int, machine: Machine, file: LicenseFile
) -> None:
    request = machine.renewal(file)
    first = request.text.removesuffix(file.text)
    assert name_of(web, machine.request(books.ask(order)).text) == ("WRONG_DOCUMENT", 400)
    assert name_of(web, file.text) == ("WRONG_DOCUMENT", 400)
    assert name_of(web, first) == ("DAMAGED_DOCUMENT", 400)
    assert name_of(web, request.text + file.text) == ("BAD_DOCUMENT", 400)
    assert name_of(web, request.text.replace(b'"unreadable":[]', b'"unreadable":["cpu"]')) == ("BAD_SIGNATURE", 400)
    assert name_of(web, first + file.text.replace(b'"seats":3', b'"seats":9')) == ("LINES_DO_NOT_FIT", 400)
    answer = web.post("/renewal", request.text, "application/octet-stream")
    assert (problem(answer)["name"], answer.status_code) == ("UNSUPPORTED_MEDIA_TYPE", 415)
    answer = web.client.get("/renewal")
    assert (problem(answer)["name"], answer.status_code) == ("METHOD_NOT_ALLOWED", 405)
    assert (books.count("renewals"), books.seqs()) == (0, [1])


def test_a_request_for_another_vendor_is_refused(tmp_path: Path, machine: Machine, file: LicenseFile) -> None:
    folder = tmp_path / "globex"
    assert main(["init", str(folder), "--vendor", "globex", "--names", "kso.*"]) == 0
    (tmp_path / "request").write_bytes(machine.renewal(file).text)
    command = ["--dir", str(folder), "renew", str(tmp_path / "request"), "-o", str(tmp_path / "out")]
    assert main(command) == 1
    assert not (tmp_path / "out").exists()


def test_another_vendor_s_request_is_refused_before_anything_is_looked_up(
    books: Books, machine: Machine, file: LicenseFile
) -> None:
    request = machine.renewal(file)._replace(vendor="globex")
    with pytest.raises(Refused) as refused:
        books.renew_at(NOW, request)
    assert refused.value.error is ANOTHER_VENDOR


# --- the signed no --------------------------------------------------------------------------------------------------


def test_a_suspended_order_is_a_signed_refusal_with_its_reason_from_tomorrow_on(
    books: Books, web: Web, order: int, machine: Machine, file: LicenseFile
) -> None:
    assert books.run("order", "suspend", order, "--reason", "не оплачено") == 0
    request = machine.renewal(file)
    answer = books.renew_at(NOW, request)
    told = books.answer(answer.data)
    assert (told.kind, told.request, told.device) == (REFUSAL, request.id, request.device)
    assert (told.file, told.seq) == (file.file, 1)
    assert told.reason == answer.reason == f"order {order} is suspended: не оплачено"
    assert told.stops == answer.stops == day(NOW + DAY_S)
    assert told.stops_at == end_of(day(NOW + DAY_S))
    assert books.answer(web.renewal(machine.renewal(file))).kind == REFUSAL
    assert " answer=refusal" in books.log[-1]
    assert "не оплачено" not in books.log[-1]
    assert books.run("order", "resume", order) == 0
    assert books.answer(web.renewal(request)).kind == UNCHANGED  # the same request, and the books say otherwise now
    assert books.count("renewals") == 2


def test_refusals_put_nobody_off_and_a_stranger_s_is_not_even_remembered(
    books: Books, order: int, machine: Machine, file: LicenseFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "MAX_A_DAY", 1)
    monkeypatch.setattr(pacing, "FREE", 1)
    assert books.run("order", "suspend", order) == 0
    for n, each in enumerate((Machine(7), Machine(8), machine, machine)):
        assert books.renew_at(NOW + n, each.renewal(file), load=Load()).kind == REFUSAL
    assert books.count("renewals") == 2
    assert books.run("order", "resume", order) == 0
    assert books.renew_at(NOW + 9, machine.renewal(file), load=Load()).kind == UNCHANGED


def test_a_refusal_by_file_is_said_loudly(
    books: Books, order: int, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    assert books.run("order", "suspend", order) == 0
    capsys.readouterr()
    data = books.renew(machine.renewal(file))
    assert f"REFUSED for device 1: order {order} is suspended\n" in capsys.readouterr().out
    assert books.answer(data).kind == REFUSAL


def test_every_way_in_which_nothing_is_left_is_named(
    books: Books, order: int, machine: Machine, file: LicenseFile
) -> None:
    second = books.order("--license", "kso.pay,expires=2027-01-31")
    both = books.issue(machine.request(books.ask(second)))
    assert books.run("order", "end", order) == 0
    answer = books.renew_at(NOW + 365 * DAY_S, machine.renewal(both))
    ended = f"order {order} was ended on {day(time.time())}"
    assert answer.reason == f"{ended}; all licenses of order {second} have expired"


def test_a_reason_longer_than_a_refusal_holds_is_cut(books: Books, machine: Machine) -> None:
    numbers = [books.order("--license", f"kso.a{n}") for n in range(9)]
    for number in numbers:
        file = books.issue(machine.request(books.ask(number)))
        assert books.run("order", "suspend", number, "--reason", "x" * 100) == 0
    reason = str(books.renew_at(NOW, machine.renewal(file)).reason)
    assert (len(reason), reason[-3:]) == (200, "...")


def test_a_device_whose_place_was_given_to_another_is_refused_and_the_other_is_not(
    books: Books, order: int, machine: Machine, file: LicenseFile
) -> None:
    other = Machine(2)
    taken = books.issue(other.request(books.ask(order)), "--rehost")
    answer = books.renew_at(NOW, machine.renewal(file))
    assert (answer.kind, answer.reason) == (REFUSAL, "the licenses were moved to another device")
    assert books.renew_at(NOW, other.renewal(taken)).kind == UNCHANGED


def test_a_refusal_that_devices_would_not_take_is_a_failure_and_nothing_is_remembered(
    books: Books, order: int, machine: Machine, file: LicenseFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert books.run("order", "end", order) == 0
    before = books.dump()
    monkeypatch.setattr(answers, "DAY_S", 0)  # it would stop on the day on which it is issued
    with pytest.raises(Failure, match="A device would refuse this answer"):
        books.renew_at(NOW, machine.renewal(file))
    assert books.dump() == before


# --- what only a person decides -------------------------------------------------------------------------------------


def other_hardware(machine: Machine) -> Machine:
    return machine.changed(**{each: ["new"] for each in (*BOARD, "disk", "nic")})


def test_other_hardware_is_a_problem_and_never_a_refusal(
    web: Web, books: Books, machine: Machine, file: LicenseFile
) -> None:
    assert name_of(web, other_hardware(machine).renewal(file).text) == ("ASK_VENDOR", 403)
    answer = web.post("/renewal", other_hardware(machine).renewal(file).text)
    assert file.file not in answer.text
    assert (books.count("renewals"), books.seqs()) == (0, [1])
    assert books.answer(web.renewal(machine.renewal(file))).kind == UNCHANGED


def test_a_stranger_with_the_file_gets_nothing_and_changes_nothing(
    web: Web, books: Books, machine: Machine, file: LicenseFile
) -> None:
    before = books.dump()
    assert name_of(web, Machine(7).renewal(file).text) == ("ASK_VENDOR", 403)
    changed = [line for line in books.dump() if line not in before]
    assert all("alarms" in line for line in changed)


def test_the_file_of_one_device_in_the_hands_of_another_of_the_customer_is_a_problem(books: Books, web: Web) -> None:
    asked = books.ask(books.order("--devices", 2, *MONTHLY))
    one, two = Machine(11), Machine(12)
    file = books.issue(one.request(asked))
    books.issue(two.request(asked))
    assert name_of(web, two.renewal(file).text) == ("ASK_VENDOR", 403)


def test_piece_by_piece_the_whole_device_is_not_renewed_in_a_year(
    books: Books, machine: Machine, file: LicenseFile
) -> None:
    half = machine.changed(**{each: ["new"] for each in BOARD})
    second = books.verify(books.renew_at(NOW, half.renewal(file)).data)
    whole = half.changed(disk=["new"], nic=["new"])
    outcome = books.outcome_at(NOW + 300 * DAY_S, whole.renewal(second))
    assert isinstance(outcome.found, Refused)
    assert outcome.found.error is ANOTHER_DEVICE
    assert "100 percent was replaced within a year" in str(outcome.found)
    assert books.renew_at(NOW + 366 * DAY_S, whole.renewal(second)).kind == LICENSE_FILE


def test_what_is_claimed_to_be_unreadable_does_not_hide_what_was_replaced(
    books: Books, machine: Machine, file: LicenseFile
) -> None:
    half = machine.changed(**{each: ["new"] for each in BOARD})
    second = books.verify(books.renew_at(NOW, half.renewal(file)).data)
    whole = half.changed(disk=["new"])
    third = books.verify(books.renew_at(NOW, whole.renewal(second, unreadable=["nic"])).data)
    assert second.device is not None
    assert third.device is not None
    assert third.device.fingerprint["nic"] == second.device.fingerprint["nic"]
    assert isinstance(books.outcome_at(NOW, whole.changed(nic=["new"]).renewal(third)).found, Refused)


def test_re_hosts_beyond_the_limit_are_for_a_person(
    books: Books, web: Web, machine: Machine, order: int, file: LicenseFile
) -> None:
    assert books.run("order", "set", order, "--rehosts", 0) == 0
    again = machine.reimaged()
    found = books.outcome_at(NOW, again.renewal(file)).found
    assert isinstance(found, Refused)
    assert found.error is REHOST_LIMIT
    assert name_of(web, again.renewal(file).text) == ("ASK_VENDOR", 403)
    assert books.seqs() == [1]


def test_a_device_that_shows_too_little_now_is_told_what_to_do(
    books: Books, web: Web, machine: Machine, file: LicenseFile
) -> None:
    poor = machine.changed(disk=[], nic=[])
    found = books.outcome_at(NOW, poor.renewal(file)).found
    assert isinstance(found, Refused)
    assert found.error is WEAK_FINGERPRINT
    assert name_of(web, poor.renewal(file).text) == ("WEAK_FINGERPRINT", 403)
    assert books.renew(poor.renewal(file), "--weak")


def test_hardware_of_several_machines_is_for_a_person(books: Books, machine: Machine, file: LicenseFile) -> None:
    many = machine.changed(disk=["disk-1", *(f"more-{n}" for n in range(8))])
    assert isinstance(books.outcome_at(NOW, many.renewal(file)).found, NotIssued)
    tags: dict[str, Any] = dict(machine.renewal(file).fingerprint)
    tags["board_serial"] = ["000001", *tags["board_serial"]]
    assert isinstance(books.outcome_at(NOW, machine.renewal(file, fingerprint=tags)).found, NotIssued)
    found = books.outcome_at(NOW, machine.renewal(file, fingerprint={})).found
    assert isinstance(found, Refused)
    assert found.error is ANOTHER_DEVICE
    assert books.verify(books.renew(many.renewal(file), "--many")).seq == 2


def test_a_person_names_the_device_that_it_is_or_none(
    books: Books, machine: Machine, file: LicenseFile, tmp_path: Path
) -> None:
    (tmp_path / "request").write_bytes(other_hardware(machine).renewal(file).text)
    command = ("renew", tmp_path / "request", "-o", tmp_path / "out", "--rehost")
    assert books.run(*command, 2) == 1
    assert not (tmp_path / "out").exists()
    assert books.run(*command, 1) == 0


def test_an_answer_is_never_written_over_what_it_answers_or_what_the_vendor_needs(
    books: Books, machine: Machine, file: LicenseFile, tmp_path: Path
) -> None:
    request = tmp_path / "request"
    request.write_bytes(machine.renewal(file).text)
    for place in (request, books.dir / "vendor.db", books.dir / "signer.pem", books.dir / "profile" / "x"):
        assert books.run("renew", request, "-o", place) == 1
    assert request.read_bytes().startswith(b'{"licd":1,"type":"renewal-request"')
    assert books.count("renewals") == 0


# --- ids of requests ------------------------------------------------------------------------------------------------


def test_the_id_of_an_answered_request_brings_another_request_nothing(
    books: Books, machine: Machine, order: int, file: LicenseFile
) -> None:
    assert books.run("order", "set", order, "--license", "kso.scan,seats=9") == 0
    request = machine.renewal(file)
    books.renew_at(NOW, request)
    with pytest.raises(Refused, match="was answered before, and it was another one"):
        books.renew_at(NOW, machine.renewal(file, id=request.id, usage=Usage("2026-11-01", {"kso.a": [1]})))


def test_an_id_that_another_device_of_the_order_used_keeps_nobody_out(books: Books) -> None:
    number = books.order("--devices", 2, *MONTHLY)
    asked = books.ask(number)
    machines = [Machine(1), Machine(2)]
    files = [books.issue(each.request(asked)) for each in machines]
    assert books.run("order", "set", number, "--license", "kso.scan,seats=9") == 0
    requests = [each.renewal(file, id="chosen") for each, file in zip(machines, files, strict=True)]
    one, two = (books.renew_at(NOW, request).data for request in requests)
    assert (books.verify(one).request, books.verify(two).seq) == ("chosen", 2)
    assert books.verify(two).request != "chosen"
    assert books.renew_at(NOW, requests[1]).data == two


def test_a_key_of_nobody_is_no_device(books: Books, machine: Machine, file: LicenseFile) -> None:
    request = machine.renewal(file, key=Ed25519PrivateKey.generate(), fingerprint={})
    found = books.outcome_at(NOW, request).found
    assert isinstance(found, Refused)
    assert found.error is ANOTHER_DEVICE
    assert books.seqs() == [1]


# --- the load -------------------------------------------------------------------------------------------------------


def test_too_many_answers_a_day_are_503_and_say_when(
    books: Books, web: Web, machine: Machine, file: LicenseFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "MAX_A_DAY", 2)
    for _ in range(2):
        web.renewal(machine.renewal(file))
    answer = web.post("/renewal", machine.renewal(file).text)
    assert (problem(answer)["name"], answer.status_code) == ("UNAVAILABLE", 503)
    assert DAY_S - 60 < int(answer.headers["Retry-After"]) <= DAY_S
    assert books.count("renewals") == 2
