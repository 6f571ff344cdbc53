"""The vendor's signed answers to a renewal request besides a new license file: unchanged, and the refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from licd.license import trust
from licd.license.dates import DAY_S, day, timestamp
from licd.license.document import REFUSAL, UNCHANGED, parse_one
from licd.license.renewal import MAX_REASON, RenewalRequest, verify_answer
from licd.rpc.errors import Refused
from licd_vendor.keys import Failure, SigningKey
from licd_vendor.orders import ENDED, EXPIRED, state_of
from licd_vendor.tables import Device, Order


def unchanged(profile: trust.VendorProfile, key: SigningKey, request: RenewalRequest, now: float) -> bytes:
    """Errors: Failure, if a device would not take it"""
    return _signed(profile, key, request, now, {"type": UNCHANGED})


def refusal(
    profile: trust.VendorProfile, key: SigningKey, request: RenewalRequest, now: float, reason: str
) -> tuple[bytes, str]:
    """The refusal, and the last day on which the licenses count. Errors: Failure, if a device would not take it"""
    stops = day(now + DAY_S)  # not at once: a person may have erred
    return _signed(profile, key, request, now, {"type": REFUSAL, "reason": reason, "stops": stops}), stops


def _signed(
    profile: trust.VendorProfile, key: SigningKey, request: RenewalRequest, now: float, of: Mapping[str, Any]
) -> bytes:
    value = {
        "licd": 1,
        "type": of["type"],
        "vendor": profile.vendor,
        "request": request.id,
        "device": request.device,
        "file": request.file,
        "seq": request.seq,
        "issued": timestamp(now),
    }
    data = key.line({**value, **of}, first=True)
    try:
        verify_answer(parse_one(data, of["type"]), {profile.name: profile}, trusted_now=now, new=True)
    except Refused as refused:
        hint = "Check whether the signing certificate is valid; after `signer new` start the server anew."
        raise Failure(f"A device would refuse this answer. {refused.message}", hint) from None
    return data


def reason(device: Device, now: float) -> str:
    """Why there is nothing for a device without a live order, in words for who runs it."""
    if device.moved_to is not None:
        return "the licenses were moved to another device"
    told = "; ".join(_state(order, now) for order in device.orders)
    plain = "".join(letter if letter.isprintable() else "?" for letter in told)
    return plain if len(plain) <= MAX_REASON else f"{plain[: MAX_REASON - 3]}..."


def _state(order: Order, now: float) -> str:
    state = state_of(order, now)
    if state == ENDED:
        return f"order {order.id} was ended on {str(order.ended)[:10]}"
    if state == EXPIRED:
        return f"all licenses of order {order.id} have expired"
    return f"order {order.id} is suspended" + (f": {order.suspended_reason}" if order.suspended_reason else "")
