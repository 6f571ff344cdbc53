"""From a plain description of licenses to a signed license file.

    {"seq": 1, "licenses": [{"name": "kso.scales", "seats": 3, "versions": "5.*", "expires": "2027-12-31"}]}

What a description leaves out has the default below; what it misspells is refused, here and not on the device.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography import x509

from licd.device.fingerprint import FACTORS, SEVERAL
from licd.license import document, lines, trust
from licd.license.dates import timestamp
from licd.license.lines import COUNTED, UNCOUNTED, LicenseFile
from licd.rpc.errors import DOCUMENT_TOO_LARGE, FOREIGN_NAME, Refused
from licd_vendor.keys import Failure, SigningKey, blank_line
from licd_vendor.recognize import MANY

MAX_PAYLOAD = document.MAX_LINE - 1024  # a signature and its header take the rest
_CORRECT = "Correct the description."
_FILE: dict[str, Any] = {
    "id": None,  # a new one
    "device": None,
    "seq": None,  # required
    "request": None,
    "renewal": {"need": "none"},
    "device_grace_days": 7,
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
LICENSE_MEMBERS = tuple(_LICENSE)
ORDER_MEMBERS = ("renewal", "device_grace_days", "x")  # the others of a file are said when it is issued

_EXAMPLE = 'A description is JSON such as {"seq": 1, "licenses": [{"name": "kso.scales", "seats": 3}]}.'


def read_description(path: Path) -> dict[str, Any]:
    """The description in a file, its members known by name. Errors: Failure"""
    value = _read(path, {*_FILE, "licenses"}, _EXAMPLE)
    if "seq" not in value:
        raise Failure("The description has no seq.", "It counts up for each vendor and device: 1, 2, 3, ...")
    return value


def read_order(path: Path) -> dict[str, Any]:
    """The description of an order: as of a file, but for what the store knows itself. Errors: Failure"""
    return _read(path, {*ORDER_MEMBERS, "licenses"}, _EXAMPLE.replace('"seq": 1, ', ""))


def order_defaults() -> dict[str, Any]:
    return {name: _FILE[name] for name in ORDER_MEMBERS}


def whole_license(given: Mapping[str, Any]) -> dict[str, Any]:
    """The license with all its members: given, or their defaults."""
    each = _LICENSE | dict(given)
    if each["license"] != UNCOUNTED and "seats" not in given:
        each["seats"] = 1
    return each | {"id": each["id"] or str(uuid4())}


def _read(path: Path, members: set[str], hint: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"), object_pairs_hook=_once_each)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.", hint) from None
    except (ValueError, RecursionError) as error:
        raise Failure(f"{path} is not JSON: {error}.", hint) from None
    if type(value) is not dict or type(value.get("licenses")) is not list:
        raise Failure(f"{path} holds no list of licenses.", hint)
    _check_known(value, members, "the description", hint)
    for n, each in enumerate(value["licenses"], 1):
        if type(each) is not dict or "name" not in each:
            raise Failure(f"License {n} has no name.", hint)
        _check_known(each, _LICENSE, f"license {n}", hint)
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
    description: Mapping[str, Any], profile: trust.VendorProfile, key: SigningKey, now: float, hint: str = _CORRECT
) -> LicenseFile:
    """The signed license file, verified as a device will verify it.

    Errors: Failure, with the reason for which a device would refuse it
    """
    first, rest = _values(description, profile.vendor, timestamp(now))
    with _as_a_device_says(hint):
        data = key.line(first, first=True) + b"".join(key.line(each, first=False) for each in rest)
        (only,) = document.parse(data)
        return document.run(trust.verify(only, {profile.name: profile}, trusted_now=now, new=True))


def check(
    description: Mapping[str, Any], profile: trust.VendorProfile, chain: tuple[x509.Certificate, ...], now: float
) -> None:
    """Nothing, if a device would take a file with these licenses; no key is needed to know that.

    chain: of the certificate that will sign

    Errors: Failure
    """
    first, rest = _values({**description, "seq": 1}, profile.vendor, timestamp(now))
    with _as_a_device_says(_CORRECT):
        header_line, *records = [_unsigned(n, value) for n, value in enumerate((first, *rest), 1)]
        header = lines.read_header(header_line)
        found = tuple(lines.read_line(record, header, n) for n, record in enumerate(records, 1))
        for n, line in enumerate(found, 2):
            if not profile.may_grant(line.name):
                names = ", ".join(profile.names)
                raise Refused(FOREIGN_NAME, line=n, license=line.name, names=names)
        lines.check_whole(header_line, found)
        bound = first | {"device": _BOUND, "seq": document.MAX_INTEGER, "request": "r" * 64}
        length = sum(len(blank_line(value, chain, first=value is bound)) for value in (bound, *rest))
        if length > document.MAX_DOCUMENT_BYTES:
            reason = f"{length} bytes with its signatures, at most {document.MAX_DOCUMENT_BYTES}"
            raise Refused(DOCUMENT_TOO_LARGE, reason=reason)


# As long as that of any device gets without --many.
_BOUND: dict[str, Any] = {
    "key": "A" * 43,
    "salt": "A" * 22,
    "fingerprint": {factor: ["000000"] * (MANY if factor in SEVERAL else 1) for factor in FACTORS},
    "weights": dict.fromkeys(FACTORS, 1000),
    "share": 100,
}


def _unsigned(n: int, value: dict[str, Any]) -> document.Record:
    payload = document.write_json(value)
    if len(payload) > MAX_PAYLOAD:
        raise Refused(DOCUMENT_TOO_LARGE, line=n, reason=f"line {n} is longer than {MAX_PAYLOAD} bytes")
    return document.Record(n, payload, {"typ": f"licd-{value['type']}"}, "", b"")


@contextmanager
def _as_a_device_says(hint: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise Failure(f"The description cannot be written as JSON: {error}.", hint) from None
    except Refused as refused:
        which = refused.data.get("line", 0) - 1
        where = f" (license {which})" if which > 0 else ""
        raise Failure(f"A device would refuse this file{where}. {refused.message}", hint) from None


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
        each = whole_license(given)
        value = {"licd": 1, "type": document.LICENSE, "file": file, "n": n, "id": each.pop("id")}
        x = each.pop("x")
        rest.append(value | each | {"issued": issued} | ({} if x is None else {"x": x}))
    return first | ({} if of["x"] is None else {"x": of["x"]}), rest
