"""What ties a license file to one device: its key, its fingerprint, and how much of that must be kept. Pure.

The checks of these members are shared by all documents that have them: install request, license request, license file.
A factor that this licd does not know is allowed wherever the vendor names factors: a newer vendor asks for more, and
what cannot be read counts as lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from licd.license.members import Check, any_object, integer, octets, part

MAX_FACTORS = 32  # four times those that licd knows
MAX_TAGS = 64  # of one factor: the disks or network cards of one device, no small shop's whole stock
MAX_WEIGHT = 1000

FACTOR = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TAG = re.compile(r"[0-9a-f]{6}")


class Binding(NamedTuple):
    """The device that a license file is for. `key` and `salt` are base64url, as the document has them.

    share: the percentage of the bound weight that must be kept
    """

    key: str
    salt: str
    fingerprint: Mapping[str, Sequence[str]]
    weights: Mapping[str, int]
    share: int


def _factor(value: Any) -> str:
    if type(value) is str and FACTOR.fullmatch(value):
        return value
    raise ValueError(f"names an impossible factor, {str(value)[:32]!a}")


def _by_factor(check_each: Check) -> Check:
    def check(value: Any) -> dict[str, Any]:
        if len(any_object(value)) > MAX_FACTORS:
            raise ValueError(f"must hold at most {MAX_FACTORS} factors")
        for factor, each in value.items():
            _factor(factor)
            check_each(each)
        return dict(value)

    return check


def _tags(value: Any) -> None:
    # Not empty: a factor without tags was not found, and must not be taken for a strong one.
    if type(value) is not list or not 1 <= len(value) <= MAX_TAGS:
        raise ValueError(f"must hold lists of 1 to {MAX_TAGS} tags")
    if not all(type(tag) is str and _TAG.fullmatch(tag) for tag in value):
        raise ValueError("must hold tags of six hexadecimal digits")


a_key = octets(32)
a_salt = octets(16)
a_share = integer(1, 100)
a_fingerprint = _by_factor(_tags)
_weights = _by_factor(integer(1, MAX_WEIGHT))


def weights(value: Any) -> dict[str, int]:
    found: dict[str, int] = _weights(value)
    if not found:
        raise ValueError("must name at least one factor")
    return found


def factors(value: Any) -> tuple[str, ...]:
    if type(value) is not list or len(value) > MAX_FACTORS:
        raise ValueError(f"must be an array of at most {MAX_FACTORS} factors")
    found = tuple(_factor(each) for each in value)
    if len(set(found)) < len(found):
        raise ValueError("names a factor twice")
    return found


_binding = part(
    {"key": a_key, "salt": a_salt, "fingerprint": a_fingerprint, "weights": weights, "share": a_share},
)


def binding(value: Any) -> Binding:
    found = Binding(**_binding(value))
    if not found.fingerprint.keys() <= found.weights.keys():
        raise ValueError("is wrong: the fingerprint holds a factor that has no weight")
    return found
