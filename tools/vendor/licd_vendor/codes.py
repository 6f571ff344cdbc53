"""Activation codes 16 + 6: made and shown once, then known by their hash only; and how many wrong ones are too many.

A code that is wrong, unknown, expired or ended is the same to who asks: the same work, the same answer, one more try.
Tries are counted in the store, which all processes of the server share. An address that has used its own up gets no
answer to a right code either, for otherwise it could go on trying; when all together have, only wrong ones are put off.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from licd.device.fingerprint import DEFAULT_SHARE, DEFAULT_WEIGHTS
from licd.license import code, trust
from licd.license.dates import DAY_S, timestamp
from licd.rpc.errors import TOO_MANY_TRIES, UNKNOWN_CODE, Refused
from licd_vendor import asking
from licd_vendor.keys import Failure, SigningKey
from licd_vendor.orders import check_open, find_order
from licd_vendor.store import Database, lock
from licd_vendor.tables import Code, InstallRequest, Issue, Store, Try

TEN_MINUTES_S, HOUR_S = 600, 3600
MAX_OF_AN_ADDRESS = 10  # in ten minutes: several installers behind one router mistype, too
MAX_OF_ALL = 1000  # in an hour: with 2^80 codes it keeps out no guess, but the noise of a botnet


def new_code(session: Session, number: int, *, days: int, devices: int, now: float) -> tuple[Code, str]:
    """A new code of an order, and how it is written for people. Errors: NO_SUCH_ORDER, Failure"""
    order = find_order(session, number)
    lock(session, order.customer_id)
    check_open(order)
    secret = secrets.token_bytes(code.SECRET_BYTES)
    row = Code(
        order=order,
        hash=_hash(secret),
        created=timestamp(now),
        expires=timestamp(now + days * DAY_S),
        devices_most=devices,
    )
    session.add(row)
    session.flush()
    return row, code.grouped(code.encode(secret))


def end_code(session: Session, id: int, now: float) -> Code:
    """The code is over, and nothing more is issued for it; who has a file keeps it. Errors: Failure"""
    row = session.get(Code, id)
    if row is None:
        raise Failure(f"There is no code {id}.", "licd-vendor code list ORDER shows them.")
    lock(session, row.order.customer_id)
    row.ended = row.ended or timestamp(now)
    return row


LIVE, ENDED, EXPIRED = "live", "ended", "expired"


def list_codes(session: Session, number: int, now: float) -> list[dict[str, Any]]:
    """Shape:  {"code": int, "created", "expires", "state", "ended": time | None, "devices": [int], "devices_most": int,
               "install_request": str | None}
    Errors: NO_SUCH_ORDER
    """
    return [
        {
            "code": each.id,
            "created": each.created,
            "expires": each.expires,
            "state": ENDED if each.ended else LIVE if _is_valid(each, now) else EXPIRED,
            "ended": each.ended,
            "devices": _devices(session, each),
            "devices_most": each.devices_most,
            "install_request": each.install_request.id if each.install_request else None,
        }
        for each in find_order(session, number).codes
    ]


def _devices(session: Session, row: Code) -> Sequence[int]:
    if row.install_request is None:
        return []
    used = select(Issue.device_id).where(Issue.install_request_id == row.install_request.id).distinct()
    return sorted(session.scalars(used))


# --- what the server asks -------------------------------------------------------------------------------------------


def install_request(
    database: Database, profile: trust.VendorProfile, key: SigningKey, sent: bytes, *, address: str, now: float
) -> tuple[str, bytes]:
    """The id and the bytes of the install request of a code; it is made when it is asked for first.

    sent: the code as a program sends it, or anything else
    address: who asked, as wrong codes are counted
    Errors: UNKNOWN_CODE, TOO_MANY_TRIES, Failure
    """
    with database.transaction() as session:
        session.execute(select(Store.id).with_for_update())  # one at a time, or some would see the same count
        _check_tries(session, address, now)
        id = _find(session, sent, now)
        if id is None:
            if seconds := _wait(session, now, HOUR_S, MAX_OF_ALL, None):  # a right code is not kept out by others
                raise Refused(TOO_MANY_TRIES, seconds=seconds)
            session.execute(delete(Try).where(Try.at < now - HOUR_S))
            session.add(Try(at=now, address=address))
    if id is None:
        raise Refused(UNKNOWN_CODE)
    with database.transaction() as session:
        row = session.get_one(Code, id)
        lock(session, row.order.customer_id)
        if not _is_valid(row, now):  # ended in between
            raise Refused(UNKNOWN_CODE)
        check_open(row.order)
        made = row.install_request or _make(session, profile, key, row, now)
        return made.id, made.document


def _make(session: Session, profile: trust.VendorProfile, key: SigningKey, row: Code, now: float) -> InstallRequest:
    return asking.new_install_request(
        session, profile, key, row.order_id, weights=DEFAULT_WEIGHTS, share=DEFAULT_SHARE, now=now, code=row
    )


def _find(session: Session, sent: bytes, now: float) -> int | None:
    try:
        wanted = _hash(code.decode(sent.decode("ascii")))
    except ValueError:
        wanted = _hash(b"-" + sent)  # no code has it, not even as bare bytes; it is looked for all the same
    # By the hash: how long an index takes over that says nothing of the secret.
    row = session.scalar(select(Code).where(Code.hash == wanted))
    if row is None or not hmac.compare_digest(row.hash, wanted) or not _is_valid(row, now):
        return None
    return row.id


def _is_valid(row: Code, now: float) -> bool:
    return row.ended is None and row.order.ended is None and timestamp(now) < row.expires


def _hash(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _check_tries(session: Session, address: str, now: float) -> None:
    """Nothing, if he may try once more. Errors: TOO_MANY_TRIES"""
    if seconds := _wait(session, now, TEN_MINUTES_S, MAX_OF_AN_ADDRESS, address):
        raise Refused(TOO_MANY_TRIES, seconds=seconds)


def _wait(session: Session, now: float, window_s: int, most: int, address: str | None) -> int:
    """Seconds until the window holds fewer than `most` tries; 0 if it does."""
    query = select(Try.at).where(Try.at > now - window_s)
    if address is not None:
        query = query.where(Try.address == address)
    last = session.scalar(query.order_by(Try.at.desc()).offset(most - 1).limit(1))
    return 0 if last is None else min(window_s, max(1, math.ceil(last + window_s - now)))
