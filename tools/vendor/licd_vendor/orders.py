"""Orders in the store: new ones, what they say, and what was issued for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from licd.license import trust
from licd.license.dates import DAY_S, end_of, timestamp
from licd.rpc.errors import NO_SUCH_ORDER, Refused
from licd_vendor import sign
from licd_vendor.keys import Failure
from licd_vendor.store import customer_of, lock
from licd_vendor.tables import Device, InstallRequest, Issue, IssuedOrder, License, Order


def new_order(
    session: Session,
    profile: trust.VendorProfile,
    chain: tuple[x509.Certificate, ...],
    customer: str,
    description: Mapping[str, Any],
    *,
    devices: int,
    rehosts: int,
    now: float,
    allow_weak: bool = False,
) -> Order:
    """A new order of this customer, whose licenses a device will take.

    Errors: Failure
    """
    if not description["licenses"]:
        raise Failure("The order has no license.", "Describe some in a file, or give --license.")
    sign.check(description, profile, chain, now)
    stamp = timestamp(now)
    order = Order(
        customer=customer_of(session, customer, stamp),
        created=stamp,
        devices_most=devices,
        rehosts_most=rehosts,
        allow_weak=allow_weak,
        **(sign.order_defaults() | {key: description[key] for key in sign.ORDER_MEMBERS if key in description}),
    )
    order.licenses = [License(n=n, **sign.whole_license(each)) for n, each in enumerate(description["licenses"], 1)]
    check_new_ids(session, (each.id for each in order.licenses))
    session.add(order)
    session.flush()
    return order


def check_new_ids(session: Session, ids: Iterable[str]) -> None:
    """Nothing, if no license has one of these. Errors: Failure"""
    for id in ids:
        if session.get(License, id) is not None:
            raise Failure(f"There is a license {id} already.", "Give another id, or none for a new one.")


def terms_of(license: License) -> dict[str, Any]:
    """All members of a license, as sign.py takes them."""
    return {name: getattr(license, name) for name in sign.LICENSE_MEMBERS}


def find_order(session: Session, number: int) -> Order:
    """Errors: NO_SUCH_ORDER"""
    order = session.get(Order, number)
    if order is None:
        raise Refused(NO_SUCH_ORDER, order=number)
    return order


class NotIssued(Failure):
    """The reason lies with the order or the device: every further try ends so, until a person does something."""


def check_not_ended(order: Order) -> None:
    """Errors: NotIssued"""
    if order.ended is not None:
        reason = f"The order {order.id} was ended on {order.ended[:10]}: nothing more is issued for it."
        raise NotIssued(reason, NEW_ORDER)


def check_open(order: Order) -> None:
    """Nothing, if no person has said that nothing is issued for the order. Errors: NotIssued"""
    check_not_ended(order)
    if order.suspended is not None:
        why = f" ({order.suspended_reason})" if order.suspended_reason else ""
        reason = f"The order {order.id} was suspended on {order.suspended[:10]}{why}: nothing is issued for it."
        raise NotIssued(reason, f"When the reason is gone: licd-vendor order resume {order.id}")


NEW_ORDER = "If the customer has licenses left, take in an order for them: licd-vendor order new."


def is_current(request: InstallRequest) -> bool:
    """Whether it is the one of its order, and of no code."""
    return request.superseded_by is None and request.code_id is None


def set_order(
    session: Session, number: int, *, devices: int | None, rehosts: int | None, allow_weak: bool | None = None
) -> Order:
    """The order with another number of devices or of re-hosts, or for weak devices or not; none loses what it has.

    Errors: NO_SUCH_ORDER
    """
    order = find_order(session, number)
    lock(session, order.customer_id)
    order.devices_most = order.devices_most if devices is None else devices
    order.rehosts_most = order.rehosts_most if rehosts is None else rehosts
    order.allow_weak = order.allow_weak if allow_weak is None else allow_weak
    return order


def end_order(session: Session, number: int, now: float) -> Order:
    """The order is over: nothing more is issued for it. If it was before, that stays as it is.

    Errors: NO_SUCH_ORDER
    """
    order = find_order(session, number)
    lock(session, order.customer_id)
    order.ended = order.ended or timestamp(now)
    return order


def reopen_order(session: Session, number: int) -> tuple[Order, str | None]:
    """The order is not over, and since when it was: a mistake is mended. Errors: NO_SUCH_ORDER"""
    order = find_order(session, number)
    lock(session, order.customer_id)
    ended, order.ended = order.ended, None
    return order, ended


def suspend_order(session: Session, number: int, reason: str | None, now: float) -> Order:
    """Nothing is issued for the order until it is resumed. If it is suspended already, only the reason is another.

    Errors: NO_SUCH_ORDER, NotIssued
    """
    order = find_order(session, number)
    lock(session, order.customer_id)
    check_not_ended(order)
    order.suspended = order.suspended or timestamp(now)
    order.suspended_reason = reason
    return order


def resume_order(session: Session, number: int) -> tuple[Order, str | None]:
    """The order is not suspended, and since when it was. Errors: NO_SUCH_ORDER"""
    order = find_order(session, number)
    lock(session, order.customer_id)
    suspended, order.suspended, order.suspended_reason = order.suspended, None, None
    return order, suspended


def has_ended(license: License, now: float) -> bool:
    """It counts on no device any more, its grace included."""
    return license.expires is not None and now >= end_of(license.expires) + license.grace_days * DAY_S


LIVE, EXPIRED, SUSPENDED, ENDED = "live", "expired", "suspended", "ended"


def state_of(order: Order, now: float) -> str:
    """Whether the order's licenses still go into files: not if all have expired, or if a person says so."""
    if order.ended is not None:
        return ENDED
    if order.suspended is not None:
        return SUSPENDED
    return EXPIRED if all(has_ended(each, now) for each in order.licenses) else LIVE


def rehosts_of(session: Session, order: Order) -> int:
    """So many times the order's licenses were moved."""
    moved = IssuedOrder.order_id == order.id, IssuedOrder.rehosted
    return session.scalar(select(func.count()).select_from(IssuedOrder).where(*moved)) or 0


# --- what is in the store, for people and programs -----------------------------------------------------------------


def list_orders(session: Session, customer: str | None, now: float) -> list[dict[str, Any]]:
    query = select(Order).order_by(Order.id)
    if customer is not None:
        query = query.where(Order.customer_id == customer)
    return [_order_row(session, order, now) for order in session.scalars(query)]


def show_order(session: Session, number: int, now: float) -> dict[str, Any]:
    """Errors: NO_SUCH_ORDER"""
    order = find_order(session, number)
    row = _order_row(session, order, now)
    row |= {name: getattr(order, name) for name in sign.ORDER_MEMBERS}
    row["licenses"] = [terms_of(each) for each in order.licenses]
    row["devices"] = [_device_row(device) for device in order.devices]
    current = [each.id for each in order.install_requests if is_current(each)]
    return row | {"install_request": current[0] if current else None}


def _order_row(session: Session, order: Order, now: float) -> dict[str, Any]:
    return {
        "order": order.id,
        "customer": order.customer_id,
        "created": order.created,
        "state": state_of(order, now),
        "ended": order.ended,
        "suspended": order.suspended,
        "suspended_reason": order.suspended_reason,
        "licenses": [each.name for each in order.licenses],
        "devices": [device.id for device in order.devices],
        "devices_most": order.devices_most,
        "rehosts": rehosts_of(session, order),
        "rehosts_most": order.rehosts_most,
        "allow_weak": order.allow_weak,
    }


def _device_row(device: Device) -> dict[str, Any]:
    last = device.issues[-1]
    return {
        "device": device.id,
        "key": device.key,
        "seq": last.seq,
        "issued": last.issued,
        "license_file": last.id,
        "orders": [order.id for order in device.orders],
        "factors": sorted(device.fingerprint),
    }


def history(
    session: Session, *, customer: str | None = None, device: int | None = None, order: int | None = None
) -> list[dict[str, Any]]:
    """Every document that was issued, the oldest first.

    Shape:  {"issued", "kind", "id", "customer", "orders": [int], "device": int | None, "seq": int | None,
            "request": str | None, "rehost": str | None, "rehosted": [int],
            "replaced": int | None, "weak": bool, "note": str | None}
    """
    rows = [] if device is not None else [_asked_row(each) for each in session.scalars(select(InstallRequest))]
    rows += [_issue_row(each) for each in session.scalars(select(Issue))]
    return sorted(_chosen(rows, customer, device, order), key=lambda row: (row["issued"], row["seq"] or 0))


def _chosen(
    rows: Iterable[dict[str, Any]], customer: str | None, device: int | None, order: int | None
) -> Iterable[dict[str, Any]]:
    # In memory: a vendor's whole history is some thousand rows, and this is for people.
    for row in rows:
        of_order = order is None or order in row["orders"]
        if of_order and customer in (None, row["customer"]) and device in (None, row["device"]):
            yield row


def _asked_row(each: InstallRequest) -> dict[str, Any]:
    return {
        "issued": each.issued,
        "kind": "install-request",
        "id": each.id,
        "customer": each.order.customer_id,
        "orders": [each.order_id],
        "device": None,
        "seq": None,
        "request": None,
        "rehost": None,
        "rehosted": [],
        "replaced": None,
        "weak": False,
        "note": _asked_note(each),
    }


def _asked_note(each: InstallRequest) -> str | None:
    if each.code_id is not None:
        return f"for the code {each.code_id}"
    return f"superseded by {each.superseded_by}" if each.superseded_by else None


def _issue_row(each: Issue) -> dict[str, Any]:
    device = each.device
    newer = device.issues[-1] is not each
    moved = f"device {device.id} was replaced by device {device.moved_to}" if device.moved_to else None
    return {
        "issued": each.issued,
        "kind": "license-file",
        "id": each.id,
        "customer": device.customer_id,
        "orders": [part.order_id for part in each.orders],
        "device": device.id,
        "seq": each.seq,
        "request": each.request_id,
        "rehost": each.rehost,
        "rehosted": [part.order_id for part in each.orders if part.rehosted],
        "replaced": each.replaced,
        "weak": each.weak,
        "note": f"seq {device.issues[-1].seq} took its place" if newer else moved,
    }
