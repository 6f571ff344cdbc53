"""How a device comes by a license file, whichever request it answers: what it shows, which move that is, and the file.

A license request and a renewal differ in whom they may come from and for which orders. What is asked of the hardware,
what is counted, and how the file is made is the same for both, and stands here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from licd.device.fingerprint import FACTORS, LEAST_STRONG, SEVERAL, Match, Tags, strong_kinds
from licd.license import document, trust
from licd.license.dates import DAY_S, timestamp
from licd.license.document import b64url
from licd.license.members import a_stamp
from licd.license.signer import Signer
from licd.rpc.errors import REHOST_LIMIT, WEAK_FINGERPRINT, Refused
from licd_vendor import recognize, sign
from licd_vendor.keys import SigningKey
from licd_vendor.orders import LIVE, NotIssued, rehosts_of, state_of, terms_of
from licd_vendor.recognize import CHANGED, MANY, MOVED, REIMAGED
from licd_vendor.tables import Customer, Device, Issue, IssuedOrder, Order

# --- what a device shows --------------------------------------------------------------------------------------------


def check_shown(shown: Tags, known: Tags, *, many: bool) -> None:
    """Nothing, if one machine may show all this.

    known: a person has seen that it has these
    Errors: NotIssued
    """
    for factor in sorted(shown.keys() & FACTORS.keys() - SEVERAL):
        if len(shown[factor]) > 1:  # written by hand: the file would be for as many devices
            reason = f"The request shows more than one {factor}, as no device has."
            raise NotIssued(reason, "Export the request on the device itself, and find out who made this one.")
    for factor in sorted(shown):
        most = max(MANY, len(known.get(factor, ())))
        if len(shown[factor]) > most and not many:  # each may be of another machine, on which the file is valid then
            reason = f"The request shows {len(shown[factor])} different values of {factor}, more than {most}."
            raise NotIssued(reason, "Find out whether one machine has so many; if so, again with --many.")


def is_weak(shown: Tags, *, weak: bool) -> bool:
    """Whether it shows so little that one repair would make it another device. Errors: WEAK_FINGERPRINT, NotIssued"""
    kinds = strong_kinds(shown)
    found = len(kinds) < LEAST_STRONG
    if found and not weak:
        raise Refused(WEAK_FINGERPRINT, kinds=", ".join(kinds) or "none")
    if not shown:
        reason = "The device shows nothing that was asked for: licenses bound to that would be valid nowhere."
        raise NotIssued(reason, "Make its hardware readable, see licd(8), and export the request again.")
    return found


# --- which move that is ---------------------------------------------------------------------------------------------


class Move(NamedTuple):
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


def worn(device: Device, now: float) -> int:
    """Percent of the device that was replaced within a year, piece by piece, since it was bound anew."""
    since, found = timestamp(now - YEAR_S), 0
    for each in reversed(device.issues):
        if each.replaced is None:
            break
        if each.issued > since:
            found += each.replaced
    return found


class Judged(NamedTuple):
    """The hardware of a known device: how it stands now (recognize.py), percent as Issue.replaced, why it changed."""

    how: str
    percent: int | None
    reason: str


def judge(device: Device, how: str, match: Match, percent: int, now: float) -> Judged:
    """Whether the device is still the one that a person has seen.

    percent: of it is replaced with this
    """
    if how == CHANGED:
        return Judged(how, None, f"device {device.id} has this key, but other hardware: {recognize.lost(match)}")
    # Each step may keep enough of the one before, and all together nothing of the first.
    total = worn(device, now) + percent
    if total >= WHOLE:
        reason = f"of device {device.id} {total} percent was replaced within a year, piece by piece"
        return Judged(CHANGED, None, reason)
    return Judged(how, percent, "")


def counted(how: str, orders: Sequence[Order], now: float) -> tuple[str | None, list[Order]]:
    """Issue.rehost, and which of these orders count as moved: what is over is not moved to any use."""
    if how not in (REIMAGED, CHANGED, MOVED):
        return None, []
    return how, [each for each in orders if state_of(each, now) == LIVE]


def within_limits(session: Session, move: Move) -> list[tuple[int, int, int]]:
    """Order, how often it is moved with this, how often it may be. Errors: REHOST_LIMIT"""
    rehosts = []
    for order in move.counted:
        count = rehosts_of(session, order)
        if count >= order.rehosts_most:
            raise Refused(REHOST_LIMIT, order=order.id, count=count)
        rehosts.append((order.id, count + 1, order.rehosts_most))
    return rehosts


# --- the file -------------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    """What of a request goes into the file and beside it into the store. `document`: as Issue.request"""

    id: str
    install_request: str
    key: str
    document: bytes
    weak: bool


def live_orders(device: Device, now: float) -> list[Order]:
    return [order for order in device.orders if state_of(order, now) == LIVE]


def write(
    session: Session,
    profile: trust.VendorProfile,
    key: SigningKey,
    *,
    request: Request,
    device: Device,
    move: Move,
    now: float,
) -> tuple[Issue, int]:
    """A new license file for the device as it is bound now, in the store, and how many licenses are in it.

    Errors: Failure, if a device would not take it
    """
    live = live_orders(device, now)
    seq = 1 + _highest_seq(session, request.key, device, move.replaced)
    hint = f"Nothing was issued. In the file would be {named(live)}"
    hint += ": end what is over with licd-vendor order end." if len(live) > 1 else ": see its licenses."
    described = description(device, live) | {"seq": seq, "request": request.id}
    file = sign.license_file(described, profile, key, now, hint=hint)
    row = Issue(
        id=file.file,
        device=device,
        seq=seq,
        issued=timestamp(now),
        install_request_id=request.install_request,
        request_id=request.id,
        request=request.document,
        key=request.key,
        rehost=move.how,
        replaced=move.percent,
        weak=request.weak,
        document=file.text,
        orders=[IssuedOrder(order_id=order.id, rehosted=order in move.counted) for order in live],
    )
    session.add(row)
    session.flush()
    return row, len(file.lines)


def counts(file: bytes, profile: trust.VendorProfile, now: float, *, new: bool) -> bool:
    """Whether a device takes what the signer of this file signed; if it is not new, whether it counts there still."""
    first = document.parse(file.splitlines(keepends=True)[0])[0].records[0]
    issued = a_stamp(first.value["issued"])
    if new and issued > now + DAY_S:  # the vendor's clock was wrong then; devices refuse what is so far ahead
        return False
    try:
        trust.check_chain(Signer(first), profile, issued, now, new)
    except Refused:
        return False
    return True


def said(file: bytes) -> list[dict[str, Any]]:
    """What the lines of a file of this store say."""
    return [json.loads(line.partition(b"\t")[0]) for line in file.splitlines()]


def licenses_in(file: bytes) -> int:
    """How many licenses a file of this store has."""
    return file.count(b"\n") - 1


def named(orders: Sequence[Order]) -> str:
    return numbered([order.id for order in orders])


def numbered(orders: Sequence[int]) -> str:
    return f"order{'s' * (len(orders) > 1)} {', '.join(map(str, orders))}" if orders else "no order"


def bind(device: Device, key: str, shown: Tags, weights: Mapping[str, int], share: int) -> None:
    """The device is bound to this key and hardware from now on."""
    device.key = key
    device.fingerprint = {factor: list(tags) for factor, tags in shown.items()}
    device.weights, device.share = dict(weights), share


def _highest_seq(session: Session, key: str, device: Device, replaced: Device | None) -> int:
    """The highest number that the device may have in force: of its own, of whom it replaces, of the key elsewhere."""
    ids = [each.id for each in (device, replaced) if each is not None]
    mine = Issue.device_id.in_(ids) | (Issue.key == key)
    return session.scalar(select(func.max(Issue.seq)).where(mine)) or 0


def description(device: Device, orders: Sequence[Order]) -> dict[str, Any]:
    """The file with all licenses of these orders: a description as sign.py takes it, but for seq and request."""
    newest = orders[-1]
    customer: Customer = newest.customer
    x: dict[str, Any] = {}
    licenses = []
    for order in orders:
        x |= order.x or {}
        for each in order.licenses:
            values = terms_of(each)
            if values["renewal"] is None and order.renewal != newest.renewal:
                values["renewal"] = order.renewal  # that of the file is another order's
            licenses.append(values)
    return {
        "device": {
            "key": device.key,
            "salt": b64url(customer.salt).decode(),
            "fingerprint": device.fingerprint,
            "weights": device.weights,
            "share": device.share,
        },
        "renewal": newest.renewal,
        "device_grace_days": max(order.device_grace_days for order in orders),
        "x": x or None,
        "licenses": licenses,
    }
