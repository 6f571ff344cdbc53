"""The documents of a renewal, for tests: read as a vendor and a device do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from licd.license import document, renewal, trust
from licd.rpc.errors import Refused
from tests.support import pki
from tests.support.installing import KEY, refused
from tests.support.pki import NOW
from tests.support.trusting import FILE, PROFILES

ASKED = pki.renewal_request(KEY, FILE)
LINE = ASKED[: -len(FILE)]


def not_asked(data: bytes) -> Refused:
    return refused(renewal.verify_renewal_request, data)


def answered(
    data: bytes,
    profiles: Mapping[str, trust.VendorProfile] = PROFILES,
    *,
    trusted_now: float | None = NOW,
    new: bool = True,
) -> renewal.Answer:
    (only,) = document.parse(data)
    return renewal.verify_answer(only, profiles, trusted_now=trusted_now, new=new)


def not_answered(data: bytes, *args: Any, **options: Any) -> Refused:
    return refused(answered, data, *args, **options)
