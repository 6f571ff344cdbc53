"""The two documents before the first license file: the vendor's install request, and the device's license request.

The install request says what the vendor wants to know of a device, and under which salt. The license request is the
answer, signed by the device's own key. Who verifies that learns only that the holder of the key wrote it: nobody
vouches for a device, and the vendor decides by its install request and fingerprint whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from licd.license import binding
from licd.license.dates import timestamp
from licd.license.document import (
    INSTALL_REQUEST,
    LICENSE_REQUEST,
    Record,
    b64url,
    build_line,
    device_header,
    parse_one,
)
from licd.license.lines import a_name, an_id, read
from licd.license.members import Check, a_stamp, any_object, boolean, choice, matching, or_null, part, printable
from licd.license.signer import Signer, check_device
from licd.license.trust import VendorProfile, check_chain, profile_of
from licd.rpc.errors import BAD_SIGNATURE, Refused

PHYSICAL, VM, CONTAINER = "physical", "vm", "container"

MAX_FACT = 64  # characters of an OS id, a version, the name of a hypervisor
_fact = printable(MAX_FACT)
_URL = re.compile(r"https://[!-~]{1,1000}")


class InstallRequest(NamedTuple):
    """A verified install request. `profile` is the name of the profile it counts under; `text` is what is stored.

    Units: issued is Unix seconds; salt is base64url; share is a percentage
    """

    id: str
    vendor: str
    profile: str
    issued: float
    salt: str
    weights: Mapping[str, int]
    share: int
    url: str | None
    x: Mapping[str, Any]
    text: bytes


class LicenseRequest(NamedTuple):
    """A license request that the holder of `device`, the key it names, signed. `text` is what is stored and sent.

    install_request: the id of the one it answers; rehost: licenses in force are to be moved to this device
    Shape:  software: os, os_version, architecture, licd; machine: kind (physical | vm | container), name (or None)
    Units:  issued is Unix seconds, by the device's clock; device is base64url
    """

    id: str
    vendor: str
    install_request: str
    issued: float
    device: str
    fingerprint: Mapping[str, Sequence[str]]
    unreadable: tuple[str, ...]
    software: Mapping[str, str]
    machine: Mapping[str, str | None]
    rehost: bool
    text: bytes


_INSTALL_REQUEST: dict[str, Check] = {
    "id": an_id,
    "vendor": a_name,
    "issued": a_stamp,
    "salt": binding.a_salt,
    "weights": binding.weights,
    "share": binding.a_share,
    "url": or_null(matching(_URL, "an address that begins with https://")),
    "x": any_object,
}
_LICENSE_REQUEST: dict[str, Check] = {
    "id": an_id,
    "vendor": a_name,
    "install_request": an_id,
    "issued": a_stamp,
    "device": binding.a_key,
    "fingerprint": binding.a_fingerprint,
    "unreadable": binding.factors,
    "software": part(dict.fromkeys(("os", "os_version", "architecture", "licd"), _fact)),
    "machine": part({"kind": choice(PHYSICAL, VM, CONTAINER), "name": or_null(_fact)}),
    "rehost": boolean,
}


def verify_install_request(
    data: bytes, profiles: Mapping[str, VendorProfile], *, trusted_now: float | None
) -> InstallRequest:
    """The install request that this is, signed by one who may sign something new under the vendor's profile.

    Errors: all of 3x but FOREIGN_NAME; WRONG_DOCUMENT
    """
    document = parse_one(data, INSTALL_REQUEST)
    (first,) = document.records
    signer = Signer(first)
    signer.check(first)
    of = read(first, _INSTALL_REQUEST)
    profile = profile_of(of["vendor"], profiles)
    check_chain(signer, profile, of["issued"], trusted_now, new=True)
    return InstallRequest(**of, profile=profile.name, text=document.text)


def verify_license_request(data: bytes) -> LicenseRequest:
    """The license request that this is, signed by the key that it names. Nobody vouches for that key.

    Errors: BAD_DOCUMENT, DAMAGED_DOCUMENT, DOCUMENT_TOO_LARGE, BAD_SIGNATURE, BAD_SIGNATURE_HEADER, LINES_DO_NOT_FIT,
            WRONG_DOCUMENT
    """
    document = parse_one(data, LICENSE_REQUEST)
    of = read_from_device(document.records[0], _LICENSE_REQUEST)
    return LicenseRequest(**of, text=document.text)


def read_from_device(first: Record, checks: Mapping[str, Check]) -> dict[str, Any]:
    """The members of a line that the holder of `device`, the key it names, signed. Nobody vouches for that key.

    Errors: BAD_DOCUMENT, BAD_SIGNATURE, BAD_SIGNATURE_HEADER
    """
    key = check_device(first)
    of = read(first, checks)
    if of["device"] != key:  # signed again by somebody else
        raise Refused(BAD_SIGNATURE, line=first.number)
    return of


def sign_license_request(
    key: Ed25519PrivateKey,
    *,
    id: str,
    vendor: str,
    install_request: str,
    issued: float,
    fingerprint: Mapping[str, Sequence[str]],
    unreadable: Iterable[str],
    software: Mapping[str, str],
    machine: Mapping[str, str | None],
    rehost: bool,
) -> LicenseRequest:
    """The license request that says this, as its reader will see it.

    Errors: BAD_DOCUMENT, if no license request may say this
    """
    device = public_key(key)
    value = {
        "licd": 1,
        "type": LICENSE_REQUEST,
        "id": id,
        "vendor": vendor,
        "install_request": install_request,
        "issued": timestamp(issued),
        "device": device,
        "fingerprint": dict(fingerprint),
        "unreadable": list(unreadable),
        "software": dict(software),
        "machine": dict(machine),
        "rehost": rehost,
    }
    return verify_license_request(build_line(value, device_header(LICENSE_REQUEST, device), key.sign))


def public_key(key: Ed25519PrivateKey | Ed25519PublicKey) -> str:
    """The public half as documents have it: base64url of its 32 bytes."""
    public = key if isinstance(key, Ed25519PublicKey) else key.public_key()
    return b64url(public.public_bytes_raw()).decode()
