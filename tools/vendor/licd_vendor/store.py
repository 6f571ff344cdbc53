"""What the vendor remembers: customers, orders, devices, and every document that was issued. SQLAlchemy.

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
from typing import Annotated, Any

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Double,
    Engine,
    ForeignKey,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    false,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import NullPool

from licd_vendor import upgrades
from licd_vendor.keys import Failure

SCHEMA_VERSION = upgrades.NEWEST
BUSY_S = 60  # how long a command waits for another one; each takes a fraction of a second
SERVER_BUSY_S = 5  # and the server: who asks it waits half a minute at most, and is better told to come again
SALT_BYTES = 16

Id = Annotated[str, mapped_column(String(64))]  # an id as documents have it
Stamp = Annotated[str, mapped_column(String(20))]  # a time as documents have it: it sorts, and needs no time zone
Reason = Annotated[str, mapped_column(String(200))]  # as long as a refusal has room for
Object = Annotated[dict[str, Any], mapped_column(JSON(none_as_null=True))]
Usage = Annotated[dict[str, Any], mapped_column(JSON, deferred=True)]  # up to 64 KiB each, of hundreds of renewals
# Up to a megabyte each, so read only where one is wanted.
Document = Annotated[bytes, mapped_column(LargeBinary, deferred=True)]


class Base(DeclarativeBase):
    pass


class Store(Base):
    """The one row that says what this database is."""

    __tablename__ = "licd_store"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    vendor: Mapped[Id]


class Customer(Base):
    """An opaque id. The salt is the same in all install requests of a customer, so that his devices are recognized."""

    __tablename__ = "customers"
    id: Mapped[Id] = mapped_column(primary_key=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[Stamp]


# Which device holds which order now.
PLACES = Table(
    "places",
    Base.metadata,
    Column("order_id", ForeignKey("orders.id"), primary_key=True),
    Column("device_id", ForeignKey("devices.id"), primary_key=True, index=True),
)


class Order(Base):
    """Licenses for so many devices, each of which gets them all."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[Id] = mapped_column(ForeignKey("customers.id"))
    created: Mapped[Stamp]
    devices_most: Mapped[int]
    rehosts_most: Mapped[int]
    renewal: Mapped[Object]
    device_grace_days: Mapped[int]
    x: Mapped[Object | None]
    ended: Mapped[Stamp | None]  # by a person
    allow_weak: Mapped[bool] = mapped_column(server_default=false())  # devices that show too little of themselves
    suspended: Mapped[Stamp | None]  # by a person, until he resumes it
    suspended_reason: Mapped[Reason | None]

    customer: Mapped[Customer] = relationship()
    licenses: Mapped[list[License]] = relationship(back_populates="order", order_by="License.n")
    devices: Mapped[list[Device]] = relationship(secondary=PLACES, back_populates="orders", order_by="Device.id")
    install_requests: Mapped[list[InstallRequest]] = relationship(
        back_populates="order", order_by="InstallRequest.issued"
    )
    codes: Mapped[list[Code]] = relationship(back_populates="order", order_by="Code.id")


class License(Base):
    """A line of an order. It keeps its id in every file it is issued in."""

    __tablename__ = "licenses"
    __table_args__ = (UniqueConstraint("order_id", "n"),)
    id: Mapped[Id] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    n: Mapped[int]
    name: Mapped[Id]
    title: Mapped[str]
    license: Mapped[str] = mapped_column(String(16))
    seats: Mapped[int | None]
    not_before: Mapped[str | None] = mapped_column(String(10))
    expires: Mapped[str | None] = mapped_column(String(10))
    versions: Mapped[str | None] = mapped_column(String(200))
    grace_days: Mapped[int]
    renewal: Mapped[Object | None]
    replaces: Mapped[Id | None]
    x: Mapped[Object | None]

    order: Mapped[Order] = relationship(back_populates="licenses")


class Code(Base):
    """A code 16 + 6 for devices of an order. The code itself was shown once, and is nowhere."""

    __tablename__ = "codes"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)  # SHA-256 of the secret: 80 random bits need no salt
    created: Mapped[Stamp]
    expires: Mapped[Stamp]
    devices_most: Mapped[int]
    ended: Mapped[Stamp | None]  # by a person

    order: Mapped[Order] = relationship(back_populates="codes")
    install_request: Mapped[InstallRequest | None] = relationship(back_populates="code")


class Try(Base):
    """A code that was none. All processes of the server count them together; after an hour they are gone."""

    __tablename__ = "tries"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(Double, index=True)
    address: Mapped[Id]


class InstallRequest(Base):
    """An install request as it was issued. A device answers the newest one of its order, or that of its code."""

    __tablename__ = "install_requests"
    id: Mapped[Id] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    issued: Mapped[Stamp]
    weights: Mapped[Object]
    share: Mapped[int]
    document: Mapped[Document]
    superseded_by: Mapped[Id | None] = mapped_column(ForeignKey("install_requests.id"))
    code_id: Mapped[int | None] = mapped_column(ForeignKey("codes.id"), unique=True)

    code: Mapped[Code | None] = relationship(back_populates="install_request")
    order: Mapped[Order] = relationship(back_populates="install_requests")


class Device(Base):
    """A device of a customer: the key and fingerprint it is bound to now. Once `moved_to` is set, it holds no order."""

    __tablename__ = "devices"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[Id] = mapped_column(ForeignKey("customers.id"), index=True)
    created: Mapped[Stamp]
    key: Mapped[Id] = mapped_column(index=True)
    fingerprint: Mapped[Object]
    weights: Mapped[Object]
    share: Mapped[int]
    moved_to: Mapped[int | None] = mapped_column(ForeignKey("devices.id"))

    orders: Mapped[list[Order]] = relationship(secondary=PLACES, back_populates="devices", order_by="Order.id")
    issues: Mapped[list[Issue]] = relationship(back_populates="device", order_by="Issue.seq")


class Issue(Base):
    """A license file as it was issued, and the request it answers. `rehost`: see recognize.py; null if none.

    install_request_id: that of the license request; of a renewal, that of the file before it
    request: of a renewal, its first line; behind that stood a file that is here
    replaced: percent of the hardware bound before; null where the device was bound anew, and the count begins
    """

    __tablename__ = "issues"
    __table_args__ = (
        UniqueConstraint("device_id", "seq"),
        # Of two commands that answer one request, one wins. With the install request, for ids are no secret: nobody
        # who has no such request himself shuts another one's out by its id.
        UniqueConstraint("install_request_id", "request_id"),
    )
    id: Mapped[Id] = mapped_column(primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    seq: Mapped[int]
    issued: Mapped[Stamp]
    install_request_id: Mapped[Id] = mapped_column(ForeignKey("install_requests.id"))
    request_id: Mapped[Id]
    request: Mapped[Document]
    key: Mapped[Id] = mapped_column(index=True)
    rehost: Mapped[str | None] = mapped_column(String(16))
    replaced: Mapped[int | None]
    weak: Mapped[bool]
    document: Mapped[Document]

    device: Mapped[Device] = relationship(back_populates="issues")
    orders: Mapped[list[IssuedOrder]] = relationship(order_by="IssuedOrder.order_id")


class IssuedOrder(Base):
    """An order whose licenses are in a file; `rehosted` if the file moved them to another device."""

    __tablename__ = "issued_orders"
    issue_id: Mapped[Id] = mapped_column(ForeignKey("issues.id"), primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True, index=True)
    rehosted: Mapped[bool]


class Renewal(Base):
    """A renewal request that was answered. Many of one device are forgotten from the oldest on: see renewing.py."""

    __tablename__ = "renewals"
    __table_args__ = (UniqueConstraint("device_id", "request_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    at: Mapped[float] = mapped_column(Double, index=True)
    seq: Mapped[int]  # of the file that it was sent with
    request_id: Mapped[Id]
    fingerprint: Mapped[Object]
    answer: Mapped[str] = mapped_column(String(16))  # the kind of document
    usage: Mapped[Usage]

    device: Mapped[Device] = relationship()


class Alarm(Base):
    """Two devices where there should be one, perhaps. While it is open, what happens again is counted in it.

    seq: of the file that both have, or that the later request came with; later_seq: that was in use before, if another
    before, at, last: times of the request that it contradicts, of the first that did, and of the newest
    differs: the factors of which each shows something that the other lacks; or "key"
    matches: it would have been taken for the same device, repaired
    """

    __tablename__ = "alarms"
    id: Mapped[int] = mapped_column(primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"), index=True)
    seq: Mapped[int]
    later_seq: Mapped[int | None]
    before: Mapped[Stamp]
    at: Mapped[Stamp]
    last: Mapped[Stamp]
    times: Mapped[int]
    differs: Mapped[list[str]] = mapped_column(JSON)
    matches: Mapped[bool]
    closed: Mapped[Stamp | None]  # by a person

    device: Mapped[Device] = relationship()


# --- opening it -------------------------------------------------------------------------------------------------


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
