"""Renewals by the vendor's server as it runs: real processes, a real PostgreSQL, a kill at every step."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from licd.license import document, trust
from licd.license.document import LICENSE_FILE, MAX_DOCUMENT_BYTES, UNCHANGED, WITHDRAWN, Document
from licd.license.lines import LicenseFile
from licd.license.renewal import Usage
from licd_vendor import serve
from tests.support import postgres
from tests.support.books import Books, Machine
from tests.support.dying import Dying
from tests.support.https import web as tls_web
from tests.support.postgres import needs_postgres
from tests.support.serving import ask, gunicorn, serving

Capture = pytest.CaptureFixture[str]
MONTHLY = ("--renewal", "required,every=30,grace=14")


def order(books: Books, *options: str | int) -> None:
    license = "kso.scan,seats=3"
    assert books.run("order", "new", "--customer", "c-1", "--license", license, *MONTHLY, *options) == 0


def seats(books: Books, number: int) -> None:
    assert books.run("order", "set", 1, "--license", f"kso.scan,seats={number}") == 0


def documents(data: bytes) -> list[Document]:
    return document.parse(data)


# --- one server -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secured", [False, True], ids=["http", "https"])
def test_a_renewal_over_the_network_is_answered_logged_and_has_no_secret_in_the_log(
    books: Books, secured: bool
) -> None:
    machine = Machine(1)
    order(books)
    file = books.issue(machine.request(books.ask(1)))
    tls = ("--tls-cert", tls_web().certificate, "--tls-key", tls_web().key) if secured else ()
    with serving(books, *tls) as server:
        one, two = machine.renewal(file), machine.renewal(file, usage=Usage("2026-11-01", {"kso.scan": [3]}))
        answer = ask(server.url, "/renewal", one.text, ca_file=tls_web().ca_file)
        assert (answer.status, answer.headers["content-type"]) == (200, serve.RENEWAL_ANSWER)
        assert answer.headers["cache-control"] == "no-store"
        assert books.answer(answer.body).request == one.id
        seats(books, 8)
        new = books.verify(ask(server.url, "/renewal", two.text, ca_file=tls_web().ca_file).body)
        assert server.stop() == 0
    first, second = [line for line in server.said if " POST /renewal " in line]
    assert first.endswith(f" request={one.id} file={file.file} device=1 answer=unchanged\n")
    assert second.endswith(f" request={two.id} file={file.file} device=1 answer=license-file new_file={new.file}\n")
    said = "".join(server.said)
    secrets = [one.device, *(tag for tags in one.fingerprint.values() for tag in tags)]
    assert not [each for each in secrets if each in said]


def test_the_longest_renewal_request_is_taken_and_a_byte_more_is_not(books: Books) -> None:
    with serving(books) as server:
        books.order()
        comments = (b"#" + b"x" * 998 + b"\n") * 1200
        for size, status in ((document.MAX_RENEWAL_BYTES, 400), (document.MAX_RENEWAL_BYTES + 1, 413)):
            answer = ask(server.url, "/renewal", comments[:size])
            assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
        assert json.loads(answer.body)["name"] == "DOCUMENT_TOO_LARGE"


def test_a_whole_file_of_two_thousand_lines_goes_both_ways(books: Books, tmp_path: Path) -> None:
    licenses = [{"name": f"kso.n{n}", "license": "uncounted"} for n in range(1400)]
    (tmp_path / "order.json").write_text(json.dumps({"licenses": licenses}))
    assert books.run("order", "new", tmp_path / "order.json", "--customer", "c-1", *MONTHLY) == 0
    machine = Machine(1)
    file = books.issue(machine.request(books.ask(1)))
    assert len(file.text) > MAX_DOCUMENT_BYTES // 2
    web = books.web()
    assert books.answer(web.renewal(machine.renewal(file))).kind == UNCHANGED
    assert books.run("order", "set", 1, "--remove-license", "kso.n7") == 0
    assert len(books.verify(web.renewal(machine.renewal(file))).lines) == 1399


# --- the withdrawn list ---------------------------------------------------------------------------------------------


def listed(books: Books, data: bytes, kind: str) -> int:
    """The number of the withdrawn list behind the document."""
    first, second = documents(data)
    assert (first.kind, second.kind) == (kind, WITHDRAWN)
    return trust.verify_withdrawn(second, books.profiles["acme"]).seq


def test_the_withdrawn_list_of_now_follows_every_answer_of_a_server_that_goes_on(books: Books) -> None:
    order(books, "--devices", 2)
    machine = Machine(1)
    asked = books.ask(1)
    file = books.issue(machine.request(asked))
    assert books.run("signer", "new") == 0
    web = books.web()
    assert [each.kind for each in documents(web.renewal(machine.renewal(file)))] == [UNCHANGED]
    (old,) = books.dir.glob("signer-*.pem")
    assert books.run("withdraw", old) == 0
    assert listed(books, web.renewal(machine.renewal(file)), UNCHANGED) == 1
    assert listed(books, web.post("/license-file", Machine(2).request(asked).text).data, LICENSE_FILE) == 1
    assert books.run("withdraw", old, "--void") == 0
    answer = web.renewal(machine.renewal(file))
    assert listed(books, answer, LICENSE_FILE) == 2
    assert listed(books, books.renew(machine.renewal(file)), LICENSE_FILE) == 2


def test_a_server_whose_signer_was_withdrawn_says_nothing_that_no_device_takes(books: Books, capsys: Capture) -> None:
    order(books)
    machine = Machine(1)
    file = books.issue(machine.request(books.ask(1)))
    web = books.web()
    assert books.run("signer", "new") == 0
    (old,) = books.dir.glob("signer-*.pem")
    assert books.run("withdraw", old) == 0
    capsys.readouterr()
    answer = web.post("/renewal", machine.renewal(file).text)
    assert (answer.status_code, json.loads(answer.data)["name"]) == (500, "SERVER_ERROR")
    assert "start the server anew" in capsys.readouterr().err
    assert books.count("renewals") == 0


def test_a_list_that_has_no_room_behind_a_file_is_left_out(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    order(books)
    machine = Machine(1)
    file = books.issue(machine.request(books.ask(1)))
    assert books.run("signer", "new") == 0
    (old,) = books.dir.glob("signer-*.pem")
    assert books.run("withdraw", old) == 0
    web = books.web()
    whole = web.renewal(machine.renewal(file))
    monkeypatch.setattr("licd_vendor.carried.MAX_DOCUMENT_BYTES", len(whole) - 20)
    assert [each.kind for each in documents(web.renewal(machine.renewal(file)))] == [UNCHANGED]


def test_a_list_that_is_damaged_is_the_server_s_fault_and_over_when_it_is_mended(books: Books) -> None:
    order(books)
    machine = Machine(1)
    file = books.issue(machine.request(books.ask(1)))
    web = books.web()
    listing = books.dir / "profile" / "withdrawn.licd"
    listing.write_bytes(b"no list\n")
    assert web.post("/renewal", machine.renewal(file).text).status_code == 500
    listing.unlink()
    assert books.answer(web.renewal(machine.renewal(file))).kind == UNCHANGED


# --- several at once ------------------------------------------------------------------------------------------------


def renewed_at_once(books: Books, urls: list[str], machine: Machine, file: LicenseFile) -> set[bytes]:
    """The files that this device gets, which asks all of them at once: with one request, and with others."""
    requests = [machine.renewal(file) for _ in range(3)]
    with ThreadPoolExecutor(8) as pool:
        sent = [(urls[n % len(urls)], requests[n % 3]) for n in range(18)]
        found = list(pool.map(lambda each: ask(each[0], "/renewal", each[1].text), sent))
    assert {answer.status for answer in found} == {200}
    return {answer.body for answer in found}


@needs_postgres
def test_servers_on_one_postgresql_issue_a_renewal_once(tmp_path: Path, capsys: Capture) -> None:
    with postgres.server() as address:
        books = Books(tmp_path, database=address)
        order(books)
        machine = Machine(1)
        file = books.issue(machine.request(books.ask(1)))
        seats(books, 9)
        with serving(books) as one, gunicorn(books, 2) as two:
            (data,) = renewed_at_once(books, [one.url, two.url], machine, file)
            new = books.verify(data)
            assert books.answer(ask(two.url, "/renewal", machine.renewal(new).text).body).kind == UNCHANGED
            assert (two.stop(), one.stop()) == (0, 0)
        rows = books.json(capsys, "history", "--device", 1)["documents"]
        assert [row["seq"] for row in rows] == [1, 2]
        assert books.json(capsys, "alarm", "list") == {"alarms": []}


def test_two_processes_on_one_sqlite_file_issue_a_renewal_once(books: Books) -> None:
    order(books)
    machine = Machine(1)
    file = books.issue(machine.request(books.ask(1)))
    seats(books, 9)
    with serving(books) as one, serving(books) as two:
        assert len(renewed_at_once(books, [one.url, two.url], machine, file)) == 1
    assert books.seqs() == [1, 2]
    assert books.count("renewals") == 3


# --- killed at every step -------------------------------------------------------------------------------------------


def test_killed_between_any_two_steps_a_renewal_is_issued_once_when_all_is_done(books: Books) -> None:
    order(books, "--devices", 1000)
    asked = books.ask(1)
    with serving(books) as healthy, contextlib.closing(Dying(books)) as dying:
        steps = 0
        while True:
            machine = Machine(steps)
            file = books.issue(machine.request(asked))
            seats(books, 10 + steps)  # so that its renewal has something to bring
            request = machine.renewal(file, usage=Usage("2026-11-01", {"kso.scan": [steps]}))
            url = dying.start(steps)
            try:
                ask(url, "/renewal", request.text)
                break
            except (OSError, http.client.HTTPException):
                assert dying.ended() == -signal.SIGKILL
            data = ask(healthy.url, "/renewal", request.text).body
            assert ask(healthy.url, "/renewal", request.text).body == data
            steps += 1
            new = books.verify(data)
            assert (new.seq, new.lines[0].seats, new.request) == (2, 9 + steps, request.id)
            assert (books.seqs(steps), books.count("renewals")) == ([1, 2], steps)
    assert steps > 15  # or it never came to the interesting ones
