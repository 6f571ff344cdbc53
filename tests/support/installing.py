"""The two documents of an installation, for tests: read as a device and a vendor do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licd.license import document, install, trust
from licd.rpc.errors import Refused
from tests.support import pki
from tests.support.pki import NOW
from tests.support.trusting import PROFILES, VENDOR

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
JWK: dict[str, Any] = document.device_key(install.public_key(KEY))
ASKED = VENDOR.install_request()
ANSWER = pki.license_request(KEY)


def asked(data: bytes, profiles: dict[str, trust.VendorProfile] = PROFILES, **options: Any) -> install.InstallRequest:
    return install.verify_install_request(data, profiles, **{"trusted_now": NOW, **options})


def refused(read: Callable[..., object], data: bytes, *args: Any, **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        read(data, *args, **options)
    assert caught.value.message  # the data fill the sentence
    return caught.value


def no_request(data: bytes, *args: Any, **options: Any) -> Refused:
    return refused(asked, data, *args, **options)


def no_answer(data: bytes) -> Refused:
    return refused(install.verify_license_request, data)


def read_or_refused(read: Callable[[bytes], object], data: bytes) -> None:
    """Nothing else comes of any bytes."""
    try:
        read(data)
    except Refused as error:
        assert error.message  # noqa: PT017  # the refusal itself is not what is asserted


def an_id(value: Any) -> str:
    return json.dumps(value, default=lambda _: "left out")[:60]


def b64url(data: bytes) -> str:
    return document.b64url(data).decode()


FACTORS = [f"factor_{n}" for n in range(32)]  # as many as a document may name
