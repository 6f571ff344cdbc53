"""Verification as a device does it, for tests: under the profile of `VENDOR` unless told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from licd.license import document, trust
from licd.license.lines import LicenseFile
from licd.rpc.errors import Refused
from tests.support import pki
from tests.support.pki import NOW

VENDOR = pki.Vendor()
THREE = ({"name": "kso.scales", "seats": 3}, {"name": "kso.pay", "license": "uncounted"}, {"name": "kso.light"})
LINES = VENDOR.license_lines(lines=THREE)
FILE = b"".join(LINES)


def profile_of(vendor: pki.Vendor, **changes: Any) -> dict[str, trust.VendorProfile]:
    """The only profile, of this vendor, but for the changes."""
    options = {"anchors": (vendor.root.certificate,), "names": vendor.names, **changes}
    return {vendor.vendor: trust.VendorProfile(vendor.vendor, vendor.vendor, **options)}


PROFILES = profile_of(VENDOR)


def verify(
    data: bytes, profiles: Mapping[str, trust.VendorProfile] = PROFILES, *, now: float | None = NOW, new: bool = True
) -> LicenseFile:
    (only,) = document.parse(data)
    return document.run(trust.verify(only, profiles, trusted_now=now, new=new))


def refused(data: bytes, profiles: Mapping[str, trust.VendorProfile] = PROFILES, **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        verify(data, profiles, **options)
    assert caught.value.message  # the data fill the sentence
    assert not caught.value.message.count("{")
    return caught.value


def flipped(data: bytes, at: int) -> bytes:
    # Another letter of the same alphabet: neither damage that shows nor a broken brace.
    other = b"A" if data[at : at + 1] != b"A" else b"B"
    return data[:at] + other + data[at + 1 :]
