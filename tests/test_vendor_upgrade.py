"""Stores of earlier versions, as those versions wrote them: they get what is new, and keep all they have."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect

from licd.license import document, lines
from licd.license.document import LICENSE_FILE, REFUSAL
from licd.license.lines import LicenseFile
from licd_vendor import store, upgrades
from tests.support import postgres
from tests.support.books import Books, Machine
from tests.support.postgres import needs_postgres

Capture = pytest.CaptureFixture[str]
STORES = Path(__file__).parent / "vectors" / "stores"
NOW = time.time()


def old(books: Books, version: int) -> sqlite3.Connection:
    connection = sqlite3.connect(books.dir / "vendor.db")
    connection.executescript((STORES / f"version-{version}.sql").read_text())
    return connection


def rows_of(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """What is in each table, and in which columns."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {}
    for table in tables:
        columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f"PRAGMA table_info({table})"))
        found[f"SELECT {columns} FROM {table}"] = connection.execute(f"SELECT {columns} FROM {table}").fetchall()
    return found


def newest_file(connection: sqlite3.Connection) -> LicenseFile:
    """The last file of the store. Its signer is known to nobody any more, so it is read and not verified."""
    (text,) = connection.execute("SELECT document FROM issues ORDER BY seq DESC").fetchone()
    (only,) = document.parse(text)
    head = lines.read_header(only.records[0])
    members = {name: getattr(head, name) for name in ("file", "vendor", "device", "seq", "request", "issued")}
    return LicenseFile(
        **members,
        profile="acme",
        renewal=head.renewal,
        device_grace_days=0,
        lines=(),
        text=only.text,
        digest=only.digest,
        signer_expires=0,
        x={},
    )


@pytest.mark.parametrize("version", sorted(upgrades.OLDER))
def test_a_store_of_an_earlier_version_keeps_every_row(books: Books, version: int, capsys: Capture) -> None:
    with old(books, version) as connection:
        before = rows_of(connection)
        assert len(before) >= 9
        assert books.run("order", "list") == 0
        assert connection.execute("SELECT version FROM licd_store").fetchone() == (3,)
        for query, rows in before.items():
            if "licd_store" not in query:
                assert connection.execute(query).fetchall() == rows


@pytest.mark.parametrize("version", sorted(upgrades.OLDER))
def test_a_store_of_an_earlier_version_works_with_all_that_is_new(books: Books, version: int, capsys: Capture) -> None:
    with old(books, version) as connection:
        file = newest_file(connection)
    again = Machine(1)  # the hardware of then, with a new system
    first = books.renew_at(NOW, again.renewal(file))
    assert (first.kind, first.seq) == (LICENSE_FILE, file.seq + 1)
    assert books.run("order", "suspend", 1, "--reason", "unpaid") == 0
    assert books.renew_at(NOW, again.renewal(books.verify(first.data))).kind == REFUSAL
    assert books.run("order", "resume", 1) == 0
    assert books.run("order", "set", 1, "--allow-weak", "--devices", 2) == 0
    assert books.web().install_request(books.code(1, capsys))
    assert [row["what"] for row in books.json(capsys, "alarm", "list")["alarms"]] == [
        "seq 2 was sent under another key"
    ]


def shape(address: str) -> dict[str, Any]:
    """The tables of a database: columns with their types, keys and indexes; but for the order of columns."""
    engine = create_engine(address)
    found = inspect(engine)
    tables = {}
    for table in found.get_table_names():
        columns = {each["name"]: (str(each["type"]), each["nullable"]) for each in found.get_columns(table)}
        unique: set[tuple[str | None, ...]] = {(*each["column_names"],) for each in found.get_unique_constraints(table)}
        unique |= {(*each["column_names"],) for each in found.get_indexes(table) if each["unique"]}
        plain = {(*each["column_names"],) for each in found.get_indexes(table) if not each["unique"]}
        foreign = {(*each["constrained_columns"], each["referred_table"]) for each in found.get_foreign_keys(table)}
        tables[table] = (columns, unique, plain, foreign)
    engine.dispose()
    return tables


@pytest.mark.parametrize("version", sorted(upgrades.OLDER))
def test_an_upgraded_store_has_the_tables_of_a_new_one(books: Books, tmp_path: Path, version: int) -> None:
    old(books, version).close()
    assert books.run("order", "list") == 0
    store.Database(tmp_path / "new.db", "acme")
    assert shape(f"sqlite:///{books.dir / 'vendor.db'}") == shape(f"sqlite:///{tmp_path / 'new.db'}")


@needs_postgres
def test_a_store_in_postgresql_is_upgraded_once_by_several_at_a_time(tmp_path: Path) -> None:
    with postgres.server() as address:
        psycopg = address.replace("postgresql:", "postgresql+psycopg:")
        store.Database(address, "acme")
        wanted = shape(psycopg)
        engine = create_engine(psycopg)
        with engine.begin() as connection:
            for table in ("renewals", "alarms"):
                connection.exec_driver_sql(f"DROP TABLE {table}")
            for column in ("suspended", "suspended_reason"):
                connection.exec_driver_sql(f"ALTER TABLE orders DROP COLUMN {column}")
            for index in (
                "issues_key",
                "places_device_id",
                "issued_orders_order_id",
                "devices_customer_id",
                "devices_key",
            ):
                connection.exec_driver_sql(f"DROP INDEX ix_{index}")
            connection.exec_driver_sql("UPDATE licd_store SET version = 2")
        engine.dispose()
        books = Books(tmp_path, database=address)
        command = [sys.executable, "-m", "licd_vendor", *books.options, "order", "list"]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(4)]
        assert [(each.communicate(timeout=60)[0][:5], each.returncode) for each in running] == [(b"ORDER", 0)] * 4
        assert shape(psycopg) == wanted
