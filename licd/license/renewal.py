"""The documents of a renewal: the device's renewal request, and the vendor's answers besides a new license file.

A renewal request is a line that the device signs, with the whole license file in force behind it, verbatim: the line
holds that file's digest. The vendor knows its own file again by the digest, so its signatures are not checked here.

An answer names the request, the device and the file it is about; that the request is one of this device's, about the
file in force, the daemon checks.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licd.license import binding
from licd.license.dates import FOREVER, day, end_of, later, timestamp
from licd.license.document import (
    KINDS,
    LICENSE_FILE,
    MAX_HEADER_LINE,
    MAX_INTEGER,
    MAX_RENEWAL_BYTES,
    REFUSAL,
    RENEWAL_REQUEST,
    UNCHANGED,
    Document,
    build_line,
    check_kind,
    device_header,
    parse,
    parse_one,
)
from licd.license.install import public_key, read_from_device
from licd.license.lines import LicenseFile, a_name, an_id, read
from licd.license.members import Check, a_date, a_stamp, any_object, integer, matching, or_null, part, printable
from licd.license.signer import Signer
from licd.license.trust import VendorProfile, check_chain, profile_of
from licd.rpc.errors import BAD_DOCUMENT, DAMAGED_DOCUMENT, LINES_DO_NOT_FIT, WRONG_DOCUMENT, Refused

MAX_DAYS = 100  # of usage: three renewals of 30 days that failed
MAX_NAMES = 256  # licenses whose usage is told; the daemon keeps account of no more
MAX_REASON = 200  # characters of a refusal: a sentence on a terminal
NONCE_BYTES = 8  # of a renewal request's id; the other half is a signature

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(rf"[0-9a-f]{{{2 * NONCE_BYTES}}}")


class Usage(NamedTuple):
    """The most seats held at once, of each license on each day from `since` on (UTC). since: None where peaks is {}"""

    since: str | None
    peaks: Mapping[str, Sequence[int]]


NO_USAGE = Usage(None, {})


class RenewalRequest(NamedTuple):
    """A renewal request that the holder of `device`, the key it names, signed.

    file, seq, digest: of the license file in force, which is `license_file`; text: the whole, as stored and sent
    fingerprint: of the device now, under the salt of that file; {} if that is bound to no device
    Units:  issued is Unix seconds, by the device's clock; device is base64url; digest is hexadecimal
    """

    id: str
    vendor: str
    issued: float
    device: str
    fingerprint: Mapping[str, Sequence[str]]
    unreadable: tuple[str, ...]
    file: str
    seq: int
    digest: str
    usage: Usage
    text: bytes
    license_file: bytes


class Answer(NamedTuple):
    """A vendor's verified answer to a renewal request that brings no new file. kind: unchanged | refusal

    profile: the name of the profile it counts under
    request: the id of the renewal request; device, file, seq: of the device and of the file that request was about
    reason, stops: of a refusal, why, and the last day on which the file's licenses count
    Units:  issued and stops_at (the end of the day `stops`; of an unchanged answer, never) are Unix seconds
    """

    kind: str
    vendor: str
    profile: str
    request: str
    device: str
    file: str
    seq: int
    issued: float
    reason: str | None
    stops: str | None
    stops_at: float
    x: Mapping[str, Any]
    text: bytes
    digest: str


# --- what is allowed ----------------------------------------------------------------------------------------

_count = integer(0, MAX_INTEGER)
_a_seq = integer(1, MAX_INTEGER)


def _peaks(value: Any) -> dict[str, list[int]]:
    if len(any_object(value)) > MAX_NAMES:
        raise ValueError(f"must hold at most {MAX_NAMES} licenses")
    for name, days in value.items():
        if type(days) is not list or not 1 <= len(days) <= MAX_DAYS:
            raise ValueError(f"must hold arrays of 1 to {MAX_DAYS} days")
        try:
            a_name(name)
            for each in days:
                _count(each)
        except ValueError as error:
            raise ValueError(f"holds an entry that {error}") from None
    if len({len(days) for days in value.values()}) > 1:
        raise ValueError("must hold arrays of one length")
    return dict(value)


_read_usage = part({"from": or_null(a_date), "peaks": _peaks})


def _usage(value: Any) -> Usage:
    of = _read_usage(value)
    if of["from"] is None and of["peaks"]:
        raise ValueError("is wrong: there are peaks, but the member from is null")
    return Usage(of["from"], of["peaks"])


_RENEWAL_REQUEST: dict[str, Check] = {
    "id": an_id,
    "vendor": a_name,
    "issued": a_stamp,
    "device": binding.a_key,
    "fingerprint": binding.a_fingerprint,
    "unreadable": binding.factors,
    "file": an_id,
    "seq": _a_seq,
    "digest": matching(_DIGEST, "a SHA-256: 64 hexadecimal digits"),
    "usage": _usage,
}
_UNCHANGED: dict[str, Check] = {
    "vendor": a_name,
    "request": an_id,
    "device": binding.a_key,
    "file": an_id,
    "seq": _a_seq,
    "issued": a_stamp,
    "x": any_object,
}
_REFUSAL: dict[str, Check] = _UNCHANGED | {"reason": printable(MAX_REASON, least=1), "stops": a_date}


# --- the device's request -------------------------------------------------------------------------------------


def verify_renewal_request(data: bytes) -> RenewalRequest:
    """The renewal request that this is, signed by the key that it names, with the license file that it was made with.

    Not checked: who vouches for the key (nobody does), and the signatures of the license file.
    Errors: BAD_DOCUMENT, DAMAGED_DOCUMENT, DOCUMENT_TOO_LARGE, BAD_SIGNATURE, BAD_SIGNATURE_HEADER, LINES_DO_NOT_FIT,
            WRONG_DOCUMENT
    """
    request, *others = parse(data, MAX_RENEWAL_BYTES)
    check_kind(request, RENEWAL_REQUEST)
    (first,) = request.records
    of = read_from_device(first, _RENEWAL_REQUEST)
    if not others:
        raise Refused(DAMAGED_DOCUMENT, line=first.number, reason="the license file behind it is missing")
    file, *more = others
    check_kind(file, LICENSE_FILE)
    if more:
        reason = "another document stands behind the license file, and nothing is allowed there"
        raise Refused(BAD_DOCUMENT, line=more[0].records[0].number, reason=reason)
    head = file.records[0]
    if file.digest != of["digest"]:
        reason = "the license file is not the one that the renewal request was signed for"
        raise Refused(LINES_DO_NOT_FIT, line=head.number, reason=reason)
    said = head.value
    if (said.get("id"), said.get("seq"), said.get("vendor")) != (of["file"], of["seq"], of["vendor"]):
        reason = "its members file, seq and vendor are not those of the license file behind it"
        raise Refused(BAD_DOCUMENT, line=first.number, reason=reason)
    return RenewalRequest(**of, text=request.text + file.text, license_file=file.text)


def request_id(key: Ed25519PrivateKey, digest: str, nonce: bytes) -> str:
    """The id of a renewal request for the license file of this digest, by which the holder of the key knows it again:
    it need not remember the requests that it made.

    nonce: NONCE_BYTES bytes that no other request has
    """
    signature = key.sign(b"licd renewal request\n" + digest.encode() + nonce.hex().encode())
    return nonce.hex() + signature[:NONCE_BYTES].hex()


def is_request_id(id: str, key: Ed25519PrivateKey, digest: str) -> bool:
    """A renewal request with this id was made by the holder of the key, for the license file of this digest."""
    nonce = id[: 2 * NONCE_BYTES]
    return _NONCE.fullmatch(nonce) is not None and id == request_id(key, digest, bytes.fromhex(nonce))


def sign_renewal_request(
    key: Ed25519PrivateKey,
    *,
    id: str,
    vendor: str,
    issued: float,
    fingerprint: Mapping[str, Sequence[str]],
    unreadable: Iterable[str],
    file: LicenseFile,
    usage: Usage,
) -> RenewalRequest:
    """The renewal request that says this, as its reader will see it; of `usage` the newest days that fit its line.

    Errors: BAD_DOCUMENT, if no renewal request may say this
    """
    device = public_key(key)
    header = device_header(RENEWAL_REQUEST, device)
    value: dict[str, Any] = {
        "licd": 1,
        "type": RENEWAL_REQUEST,
        "id": id,
        "vendor": vendor,
        "issued": timestamp(issued),
        "device": device,
        "fingerprint": dict(fingerprint),
        "unreadable": list(unreadable),
        "file": file.file,
        "seq": file.seq,
        "digest": file.digest,
    }
    days = max(map(len, usage.peaks.values()), default=0)

    def line(without: int) -> bytes:
        return build_line(value | {"usage": _newest(usage, days - without)}, header, key.sign)

    def fits(without: int) -> bool:
        return len(line(without)) <= MAX_HEADER_LINE

    # The fewest of the oldest days left out: where a line fits, a shorter one does.
    signed = line(bisect_left(range(days), True, lo=max(days - MAX_DAYS, 0), key=fits))
    (first,) = parse_one(signed, RENEWAL_REQUEST).records
    of = read_from_device(first, _RENEWAL_REQUEST)
    return RenewalRequest(**of, text=signed + file.text, license_file=file.text)


def _newest(usage: Usage, days: int) -> dict[str, Any]:
    """The usage of the last so many days, as the document has it."""
    if days <= 0 or usage.since is None:
        return {"from": None, "peaks": {}}
    dropped = max(map(len, usage.peaks.values())) - days
    return {
        "from": later(usage.since, dropped),
        "peaks": {name: list(all_[-days:]) for name, all_ in usage.peaks.items()},
    }


# --- the vendor's answers ---------------------------------------------------------------------------------------


def verify_answer(
    document: Document, profiles: Mapping[str, VendorProfile], *, trusted_now: float | None, new: bool
) -> Answer:
    """The answer that this is, signed by one who may sign it under the vendor's profile.

    new: it is being taken in; not new: it was before, and only a certificate declared void stops it
    Errors: all of 3x but DOCUMENT_TOO_LARGE, FOREIGN_NAME; WRONG_DOCUMENT
    """
    if document.kind not in (UNCHANGED, REFUSAL):
        raise Refused(WRONG_DOCUMENT, found=KINDS[document.kind].words, wanted="an answer to a renewal request")
    (first,) = document.records
    signer = Signer(first)
    signer.check(first)
    of = read(first, _REFUSAL if document.kind == REFUSAL else _UNCHANGED)
    profile = profile_of(of["vendor"], profiles)
    check_chain(signer, profile, of["issued"], trusted_now, new)
    of = {"reason": None, "stops": None, **of}
    stops = of["stops"]
    if stops is not None and stops <= day(of["issued"]):
        reason = "the member stops must be a later day than that of the member issued"
        raise Refused(BAD_DOCUMENT, line=first.number, reason=reason)
    return Answer(
        **of,
        kind=document.kind,
        profile=profile.name,
        stops_at=FOREVER if stops is None else end_of(stops),
        text=document.text,
        digest=document.digest,
    )
