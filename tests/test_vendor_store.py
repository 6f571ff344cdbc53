"""The store of licd-vendor: one transaction a command, whoever else is at it, and no database damaged."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from licd.license.install import LicenseRequest
from licd_vendor import store, tables
from licd_vendor.keys import Failure
from tests.support import postgres
from tests.support.books import Books, Machine, complaint
from tests.support.postgres import needs_postgres


def test_the_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "50% ?of=all #1"
    folder.mkdir()
    books = Books(folder)
    books.order()
    assert (books.dir / "vendor.db").exists()


# --- two at once ----------------------------------------------------------------------------------------------------


def at_once(books: Books, commands: Sequence[Sequence[str | Path]]) -> list[str]:
    """What each of these prints; all are started before one is waited for."""
    whole = [[sys.executable, "-m", "licd_vendor", *books.options, *map(str, command)] for command in commands]
    running = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for each in whole]
    return [process.communicate(timeout=60)[0] for process in running]


def issue_at_once(books: Books, requests: Sequence[LicenseRequest]) -> tuple[list[str], list[Path]]:
    outputs = [books.folder / f"{n}.licd" for n, _ in enumerate(requests)]
    for n, request in enumerate(requests):
        (books.folder / f"{n}.request").write_bytes(request.text)
    commands = [("issue", books.folder / f"{n}.request", "-o", output) for n, output in enumerate(outputs)]
    return at_once(books, commands), outputs


def test_eight_commands_that_answer_one_request_issue_one_file(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order("--devices", 8)
    said, outputs = issue_at_once(books, [Machine(1).request(books.ask(order))] * 8)
    assert len({output.read_bytes() for output in outputs}) == 1
    assert sum("issued before, the same again" in each for each in said) == 7
    assert len(books.json(capsys, "history", "--device", 1)["documents"]) == 1
    assert len(books.json(capsys, "order", "show", order)["devices"]) == 1


def test_devices_that_ask_at_once_get_the_places_that_there_are(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order("--devices", 2)
    asked = books.ask(order)
    said, outputs = issue_at_once(books, [Machine(number).request(asked) for number in range(1, 5)])
    assert sum("ANOTHER_DEVICE" in each for each in said) == 2
    assert [books.verified(output).seq for output in outputs if output.exists()] == [1, 1]
    assert len(books.json(capsys, "order", "show", order)["devices"]) == 2


def test_first_commands_at_once_make_one_store(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    said = at_once(books, [("order", "new", "--customer", "c-1", "--license", "kso.a")] * 4)
    assert {each.split(":")[0] for each in said} == {"order 1", "order 2", "order 3", "order 4"}


# --- what is on disk before what ------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_is_in_the_store_and_the_hint_gives_it(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Machine(1).request(books.ask(books.order()))
    capsys.readouterr()
    assert books.issue_to(books.folder / "gone" / "out.licd", request) == 1
    _, command = complaint(capsys).split("in the store: licd-vendor ")
    out = books.folder / "out.licd"
    assert books.run(*command.replace("FILE", str(out)).split()) == 0
    assert books.verified(out).request == request.id
    assert books.issue(request).text == out.read_bytes()


def test_a_store_on_a_full_disk_issues_nothing(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    request = Machine(1).request(books.ask(books.order()))
    (books.folder / "r").write_bytes(request.text)
    before = books.dump()
    command = [sys.executable, "-m", "licd_vendor", *books.options, "issue", "r", "-o", "out.licd"]
    limited = ["prlimit", "--fsize=4096", *command]
    done = subprocess.run(limited, cwd=books.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert not (books.folder / "out.licd").exists()
    assert books.dump() == before


# --- databases that are none, or another's --------------------------------------------------------------------------


@pytest.fixture
def other(books: Books, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """The complaint about a database after this SQL, unchanged by it."""
    books.order()

    def run(sql: str) -> str:
        with sqlite3.connect(books.dir / "vendor.db") as connection:
            connection.executescript(sql)
        before = books.dump()
        capsys.readouterr()
        assert books.run("order", "new", "--customer", "c-1", "--license", "kso.a") == 1
        assert books.dump() == before
        return complaint(capsys)

    return run


def test_a_database_of_another_version_is_refused_by_name(other: Callable[[str], str]) -> None:
    assert "has version 4; this licd-vendor works with version 3" in other("UPDATE licd_store SET version = 4")


def test_a_later_version_is_told_by_its_number_whatever_else_is_in_it(other: Callable[[str], str]) -> None:
    sql = "UPDATE licd_store SET version = 9; ALTER TABLE licd_store RENAME vendor TO v; DROP TABLE issued_orders"
    assert "has version 9" in other(sql)


def test_a_database_of_another_vendor_is_refused(other: Callable[[str], str]) -> None:
    assert "is of the vendor globex; the keys are of acme" in other("UPDATE licd_store SET vendor = 'globex'")


def test_a_database_with_other_tables_is_refused(other: Callable[[str], str]) -> None:
    assert "holds something else" in other("DROP TABLE licd_store")


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    (books.dir / "vendor.db").write_bytes(b"a letter to the customer, " * 100)
    assert books.run("order", "list") == 1
    assert "file is not a database" in complaint(capsys)
    assert (books.dir / "vendor.db").read_bytes() == b"a letter to the customer, " * 100


@pytest.mark.parametrize("address", ["no address", "mysql:///x", "oracle+no:///x", "sqlite:////dev/null/x/y.db"])
def test_an_address_that_leads_nowhere_is_refused_without_a_traceback(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    books = Books(tmp_path, database=address)
    capsys.readouterr()
    assert books.run("order", "list") == 1
    complaint(capsys)


def test_the_password_of_a_database_is_never_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = Books(tmp_path, database=f"postgresql://licd:s3cret@/x?host={tmp_path}")
    capsys.readouterr()
    assert books.run("order", "list") == 1
    assert "s3cret" not in complaint(capsys)


def test_a_folder_without_a_vendor_in_it_gets_no_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books(tmp_path)
    books.options = ["--dir", str(tmp_path)]
    capsys.readouterr()
    assert books.run("order", "list") == 1
    complaint(capsys)
    assert not (tmp_path / "vendor.db").exists()


def test_folder_and_database_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books = Books(tmp_path)
    books.options = []
    monkeypatch.setenv("LICD_VENDOR_DIR", str(books.dir))
    monkeypatch.setenv("LICD_VENDOR_DATABASE", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert books.run("order", "list") == 0
    assert (tmp_path / "elsewhere.db").exists()
    assert not (books.dir / "vendor.db").exists()


def test_rows_that_name_what_is_not_there_are_refused_by_the_database(books: Books) -> None:
    database = f"sqlite:///{books.dir / 'vendor.db'}"
    with pytest.raises(Failure, match="changed the same"), store.transaction(database, "acme") as session:
        session.add(tables.Device(customer_id="nobody", created="", key="", fingerprint={}, weights={}, share=1))


# --- without SQLAlchemy -----------------------------------------------------------------------------------------------


def without_sqlalchemy(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.modules['sqlalchemy'] = None; from licd_vendor.main import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_without_sqlalchemy_only_the_commands_that_need_it_are_missing(tmp_path: Path) -> None:
    folder = str(tmp_path / "acme")
    assert without_sqlalchemy("init", folder, "--vendor", "acme", "--names", "kso.*").returncode == 0
    (tmp_path / "d.json").write_text(json.dumps({"seq": 1, "licenses": []}))
    file = str(tmp_path / "f")
    assert without_sqlalchemy("sign", folder, str(tmp_path / "d.json"), "-o", file).returncode == 0
    assert without_sqlalchemy("show", file).returncode == 0
    done = without_sqlalchemy("--dir", folder, "order", "list")
    assert done.returncode == 1
    assert "pip install 'licd[vendor]'" in done.stderr


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgres.server() as address:
        yield address


@pytest.fixture
def server(postgresql: str) -> str:
    """The address of an empty database."""
    engine = create_engine(postgresql.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return postgresql


@needs_postgres
def test_postgresql_keeps_orders_just_as_well(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = Books(tmp_path, database=server)
    renewal = {"need": "required", "every_days": 35, "grace_days": 14}
    described = {"renewal": renewal, "x": {"имя": [None]}, "licenses": [{"name": "kso.a", "title": "Весы"}]}
    (tmp_path / "order.json").write_text(json.dumps(described))
    assert books.run("order", "new", tmp_path / "order.json", "--customer", "c-1") == 0
    asked = books.ask(1)
    machine = Machine(1)
    request = machine.request(asked)
    first = books.issue(request)
    assert books.issue(request).text == first.text
    assert books.issue(machine.reimaged().request(asked)).seq == 2
    assert books.issue_to(tmp_path / "out", Machine(2).request(asked)) == 1
    assert books.issue(Machine(2).request(asked), "--rehost").seq == 3
    shown = books.json(capsys, "order", "show", 1)
    assert {name: shown[name] for name in ("renewal", "x", "rehosts")} == {
        "renewal": renewal,
        "x": {"имя": [None]},
        "rehosts": 2,
    }
    assert [row["device"] for row in books.json(capsys, "history")["documents"]] == [None, 1, 1, 2]


@needs_postgres
def test_commands_at_once_are_put_in_order_by_postgresql_too(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books = Books(tmp_path, database=server)
    said = at_once(books, [("order", "list")] * 2)  # on a database without tables
    assert not any("error" in each for each in said)
    assert books.run("order", "new", "--customer", "c-1", "--license", "kso.a") == 0
    said, outputs = issue_at_once(books, [Machine(1).request(books.ask(1))] * 3)
    assert len({output.read_bytes() for output in outputs}) == 1
    assert sum("issued before, the same again" in each for each in said) == 2
    assert len(books.json(capsys, "history", "--device", 1)["documents"]) == 1


@needs_postgres
def test_a_command_waits_for_another_one_about_the_same_customer(server: str, tmp_path: Path) -> None:
    books = Books(tmp_path, database=server)
    assert books.run("order", "new", "--customer", "c-1", "--license", "kso.a") == 0
    (tmp_path / "r").write_bytes(Machine(1).request(books.ask(1)).text)
    command = [sys.executable, "-m", "licd_vendor", *books.options, "issue", "r", "-o", "out.licd"]
    with store.transaction(server, "acme") as session:
        store.lock(session, "c-1")
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
    assert process.wait(30) == 0
    assert books.verified(tmp_path / "out.licd").seq == 1
