"""Licenses and renewals as the command line has them: kso.scales,seats=3,expires=2027-12-31. Pure.

What the values mean is checked elsewhere, as a device will (sign.check).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from licd.license.lines import NEEDS, NONE, UNCOUNTED
from licd_vendor.keys import Failure

# The members of a license that can be given so, and how they are read.
_MEMBERS = {
    "seats": int,
    "expires": str,
    "not_before": str,
    "versions": str,
    "title": str,
    "grace_days": int,
    "replaces": str,
    "id": str,
    "renewal": str,
    "every": int,
    "grace": int,
}
_NONE = frozenset({"expires", "not_before", "versions", "replaces"})  # may be "none"
_NUMBER = re.compile(r"-?[0-9]{1,20}")
_OPTION = re.compile(rf"({'|'.join(_MEMBERS)})=(.*)")

EVERY_DAYS, GRACE_DAYS = 30, 14  # of a renewal that does not say: once a month, and two weeks to get the network back


def license(text: str) -> dict[str, Any]:
    """The license that NAME[,MEMBER=VALUE]...[,uncounted] describes. A comma may stand in a value (">=4,<6").

    Errors: Failure
    """
    name, found = _read(text)
    return {"name": name} | found


def change(text: str) -> tuple[str, dict[str, Any]]:
    """Which license, by its name or id, and the members that are to be others.

    Errors: Failure
    """
    which, found = _read(text)
    if not found:
        raise Failure(f"Nothing is said of the license {which!a}.", _CHANGE_HINT)
    for member, why in (("id", "keeps its id"), ("license", "stays what it is, counted or uncounted")):
        if member in found:
            raise Failure(f"The license {which} {why}.", "Give --remove-license and --add-license instead.")
    return which, found


def renewal(text: str) -> dict[str, Any]:
    """The renewal that none, optional or required[,every=DAYS][,grace=DAYS] describes. Errors: Failure"""
    need, *pieces = text.split(",")
    given: dict[str, Any] = {"renewal": need}
    for piece in pieces:
        option = _OPTION.fullmatch(piece)
        if option is None or option[1] not in ("every", "grace") or option[1] in given:
            raise Failure(f"The renewal has a part {piece!a}, which is unknown or stands twice.", _RENEWAL_HINT)
        given[option[1]] = _value(option[1], option[2], "The renewal", _RENEWAL_HINT)
    return _renewal(given, "The renewal")


_LICENSE_HINT = "Write it as kso.scales,seats=3,expires=2027-12-31 or kso.pay,uncounted; see licd-vendor(1)."
_CHANGE_HINT = "Write it as kso.scales,seats=5,expires=2028-12-31 or kso.pay,versions=none; see licd-vendor(1)."
_RENEWAL_HINT = "Write it as none, or required,every=30,grace=14 (days), or optional,every=30,grace=14."


def _read(text: str) -> tuple[str, dict[str, Any]]:
    name, *pieces = text.split(",")
    given: dict[str, str] = {}
    last = None
    found: dict[str, Any] = {}
    for piece in pieces:
        option = _OPTION.fullmatch(piece)
        if piece == UNCOUNTED:
            found["license"] = piece
        elif option is not None and option[1] in given:
            raise Failure(f"The license {name!a} has two values for {option[1]}.", _LICENSE_HINT)
        elif option is not None:
            last = option[1]
            given[last] = option[2]
        elif last is not None and "=" not in piece.lstrip("<>=!"):
            given[last] += f",{piece}"
        else:
            raise Failure(f"The license {name!a} has a member {piece!a}, which is unknown.", _LICENSE_HINT)
    found |= {member: _value(member, value, f"The license {name!a}", _LICENSE_HINT) for member, value in given.items()}
    if "renewal" in found or "every" in found or "grace" in found:
        found["renewal"] = _own_renewal(found, f"The license {name!a}")
    return name, {member: value for member, value in found.items() if member not in ("every", "grace")}


def _value(member: str, value: str, where: str, hint: str) -> Any:
    if _MEMBERS[member] is int and not _NUMBER.fullmatch(value):  # int() takes 1_0 for ten
        raise Failure(f"{where} has {value!a} for {member}, not a number.", hint)
    return None if member in _NONE and value == "none" else _MEMBERS[member](value)


def _own_renewal(given: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """That of a license; None for that of its order."""
    if given.get("renewal") == "order" and "every" not in given and "grace" not in given:
        return None
    return _renewal(given, where)


def _renewal(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    need = given.get("renewal")
    if need not in NEEDS:
        raise Failure(f"{where} has {need!a} for renewal.", _RENEWAL_HINT)
    if need == NONE:
        if "every" in given or "grace" in given:
            raise Failure(f"{where} has days for a renewal that never comes.", _RENEWAL_HINT)
        return {"need": need}
    return {
        "need": need,
        "every_days": given.get("every", EVERY_DAYS),
        "grace_days": given.get("grace", GRACE_DAYS),
    }
