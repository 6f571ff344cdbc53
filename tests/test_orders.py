"""licd-vendor order and history: what is taken in, what is refused, and what is shown of it."""

from __future__ import annotations

import json
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from licd.device.fingerprint import FACTORS
from licd.license import document
from licd_vendor import sign, written
from licd_vendor.keys import Failure
from licd_vendor.main import main
from tests.support.books import Books, Machine


@pytest.mark.parametrize(
    ("text", "license"),
    [
        ("kso.a", {"name": "kso.a"}),
        ("kso.a,uncounted", {"name": "kso.a", "license": "uncounted"}),
        ("kso.a,seats=3,expires=2027-12-31", {"name": "kso.a", "seats": 3, "expires": "2027-12-31"}),
        ("kso.a,versions=>=4,<6,seats=2", {"name": "kso.a", "versions": ">=4,<6", "seats": 2}),
        ("kso.a,versions=<6,>=4", {"name": "kso.a", "versions": "<6,>=4"}),
        ("kso.a,title=Scales, big,uncounted", {"name": "kso.a", "title": "Scales, big", "license": "uncounted"}),
        ("kso.a,title=", {"name": "kso.a", "title": ""}),
        ("kso.a,id=L-1,replaces=L-0,not_before=2026-01-01,grace_days=9", {
            "name": "kso.a", "id": "L-1", "replaces": "L-0", "not_before": "2026-01-01", "grace_days": 9,
        }),
    ],
)  # fmt: skip
def test_a_license_is_written_in_one_argument(text: str, license: dict[str, Any]) -> None:
    assert written.license(text) == license


@pytest.mark.parametrize(
    "text",
    ["kso.a,seat=3", "kso.a,seats=three", "kso.a,seats=1_0", "kso.a,seats=\u0663", "kso.a,seats=1,seats=2",
     "kso.a,expires=2027-12-31,seat=3", "kso.a,x"],
)  # fmt: skip
def test_a_misspelled_license_is_refused(text: str) -> None:
    with pytest.raises(Failure, match=r"kso\.a"):
        written.license(text)


def test_an_order_from_a_description_shows_all_that_it_says(
    books: Books, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renewal = {"need": "required", "every_days": 35, "grace_days": 14}
    license = {
        "id": "L-1", "name": "kso.scan", "title": "Сканер", "license": "counted", "seats": 3,
        "not_before": "2026-01-01", "expires": "2099-12-31", "versions": "5.*", "grace_days": 9,
        "renewal": {"need": "none"}, "replaces": "L-0", "x": {"a": [1]},
    }  # fmt: skip
    described = {"renewal": renewal, "device_grace_days": 5, "x": {"contract": 7}, "licenses": [license]}
    (tmp_path / "order.json").write_text(json.dumps(described))
    number = books.order(str(tmp_path / "order.json"), "--devices", 2, "--rehosts", 0)
    shown = books.json(capsys, "order", "show", number)
    assert {name: shown[name] for name in described} == described
    asked = books.ask(number)
    assert books.json(capsys, "order", "show", number)["install_request"] == asked.id
    assert books.run("order", "show", number) == 0
    text = capsys.readouterr().out
    for part in (
        *("customer c-1", "devices: 0 of 2", "re-hosts: 0 of 0", asked.id, "required, every 35 days"),
        *("device_grace_days: 5", "Сканер", "3 seats", "2099-12-31", "id: L-1", '{"contract": 7}'),
    ):
        assert part in text


def test_a_description_and_licenses_of_the_command_line_add_up(
    books: Books, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "order.json").write_text('{"licenses": [{"name": "kso.a"}]}')
    number = books.order(str(tmp_path / "order.json"), "--license", "kso.b,uncounted")
    licenses = books.json(capsys, "order", "show", number)["licenses"]
    assert [(each["name"], each["seats"]) for each in licenses] == [("kso.a", 1), ("kso.b", None)]


@pytest.mark.parametrize(
    "description",
    [
        pytest.param({"licenses": []}, id="no license"),
        pytest.param({"seq": 1, "licenses": [{"name": "kso.a"}]}, id="a seq"),
        pytest.param({"device": None, "licenses": [{"name": "kso.a"}]}, id="a device"),
        pytest.param({"request": "r", "licenses": [{"name": "kso.a"}]}, id="a request"),
        pytest.param({"licenses": [{"name": "foreign"}]}, id="a foreign name"),
        pytest.param({"licenses": [{"name": "kso.a", "seats": 0}]}, id="no seats"),
        pytest.param({"licenses": [{"name": "kso.a", "seats": 3, "license": "uncounted"}]}, id="seats of an uncounted"),
        pytest.param({"licenses": [{"name": "kso.a", "expires": "31.12.2027"}]}, id="another date"),
        pytest.param({"licenses": [{"name": "kso.a", "id": "a"}] * 2}, id="one id twice"),
        pytest.param({"licenses": [{"name": "kso.a", "replaces": "a", "id": "a"}]}, id="one that replaces itself"),
        pytest.param({"licenses": [{"name": "kso.a", "x": {"a": "b" * 16000}}]}, id="a long line"),
        pytest.param({"licenses": [{"name": "kso.a", "x": {"a": 1.5}}]}, id="a fraction"),
        pytest.param({"device_grace_days": -1, "licenses": [{"name": "kso.a"}]}, id="a negative grace"),
        pytest.param({"renewal": {}, "licenses": [{"name": "kso.a"}]}, id="half a renewal"),
        pytest.param({"licenses": [{"name": "kso.a"}] * 2000}, id="too many"),
        pytest.param({"licenses": [{"name": "kso.a"}] * 1999}, id="too long with its signatures"),
    ],
)
def test_an_order_that_no_device_would_take_is_refused_when_it_comes_in(
    books: Books, tmp_path: Path, description: object, capsys: pytest.CaptureFixture[str]
) -> None:
    books.order()
    before = books.dump()
    (tmp_path / "order.json").write_text(json.dumps(description))
    capsys.readouterr()
    assert books.run("order", "new", tmp_path / "order.json", "--customer", "c-9") == 1
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["error", "hint"]
    assert books.dump() == before


def test_the_longest_license_that_is_taken_in_can_be_issued_under_the_longest_signature(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "acme"), "--vendor", "acme", "--names", "kso.*", "--key", "rsa"]) == 0
    books = Books(tmp_path)

    def longer(by: int) -> int:
        (tmp_path / "order.json").write_text(json.dumps({"licenses": [{"name": "kso.a", "x": {"a": "b" * by}}]}))
        return books.run("order", "new", tmp_path / "order.json", "--customer", "c-1")

    assert longer(0) == 0
    shortest = books.issue(Machine(1).request(books.ask(1))).text.splitlines()[1].split(b"\t")[0]
    room = sign.MAX_PAYLOAD - len(shortest)
    assert longer(room + 1) == 1
    assert longer(room) == 0
    line = books.issue(Machine(2).request(books.ask(2))).text.splitlines()[1]
    assert len(line.split(b"\t")[0]) == sign.MAX_PAYLOAD
    assert len(line) <= document.MAX_LINE - 171  # the signature of an RSA key of 4096 bits is so much longer


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
def test_what_is_taken_in_can_be_issued_however_long_it_is(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "acme"), "--vendor", "acme", "--names", "kso.*", "--key", kind]) == 0
    books, most = Books(tmp_path), document.MAX_DOCUMENT_BYTES

    def taken_in(padding: int) -> str:
        """What is said against an order of 80 licenses with so many bytes of no use."""
        sizes = (padding // 80 + (n < padding % 80) for n in range(80))
        licenses = [{"name": "kso.a", "x": {"a": "b" * size}} for size in sizes]
        (tmp_path / "order.json").write_text(json.dumps({"licenses": licenses}))
        capsys.readouterr()
        books.run("order", "new", tmp_path / "order.json", "--customer", "c-1")
        return capsys.readouterr().err

    complaint = taken_in(most)
    (length,) = map(int, re.findall(r"(\d+) bytes with its signatures, at most 1048576", complaint))
    fits = most - (length - most)
    assert "1048577 bytes" in taken_in(fits + 1)
    assert taken_in(fits) == ""
    shows_most = Machine(1, disk=[f"d{n}" for n in range(8)], nic=[f"n{n}" for n in range(8)], chassis_serial=["c"])
    file = books.issue(shows_most.request(books.ask(1, "--weights", _HEAVIEST, "--share", 100)))
    assert most - 50 < len(file.text) <= most


_HEAVIEST = ",".join(f"{factor}=1000" for factor in FACTORS)


def test_a_license_that_has_ended_is_taken_in_and_said(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    today = datetime.now(UTC).date()
    long_ago, in_grace = "2026-01-01", str(today - timedelta(10))
    books.order(
        "--license", f"kso.old,expires={long_ago}", "--license", "kso.new", "--license", f"kso.b,expires={today}"
    )
    assert capsys.readouterr().err == "note: the license kso.old has ended\n"
    books.order("--license", f"kso.a,expires={in_grace},grace_days=30")
    assert capsys.readouterr().err == ""


def test_an_order_needs_the_certificate_that_will_sign_but_not_its_key(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    (books.dir / "signer.key").unlink()
    books.order()
    (books.dir / "signer.pem").unlink()
    assert books.run("order", "new", "--customer", "c-1", "--license", "kso.a") == 1
    assert "signer.pem cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("id", ["", "Иван", "a b", "-a", "a" * 65, "shop@example.com", "../a", "\udcff", "\x1b[2J"])
def test_a_customer_and_a_document_are_named_by_opaque_ids(
    books: Books, id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ["order", "new", f"--customer={id}", "--license", "kso.a"],
        ["order", "list", f"--customer={id}"],
        ["history", f"--customer={id}"],
        ["reissue", "-o", "f", "--", id],
    ):
        with pytest.raises(SystemExit) as ended:
            books.run(*command)
        assert ended.value.code == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_license_id_stands_once_in_the_whole_store(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    books.order("--license", "kso.a,id=L-1")
    assert books.run("order", "new", "--customer", "c-2", "--license", "kso.a,id=L-1") == 1
    assert "There is a license L-1 already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        *(
            ["order", "show", "7"],
            ["order", "set", "7", "--devices", "2"],
            ["order", "end", "7"],
            ["install-request", "new", "7", "-o", "f"],
        ),
    ],
)
def test_an_order_that_is_not_there_is_refused_by_name(
    books: Books, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert books.run(*command) == 1
    assert "There is no order 7. (NO_SUCH_ORDER)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["order", "new", "--customer", "c", "--license", "kso.a", "--devices", "0"],
        ["order", "new", "--customer", "c", "--license", "kso.a", "--devices", "99999999999"],
        ["order", "new", "--customer", "c", "--license", "kso.a", "--rehosts", "-1"],
        ["order", "show", "x"],
        ["install-request", "new", "1", "-o", "f", "--share", "0"],
        ["install-request", "new", "1", "-o", "f", "--share", "101"],
        ["install-request", "new", "1", "-o", "f", "--weights", "disk=0"],
        ["install-request", "new", "1", "-o", "f", "--weights", "disk=1001"],
        ["install-request", "new", "1", "-o", "f", "--weights", "disc=30"],
        ["install-request", "new", "1", "-o", "f", "--weights", "disk=1,disk=2"],
        ["install-request", "new", "1", "-o", "f", "--weights", ""],
        ["history", "--order", "1", "--device", "1"],
    ],
)
def test_numbers_out_of_bounds_and_unknown_factors_are_wrong_usage(books: Books, command: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        books.run(*command)
    assert ended.value.code == 2


def test_more_devices_make_room_and_fewer_take_nothing_away(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    order = books.order()
    asked = books.ask(order)
    books.issue(Machine(1).request(asked))
    assert books.issue_to(books.folder / "out", Machine(2).request(asked)) == 1
    assert books.run("order", "set", order, "--devices", 2) == 0
    two = Machine(2)
    books.issue(two.request(asked))
    assert books.run("order", "set", order, "--devices", 1) == 0
    assert books.issue(two.request(asked)).seq == 2
    shown = books.json(capsys, "order", "show", order)
    assert (shown["devices_most"], shown["rehosts_most"], len(shown["devices"])) == (1, 3, 2)


def test_orders_are_listed_for_people_and_programs(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    assert books.json(capsys, "order", "list") == {"orders": []}
    first, second = books.order(), books.order("--license", "kso.pay,uncounted", customer="c-2")
    assert [row["order"] for row in books.json(capsys, "order", "list")["orders"]] == [first, second]
    assert [row["order"] for row in books.json(capsys, "order", "list", "--customer", "c-2")["orders"]] == [second]
    assert books.run("order", "list") == 0
    heads, *rows = capsys.readouterr().out.splitlines()
    assert heads.split()[:2] == ["ORDER", "CUSTOMER"]
    assert [row.split()[:2] for row in rows] == [["1", "c-1"], ["2", "c-2"]]


def test_history_holds_every_document_and_finds_those_of_a_customer_a_device_or_an_order(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = books.order(), books.order(customer="c-2")
    asked = books.ask(one)
    first = books.issue(Machine(1).request(asked))
    newer = books.ask(one)
    second = books.issue(Machine(1).reimaged().request(newer))
    other = books.ask(two)
    third = books.issue(Machine(1).request(other))

    def ids(*options: str | int) -> set[str]:
        return {row["id"] for row in books.json(capsys, "history", *options)["documents"]}

    of_one = {asked.id, newer.id, first.file, second.file}
    assert ids() == of_one | {other.id, third.file}
    assert ids("--customer", "c-1") == ids("--order", one) == of_one
    assert ids("--device", 2) == {third.file}
    rows = {row["id"]: row for row in books.json(capsys, "history")["documents"]}
    assert rows[asked.id]["note"] == f"superseded by {newer.id}"
    assert (rows[second.file]["rehost"], rows[second.file]["rehosted"]) == ("reimaged", [one])
    assert rows[first.file]["note"] == "seq 2 took its place"
    assert books.run("history") == 0
    text = capsys.readouterr().out
    for part in (asked.id, second.file, "re-host (reimaged)", "superseded by", "c-2"):
        assert part in text


def test_an_install_request_that_asks_for_too_little_says_so(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    order = books.order()
    books.ask(order)
    assert "--weak" not in capsys.readouterr().out
    assert books.ask(order, "--weights", "disk=30,cpu=5").weights == {"disk": 30, "cpu": 5}
    assert "issue will need --weak" in capsys.readouterr().out


def test_a_document_that_was_never_issued_is_refused(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    assert books.run("reissue", "L-1", "-o", books.folder / "f") == 1
    assert "No document L-1 was ever issued" in capsys.readouterr().err
    assert not (books.folder / "f").exists()


def test_the_store_is_for_its_owner_only(books: Books) -> None:
    books.order()
    assert stat.S_IMODE((books.dir / "vendor.db").stat().st_mode) == 0o600
