"""Orders that are changed: other terms of a license, one more, one less, another renewal. All or nothing.

A change is checked as a device would judge it, also in one file with the other orders of each device that has it: what
could not be issued afterwards is refused now. Licenses keep their ids, so a device sees the same ones with other terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cryptography import x509
from sqlalchemy.orm import Session

from licd.license import trust
from licd.license.lines import NONE, UNCOUNTED
from licd_vendor import filing, orders, sign
from licd_vendor.keys import Failure
from licd_vendor.store import lock
from licd_vendor.tables import License, Order

Terms = dict[str, Any]  # of a license, with all its members


class Changes(NamedTuple):
    """What is to become of the licenses of an order. Licenses that are there are named by id or name.

    change: which, and the members that are to be others; add: as sign.py takes them; renewal: None to leave it
    """

    renewal: Mapping[str, Any] | None
    change: Sequence[tuple[str, Mapping[str, Any]]]
    add: Sequence[Mapping[str, Any]]
    remove: Sequence[str]


class Changed(NamedTuple):
    """renewal: before and after, None if it stays; licenses: before (None: added) and after (None: removed)

    asked: a device that has it asks for renewals by itself
    """

    renewal: tuple[Terms, Terms] | None
    licenses: Sequence[tuple[Terms | None, Terms | None]]
    asked: bool


def change_order(
    session: Session,
    profile: trust.VendorProfile,
    chain: tuple[x509.Certificate, ...],
    number: int,
    changes: Changes,
    *,
    now: float,
) -> Changed:
    """The order has other licenses, which a device will take.

    chain: of the certificate that will sign
    Errors: NO_SUCH_ORDER, Failure
    """
    order = orders.find_order(session, number)
    lock(session, order.customer_id)
    before = {row: orders.terms_of(row) for row in order.licenses}
    named = _find(order, [*(which for which, _ in changes.change), *changes.remove])
    after: dict[License, Terms | None] = dict(before)
    for which, members in changes.change:
        if "seats" in members and named[which].license == UNCOUNTED:
            raise Failure(f"The license {which} is uncounted, so it has no seats.", "Leave seats out.")
        after[named[which]] = before[named[which]] | dict(members)
    after |= dict.fromkeys((named[which] for which in changes.remove), None)
    added = [sign.whole_license(each) for each in changes.add]
    left = [terms for terms in after.values() if terms is not None]
    if not left and not added:
        raise Failure(f"The order {number} would have no license.", f"To end it: licd-vendor order end {number}")
    renewal = dict(changes.renewal or order.renewal)
    described = {name: getattr(order, name) for name in sign.ORDER_MEMBERS} | {"renewal": renewal}
    sign.check(described | {"licenses": [*left, *added]}, profile, chain, now)
    orders.check_new_ids(session, (each["id"] for each in added))

    asked = any((row.renewal or order.renewal)["need"] != NONE for row in before)
    changed = Changed(
        None if renewal == order.renewal else (order.renewal, renewal),
        [(before[row], terms) for row, terms in after.items() if terms != before[row]]
        + [(None, each) for each in added],
        asked,
    )
    _apply(session, order, renewal, after, added)
    _check_together(order, profile, chain, now)
    return changed


def _find(order: Order, names: Sequence[str]) -> dict[str, License]:
    """The licenses of the order that are named so, by id or, where only one has it, by name."""
    found: dict[str, License] = {}
    for which in names:
        by_id = [row for row in order.licenses if row.id == which]
        rows = by_id or [row for row in order.licenses if row.name == which]
        if not rows:
            has = ", ".join(row.name for row in order.licenses)
            raise Failure(f"The order {order.id} has no license {which!a}.", f"It has: {has}.")
        if len(rows) > 1:
            ids = ", ".join(row.id for row in rows)
            raise Failure(f"The order {order.id} has {len(rows)} licenses {which}.", f"Name one by its id: {ids}.")
        if rows[0] in found.values():
            raise Failure(f"The license {which} is named twice.", "Say all of one license in one option.")
        found[which] = rows[0]
    return found


def _apply(
    session: Session, order: Order, renewal: Terms, after: Mapping[License, Terms | None], added: Sequence[Terms]
) -> None:
    order.renewal = renewal
    n = max(row.n for row in after)
    for row, terms in after.items():
        if terms is None:
            session.delete(row)
        else:
            for member, value in terms.items():
                setattr(row, member, value)
    session.flush()
    session.add_all(License(order_id=order.id, n=n, **each) for n, each in enumerate(added, n + 1))
    session.flush()
    session.expire(order, ["licenses"])


def _check_together(
    order: Order, profile: trust.VendorProfile, chain: tuple[x509.Certificate, ...], now: float
) -> None:
    """Nothing, if the order fits the others that a device has with it: all are in one file."""
    seen = set()
    for device in order.devices:
        # A suspended one comes back.
        found = [each for each in device.orders if orders.state_of(each, now) in (orders.LIVE, orders.SUSPENDED)]
        numbers = ", ".join(str(each.id) for each in found)
        if len(found) < 2 or numbers in seen:
            continue
        seen.add(numbers)
        try:
            sign.check(filing.description(device, found), profile, chain, now)
        except Failure as failure:
            reason = f"Device {device.id} has the orders {numbers} in one file. {failure}"
            raise Failure(reason, "Nothing was changed. Look at each: licd-vendor order show.") from None
