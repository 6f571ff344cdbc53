"""What the vendor remembers, as transactions. The tables: tables.py.

A command is one transaction, and it is committed before any file is written: what was issued once can be issued again,
so a document is never on a device and not in here. Two commands at once are put in order before they look: on SQLite by
BEGIN IMMEDIATE, elsewhere by `lock`; the unique constraints hold even where that is forgotten.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from licd_vendor import upgrades
from licd_vendor.keys import Failure
from licd_vendor.tables import Base, Customer, Store

SCHEMA_VERSION = upgrades.NEWEST
BUSY_S = 60  # how long a command waits for another one; each takes a fraction of a second
SERVER_BUSY_S = 5  # and the server: who asks it waits half a minute at most, and is better told to come again
SALT_BYTES = 16


class Unavailable(Failure):
    """The database could not be reached or used just now; the same may go well later."""


class Database:
    """The store of this vendor. An empty database gets its tables, an older one what is new.

    database: a SQLite file, or the address of any other database
    lasting: connections are kept for the next transaction; by itself each has its own
    Errors: Failure
    """

    def __init__(self, database: str | Path, vendor: str, *, lasting: bool = False) -> None:
        url = _url(database)
        self._shown = url.render_as_string(hide_password=True)
        with self._as_failures():
            self._engine = _engine(url, lasting)
            _prepare(self._engine, self._shown, vendor)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session; what it changed is kept when the block ends, all of it or nothing. Errors: Failure"""
        with self._as_failures(), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def _as_failures(self) -> Iterator[None]:
        try:
            yield
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise Failure(f"There is no driver for {self._shown}: {error}.", _ADDRESS) from None
        except IntegrityError:
            reason = "Another command changed the same at the same time; this one changed nothing."
            raise Unavailable(reason, "Run it again.") from None
        except DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            hint = "Check --database, and that its server runs and lets you in."
            raise Unavailable(f"The database {self._shown} cannot be used: {reason}.", hint) from None
        except PoolTimeout:
            reason = "All connections to the database are in use."
            raise Unavailable(reason, "Wait, or run fewer threads.") from None


@contextmanager
def transaction(database: str | Path, vendor: str) -> Iterator[Session]:
    """One transaction on the store of this vendor, as `Database` has them. Errors: Failure"""
    with Database(database, vendor).transaction() as session:
        yield session


def file_of(database: str | Path) -> Path | None:
    """The file of a SQLite database. Errors: Failure"""
    url = _url(database)
    name = url.database if url.get_backend_name() == "sqlite" else None
    return Path(name.removeprefix("file:")) if name else None


def _url(database: str | Path) -> URL:
    if isinstance(database, Path):
        return URL.create("sqlite", database=str(database))
    try:
        return make_url(database)
    except ArgumentError:
        raise Failure("The database's address is not one.", _ADDRESS) from None


_ADDRESS = "Give --database as sqlite:///FILE, or as postgresql://USER@HOST/NAME with psycopg installed."


def _engine(url: URL, lasting: bool) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite":
        if lasting:  # pre_ping: the database's server may have been started anew in between
            return create_engine(url, pool_pre_ping=True)
        return create_engine(url, poolclass=NullPool)
    if url.database and not url.query:
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT, 0o600))  # who has what is nobody else's business
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": SERVER_BUSY_S if lasting else BUSY_S})

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # sqlite3 would begin by itself, and too late
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _prepare(engine: Engine, shown: str, vendor: str) -> None:
    try:
        _prepare_once(engine, shown, vendor)
    except (IntegrityError, ProgrammingError):  # PostgreSQL, another command made the tables at the same time
        _prepare_once(engine, shown, vendor)


def _prepare_once(engine: Engine, shown: str, vendor: str) -> None:
    with Session(engine) as session, session.begin():
        there = inspect(session.connection()).get_table_names()
        if not there:
            Base.metadata.create_all(session.connection())
            session.add(Store(id=1, version=SCHEMA_VERSION, vendor=vendor))
            return
        if Store.__tablename__ not in there:
            raise Failure(f"The database {shown} holds something else.", "Name an empty one, or none for a new file.")
        version = session.scalar(select(Store.version))
        if version in upgrades.OLDER and session.scalar(select(Store.vendor)) == vendor:
            Base.metadata.create_all(session.connection())  # the new tables
            upgrades.upgrade(session, version)
            session.execute(update(Store).values(version=SCHEMA_VERSION))
            version = SCHEMA_VERSION
        if version != SCHEMA_VERSION:
            raise Failure(
                f"The database {shown} has version {version}; this licd-vendor works with version {SCHEMA_VERSION}.",
                "Use the licd-vendor that wrote it; nothing was changed.",
            )
        ours = session.scalar(select(Store.vendor))
        if ours != vendor:
            raise Failure(
                f"The database {shown} is of the vendor {ours}; the keys are of {vendor}.",
                "Name the folder of that vendor with --dir, or another --database.",
            )


def lock(session: Session, customer: str) -> None:
    """Until the transaction ends, no other one decides anything about this customer; what was read is read again."""
    session.execute(select(Customer.id).where(Customer.id == customer).with_for_update())
    session.expire_all()


def customer_of(session: Session, id: str, now: str) -> Customer:
    """The customer, if need be a new one."""
    customer = session.get(Customer, id)
    if customer is None:
        customer = Customer(id=id, salt=secrets.token_bytes(SALT_BYTES), created=now)
        session.add(customer)
        session.flush()
    return customer
