"""What the vendor's service answers: documents, refusals by name, and nothing about anybody else."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licd.license.install import InstallRequest
from licd.rpc import errors
from licd_vendor import issuing, keys, serve
from licd_vendor.main import main
from tests.support.books import Books, Machine, Web, problem

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


@pytest.fixture
def web(books: Books) -> Web:
    return books.web()


def count(books: Books, table: str) -> int:
    with sqlite3.connect(books.dir / "vendor.db") as connection:
        number: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return number


# --- who gets what --------------------------------------------------------------------------------------------------


def test_a_license_request_gets_a_license_file_and_asking_again_gets_the_same(books: Books, web: Web) -> None:
    request = Machine(1).request(books.ask(books.order()))
    file = web.license_file(request)
    assert (file.seq, file.request) == (1, request.id)
    assert web.license_file(request).text == file.text
    assert count(books, "issues") == 1


def test_the_same_device_gets_the_same_file_also_for_another_license_request(books: Books, web: Web) -> None:
    asked, machine = books.ask(books.order()), Machine(1)
    file = web.license_file(machine.request(asked))
    assert web.license_file(machine.request(asked)).text == file.text
    assert web.license_file(machine.changed(chassis_serial=["new"], nic=["nic-1-a"]).request(asked)).text == file.text
    assert count(books, "issues") == 1


def test_a_further_order_makes_a_new_file_and_the_first_install_request_does_not_bring_the_old_one_back(
    books: Books, web: Web
) -> None:
    machine = Machine(1)
    one, two = books.ask(books.order("--license", "kso.a")), books.ask(books.order("--license", "kso.b"))
    assert web.license_file(machine.request(one)).seq == 1
    assert [line.name for line in web.license_file(machine.request(two)).lines] == ["kso.a", "kso.b"]
    assert [line.name for line in web.license_file(machine.request(one)).lines] == ["kso.a", "kso.b"]


def test_the_same_hardware_with_a_new_system_is_issued_again_and_counted_up_to_the_limit(
    books: Books, web: Web, capsys: Capture
) -> None:
    number = books.order("--rehosts", 1)
    asked = web.install_request(books.code(number, capsys))
    machine = Machine(1)
    web.license_file(machine.request(asked))
    again = machine.reimaged()
    file = web.license_file(again.request(asked))
    assert file.seq == 2
    assert web.license_file(again.request(asked)).text == file.text
    assert books.json(capsys, "order", "show", number)["rehosts"] == 1
    assert web.refusal(machine.reimaged().request(asked)) == "CODE_USED"
    assert count(books, "issues") == 2


def test_another_device_learns_only_that_it_is_another(books: Books, web: Web, capsys: Capture) -> None:
    number = books.order()
    asked = web.install_request(books.code(number, capsys))
    machine = Machine(1)
    file = web.license_file(machine.request(asked))
    used = web.post("/license-file", Machine(2).request(asked).text)
    copied = web.post("/license-file", Machine(3).request(asked, key=machine.key).text)
    by_file = web.post("/license-file", Machine(4).request(books.ask(number)).text)
    assert used.data == copied.data == by_file.data
    value = problem(used)
    assert (value["name"], value["code"], value["status"]) == ("CODE_USED", 78, 409)
    assert value["detail"] == errors.CODE_USED.message
    assert file.file not in used.text
    assert count(books, "devices") == 1


def test_a_request_of_the_id_of_another_one_is_not_answered_with_that_one_s_file(books: Books, web: Web) -> None:
    asked = books.ask(books.order("--devices", 2))
    request = Machine(1).request(asked)
    web.license_file(request)
    assert web.refusal(Machine(2).request(asked, id=request.id)) == "CODE_USED"


def test_what_only_a_person_may_decide_is_refused_whatever_the_order_allows(books: Books, web: Web) -> None:
    asked = books.ask(books.order("--devices", 9, "--allow-weak"))
    nine = Machine(1, disk=[f"disk-{n}" for n in range(9)])
    assert web.refusal(nine.request(asked)) == "ASK_VENDOR"
    fingerprint: dict[str, Any] = dict(Machine(1).request(asked).fingerprint)
    fingerprint["board_serial"] = ["000001", "000002"]
    assert web.refusal(Machine(1).request(asked, fingerprint=fingerprint)) == "ASK_VENDOR"
    assert web.refusal(Machine(1).request(asked, fingerprint={})) == "ASK_VENDOR"
    assert count(books, "devices") == 0


def test_a_weak_device_is_refused_unless_the_order_allows_it(books: Books, web: Web, capsys: Capture) -> None:
    number = books.order()
    asked = books.ask(number)
    virtual = Machine(1, board_serial=[], product_serial=[], disk=[], nic=[])
    refused = problem(web.post("/license-file", virtual.request(asked).text))
    assert (refused["name"], refused["status"]) == ("WEAK_FINGERPRINT", 403)
    assert "--weak" not in refused["next"]
    assert books.run("order", "set", number, "--allow-weak") == 0
    assert books.json(capsys, "order", "show", number)["allow_weak"] is True
    assert web.license_file(virtual.request(asked)).seq == 1
    assert books.run("order", "set", number, "--refuse-weak") == 0
    assert web.refusal(Machine(2, board_serial=[], product_serial=[], disk=[], nic=[]).request(asked)) == (
        "WEAK_FINGERPRINT"
    )


def test_an_order_may_allow_weak_devices_from_the_start_and_forgets_it_by_no_other_change(
    books: Books, capsys: Capture
) -> None:
    number = books.order("--allow-weak")
    assert books.run("order", "set", number, "--devices", 2) == 0
    assert books.json(capsys, "order", "list")["orders"][0]["allow_weak"] is True


def test_an_order_that_was_ended_is_for_the_vendor_to_explain(books: Books, web: Web, capsys: Capture) -> None:
    number = books.order()
    request = Machine(1).request(books.ask(number))
    assert books.run("order", "end", number) == 0
    capsys.readouterr()
    refused = web.post("/license-file", request.text)
    assert (problem(refused)["name"], refused.status_code) == ("ASK_VENDOR", 403)
    assert "licd-vendor" not in refused.text
    assert "was ended on" in capsys.readouterr().err


def test_a_refusal_names_what_the_device_can_change(books: Books, web: Web, tmp_path: Path) -> None:
    number = books.order()
    old = books.ask(number)
    books.ask(number)
    assert web.refusal(Machine(1).request(old)) == "SUPERSEDED_INSTALL_REQUEST"
    assert web.refusal(Machine(1).request(old, install_request="none")) == "UNKNOWN_INSTALL_REQUEST"
    assert web.refusal(Machine(1).request(old, vendor="globex")) == "ANOTHER_VENDOR"


# --- what is no request ---------------------------------------------------------------------------------------------


def damaged(asked: InstallRequest) -> bytes:
    return Machine(1).request(asked).text.replace(b'"debian"', b'"debiam"')


@pytest.mark.parametrize(
    ("body", "name", "status"),
    [
        (b"", "DAMAGED_DOCUMENT", 400),
        (b"\x00" * 1000, "DAMAGED_DOCUMENT", 400),
        (b"{" * 60_000, "DAMAGED_DOCUMENT", 400),
        (b"[" * 10_000 + b"\n", "DAMAGED_DOCUMENT", 400),
        (b"# nothing\n", "DAMAGED_DOCUMENT", 400),
        (b"x" * 65_537, "DOCUMENT_TOO_LARGE", 413),
        (b"x" * 2_000_000, "DOCUMENT_TOO_LARGE", 413),
        (b'{"licd":1,"type":"license-request"}\t..', None, 400),
    ],
)
def test_what_is_no_license_request_is_refused_by_name(web: Web, body: bytes, name: str | None, status: int) -> None:
    answer = web.post("/license-file", body)
    value = problem(answer)
    assert answer.status_code == status
    assert name in (None, value["name"])
    assert errors.CATALOGUE[value["name"]].code == value["code"]


def test_a_document_of_another_kind_or_with_a_changed_byte_is_refused(books: Books, web: Web) -> None:
    asked = books.ask(books.order())
    assert problem(web.post("/license-file", asked.text))["name"] == "WRONG_DOCUMENT"
    assert problem(web.post("/license-file", damaged(asked)))["name"] == "BAD_SIGNATURE"
    assert problem(web.post("/license-file", Machine(1).request(asked).text[:-40]))["name"] == "DAMAGED_DOCUMENT"
    assert count(books, "devices") == 0


def test_a_code_longer_than_any_is_refused_unread(books: Books, web: Web) -> None:
    assert problem(web.post("/install-request", "q" * 257))["name"] == "DOCUMENT_TOO_LARGE"
    assert count(books, "tries") == 0


@pytest.mark.parametrize(
    ("method", "path", "name", "status"),
    [
        ("GET", "/", "NOT_FOUND", 404),
        ("GET", "/health/", "NOT_FOUND", 404),
        ("POST", "/../etc/passwd", "NOT_FOUND", 404),
        ("GET", "/install-request", "METHOD_NOT_ALLOWED", 405),
        ("DELETE", "/license-file", "METHOD_NOT_ALLOWED", 405),
        ("OPTIONS", "/license-file", "METHOD_NOT_ALLOWED", 405),
        ("POST", "/health", "METHOD_NOT_ALLOWED", 405),
        ("BREW", "/health", "METHOD_NOT_ALLOWED", 405),
    ],
)
def test_what_the_service_does_not_have_is_a_problem_too(
    web: Web, method: str, path: str, name: str, status: int
) -> None:
    answer = web.client.open(path, method=method)
    value = problem(answer)
    assert (value["name"], answer.status_code, value["code"]) == (name, status, None)
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/install-request", "/license-file"])
@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "application/vnd.licd", "\x7f/ä", "a" * 5000])
def test_another_media_type_is_refused_whatever_the_body_is(web: Web, path: str, kind: str) -> None:
    answer = web.client.post(path, data=b"x", content_type=kind)
    assert (problem(answer)["name"], answer.status_code) == ("UNSUPPORTED_MEDIA_TYPE", 415)


def test_parameters_of_the_media_type_say_nothing(books: Books, web: Web, capsys: Capture) -> None:
    made = books.code(books.order(), capsys)
    assert web.post("/install-request", f" {made}\r\n", f"{serve.CODE}; charset=utf-8").status_code == 200


def test_a_compressed_body_is_not_unpacked(web: Web) -> None:
    answer = web.post("/license-file", b"\x1f\x8b" + b"\x00" * 100, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400


def test_no_answer_may_be_kept_by_a_proxy(web: Web) -> None:
    for answer in (web.client.get("/health"), web.post("/install-request", "wrong"), web.client.get("/no")):
        assert answer.headers["Cache-Control"] == "no-store"


def test_health_says_who_serves(web: Web) -> None:
    answer = web.client.get("/health")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json == {"status": "ok", "vendor": "acme"}


# --- when something is wrong at the vendor's ------------------------------------------------------------------------


def test_a_database_that_cannot_be_used_is_503_for_a_while_and_says_nothing_of_itself(
    books: Books, web: Web, capsys: Capture
) -> None:
    request = Machine(1).request(books.ask(books.order()))
    database = books.dir / "vendor.db"
    shutil.copy(database, books.dir / "kept.db")
    database.write_bytes(b"no database" * 1000)
    capsys.readouterr()
    for answer in (web.post("/license-file", request.text), web.client.get("/health")):
        assert (problem(answer)["name"], answer.status_code) == ("UNAVAILABLE", 503)
        assert int(answer.headers["Retry-After"]) > 0
        assert str(books.dir) not in answer.text
    assert "file is not a database" in capsys.readouterr().err
    shutil.copy(books.dir / "kept.db", database)
    assert web.license_file(request).seq == 1


def test_a_key_that_devices_would_refuse_is_the_server_s_fault(books: Books, capsys: Capture, tmp_path: Path) -> None:
    request = Machine(1).request(books.ask(books.order()))
    other = tmp_path / "other"
    assert main(["init", str(other), "--vendor", "acme", "--names", "kso.*"]) == 0
    app = serve.create_app(books.dir, books.database, keys.read_signer(other, None, lambda _: None))
    answer = Web(books, app.test_client()).post("/license-file", request.text)
    assert (problem(answer)["name"], answer.status_code) == ("SERVER_ERROR", 500)
    assert count(books, "issues") == count(books, "devices") == 0


def test_a_bug_is_told_without_a_traceback_and_the_traceback_is_in_the_log(
    books: Books, web: Web, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Machine(1).request(books.ask(books.order()))
    monkeypatch.setattr(issuing, "issue", None)
    answer = web.post("/license-file", request.text)
    assert (problem(answer)["name"], answer.status_code) == ("SERVER_ERROR", 500)
    assert "TypeError" not in answer.text
    assert "TypeError: 'NoneType' object is not callable" in capsys.readouterr().err


# --- where it stands, and who asks ----------------------------------------------------------------------------------


def test_below_the_path_of_the_vendor_s_address_is_the_same_as_without(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    url = "https://licd.example/a/b/"
    assert main(["init", str(folder), "--vendor", "acme", "--names", "kso.*", "--url", url]) == 0
    client = serve.create_app(
        folder, folder / "vendor.db", keys.read_signer(folder, None, lambda _: None)
    ).test_client()
    assert [client.get(path).status_code for path in ("/a/b/health", "/health", "/a/health", "/a/bhealth")] == [
        200,
        200,
        404,
        404,
    ]


def test_only_behind_a_proxy_does_the_header_say_who_asks_and_only_its_last_address(books: Books) -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.9, 192.0.2.1"}
    for behind, address in ((False, "127.0.0.1"), (True, "192.0.2.1")):
        books.web(behind_proxy=behind).client.get("/health", headers=forwarded)
        assert books.log[-1].split()[1] == address


@pytest.mark.parametrize("forwarded", ["", "unknown", "1.2.3.4:5:5", "\x1b[31m", "x" * 5000, "a b"])
def test_an_address_that_is_none_is_not_written_but_counted(books: Books, forwarded: str) -> None:
    web = books.web(behind_proxy=True)
    for _ in range(11):
        answer = web.post("/install-request", "wrong", headers={"X-Forwarded-For": forwarded})
    assert answer.status_code == 429
    assert books.log[-1].split()[1] in ("-", "127.0.0.1")


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [("1.2.3.4:55", "1.2.3.4"), ("[2001:db8::7]:443", "2001:db8::7"), ("2001:db8::7", "2001:db8::7")],
)
def test_an_address_may_come_with_its_port(books: Books, forwarded: str, address: str) -> None:
    books.web(behind_proxy=True).post("/install-request", "wrong", headers={"X-Forwarded-For": forwarded})
    assert books.log[-1].split()[1] == address


# --- the access log -------------------------------------------------------------------------------------------------

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ 127\.0\.0\.1 (GET|HEAD|POST|PUT|DELETE|OPTIONS|-) (/[a-z-]+|-) \d{3} \d+B \d+ms"
    r"( [a-z_]+=[0-9A-Za-z._-]+)*"
)


def test_a_line_says_what_was_asked_and_which_documents_it_was_about(books: Books, web: Web, capsys: Capture) -> None:
    asked = web.install_request(books.code(books.order(), capsys))
    request = Machine(1).request(asked)
    file = web.license_file(request)
    first, second = books.log
    assert LINE.fullmatch(first)
    assert LINE.fullmatch(second)
    assert f" POST /install-request 200 {len(asked.text)}B " in first
    assert first.endswith(f" install_request={asked.id}")
    assert f" POST /license-file 200 {len(file.text)}B " in second
    assert second.endswith(f" request={request.id} file={file.file}")


def test_no_log_has_a_code_a_key_or_a_fingerprint(books: Books, web: Web, capsys: Capture) -> None:
    made = books.code(books.order(), capsys)
    asked = web.install_request(made)
    requests = [Machine(n).request(asked) for n in (1, 2)]
    for request in requests:
        web.post("/license-file", request.text)
    web.client.get(f"/install-request/{made}")
    web.client.get(f"/{made}?code={made}")
    web.client.open("/health", method=made.upper())
    web.post("/install-request", made, "text/plain")
    log = "\n".join(books.log) + capsys.readouterr().err
    assert all(LINE.fullmatch(line) for line in books.log)
    assert made not in log.lower()
    for request in requests:
        tags = [tag for each in request.fingerprint.values() for tag in each]
        assert not [secret for secret in (request.device, *tags) if secret in log]


def test_the_log_s_file_can_be_rotated_and_a_full_disk_stops_nothing(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "access.log"
    write = serve.log_to(path)
    write("one")
    path.rename(tmp_path / "access.log.1")
    write("two")
    assert (path.read_text(), (tmp_path / "access.log.1").read_text()) == ("two\n", "one\n")
    assert path.stat().st_mode & 0o7777 & ~0o640 == 0
    serve.log_to(Path("/dev/full"))("three")
    assert "No space left on device. three" in capsys.readouterr().err


def test_a_problem_s_type_is_a_urn_and_its_members_are_those_of_the_rfc_and_three_more(web: Web) -> None:
    value = json.loads(web.post("/install-request", "wrong").data)
    assert value == {
        "type": "urn:licd:error:UNKNOWN_CODE",
        "title": "Unknown code.",
        "status": 404,
        "detail": "The vendor does not know this code, or it has expired.",
        "name": "UNKNOWN_CODE",
        "code": 77,
        "next": "Check both parts of the code; if they are right, ask the vendor for a new one.",
    }


def test_another_key_alone_is_no_device_of_the_order(books: Books, web: Web) -> None:
    asked = books.ask(books.order())
    web.license_file(Machine(1).request(asked))
    assert web.refusal(Machine(2).request(asked, key=Ed25519PrivateKey.generate())) == "CODE_USED"
