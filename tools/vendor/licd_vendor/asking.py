"""Install requests: the documents that ask devices who they are."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from licd.license import document, install, trust
from licd.license.dates import timestamp
from licd.license.document import b64url
from licd.license.members import a_stamp
from licd.rpc.errors import Refused
from licd_vendor.keys import Failure, SigningKey
from licd_vendor.orders import check_open, find_order, is_current
from licd_vendor.store import lock
from licd_vendor.tables import Code, Customer, InstallRequest, Order


def new_install_request(
    session: Session,
    profile: trust.VendorProfile,
    key: SigningKey,
    number: int,
    *,
    weights: Mapping[str, int],
    share: int,
    now: float,
    code: Code | None = None,
) -> InstallRequest:
    """A signed install request for the devices of an order; the earlier ones of the order are superseded.

    code: it is for this code alone, and supersedes none

    Errors: NO_SUCH_ORDER, Failure
    """
    order = find_order(session, number)
    lock(session, order.customer_id)
    check_open(order)
    value = {
        "licd": 1,
        "type": document.INSTALL_REQUEST,
        "id": str(uuid4()),
        "vendor": profile.vendor,
        "issued": _after(session, order.customer, now),
        "salt": b64url(order.customer.salt).decode(),
        "weights": dict(weights),
        "share": share,
        "url": profile.url,
    }
    try:
        made = install.verify_install_request(key.line(value, first=True), {profile.name: profile}, trusted_now=now)
    except Refused as refused:
        raise Failure(f"A device would refuse this install request. {refused.message}", _KEYS) from None
    row = InstallRequest(
        id=made.id,
        issued=value["issued"],
        weights=dict(made.weights),
        share=made.share,
        document=made.text,
        code_id=None if code is None else code.id,
    )
    superseded = [] if code is not None else [each for each in order.install_requests if is_current(each)]
    order.install_requests.append(row)
    session.flush()
    for each in superseded:
        each.superseded_by = row.id
    return row


_KEYS = "Check --weights, and whether the signing certificate is valid."


def _after(session: Session, customer: Customer, now: float) -> str:
    """Later than any other install request of the customer: a device takes an older one for replayed."""
    query = select(func.max(InstallRequest.issued)).join(Order).where(Order.customer_id == customer.id)
    last = session.scalar(query)
    return timestamp(now if last is None else max(now, a_stamp(last) + 1))
