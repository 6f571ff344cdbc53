"""licd-vendor order set, suspend, resume, end and reopen: what of an order a person can change, and when."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from licd.license.lines import Line, Renewal
from licd_vendor import written
from licd_vendor.keys import Failure
from licd_vendor.main import main
from tests.support import postgres
from tests.support.books import Books, Machine, problem
from tests.support.postgres import needs_postgres

MONTHLY = {"need": "required", "every_days": 30, "grace_days": 14}


# --- how it is written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "renewal"),
    [
        ("none", {"need": "none"}),
        ("optional", {"need": "optional", "every_days": 30, "grace_days": 14}),
        ("required,every=35", {"need": "required", "every_days": 35, "grace_days": 14}),
        ("required,grace=0,every=7", {"need": "required", "every_days": 7, "grace_days": 0}),
    ],
)
def test_a_renewal_is_written_in_one_argument(text: str, renewal: dict[str, Any]) -> None:
    assert written.renewal(text) == renewal
    assert written.license(f"kso.a,renewal={text}") == {"name": "kso.a", "renewal": renewal}


@pytest.mark.parametrize(
    "text",
    ["", "monthly", "Required", "none,every=30", "none,grace=1", "required,30", "required,every=", "required,every=x",
     "required,every=1_0", "required,every=30,every=31", "required,days=30", "required,seats=3", "required,", "order"],
)  # fmt: skip
def test_a_misspelled_renewal_is_refused(text: str) -> None:
    with pytest.raises(Failure):
        written.renewal(text)


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("kso.a,seats=5", ("kso.a", {"seats": 5})),
        ("L-1,expires=none,versions=none", ("L-1", {"expires": None, "versions": None})),
        ("kso.a,versions=>=4,<6,grace_days=3", ("kso.a", {"versions": ">=4,<6", "grace_days": 3})),
        ("kso.a,title=none", ("kso.a", {"title": "none"})),
        ("kso.a,renewal=order", ("kso.a", {"renewal": None})),
        ("kso.a,renewal=required", ("kso.a", {"renewal": MONTHLY})),
    ],
)
def test_a_change_names_a_license_and_what_is_to_be_other(text: str, change: tuple[str, dict[str, Any]]) -> None:
    assert written.change(text) == change


@pytest.mark.parametrize(
    "text",
    ["kso.a", "", "kso.a,", "kso.a,seats=none", "kso.a,seats=+1", "kso.a,id=L-2", "kso.a,uncounted", "kso.a,every=30",
     "kso.a,renewal=order,every=30", "kso.a,renewal=none,grace=3", "kso.a,license=counted", "kso.a,name=kso.b"],
)  # fmt: skip
def test_a_change_that_says_nothing_or_too_much_is_refused(text: str) -> None:
    with pytest.raises(Failure):
        written.change(text)


# --- other terms ----------------------------------------------------------------------------------------------------


def lines(books: Books, machine: Machine, order: int) -> dict[str, Line]:
    """What the next file of a device of the order grants, by name."""
    return {line.name: line for line in books.issue(machine.request(books.ask(order))).lines}


def test_a_device_gets_the_new_terms_of_the_same_license_with_its_next_file(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order("--license", "kso.a,seats=3,expires=2027-12-31,versions=5.*", "--license", "kso.pay,uncounted")
    machine = Machine(1)
    before = lines(books, machine, order)
    capsys.readouterr()
    changes = ["--license", "kso.a,seats=5,expires=2028-12-31,versions=>=5,<7", "--license", "kso.pay,title=Pay"]
    changes += ["--add-license", "kso.x,seats=2"]
    assert books.run("order", "set", order, *changes, "--renewal", "required,every=35") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"order {order}: 1 device, 3 re-hosts",
        "   *  renewal: none -> required, every 35 days, 14 days of grace",
        "   *  kso.a: seats 3 -> 5; expires 2027-12-31 -> 2028-12-31; versions 5.* -> >=5,<7",
        "   *  kso.pay: title  -> Pay",
        "   +  kso.x: 2 seats, any version, perpetual",
        "next: 1 device: at the next renewal, or by a new file: licd-vendor issue",
    ]
    after = lines(books, machine, order)
    assert [(line.id, line.seats, line.expires, str(line.versions)) for line in after.values()] == [
        (before["kso.a"].id, 5, "2028-12-31", ">=5,<7"),
        (before["kso.pay"].id, 0, None, "None"),
        (after["kso.x"].id, 2, None, "None"),
    ]
    assert {line.renewal for line in after.values()} == {Renewal("required", 35, 14)}
    assert books.run("order", "set", order, "--license", "kso.a,expires=none,versions=none,seats=1") == 0
    assert lines(books, machine, order)["kso.a"]._replace(n=1)[6:11] == (1, None, None, None, 0)


def test_a_license_is_removed_and_another_added_behind_the_others(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order("--license", "kso.a", "--license", "kso.b", "--license", "kso.c,id=L-3")
    machine = Machine(1)
    lines(books, machine, order)
    capsys.readouterr()
    assert books.run("order", "set", order, "--remove-license", "kso.b", "--add-license", "kso.b,seats=9") == 0
    said = capsys.readouterr().out
    assert "   -  kso.b: 1 seats" in said
    assert "   +  kso.b: 9 seats" in said
    assert [(each, line.seats) for each, line in lines(books, machine, order).items()] == [
        ("kso.a", 1), ("kso.c", 1), ("kso.b", 9),
    ]  # fmt: skip
    for which in ("L-3", "kso.b"):
        assert books.run("order", "set", order, "--remove-license", which) == 0
    assert list(lines(books, machine, order)) == ["kso.a"]


def test_of_two_licenses_with_one_name_each_is_named_by_its_id(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order("--license", "kso.a,id=L-1,seats=1", "--license", "kso.a,id=L-2,seats=2")
    before = books.dump()
    capsys.readouterr()
    for option in ("--license=kso.a,seats=7", "--remove-license=kso.a"):
        assert books.run("order", "set", order, option) == 1
        assert "has 2 licenses kso.a" in (said := capsys.readouterr().err)
        assert "L-1, L-2" in said
    assert books.dump() == before
    assert books.run("order", "set", order, "--license", "L-2,seats=7") == 0
    licenses = books.json(capsys, "order", "show", order)["licenses"]
    assert [(each["id"], each["seats"]) for each in licenses] == [("L-1", 1), ("L-2", 7)]


def test_a_license_keeps_its_own_renewal_until_it_is_told_another(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order(
        *("--license", "kso.a,renewal=none", "--license", "kso.b", "--renewal", "optional,every=40,grace=1")
    )

    def needs() -> list[str]:
        return [line.renewal.need for line in lines(books, Machine(1), order).values()]

    assert needs() == ["none", "optional"]
    assert books.run("order", "set", order, "--renewal", "required", "--devices", 9) == 0
    assert needs() == ["none", "required"]
    capsys.readouterr()
    assert books.run("order", "set", order, "--license", "kso.a,renewal=order") == 0
    assert "renewal none -> as of the order" in capsys.readouterr().out
    assert needs() == ["required", "required"]


def test_a_renewal_is_said_in_one_place(books: Books, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "o.json").write_text(json.dumps({"renewal": MONTHLY, "licenses": [{"name": "kso.a"}]}))
    books.order(str(tmp_path / "o.json"))
    assert books.run("order", "new", "--customer", "c", tmp_path / "o.json", "--renewal", "none") == 1
    assert "in --renewal" in capsys.readouterr().err


def test_an_expired_order_is_extended_and_what_has_ended_is_said(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order("--license", "kso.a,expires=2026-01-01", "--license", "kso.b,expires=2026-01-01")
    assert books.json(capsys, "order", "show", order)["state"] == "expired"
    assert books.run("order", "set", order, "--license", "kso.a,expires=2099-01-01") == 0
    assert "note: the license kso.b has ended" in capsys.readouterr().err
    assert books.json(capsys, "order", "show", order)["state"] == "live"


def test_what_was_so_before_is_no_change(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    order = books.order("--license", "kso.a,seats=3", "--renewal", "required")
    before = books.dump()
    assert books.run("order", "set", order, "--license", "kso.a,seats=3,expires=none", "--renewal", "required") == 0
    assert "nothing changed: it was so before" in capsys.readouterr().out
    assert books.dump() == before


def test_whoever_is_never_to_renew_is_said_to_need_a_push(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    order = books.order("--license", "kso.a")
    books.issue(Machine(1).request(books.ask(order)))
    for renewal, words in (("required", "there: licd-cli renew"), ("optional", "has no url")):
        capsys.readouterr()
        assert books.run("order", "set", order, "--renewal", renewal) == 0
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--license", "kso.q,seats=2"], id="a license that is not there"),
        pytest.param(["--remove-license", "kso.q"], id="one to remove that is not there"),
        pytest.param(["--remove-license", ""], id="one without a name"),
        pytest.param(["--remove-license", "kso.a", "--remove-license", "kso.a"], id="one twice"),
        pytest.param(["--remove-license", "kso.a", "--license", "L-1,seats=2"], id="one that is removed"),
        pytest.param(["--license", "kso.a,seats=2", "--license", "L-1,expires=none"], id="one that is changed"),
        pytest.param(["--license", "kso.a,seats=0"], id="no seats"),
        pytest.param(["--license", "kso.a,seats=1000001"], id="too many seats"),
        pytest.param(["--license", "kso.a,seats=99999999999999999999"], id="more than an integer"),
        pytest.param(["--license", "kso.pay,seats=2"], id="seats of an uncounted one"),
        pytest.param(["--license", "kso.a,expires=31.12.2028"], id="another date"),
        pytest.param(["--license", "kso.a,expires=2026-02-30"], id="no date"),
        pytest.param(["--license", "kso.a,not_before=2029-01-01,expires=2028-01-01"], id="an end before it begins"),
        pytest.param(["--license", "kso.a,versions=5.x"], id="other versions"),
        pytest.param(["--license", "kso.a,replaces=L-1"], id="one that replaces itself"),
        pytest.param(["--license", f"kso.a,title={'t' * 4000}"], id="a long title"),
        pytest.param(["--license", "kso.a,title=\x1b[2J"], id="a title for terminals"),
        pytest.param(["--license", "kso.a,renewal=required,every=0"], id="a renewal every 0 days"),
        pytest.param(["--renewal", "required,every=4000"], id="a renewal in ten years"),
        pytest.param(["--renewal", "weekly"], id="another renewal"),
        pytest.param(["--add-license", "foreign"], id="a foreign name"),
        pytest.param(["--add-license", f"kso.{'a' * 70}"], id="a long name"),
        pytest.param(["--add-license", "kso.b,id=L-1"], id="an id of this order"),
        pytest.param(["--add-license", "kso.b,id=L-9"], id="an id of another order"),
        pytest.param(["--add-license", "kso.b,id=n", "--add-license", "kso.c,id=n"], id="a new id twice"),
    ],
)
def test_a_change_that_no_device_would_take_is_refused_and_all_stays_as_it_was(
    books: Books, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    books.order("--license", "kso.a,id=L-9", customer="c-2")
    order = books.order("--license", "kso.a,id=L-1,seats=3", "--license", "kso.pay,uncounted")
    before = books.dump()
    capsys.readouterr()
    good = ["--devices", "7", "--add-license", "kso.good"]
    assert books.run("order", "set", order, *good, *options) == 1
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["error", "hint"]
    assert books.dump() == before


def test_a_refused_change_says_why(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    books.order("--license", "kso.a,id=L-9", customer="c-2")
    order = books.order("--license", "kso.pay,uncounted")
    for option, words in (
        ("--add-license=kso.b,id=L-9", "There is a license L-9 already"),
        ("--license=kso.pay,seats=2", "The license kso.pay is uncounted, so it has no seats"),
        ("--license=kso.q,seats=2", "has no license 'kso.q'"),
    ):
        capsys.readouterr()
        assert books.run("order", "set", order, option) == 1
        assert words in capsys.readouterr().err


def test_the_last_license_is_not_removed_but_replaced(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    order = books.order("--license", "kso.a", "--license", "kso.b")
    before = books.dump()
    both = ["--remove-license", "kso.a", "--remove-license", "kso.b"]
    assert books.run("order", "set", order, *both) == 1
    assert f"To end it: licd-vendor order end {order}" in capsys.readouterr().err
    assert books.dump() == before
    assert books.run("order", "set", order, *both, "--add-license", "kso.c") == 0
    assert [each["name"] for each in books.json(capsys, "order", "show", order)["licenses"]] == ["kso.c"]


def test_an_order_that_does_not_fit_the_others_of_a_device_is_refused_before_it_could_not_be_issued(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    one = books.order(*(word for n in range(10) for word in ("--license", f"kso.a{n},renewal=optional,every={n + 1}")))
    two = books.order(*(word for n in range(6) for word in ("--license", f"kso.b{n},renewal=optional,every={n + 50}")))
    machine = Machine(1)
    for order in (one, two):
        file = books.issue(machine.request(books.ask(order)))
    assert len(file.lines) == 16
    before = books.dump()
    capsys.readouterr()
    more = ["--add-license", "kso.c,renewal=required,every=99"]
    assert books.run("order", "set", two, *more) == 1
    assert f"Device 1 has the orders {one}, {two} in one file" in capsys.readouterr().err
    assert books.dump() == before
    assert books.run("order", "suspend", one) == 0  # it comes back
    assert books.run("order", "set", two, *more) == 1
    assert books.run("order", "end", one) == 0
    assert books.run("order", "set", two, *more) == 0
    assert len(books.issue(machine.request(books.ask(two))).lines) == 7


def test_licenses_are_changed_without_the_key_but_not_without_the_certificate(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order("--license", "kso.a")
    (books.dir / "signer.key").unlink()
    assert books.run("order", "set", order, "--license", "kso.a,seats=5") == 0
    (books.dir / "signer.pem").unlink()
    assert books.run("order", "set", order, "--license", "kso.a,seats=6") == 1
    assert "signer.pem cannot be read" in capsys.readouterr().err
    assert books.run("order", "set", order, "--devices", 2) == 0
    assert books.json(capsys, "order", "show", order)["licenses"][0]["seats"] == 5


@needs_postgres
def test_on_postgresql_changes_at_once_are_all_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with postgres.server() as address:
        books = Books(tmp_path, database=address)
        assert books.run("order", "new", "--customer", "c-1", "--license", "kso.a,id=L-1", "--license", "kso.b") == 0
        command = [sys.executable, "-m", "licd_vendor", *books.options, "order", "set", "1"]
        running = [subprocess.Popen([*command, "--add-license", f"kso.n{n},seats=2"]) for n in range(4)]
        assert [process.wait(timeout=60) for process in running] == [0] * 4
        change = ["--license", "kso.n3,seats=5", "--remove-license", "kso.b", "--renewal", "required"]
        assert books.run("order", "set", 1, *change) == 0
        for refused in (f"kso.{'x' * 70}", "kso.c,id=L-1", f"kso.c,expires={'9' * 30}"):
            assert books.run("order", "set", 1, "--add-license", refused) == 1
        assert books.run("order", "suspend", 1, "--reason", "Ё" * 120) == 0
        shown = books.json(capsys, "order", "show", 1)
    seats = {each["name"]: each["seats"] for each in shown["licenses"]}
    assert seats == {"kso.a": 1, "kso.n0": 2, "kso.n1": 2, "kso.n2": 2, "kso.n3": 5}
    assert (shown["renewal"], shown["suspended_reason"]) == (MONTHLY, "Ё" * 120)


# --- suspended, ended, and back -------------------------------------------------------------------------------------


def test_nothing_is_issued_for_a_suspended_order_until_it_is_resumed(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order, machine = books.order("--devices", 3), Machine(1)
    code, spent = books.code(order, capsys), books.code(order, capsys)
    web = books.web()
    asked, by_code = books.ask(order), web.install_request(spent)
    books.issue(machine.request(asked))
    assert books.run("order", "suspend", order, "--reason", "invoice 17 is open") == 0
    before = books.dump()
    new = f"install-request new {order} -o {books.folder / 'f'}", f"code new {order}"
    for command in new:
        capsys.readouterr()
        assert books.run(*command.split()) == 1
        assert f"The order {order} was suspended on" in (said := capsys.readouterr().err)
        assert "(invoice 17 is open)" in said
        assert f"licd-vendor order resume {order}" in said
    capsys.readouterr()
    assert books.issue_to(books.folder / "f", machine.request(asked)) == 1
    assert f"The order {order} was suspended on" in capsys.readouterr().err
    for sent in (code, spent):
        said = problem(web.post("/install-request", sent))
        assert said["name"] == "ASK_VENDOR"
        assert "invoice" not in json.dumps(said)
    for asked_for in (asked, by_code):
        assert web.refusal(Machine(2).request(asked_for)) == "ASK_VENDOR"
    assert not (books.folder / "f").exists()
    assert books.dump() == before
    assert books.run("order", "resume", order) == 0
    assert books.issue(machine.request(asked)).seq == 2
    assert web.license_file(Machine(2).request(web.install_request(spent))).seq == 1
    assert web.install_request(code)


def test_of_a_device_with_two_orders_the_suspended_one_is_left_out_of_the_next_file(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, machine = books.order("--license", "kso.a"), books.order("--license", "kso.b"), Machine(1)
    lines(books, machine, one)
    assert list(lines(books, machine, two)) == ["kso.a", "kso.b"]
    assert books.run("order", "suspend", one) == 0
    assert list(lines(books, machine, two)) == ["kso.b"]
    assert f"note: nothing is issued for order {one} now, and it is not in it" in capsys.readouterr().out
    assert books.run("order", "resume", one) == 0
    assert list(lines(books, machine, two)) == ["kso.a", "kso.b"]


def test_a_suspended_order_is_shown_as_such_with_since_when_and_why(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order, today = books.order(), datetime.now(UTC).date()
    shown = books.json(capsys, "order", "show", order)
    assert (shown["state"], shown["suspended"], shown["suspended_reason"]) == ("live", None, None)
    assert books.run("order", "suspend", order) == 0
    since = books.json(capsys, "order", "show", order)["suspended"]
    assert books.run("order", "suspend", order, "--reason", "Счёт 17") == 0
    shown = books.json(capsys, "order", "show", order)
    assert (shown["state"], shown["suspended"], shown["suspended_reason"]) == ("suspended", since, "Счёт 17")
    assert books.run("order", "show", order) == 0
    assert f"state: suspended on {today} (Счёт 17)" in capsys.readouterr().out
    assert books.json(capsys, "order", "list")["orders"][0]["state"] == "suspended"
    assert books.run("order", "resume", order) == 0
    assert f"resumed (suspended on {today}); it is live" in capsys.readouterr().out
    shown = books.json(capsys, "order", "show", order)
    assert (shown["state"], shown["suspended"], shown["suspended_reason"]) == ("live", None, None)
    assert books.run("order", "resume", order) == 0
    assert "was not suspended; it is live" in capsys.readouterr().out


def test_an_end_is_taken_back(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    order, machine = books.order(), Machine(1)
    asked = books.ask(order)
    books.issue(machine.request(asked))
    assert books.run("order", "end", order) == 0
    assert f"licd-vendor order reopen {order}" in capsys.readouterr().out
    assert books.issue_to(books.folder / "f", machine.request(asked)) == 1
    assert books.run("order", "suspend", order) == 1
    assert books.run("order", "reopen", order) == 0
    assert "open again" in capsys.readouterr().out
    assert books.issue(machine.request(asked)).seq == 2
    assert books.run("order", "reopen", order) == 0
    assert "was not ended; it is live" in capsys.readouterr().out


def test_a_suspended_order_that_was_ended_comes_back_suspended(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order()
    for command in ("suspend", "end", "reopen"):
        assert books.run("order", command, order) == 0
    assert "it is suspended" in capsys.readouterr().out


@pytest.mark.parametrize("reason", ["", " ", " x", "a\nb", "\x1b[2J", "x" * 121, "\udcff"])
def test_a_reason_is_a_printable_line(books: Books, reason: str) -> None:
    order = books.order()
    with pytest.raises(SystemExit) as ended:
        books.run("order", "suspend", order, "--reason", reason)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "command", [["suspend", "7"], ["resume", "7"], ["reopen", "7"], ["set", "7", "--license", "kso.a,seats=2"]]
)
def test_an_order_that_is_not_there_cannot_be_changed(
    books: Books, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert books.run("order", *command) == 1
    assert "There is no order 7. (NO_SUCH_ORDER)" in capsys.readouterr().err


def test_devices_are_counted_where_a_change_waits_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = Books(tmp_path)
    order = books.order("--devices", 2)
    asked = books.ask(order)
    for number in (1, 2):
        books.issue(Machine(number).request(asked))
    for command, words in (("suspend", "2 devices may go on"), ("resume", "2 devices may ask for it again")):
        capsys.readouterr()
        assert main([*books.options, "order", command, str(order)]) == 0
        said = capsys.readouterr()
        assert words in said.out + said.err
