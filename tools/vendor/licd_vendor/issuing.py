"""License files: what is issued to whom, and what is refused.

A license request is judged in an order that never changes: who signed it, for which vendor, which install request it
answers, whether it was answered before (then it gets the same again), whether that install request is the newest, and
whether the device shows enough of itself. Only then is the device looked for, and only then does anything change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from licd.license import document, install, trust
from licd.license.dates import timestamp
from licd.rpc.errors import (
    ANOTHER_DEVICE,
    ANOTHER_VENDOR,
    SUPERSEDED_INSTALL_REQUEST,
    UNKNOWN_INSTALL_REQUEST,
    Refused,
)
from licd_vendor import filing, recognize
from licd_vendor.filing import Move
from licd_vendor.keys import Failure, SigningKey
from licd_vendor.orders import NEW_ORDER, NotIssued, check_open
from licd_vendor.recognize import ANY, CHANGED, MOVED, REIMAGED, Seen
from licd_vendor.store import lock
from licd_vendor.tables import Code, Device, InstallRequest, Issue, Order


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
        return Issued(before, True, filing.licenses_in(before.document))
    if asked.superseded_by is not None:
        raise Refused(SUPERSEDED_INSTALL_REQUEST, id=asked.id, by=asked.superseded_by)
    check_open(asked.order)
    if asked.code is not None and asked.code.ended is not None:
        reason = f"The code {asked.code.id} was ended on {asked.code.ended[:10]}: nothing more is issued for it."
        raise NotIssued(reason, "If the customer has licenses left, make a new one: licd-vendor code new.")
    shown = {factor: list(tags) for factor, tags in request.fingerprint.items() if factor in asked.weights}
    filing.check_shown(shown, {}, many=many)
    is_weak = filing.is_weak(shown, weak=weak or asked.order.allow_weak)

    seen = Seen(request.device, shown, request.unreadable, asked.weights.keys())
    move = _decide(session, asked.order, seen, rehost, now)
    if once and move.device is not None and move.how is None and asked.order in move.device.orders:
        last = move.device.issues[-1]
        if last.install_request_id == asked.id and filing.counts(last.document, profile, now, new=True):
            return Issued(last, True, filing.licenses_in(last.document))
    if asked.code is not None and rehost is None:
        _check_code(session, asked, asked.code, move.device)
    rehosts = filing.within_limits(session, move)
    device = _carry_out(session, asked, seen, move, now)
    if not (live := filing.live_orders(device, now)):
        reason = f"Nothing is left of {filing.named(device.orders)} for this device: no license would be in the file."
        raise NotIssued(reason, NEW_ORDER)
    told = filing.Request(request.id, asked.id, request.device, request.text, is_weak)
    row, licenses = filing.write(session, profile, key, request=told, device=device, move=move, now=now)
    without = [order.id for order in device.orders if order not in live]
    return Issued(row, False, licenses, rehosts, without, filing.worn(device, now))


def _decide(session: Session, order: Order, seen: Seen, rehost: int | None, now: float) -> Move:
    here = Device.customer_id == order.customer_id, Device.moved_to.is_(None)
    known = recognize.recognize(seen, session.scalars(select(Device).where(*here).order_by(Device.id)).all())
    device, how, percent = known.device, known.how, None
    reason = ""
    if device is not None and known.match is not None:
        how, percent, reason = filing.judge(device, how, known.match, recognize.replaced(known.match), now)
        if how == CHANGED and rehost is None:
            raise Refused(ANOTHER_DEVICE, order=order.id, reason=reason)
        if how == CHANGED and rehost not in (ANY, device.id):
            hint = f"Name device {device.id}, or none."
            raise Failure(f"The license request comes from device {device.id}, not from device {rehost}.", hint)
    replaced = _replaced(order, device, None if device is not None and rehost == device.id else rehost)
    moved = list(device.orders) if device is not None and how in (REIMAGED, CHANGED) else []
    if replaced is not None:
        moved += [each for each in replaced.orders if each not in moved]
        how = MOVED
    return Move(device, replaced, *filing.counted(how, moved, now), percent)


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


def _carry_out(session: Session, asked: InstallRequest, seen: Seen, move: Move, now: float) -> Device:
    device, replaced = move.device, move.replaced
    if device is None:
        device = Device(customer_id=asked.order.customer_id, created=timestamp(now), orders=[])
        session.add(device)
    filing.bind(device, seen.key, seen.fingerprint, asked.weights, asked.share)
    session.flush()  # a new one has its number from here on
    orders = {each.id: each for each in (*device.orders, asked.order)}
    if replaced is not None:
        orders |= {each.id: each for each in replaced.orders}
        replaced.orders = []
        replaced.moved_to = device.id
    device.orders = [orders[id] for id in sorted(orders)]
    return device


def find_document(session: Session, id: str) -> tuple[str, bytes]:
    """A document that was issued, by its id, and its kind. Errors: Failure"""
    asked, issued = session.get(InstallRequest, id), session.get(Issue, id)
    if asked is not None:
        return document.INSTALL_REQUEST, asked.document
    if issued is not None:
        return document.LICENSE_FILE, issued.document
    raise Failure(f"No document {id} was ever issued.", "licd-vendor history shows the ids of all.")
