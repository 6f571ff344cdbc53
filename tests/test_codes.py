"""Activation codes of the vendor: made, kept as a hash, used by as many devices as they are for."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import update

from licd.license import code
from licd_vendor import store, tables
from tests.support.books import Books, Machine, problem

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def change(books: Books, sql: str) -> None:
    with sqlite3.connect(books.dir / "vendor.db") as connection:
        connection.execute(sql)


# --- making it ------------------------------------------------------------------------------------------------------


def test_a_code_is_printed_alone_and_in_groups_and_what_else_there_is_to_say_beside_it(
    books: Books, capsys: Capture
) -> None:
    number = books.order()
    capsys.readouterr()
    assert books.run("code", "new", number) == 0
    said = capsys.readouterr()
    symbols = code.read(said.out)
    assert said.out == f"{code.grouped(symbols)}\n"
    assert f"code 1 for order {number}: 1 device, until " in said.err
    assert symbols not in said.err.replace("-", "").replace(" ", "").lower()


def test_the_store_has_only_the_hash_of_a_code(books: Books, capsys: Capture) -> None:
    made = books.code(books.order(), capsys)
    books.web().install_request(made)
    secret, kept = code.decode(made), "\n".join(books.dump()).lower()
    assert hashlib.sha256(secret).hexdigest() in kept
    for form in (made, made[:16], code.grouped(made).lower(), secret.hex()):
        assert form not in kept


def test_two_codes_are_never_the_same(books: Books, capsys: Capture) -> None:
    number = books.order()
    assert len({books.code(number, capsys) for _ in range(5)}) == 5


def test_an_order_that_was_ended_or_never_made_gets_no_code(books: Books, capsys: Capture) -> None:
    number = books.order()
    assert books.run("order", "end", number) == 0
    assert books.run("code", "new", number) == 1
    assert "was ended on" in capsys.readouterr().err
    assert books.run("code", "new", 99) == 1
    assert books.run("code", "list", 99) == 1
    assert capsys.readouterr().err.count("NO_SUCH_ORDER") == 2
    assert books.run("code", "end", 99) == 1
    assert "There is no code 99." in capsys.readouterr().err


def test_the_list_says_of_each_code_what_became_of_it(books: Books, capsys: Capture) -> None:
    number = books.order("--devices", 3)
    live, used, ended, expired = (books.code(number, capsys, "--devices", n) for n in (1, 2, 1, 1))
    asked = books.web().install_request(used)
    books.web().license_file(Machine(1).request(asked))
    assert books.run("code", "end", 3) == 0
    change(books, "UPDATE codes SET expires = '2020-01-01T00:00:00Z' WHERE id = 4")
    rows = books.json(capsys, "code", "list", number)["codes"]
    assert [row["state"] for row in rows] == ["live", "live", "ended", "expired"]
    assert [row["devices"] for row in rows] == [[], [1], [], []]
    assert [row["install_request"] for row in rows] == [None, asked.id, None, None]
    assert books.run("code", "list", number) == 0
    printed = capsys.readouterr().out
    assert "1 of 2" in printed
    assert not any(each in printed for each in (live, used, ended, expired))


def test_a_code_that_was_ended_twice_ended_the_first_time(books: Books, capsys: Capture) -> None:
    books.code(books.order(), capsys)
    change(books, "UPDATE codes SET ended = '2020-02-02T00:00:00Z'")
    assert books.run("code", "end", 1) == 0
    assert "2020-02-02" in capsys.readouterr().out


# --- its install request --------------------------------------------------------------------------------------------


def test_a_code_gets_the_same_install_request_every_time_and_another_code_another_one(
    books: Books, capsys: Capture
) -> None:
    number, web = books.order("--devices", 2), books.web()
    one, two = books.code(number, capsys), books.code(number, capsys)
    first = web.post("/install-request", one).data
    assert web.post("/install-request", one).data == first
    assert web.post("/install-request", two).data != first


def test_the_install_request_of_a_code_supersedes_none_and_none_supersedes_it(books: Books, capsys: Capture) -> None:
    number, web = books.order("--devices", 3), books.web()
    by_file = books.ask(number)
    by_code = web.install_request(books.code(number, capsys))
    assert books.issue(Machine(1).request(by_file)).seq == 1
    books.ask(number)
    assert web.license_file(Machine(2).request(by_code)).seq == 1
    shown = books.json(capsys, "order", "show", number)
    assert shown["install_request"] not in (by_file.id, by_code.id)
    notes = {row["id"]: row["note"] for row in books.json(capsys, "history")["documents"]}
    assert notes[by_code.id] == "for the code 1"


# --- for how many devices -------------------------------------------------------------------------------------------


def test_a_code_is_for_one_device_though_the_order_is_for_more(books: Books, capsys: Capture) -> None:
    number, web = books.order("--devices", 5), books.web()
    asked = web.install_request(books.code(number, capsys))
    web.license_file(Machine(1).request(asked))
    assert web.refusal(Machine(2).request(asked)) == "CODE_USED"
    assert len(books.json(capsys, "order", "show", number)["devices"]) == 1


def test_a_code_may_be_for_several_devices_but_never_for_more_than_the_order(books: Books, capsys: Capture) -> None:
    number, web = books.order("--devices", 2), books.web()
    asked = web.install_request(books.code(number, capsys, "--devices", 3))
    for n in (1, 2):
        web.license_file(Machine(n).request(asked))
    assert web.refusal(Machine(3).request(asked)) == "CODE_USED"


def test_a_person_may_give_the_place_of_a_code_to_another_device(books: Books, capsys: Capture) -> None:
    number, web = books.order(), books.web()
    asked = web.install_request(books.code(number, capsys))
    web.license_file(Machine(1).request(asked))
    request = Machine(2).request(asked)
    assert web.refusal(request) == "CODE_USED"
    by_hand = books.issue(request, "--rehost")
    assert web.license_file(request).text == by_hand.text  # the code's place moved with it
    assert web.refusal(Machine(3).request(asked)) == "CODE_USED"


def test_nothing_more_is_issued_for_a_code_that_was_ended_but_the_file_is_given_out_again(
    books: Books, capsys: Capture
) -> None:
    number, web = books.order("--devices", 3), books.web()
    asked = web.install_request(books.code(number, capsys, "--devices", 2))
    request = Machine(1).request(asked)
    file = web.license_file(request)
    assert books.run("code", "end", 1) == 0
    assert web.license_file(request).text == file.text
    assert web.refusal(Machine(2).request(asked)) == "ASK_VENDOR"


def test_wrong_unknown_expired_and_ended_codes_and_those_of_ended_orders_get_one_answer(
    books: Books, capsys: Capture
) -> None:
    number, web = books.order(), books.web()
    made, ended, expired = (books.code(number, capsys) for _ in range(3))
    assert books.run("code", "end", 2) == 0
    change(books, "UPDATE codes SET expires = '2020-01-01T00:00:00Z' WHERE id = 3")
    wrong = made[:-1] + ("q" if made[-1] != "q" else "p")
    answers = [
        web.post("/install-request", each)
        for each in (wrong, code.encode(b"0123456789"), ended, expired, "", made.upper(), b"\xff\x00")
    ]
    assert web.install_request(made)
    assert books.run("order", "end", number) == 0
    answers.append(web.post("/install-request", made))
    assert {answer.data for answer in answers} == {answers[0].data}
    assert (problem(answers[0])["name"], answers[0].status_code) == ("UNKNOWN_CODE", 404)


# --- too many wrong ones --------------------------------------------------------------------------------------------


def test_after_ten_wrong_codes_an_address_waits_and_others_do_not(books: Books, capsys: Capture) -> None:
    made, web = books.code(books.order(), capsys), books.web()
    for _ in range(10):
        assert web.post("/install-request", "wrong").status_code == 404
    refused = web.post("/install-request", made)
    assert (problem(refused)["name"], refused.status_code) == ("TOO_MANY_TRIES", 429)
    assert 590 <= int(refused.headers["Retry-After"]) <= 600
    assert web.install_request(made, environ_base={"REMOTE_ADDR": "192.0.2.7"})
    change(books, "UPDATE tries SET at = at - 601")
    assert web.install_request(made)


def test_right_codes_are_no_tries(books: Books, capsys: Capture) -> None:
    made, web = books.code(books.order(), capsys), books.web()
    for _ in range(12):
        web.install_request(made)


def test_what_is_refused_for_too_many_tries_is_no_further_try(books: Books, capsys: Capture) -> None:
    web = books.web()
    for _ in range(15):
        web.post("/install-request", "wrong")
    with sqlite3.connect(books.dir / "vendor.db") as connection:
        assert connection.execute("SELECT count(*) FROM tries").fetchone() == (10,)


def test_the_addresses_of_one_ipv6_network_are_one_and_of_ipv4_mapped_ones_too(books: Books, capsys: Capture) -> None:
    web = books.web()
    for n in range(10):
        web.post("/install-request", "wrong", environ_base={"REMOTE_ADDR": f"2001:db8:0:1::{n}"})
        web.post("/install-request", "wrong", environ_base={"REMOTE_ADDR": ("::ffff:" * (n % 2)) + "192.0.2.1"})

    def status(address: str) -> int:
        return web.post("/install-request", "wrong", environ_base={"REMOTE_ADDR": address}).status_code

    assert status("2001:db8:0:1:ffff::1") == status("::ffff:192.0.2.1") == status("192.0.2.1") == 429
    assert status("2001:db8:0:2::1") == 404


def test_a_thousand_wrong_codes_an_hour_put_off_more_wrong_ones_and_no_right_one(books: Books, capsys: Capture) -> None:
    made, web = books.code(books.order(), capsys), books.web()
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
    change(books, f"{rows} INSERT INTO tries (at, address) SELECT unixepoch() - 1800, 'a' || i FROM n")
    web.install_request(made)
    assert web.post("/install-request", "wrong").status_code == 404
    web.install_request(made)
    refused = web.post("/install-request", "wrong")
    assert refused.status_code == 429
    assert 1780 <= int(refused.headers["Retry-After"]) <= 1800
    change(books, "UPDATE tries SET at = at - 1801 WHERE id > 0")
    assert web.post("/install-request", "wrong").status_code == 404
    with sqlite3.connect(books.dir / "vendor.db") as connection:  # what is older than an hour is gone
        assert connection.execute("SELECT count(*) FROM tries").fetchone()[0] <= 2


def test_a_clock_that_was_set_back_keeps_nobody_out_for_longer_than_the_window(books: Books, capsys: Capture) -> None:
    web = books.web()
    for _ in range(10):
        web.post("/install-request", "wrong")
    change(books, "UPDATE tries SET at = at + 86400")
    assert int(web.post("/install-request", "wrong").headers["Retry-After"]) == 600


def test_the_limit_of_devices_holds_also_where_the_code_was_made_before_it_was_lowered(
    books: Books, capsys: Capture
) -> None:
    number, web = books.order("--devices", 2), books.web()
    one, two = (web.install_request(books.code(number, capsys)) for _ in range(2))
    web.license_file(Machine(1).request(one))
    with store.transaction(books.database, "acme") as session:
        session.execute(update(tables.Order).values(devices_most=1))
    assert web.refusal(Machine(2).request(two)) == "CODE_USED"
