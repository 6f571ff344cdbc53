"""Documents for people: what they say, and whether a device with a given vendor profile would accept them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from licd.license import install, trust
from licd.license.dates import timestamp
from licd.license.document import (
    INSTALL_REQUEST,
    LICENSE_REQUEST,
    MAX_RENEWAL_BYTES,
    REFUSAL,
    RENEWAL_REQUEST,
    UNCHANGED,
    WITHDRAWN,
    Document,
    parse,
    run,
)
from licd.license.renewal import verify_answer, verify_renewal_request
from licd.rpc.errors import SIGNER_RETIRED, Refused
from licd_vendor.keys import Failure


def load_profile(folder: Path) -> trust.VendorProfile:
    """Errors: Failure"""
    try:
        return trust.load_profile(folder.resolve())
    except trust.ProfileError as error:
        raise Failure(f"{error}.", "Name a vendor profile, such as the folder profile that `init` made.") from None


def read_document(path: Path) -> bytes:
    """Errors: Failure"""
    try:
        with path.open("rb") as file:
            return file.read(MAX_RENEWAL_BYTES + 1)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.", "Name a document of licd.") from None


def describe(data: bytes, profile: trust.VendorProfile | None) -> list[dict[str, Any]]:
    """What each document of a delivery says.

    Shape:  {"kind", "verified": bool, "signer_expires": time | None, "note": str | None, "lines": [payload, ...]}
    Errors: Refused
    """
    found = []
    documents = parse(data, MAX_RENEWAL_BYTES)
    if documents[0].kind != RENEWAL_REQUEST:  # of all, it may be the longest
        documents = parse(data)
    for n, document in enumerate(documents):
        row: dict[str, Any] = {"kind": document.kind, "verified": profile is not None}
        row |= {"signer_expires": None, "note": None}
        if profile is not None:
            row |= _verify(document, documents[n + 1 : n + 2], profile)
        found.append(row | {"lines": [record.value for record in document.records]})
    return found


def _verify(document: Document, behind: list[Document], profile: trust.VendorProfile) -> dict[str, Any]:
    profiles, now = {profile.name: profile}, time.time()
    if document.kind == WITHDRAWN:
        trust.verify_withdrawn(document, profile)
        return {}
    if document.kind == INSTALL_REQUEST:
        install.verify_install_request(document.text, profiles, trusted_now=now)
        return {}
    if document.kind == LICENSE_REQUEST:
        install.verify_license_request(document.text)
        return {"note": _DEVICES_KEY}
    if document.kind == RENEWAL_REQUEST:
        verify_renewal_request(b"".join(each.text for each in (document, *behind)))
        return {"note": _DEVICES_KEY}
    if document.kind in (UNCHANGED, REFUSAL):
        _, note = _old_or_new(lambda new: verify_answer(document, profiles, trusted_now=now, new=new))
        return {"note": note}
    file, note = _old_or_new(lambda new: run(trust.verify(document, profiles, trusted_now=now, new=new)))
    return {"signer_expires": timestamp(file.signer_expires), "note": note}


_DEVICES_KEY = "signed by the key that it names; no profile says whose that is"
_T = TypeVar("_T")


def _old_or_new(verify: Callable[[bool], _T]) -> tuple[_T, str | None]:
    """What was verified, as new or else as taken in before, and a note on that."""
    try:
        return verify(True), None
    except Refused as refused:
        if refused.error is not SIGNER_RETIRED:
            raise
        note = f"in force where it was imported in time; no device imports it anew. {refused.message}"
        return verify(False), note


def as_text(documents: list[dict[str, Any]]) -> Iterator[str]:
    """The lines for a terminal."""
    for n, each in enumerate(documents):
        if n:
            yield ""
        first, *rest = each["lines"]
        seq = f", seq {plain(first['seq'])}" if "seq" in first else ""
        of = "for" if each["kind"] in (LICENSE_REQUEST, RENEWAL_REQUEST) else "of"
        yield f"{each['kind']} {of} the vendor {plain(first.get('vendor'))}{seq}, issued {plain(first.get('issued'))}"
        yield "verified: every line" if each["verified"] else "NOT VERIFIED: name a vendor profile with --profile"
        if each["signer_expires"]:
            yield f"signing certificate: until {each['signer_expires'][:10]}"
        if each["note"]:
            yield f"note: {each['note']}"
        if each["kind"] in _SAYS:
            yield _SAYS[each["kind"]].format_map(_ANY | {name: plain(value) for name, value in first.items()})
        for name, value in first.items():
            if name == "device" and value is None:
                yield "device: any"
            elif name == "renewal":
                yield f"renewal: {renewal(value)}"
            elif name in _TOLD:
                yield from _TOLD[name](value)
            elif name not in ("licd", "type", "vendor", "seq", "issued", "lines") and value is not None:
                yield f"{name}: {plain(value)}"
        for line in rest:
            yield from license_lines(line)


# What a document is for, where its members alone do not say it.
_SAYS = {
    RENEWAL_REQUEST: "It asks for the renewal of the license file {file}, which follows.",
    UNCHANGED: "The license file {file} stays in force as it is, and its next renewal counts from here.",
    REFUSAL: "The vendor does not renew the license file {file}: its licenses count until {stops}, and no longer.",
}

_ANY = {"file": "?", "stops": "?"}  # an unverified document may lack them


def _withdrawn_keys(value: Any) -> Iterator[str]:
    """Of unverified lists, too."""
    for entry in value if type(value) is list else [value]:
        if type(entry) is dict and {"key#S256", "void"} == entry.keys():
            how = "void: what it signed stops" if entry["void"] else "signs nothing new"
            yield f"key {plain(entry['key#S256'])}: {how}"
        else:
            yield f"key: {plain(entry)}"


def _usage(value: Any) -> Iterator[str]:
    peaks = value.get("peaks") if type(value) is dict else None
    if type(peaks) is not dict or not peaks:
        yield f"usage: {'none' if peaks == {} else plain(value)}"
        return
    yield f"usage: the most seats at once, each day from {plain(value.get('from'))}"
    for name, days in peaks.items():
        yield f"      {plain(name)}: {' '.join(map(plain, days)) if type(days) is list else plain(days)}"


_TOLD: dict[str, Callable[[Any], Iterator[str]]] = {"keys": _withdrawn_keys, "usage": _usage}


def license_lines(line: dict[str, Any]) -> Iterator[str]:
    """A license for a terminal."""
    seats = "uncounted" if line.get("license") == "uncounted" else f"{plain(line.get('seats'))} seats"
    versions = "any version" if line.get("versions") is None else f"versions {plain(line.get('versions'))}"
    term = "perpetual" if line.get("expires") is None else f"until {plain(line['expires'])}"
    if line.get("not_before") is not None:
        term = f"from {plain(line['not_before'])}, {term}"
    yield f"{line.get('n')!s:>4}  {plain(line.get('name'))}: {seats}, {versions}, {term}"
    if line.get("renewal") is not None:
        yield f"      renewal: {renewal(line['renewal'])}"
    for name in ("title", "grace_days", "replaces", "x"):
        if line.get(name):
            yield f"      {name}: {plain(line[name])}"


def renewal(value: Any) -> str:
    if type(value) is dict and {"need", "every_days", "grace_days"} == value.keys():
        return f"{plain(value['need'])}, every {value['every_days']} days, {value['grace_days']} days of grace"
    return plain(value["need"]) if type(value) is dict and "need" in value else plain(value)


def counted(number: int, word: str) -> str:
    """As in "1 license", "2 licenses"."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def plain(value: Any) -> str:
    """The value as a terminal may have it: what is not printable, and an unverified document may hold that, as "?"."""
    text = value if type(value) is str else json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else "?" for letter in text)
