"""The tables of the store: customers, orders, devices, and every document that was issued. SQLAlchemy.

A column that is added here is added to older stores by a step in upgrades.py, which also counts the versions.
"""

from __future__ import annotations

from typing import Annotated, Any

from sqlalchemy import (
    JSON,
    Column,
    Double,
    ForeignKey,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

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
