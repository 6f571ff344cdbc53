"""Whether a document counts on this device: vendor profiles, and verification under them. Changes nothing.

A document counts only under the profile of the vendor it names, and only if its chain ends in an anchor of that
profile. The chain is checked at the time at which a line says it was issued, so a perpetual license outlives its
certificate; but that time is the signer's own claim, so what is new must also pass `check_chain`.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from cryptography.x509 import Certificate, load_pem_x509_certificates

from licd.license import lines
from licd.license.dates import DAY_S, day
from licd.license.document import LICENSE_FILE, MAX_DOCUMENT_BYTES, WITHDRAWN, Document, check_kind, parse_one
from licd.license.lines import NAME, LicenseFile, Line
from licd.license.signer import UNREADABLE, Signer, check_anchor, key_print
from licd.rpc.errors import (
    DAMAGED_DOCUMENT,
    FOREIGN_NAME,
    LINES_DO_NOT_FIT,
    SIGNER_RETIRED,
    UNTRUSTED_SIGNER,
    Refused,
)

RETIRED_AFTER_S = 90 * DAY_S  # a file may lie in a drawer for a quarter after its signer's certificate ended

_PATTERN = re.compile(NAME.pattern + r"|[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9_-])?\.\*")


class ProfileError(ValueError):
    """A vendor profile that cannot be used: `path` and why. A configuration error, found at start and reload."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Withdrawn(NamedTuple):
    """The vendor's list of keys that sign nothing new; `keys` says of each key_print() if it is void."""

    seq: int
    issued: float
    keys: Mapping[str, bool]


class VendorProfile(NamedTuple):
    """What this device knows of one vendor. `names` are exact names or, ending in ".*", all that begin so.

    ca: the path of the PEM file that is trusted for TLS to this vendor, in place of the system's certificates
    """

    name: str
    vendor: str
    anchors: tuple[Certificate, ...]
    names: tuple[str, ...]
    url: str | None = None
    withdrawn: Withdrawn = Withdrawn(0, 0.0, {})
    ca: str | None = None

    def may_grant(self, name: str) -> bool:
        return any(_within(name, pattern) for pattern in self.names)


def _within(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith(".*") else name == pattern


# --- verification -------------------------------------------------------------------------------------------


def verify(
    document: Document, profiles: Mapping[str, VendorProfile], *, trusted_now: float | None, new: bool
) -> Generator[None, None, LicenseFile]:
    """The license file that this document is, once every line is verified. Yields after each signature.

    new: it is being imported; not new: it was accepted before, and only a certificate declared void stops it
    Errors: all of 3x but DOCUMENT_TOO_LARGE, WRONG_DOCUMENT
    """
    check_kind(document, LICENSE_FILE)
    first, *others = document.records
    signer = Signer(first)
    signer.check(first)
    yield
    header = lines.read_header(first)
    profile = profile_of(header.vendor, profiles)
    check_chain(signer, profile, header.issued, trusted_now, new)
    found: list[Line] = []
    for n, record in enumerate(others, 1):
        if record.header["x5t#S256"] != signer.thumbprint:
            reason = "it names another signing certificate than the first line"
            raise Refused(LINES_DO_NOT_FIT, line=record.number, reason=reason)
        signer.check(record)
        line = lines.read_line(record, header, n)
        if not profile.may_grant(line.name):
            raise Refused(FOREIGN_NAME, line=record.number, license=line.name, names=", ".join(profile.names))
        check_chain(signer, profile, line.issued, trusted_now, new)
        found.append(line)
        yield
    if len(found) < header.licenses:
        last = document.records[-1].number
        reason = f"{header.licenses} licenses belong to it, but only {len(found)} are there"
        raise Refused(DAMAGED_DOCUMENT if document.at_end else LINES_DO_NOT_FIT, line=last, reason=reason)
    lines.check_whole(first, tuple(found))
    return LicenseFile(
        file=header.file,
        profile=profile.name,
        vendor=header.vendor,
        device=header.device,
        seq=header.seq,
        request=header.request,
        issued=header.issued,
        renewal=header.renewal,
        device_grace_days=header.device_grace_days,
        lines=tuple(found),
        text=document.text,
        digest=document.digest,
        signer_expires=signer.expires,
        x=header.x,
    )


def profile_of(vendor: str, profiles: Mapping[str, VendorProfile]) -> VendorProfile:
    """The profile of the vendor that a document names. Errors: UNTRUSTED_SIGNER"""
    for profile in profiles.values():
        if profile.vendor == vendor:
            return profile
    raise Refused(UNTRUSTED_SIGNER, reason=f"there is no profile of the vendor {vendor}")


def check_chain(signer: Signer, profile: VendorProfile, at: float, now: float | None, new: bool) -> None:
    """Nothing, if the profile's anchors vouch for what this signer issued at that time.

    Errors: UNTRUSTED_SIGNER, BAD_CERTIFICATE, SIGNER_RETIRED
    """
    chain = signer.chain(profile.anchors, at)
    if new and now is not None and now > signer.expires + RETIRED_AFTER_S:
        raise Refused(SIGNER_RETIRED, reason=f"it ended on {day(signer.expires)}")
    for certificate in chain:
        void = profile.withdrawn.keys.get(key_print(certificate))
        if void or (new and void is not None):
            raise Refused(SIGNER_RETIRED, reason="the vendor declared it void" if void else "the vendor withdrew it")


def verify_withdrawn(document: Document, profile: VendorProfile) -> Withdrawn:
    """The list of withdrawn certificates that this document is. Who signed it may stand on it.

    Errors: all of 3x but DOCUMENT_TOO_LARGE, SIGNER_RETIRED; WRONG_DOCUMENT
    """
    check_kind(document, WITHDRAWN)
    first = document.records[0]
    signer = Signer(first)
    signer.check(first)
    vendor, seq, issued, keys = lines.read_withdrawn(first)
    if vendor != profile.vendor:
        raise Refused(UNTRUSTED_SIGNER, reason=f"it is of the vendor {vendor}, not {profile.vendor}")
    signer.chain(profile.anchors, issued)
    return Withdrawn(seq, issued, keys)


# --- profiles: vendor.d/NAME/ --------------------------------------------------------------------------------


def load_profiles(folder: Path) -> dict[str, VendorProfile]:
    """The profiles in vendor.d by folder name. A missing folder holds none.

    Errors: ProfileError
    """
    try:
        folders = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ProfileError(folder, f"cannot be read: {error.strerror}") from None
    profiles = {each.name: load_profile(each) for each in folders}
    for n, profile in enumerate(profiles.values()):
        for other in list(profiles.values())[:n]:
            _check_apart(folder, profile, other)
    return profiles


def _check_apart(folder: Path, one: VendorProfile, other: VendorProfile) -> None:
    if one.vendor == other.vendor:
        raise ProfileError(folder / one.name, f"the vendor {one.vendor} has the profile {other.name} already")
    for mine in one.names:
        for theirs in other.names:
            # Two patterns overlap if and only if one of them lies within the other.
            if _within(mine.removesuffix("*"), theirs) or _within(theirs.removesuffix("*"), mine):
                reason = f"claims the names {mine}, the profile {other.name} claims {theirs}"
                raise ProfileError(folder / one.name, reason)


def load_profile(folder: Path) -> VendorProfile:
    """The profile in one folder: vendor.conf, anchors/*.pem and, if there is one, withdrawn.licd.

    Errors: ProfileError
    """
    if not NAME.fullmatch(folder.name):
        raise ProfileError(folder, "the name of a profile is a-z, 0-9, '.', '_' and '-', at most 64")
    vendor, names, url, ca = _read_conf(folder / "vendor.conf")
    anchors = tuple(_read_anchors(folder / "anchors"))
    profile = VendorProfile(folder.name, vendor, anchors, names, url, ca=ca)
    return profile._replace(withdrawn=_read_withdrawn(folder / "withdrawn.licd", profile))


def _read_withdrawn(path: Path, profile: VendorProfile) -> Withdrawn:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except FileNotFoundError:
        return profile.withdrawn
    except OSError as error:
        raise ProfileError(path, f"cannot be read: {error.strerror}") from None
    try:
        return verify_withdrawn(parse_one(data, WITHDRAWN), profile)
    except Refused as refused:
        raise ProfileError(path, str(refused)) from None


def _read_conf(path: Path) -> tuple[str, tuple[str, ...], str | None, str | None]:
    conf = configparser.ConfigParser(interpolation=None, default_section="", delimiters=("=",))
    try:
        conf.read_string(path.read_text("utf-8"))
    except OSError as error:
        raise ProfileError(path, f"cannot be read: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ProfileError(path, f"is not an INI file: {' '.join(str(error).split())}") from None
    if conf.sections() != ["vendor"]:
        raise ProfileError(path, "must have one section, [vendor]")
    keys = dict(conf["vendor"])
    for key in keys:
        if key not in ("id", "names", "url", "ca"):
            raise ProfileError(path, f"the key {key} is unknown")
    if not NAME.fullmatch(keys.get("id", "")):
        raise ProfileError(path, "id must be the vendor's id: a-z, 0-9, '.', '_' and '-', at most 64")
    names = tuple(each.strip() for each in keys.get("names", "").split(","))
    for each in names:
        if not _PATTERN.fullmatch(each):
            raise ProfileError(path, f"names must list names, or beginnings of names such as kso.*, not {each!r}")
    url = keys.get("url")
    if url is not None and not (url.startswith("https://") and url.isascii() and url.isprintable()):
        raise ProfileError(path, "url must begin with https://")
    ca = keys.get("ca")
    if ca is not None and not (ca.startswith("/") and ca.isprintable()):
        raise ProfileError(path, "ca must be the absolute path of a PEM file")
    return keys["id"], names, url, ca


def _read_anchors(folder: Path) -> Iterable[Certificate]:
    paths = sorted(folder.glob("*.pem"))
    if not paths:
        raise ProfileError(folder, "holds no anchor (*.pem)")
    for path in paths:
        try:
            certificates = load_pem_x509_certificates(path.read_bytes())
            for certificate in certificates:
                check_anchor(certificate)
        except OSError as error:
            raise ProfileError(path, f"cannot be read: {error.strerror}") from None
        except UNREADABLE as error:
            raise ProfileError(path, f"is not a trust anchor: {error}") from None
        yield from certificates
