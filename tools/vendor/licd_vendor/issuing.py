"""License files: what is issued to whom, and what is refused.

A license request is judged in an order that never changes: who signed it, for which vendor, which install request it
answers, whether it was answered before (then it gets the same again), whether that install request is the newest, and
whether the device shows enough of itself. Only then is the device looked for, and only then does anything change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from licd.device.fingerprint import FACTORS, LEAST_STRONG, SEVERAL, strong_kinds
from licd.license import document, install, trust
from licd.license.dates import DAY_S, timestamp
from licd.license.document import b64url
from licd.rpc.errors import (
    ANOTHER_DEVICE,
    ANOTHER_VENDOR,
    REHOST_LIMIT,
    SUPERSEDED_INSTALL_REQUEST,
    UNKNOWN_INSTALL_REQUEST,
    WEAK_FINGERPRINT,
    Refused,
)
from licd_vendor import recognize, sign
from licd_vendor.keys import Failure, SigningKey
from licd_vendor.orders import LIVE, NEW_ORDER, NotIssued, check_not_ended, rehosts_of, state_of
from licd_vendor.recognize import ANY, CHANGED, MANY, MOVED, REIMAGED, Seen
from licd_vendor.store import Code, Device, InstallRequest, Issue, IssuedOrder, Order, lock


class Issued(NamedTuple):
    """A license file in the store. `again`: this request was answered before, and this is the same file

    rehosts: order, how often it was moved, how often it may; of the orders that were moved now
    without: the orders of the device that are over
    worn: percent of the device that was replaced within a year
    """

    issue: Issue
    again: bool
    licenses: int
    rehosts: Sequence[tuple[int, int, int]] = ()
    without: Sequence[int] = ()
    worn: int = 0


def issue(
    session: Session,
    profile: trust.VendorProfile,
    key: SigningKey,
    request: install.LicenseRequest,
    *,
    rehost: int | None,
    weak: bool,
    many: bool,
    now: float,
    once: bool = False,
) -> Issued:
    """The license file that answers a license request, with all licenses of the device in it.

    rehost: a person decided that the device takes the place of this one, or of ANY
    weak, many: a person decided that it may show so little, or so many disks or network cards
    once: the device gets the file that it got last for this install request, whichever license request it sends
    Errors: ANOTHER_VENDOR, UNKNOWN_INSTALL_REQUEST, SUPERSEDED_INSTALL_REQUEST, WEAK_FINGERPRINT, ANOTHER_DEVICE,
            REHOST_LIMIT, Failure
    """
    if request.vendor != profile.vendor:
        raise Refused(ANOTHER_VENDOR, vendor=request.vendor, ours=profile.vendor)
    asked = session.get(InstallRequest, request.install_request)
    if asked is None:
        raise Refused(UNKNOWN_INSTALL_REQUEST, id=request.install_request)
    lock(session, asked.order.customer_id)
    same = Issue.install_request_id == asked.id, Issue.request_id == request.id
    before = session.scalar(select(Issue).where(*same))
    if before is not None:
        if before.request != request.text:
            reason = f"the license request {request.id} was answered before, and it was another one"
            raise Refused(ANOTHER_DEVICE, order=asked.order_id, reason=reason)
        return Issued(before, True, _count(before.document))
    if asked.superseded_by is not None:
        raise Refused(SUPERSEDED_INSTALL_REQUEST, id=asked.id, by=asked.superseded_by)
    check_not_ended(asked.order)
    if asked.code is not None and asked.code.ended is not None:
        reason = f"The code {asked.code.id} was ended on {asked.code.ended[:10]}: nothing more is issued for it."
        raise NotIssued(reason, "If the customer has licenses left, make a new one: licd-vendor code new.")
    shown = {factor: list(tags) for factor, tags in request.fingerprint.items() if factor in asked.weights}
    for factor in sorted(shown.keys() & FACTORS.keys() - SEVERAL):
        if len(shown[factor]) > 1:  # written by hand: the file would be for as many devices
            reason = f"The license request shows more than one {factor}, as no device has."
            raise NotIssued(reason, "Export the license request on the device itself, and find out who made this one.")
    for factor in sorted(shown):
        if len(shown[factor]) > MANY and not many:  # each may be of another machine, on which the file is valid then
            reason = f"The license request shows {len(shown[factor])} different values of {factor}, more than {MANY}."
            raise NotIssued(reason, "Find out whether one machine has so many; if so: issue with --many.")
    kinds = strong_kinds(shown)
    is_weak = len(kinds) < LEAST_STRONG
    if is_weak and not (weak or asked.order.allow_weak):
        raise Refused(WEAK_FINGERPRINT, kinds=", ".join(kinds) or "none")
    if not shown:
        reason = "The device shows nothing that was asked for: licenses bound to that would be valid nowhere."
        raise NotIssued(reason, "Make its hardware readable, see licd(8), and export the license request again.")

    seen = Seen(request.device, shown, request.unreadable, asked.weights.keys())
    move = _decide(session, asked.order, seen, rehost, now)
    if once and move.device is not None and move.how is None and asked.order in move.device.orders:
        last = move.device.issues[-1]
        if last.install_request_id == asked.id:
            return Issued(last, True, _count(last.document))
    if asked.code is not None and rehost is None:
        _check_code(session, asked, asked.code, move.device)
    rehosts = _within_limits(session, move)
    device, replaced = _carry_out(session, asked, seen, move, now)
    seq = 1 + _highest_seq(session, request.device, device, replaced)
    live = [order for order in device.orders if state_of(order, now) == LIVE]
    if not live:
        raise NotIssued(
            f"Nothing is left of {_named(device.orders)} for this device: no license would be in the file.", NEW_ORDER
        )
    description = _description(device, live, request, asked.order.customer.salt, seq)
    hint = f"Nothing was issued. In the file would be {_named(live)}"
    hint += ": end what is over with licd-vendor order end." if len(live) > 1 else ": see its licenses."
    file = sign.license_file(description, profile, key, now, hint=hint)
    row = Issue(
        id=file.file,
        device=device,
        seq=seq,
        issued=timestamp(now),
        install_request_id=asked.id,
        request_id=request.id,
        request=request.text,
        key=request.device,
        rehost=move.how,
        replaced=move.percent,
        weak=is_weak,
        document=file.text,
        orders=[IssuedOrder(order_id=order.id, rehosted=order in move.counted) for order in live],
    )
    session.add(row)
    session.flush()
    without = [order.id for order in device.orders if order not in live]
    return Issued(row, False, len(file.lines), rehosts, without, _worn(device, now))


def _named(orders: Sequence[Order]) -> str:
    return f"order{'s' * (len(orders) > 1)} {', '.join(str(order.id) for order in orders)}"


class _Move(NamedTuple):
    """What is to happen. `device`: None for a new one; `how`: None if nothing is moved; `counted`: the orders moved

    percent: as Issue.replaced
    """

    device: Device | None
    replaced: Device | None
    how: str | None
    counted: list[Order]
    percent: int | None


WHOLE = 100  # percent: nothing of the strong hardware that a person has seen is left
YEAR_S = 365 * DAY_S


def _worn(device: Device, now: float) -> int:
    """Percent of the device that was replaced within a year, piece by piece, since it was bound anew."""
    since, worn = timestamp(now - YEAR_S), 0
    for each in reversed(device.issues):
        if each.replaced is None:
            break
        if each.issued > since:
            worn += each.replaced
    return worn


def _decide(session: Session, order: Order, seen: Seen, rehost: int | None, now: float) -> _Move:
    here = Device.customer_id == order.customer_id, Device.moved_to.is_(None)
    known = recognize.recognize(seen, session.scalars(select(Device).where(*here).order_by(Device.id)).all())
    device, how, percent = known.device, known.how, None
    if device is not None and known.match is not None:
        reason = f"device {device.id} has this key, but other hardware: {recognize.lost(known.match)}"
        if how != CHANGED:
            # Each step may keep enough of the one before, and all together nothing of the first.
            percent = recognize.replaced(known.match)
            worn = _worn(device, now) + percent
            if worn >= WHOLE:
                reason = f"of device {device.id} {worn} percent was replaced within a year, piece by piece"
                how, percent = CHANGED, None
        if how == CHANGED and rehost is None:
            raise Refused(ANOTHER_DEVICE, order=order.id, reason=reason)
        if how == CHANGED and rehost not in (ANY, device.id):
            hint = f"Name device {device.id}, or none."
            raise Failure(f"The license request comes from device {device.id}, not from device {rehost}.", hint)
    replaced = _replaced(order, device, None if device is not None and rehost == device.id else rehost)
    counted = list(device.orders) if device is not None and how in (REIMAGED, CHANGED) else []
    if replaced is not None:
        counted += [each for each in replaced.orders if each not in counted]
        how = MOVED
    counted = [each for each in counted if state_of(each, now) == LIVE]  # what is over is not moved to any use
    return _Move(device, replaced, how if how in (REIMAGED, CHANGED, MOVED) else None, counted, percent)


def _replaced(order: Order, device: Device | None, rehost: int | None) -> Device | None:
    """The device whose place this one takes, None if it has one or there is a free one."""
    if rehost not in (None, ANY):
        named = next((each for each in order.devices if each.id == rehost), None)
        if named is None:
            has = ", ".join(str(each.id) for each in order.devices) or "none so far"
            raise Failure(f"The order {order.id} has no device {rehost}.", f"Its devices: {has}.")
        return None if named is device else named
    if device is not None and device in order.devices:
        return None
    full = len(order.devices) >= order.devices_most
    if rehost is None and full:
        reason = f"it is for {order.devices_most} device(s), all are taken, and this is none of them"
        raise Refused(ANOTHER_DEVICE, order=order.id, reason=reason)
    if rehost is None or not order.devices or (device is not None and not full):
        return None
    if len(order.devices) > 1:
        has = ", ".join(str(each.id) for each in order.devices)
        raise Failure(
            f"The order {order.id} has several devices: {has}.", "Say which one is replaced: --rehost DEVICE."
        )
    return order.devices[0]


def _check_code(session: Session, asked: InstallRequest, code: Code, device: Device | None) -> None:
    """Nothing, if the code is for this device too."""
    used = select(Device).where(Device.id.in_(select(Issue.device_id).where(Issue.install_request_id == asked.id)))
    places = {_now(session, each) for each in session.scalars(used)}
    if (device is None or device.id not in places) and len(places) >= code.devices_most:
        reason = f"its code {code.id} is for {code.devices_most} device(s), and was used by as many"
        raise Refused(ANOTHER_DEVICE, order=asked.order_id, reason=reason)


def _now(session: Session, device: Device) -> int:
    """The number of the device that has its place now."""
    while device.moved_to is not None:
        device = session.get_one(Device, device.moved_to)
    return device.id


def _within_limits(session: Session, move: _Move) -> list[tuple[int, int, int]]:
    rehosts = []
    for order in move.counted:
        count = rehosts_of(session, order)
        if count >= order.rehosts_most:
            raise Refused(REHOST_LIMIT, order=order.id, count=count)
        rehosts.append((order.id, count + 1, order.rehosts_most))
    return rehosts


def _carry_out(
    session: Session, asked: InstallRequest, seen: Seen, move: _Move, now: float
) -> tuple[Device, Device | None]:
    device, replaced = move.device, move.replaced
    if device is None:
        device = Device(customer_id=asked.order.customer_id, created=timestamp(now), orders=[])
        session.add(device)
    device.key = seen.key
    device.fingerprint, device.weights, device.share = dict(seen.fingerprint), dict(asked.weights), asked.share
    session.flush()  # a new one has its number from here on
    orders = {each.id: each for each in (*device.orders, asked.order)}
    if replaced is not None:
        orders |= {each.id: each for each in replaced.orders}
        replaced.orders = []
        replaced.moved_to = device.id
    device.orders = [orders[id] for id in sorted(orders)]
    return device, replaced


def _highest_seq(session: Session, key: str, device: Device, replaced: Device | None) -> int:
    """The highest number that the device may have in force: of its own, of whom it replaces, of the key elsewhere."""
    ids = [each.id for each in (device, replaced) if each is not None]
    mine = Issue.device_id.in_(ids) | (Issue.key == key)
    return session.scalar(select(func.max(Issue.seq)).where(mine)) or 0


def _description(
    device: Device, orders: Sequence[Order], request: install.LicenseRequest, salt: bytes, seq: int
) -> dict[str, Any]:
    """The file with all licenses of these orders: a description as sign.py takes it."""
    newest = orders[-1]
    x: dict[str, Any] = {}
    licenses = []
    for order in orders:
        x |= order.x or {}
        for each in order.licenses:
            values = {name: getattr(each, name) for name in sign.LICENSE_MEMBERS}
            if values["renewal"] is None and order.renewal != newest.renewal:
                values["renewal"] = order.renewal  # that of the file is another order's
            licenses.append(values)
    return {
        "seq": seq,
        "request": request.id,
        "device": {
            "key": request.device,
            "salt": b64url(salt).decode(),
            "fingerprint": device.fingerprint,
            "weights": device.weights,
            "share": device.share,
        },
        "renewal": newest.renewal,
        "device_grace_days": max(order.device_grace_days for order in orders),
        "x": x or None,
        "licenses": licenses,
    }


def _count(file: bytes) -> int:
    return file.count(b"\n") - 1


def find_document(session: Session, id: str) -> tuple[str, bytes]:
    """A document that was issued, by its id, and its kind. Errors: Failure"""
    asked, issued = session.get(InstallRequest, id), session.get(Issue, id)
    if asked is not None:
        return document.INSTALL_REQUEST, asked.document
    if issued is not None:
        return document.LICENSE_FILE, issued.document
    raise Failure(f"No document {id} was ever issued.", "licd-vendor history shows the ids of all.")
