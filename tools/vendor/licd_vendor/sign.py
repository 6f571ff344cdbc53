"""From a plain description of licenses to a signed license file.

    {"seq": 1, "licenses": [{"name": "kso.scales", "seats": 3, "versions": "5.*", "expires": "2027-12-31"}]}

What a description leaves out has the default below; what it misspells is refused, here and not on the device.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from licd.license import document, trust
from licd.license.dates import timestamp
from licd.license.lines import COUNTED, UNCOUNTED, LicenseFile
from licd.rpc.errors import Refused
from licd_vendor.keys import Failure, PrivateKey, algorithm_of, sign_bytes

_FILE: dict[str, Any] = {
    "id": None,  # a new one
    "device": None,
    "seq": None,  # required
    "request": None,
    "renewal": {"need": "none"},
    "device_grace_days": 14,
    "x": None,
}
_LICENSE: dict[str, Any] = {
    "id": None,  # a new one
    "name": None,  # required
    "title": "",
    "license": COUNTED,
    "seats": None,
    "not_before": None,
    "expires": None,
    "versions": None,
    "grace_days": 0,
    "renewal": None,
    "replaces": None,
    "x": None,
}


def read_description(path: Path) -> dict[str, Any]:
    """The description in a file, its members known by name. Errors: Failure"""
    hint = 'A description is JSON such as {"seq": 1, "licenses": [{"name": "kso.scales", "seats": 3}]}.'
    try:
        value = json.loads(path.read_text("utf-8"), object_pairs_hook=_once_each)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.", hint) from None
    except (ValueError, RecursionError) as error:
        raise Failure(f"{path} is not JSON: {error}.", hint) from None
    if type(value) is not dict or type(value.get("licenses")) is not list:
        raise Failure(f"{path} holds no list of licenses.", hint)
    _check_known(value, {*_FILE, "licenses"}, "the description", hint)
    for n, each in enumerate(value["licenses"], 1):
        if type(each) is not dict or "name" not in each:
            raise Failure(f"License {n} has no name.", hint)
        _check_known(each, _LICENSE, f"license {n}", hint)
    if "seq" not in value:
        raise Failure("The description has no seq.", "It counts up for each vendor and device: 1, 2, 3, ...")
    return value


def _once_each(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        raise ValueError("a member stands twice")
    return value


def _check_known(value: Mapping[str, Any], known: Any, where: str, hint: str) -> None:
    for name in value:
        if name not in known:
            raise Failure(f"{where[0].upper()}{where[1:]} has a member {name!a}, which is unknown.", hint)


def license_file(
    description: Mapping[str, Any],
    profile: trust.VendorProfile,
    key: PrivateKey,
    chain: list[x509.Certificate],
    now: float,
) -> LicenseFile:
    """The signed license file, verified as a device will verify it.

    Errors: Failure, with the reason for which a device would refuse it
    """
    algorithm = algorithm_of(key)
    thumbprint = chain[0].fingerprint(SHA256())
    x5c = [document.b64(each.public_bytes(Encoding.DER)) for each in chain]
    first, rest = _values(description, profile.vendor, timestamp(now))

    def line(value: dict[str, Any], kind: str, certificates: list[str] | None) -> bytes:
        header = document.vendor_header(kind, algorithm, thumbprint, certificates)
        return document.build_line(value, header, lambda data: sign_bytes(key, algorithm, data))

    try:
        data = line(first, document.LICENSE_FILE, x5c) + b"".join(line(each, document.LICENSE, None) for each in rest)
    except ValueError as error:
        raise Failure(f"The description cannot be written as JSON: {error}.", "Correct it.") from None
    try:
        (only,) = document.parse(data)
        verified = trust.verify(only, {profile.name: profile}, trusted_now=now, new=True)
        return document.run(verified)
    except Refused as refused:
        which = refused.data.get("line", 0) - 1
        where = f" (license {which} of the description)" if which > 0 else ""
        raise Failure(
            f"A device would refuse this file{where}. {refused.message}", "Correct the description."
        ) from None


def _values(description: Mapping[str, Any], vendor: str, issued: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    of = _FILE | dict(description)
    file = of["id"] or str(uuid4())
    first = {
        "licd": 1,
        "type": document.LICENSE_FILE,
        "id": file,
        "vendor": vendor,
        "device": of["device"],
        "seq": of["seq"],
        "request": of["request"],
        "issued": issued,
        "lines": len(of["licenses"]),
        "renewal": of["renewal"],
        "device_grace_days": of["device_grace_days"],
    }
    rest = []
    for n, given in enumerate(of["licenses"], 1):
        each = _LICENSE | given
        if each["license"] != UNCOUNTED and "seats" not in given:
            each["seats"] = 1
        value = {"licd": 1, "type": document.LICENSE, "file": file, "n": n, "id": each.pop("id") or str(uuid4())}
        x = each.pop("x")
        rest.append(value | each | {"issued": issued} | ({} if x is None else {"x": x}))
    return first | ({} if of["x"] is None else {"x": of["x"]}), rest
