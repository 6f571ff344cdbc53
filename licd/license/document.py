"""Documents as values: bytes <-> lines, each with its signature. Pure; no certificates, and nothing is verified here.

One record a line: a JSON object in printable ASCII, one TAB, a compact JWS (RFC 7515) with detached, unencoded
payload (RFC 7797). The payload is the exact bytes from the first "{" to the last "}", so nothing is re-serialized to
verify, and whatever mail does to the ends of a line lies outside the signed bytes.

Order matters: lines, then signature headers (`parse`), then signatures (trust.verify), and only then what a payload
says (`Record.value`). So a changed payload is a bad signature, whatever it changed, and BAD_DOCUMENT is always
something that its signer really wrote.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple, NoReturn, TypeVar

from licd.rpc.errors import (
    BAD_DOCUMENT,
    BAD_SIGNATURE_HEADER,
    DAMAGED_DOCUMENT,
    DOCUMENT_TOO_LARGE,
    LINES_DO_NOT_FIT,
    WRONG_DOCUMENT,
    Refused,
)

MAX_DOCUMENT_BYTES = 1024 * 1024  # what the socket takes; 2,000 lines of ordinary length
MAX_LINES = 2000  # records a document: each costs a signature check, 0.2 s in all
MAX_HEADER_LINE = 64 * 1024  # four certificates and a binding with many disks
MAX_RENEWAL_BYTES = MAX_DOCUMENT_BYTES + MAX_HEADER_LINE  # a renewal request: one line before a whole license file
MAX_LINE = 16 * 1024  # ten times the longest title, versions and "x" that were thought of
MAX_INPUT_LINES = 10_000  # of a delivery, comments and blank lines too: a megabyte of newlines is no work
MAX_DEPTH = 4  # header > device > fingerprint > tags
MAX_INTEGER = 2**53 - 1  # beyond, JSON readers disagree (RFC 8259, section 6)

# Kinds of lines; typ in the signature header is "licd-" and the kind, and `type` in the payload says it again.
LICENSE_FILE = "license-file"
LICENSE = "license"
WITHDRAWN = "withdrawn"
INSTALL_REQUEST = "install-request"
LICENSE_REQUEST = "license-request"
RENEWAL_REQUEST = "renewal-request"
UNCHANGED = "unchanged"
REFUSAL = "refusal"

# Who signs, by which algorithms, with the least bytes of their signatures (RFC 7518, 3.3 and 3.4; RFC 8037, 3.1). Of
# RSA the key decides; what is shorter than any key's is cut.
_VENDOR = {"ES256": 64, "ES384": 96, "RS256": 128, "PS256": 128}
_DEVICE = {"EdDSA": 64}


class Kind(NamedTuple):
    """A kind of line: what people call it, who signs it, and what its signature header has besides `_ALWAYS`.

    first: it begins a document; then: the kind of the lines that may follow it there
    """

    words: str
    algorithms: Mapping[str, int]
    header: frozenset[str]
    first: bool = True
    then: str | None = None


_ALWAYS = frozenset({"alg", "typ", "b64", "crit"})
_CERTIFIED = frozenset({"x5t#S256", "x5c"})
KINDS: dict[str, Kind] = {
    LICENSE_FILE: Kind("a license file", _VENDOR, _CERTIFIED, then=LICENSE),
    LICENSE: Kind("a license", _VENDOR, frozenset({"x5t#S256"}), first=False),
    WITHDRAWN: Kind("a withdrawn list", _VENDOR, _CERTIFIED),
    INSTALL_REQUEST: Kind("an install request", _VENDOR, _CERTIFIED),
    LICENSE_REQUEST: Kind("a license request", _DEVICE, frozenset({"jwk"})),
    RENEWAL_REQUEST: Kind("a renewal request", _DEVICE, frozenset({"jwk"})),
    UNCHANGED: Kind("an unchanged answer", _VENDOR, _CERTIFIED),
    REFUSAL: Kind("a refusal", _VENDOR, _CERTIFIED),
}

# The payload ends at the last brace: base64url has none.
_RECORD = re.compile(rb"[ \t]*(\{[\x20-\x7e]*\})[ \t]*(?:([A-Za-z0-9_-]+)\.\.([A-Za-z0-9_-]+))?")
_STRAY = rb"[^\x20-\x7e\t]"  # these three only explain a refusal: not compiled at every start
_QUOTED_PRINTABLE = rb"=(?:$|09|20|3D|7B|7D)"  # a soft line break, TAB, blank, "=", braces
_SIGNATURE_ONLY = rb"[ \t]*[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]*"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _nested(depth: int) -> str:
    inside = r'(?:[^"\[\]{}]|"(?:[^"\\]|\\.)*+"'
    return inside + (rf"|[\[{{]{_nested(depth - 1)}[\]}}])*+" if depth else r")*+")


# Possessive, so linear; and not by recursion: 100,000 brackets are counted, not followed.
_DEPTH = re.compile(_nested(MAX_DEPTH))

T = TypeVar("T")


class Record(NamedTuple):
    """One line. `number` counts from 1 in the input; `header` is the signature's protected header, checked."""

    number: int
    payload: bytes
    header: dict[str, Any]
    protected: str
    signature: bytes

    @property
    def type(self) -> str:
        """The kind of line, from typ in the signature header."""
        return str(self.header["typ"])[5:]

    @property
    def signed(self) -> bytes:
        """The exact bytes under the signature (RFC 7797, section 3)."""
        return signing_input(self.protected, self.payload)

    @property
    def value(self) -> dict[str, Any]:
        """What the payload says, read strictly, each time anew. Unverified until trust.verify has checked the line.

        Errors: BAD_DOCUMENT
        """
        try:
            value = read_json(self.payload)
        except ValueError as error:
            raise Refused(BAD_DOCUMENT, line=self.number, reason=str(error)) from None
        if list(value)[:2] != ["licd", "type"] or type(value["licd"]) is not int or value["licd"] != 1:
            reason = 'it does not begin with "licd":1 and "type"'
            raise Refused(BAD_DOCUMENT, line=self.number, reason=reason)
        if value["type"] != self.type:
            raise Refused(BAD_DOCUMENT, line=self.number, reason=f"its type is not {self.type}, as its signature says")
        return value


class Document(NamedTuple):
    """A first line and those that belong to it. `text` is the same without comments, each line ending in LF.

    `at_end`: the input ended here, so that a line that is missing may have been cut off.
    """

    kind: str
    records: tuple[Record, ...]
    text: bytes
    at_end: bool

    @property
    def digest(self) -> str:
        return sha256(self.text).hexdigest()


def run(steps: Generator[None, None, T]) -> T:
    """The value of a generator that works in steps, all of them at once."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # the generator's type says T


def parse(data: bytes, most: int = MAX_DOCUMENT_BYTES) -> list[Document]:
    """The documents of a delivery of at most `most` bytes, in order. Payloads are not read, signatures not checked.

    Errors: DAMAGED_DOCUMENT, DOCUMENT_TOO_LARGE, BAD_SIGNATURE_HEADER, LINES_DO_NOT_FIT
    """
    if len(data) > most:
        raise Refused(DOCUMENT_TOO_LARGE, reason=f"{len(data)} bytes, at most {most}")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        _damaged(1, "it was saved as UTF-16 text")
    if max(data.count(b"\n"), data.count(b"\r")) > MAX_INPUT_LINES:
        raise Refused(DOCUMENT_TOO_LARGE, reason=f"more than {MAX_INPUT_LINES} lines")
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    headers: dict[bytes, dict[str, Any]] = {}
    groups: list[list[Record]] = []
    for number, line in enumerate(lines, 1):
        if not line or line.isspace() or line.lstrip().startswith(b"#"):
            continue
        if len(line) > MAX_HEADER_LINE:
            raise Refused(DOCUMENT_TOO_LARGE, reason=f"line {number} is longer than {MAX_HEADER_LINE} bytes")
        record = _record(number, line, lines, headers, ended=data.endswith((b"\n", b"\r")))
        if KINDS[record.type].first:
            groups.append([record])
        elif not groups or record.type != KINDS[groups[-1][0].type].then:
            raise Refused(LINES_DO_NOT_FIT, line=number, reason="it does not belong to the line before it")
        elif len(line) > MAX_LINE:
            raise Refused(DOCUMENT_TOO_LARGE, reason=f"line {number} is longer than {MAX_LINE} bytes")
        elif len(groups[-1]) == MAX_LINES:
            raise Refused(DOCUMENT_TOO_LARGE, reason=f"more than {MAX_LINES} lines")
        else:
            groups[-1].append(record)
    if not groups:
        _damaged(1, "nothing is left of it")
    return [
        Document(records[0].type, tuple(records), b"".join(map(_text, records)), records is groups[-1])
        for records in groups
    ]


def parse_one(data: bytes, kind: str) -> Document:
    """The only document in `data`, of this kind. Errors: as parse, WRONG_DOCUMENT, BAD_DOCUMENT"""
    first, *others = parse(data)
    check_kind(first, kind)
    if others:
        reason = "another document stands behind the first, and only one is allowed"
        raise Refused(BAD_DOCUMENT, line=others[0].records[0].number, reason=reason)
    return first


def check_kind(document: Document, kind: str) -> None:
    """Nothing, if the document is of this kind. Errors: WRONG_DOCUMENT"""
    if document.kind != kind:
        raise Refused(WRONG_DOCUMENT, found=KINDS[document.kind].words, wanted=KINDS[kind].words)


def _damaged(number: int, reason: str) -> NoReturn:
    raise Refused(DAMAGED_DOCUMENT, line=number, reason=reason)


def _record(number: int, line: bytes, lines: list[bytes], headers: dict[bytes, dict[str, Any]], ended: bool) -> Record:
    match = _RECORD.match(line)
    if match is None or match[3] is None or line[match.end() :].strip(b" \t"):
        _explain(number, line, lines, match is not None and match[2] is None, ended)
    payload, protected, signature = match.groups()
    header = headers.get(protected)
    if header is None:  # the lines of a file share one header, byte for byte
        header = headers[protected] = _header(number, protected)
    try:
        raw = b64url_decode(signature)
    except ValueError:
        _damaged(number, "its signature is cut or altered")
    record = Record(number, payload, header, protected.decode(), raw)
    if len(raw) < KINDS[record.type].algorithms[header["alg"]]:
        _damaged(number, "its signature is cut")
    return record


def _explain(number: int, line: bytes, lines: list[bytes], unsigned: bool, ended: bool) -> NoReturn:
    # Only to tell a person what happened: the line is refused in any case.
    stray = re.search(_STRAY, line)
    last = number == len(lines)
    if stray is not None:
        _damaged(number, f"it holds the byte {stray[0][0]:#04x}, which no document has")
    if re.search(_QUOTED_PRINTABLE, line):
        _damaged(number, "it was recoded as quoted-printable text")
    if last and not ended:
        _damaged(number, "it is cut off")
    if not line.lstrip(b" \t").startswith(b"{"):
        _damaged(number, "it is not a line of a document; was a long line wrapped, or text added?")
    if unsigned and line.rstrip(b" \t").endswith(b"}") and (last or not re.match(_SIGNATURE_ONLY, lines[number])):
        raise Refused(BAD_SIGNATURE_HEADER, line=number, reason="there is no signature")
    _damaged(number, "it is wrapped, or its signature is broken")


def _header(number: int, protected: bytes) -> dict[str, Any]:
    # RFC 7515 5.2 steps 2-5, RFC 7797 section 6.
    def wrong(reason: str) -> NoReturn:
        raise Refused(BAD_SIGNATURE_HEADER, line=number, reason=reason)

    try:
        header = read_json(b64url_decode(protected))
    except ValueError as error:
        wrong(f"it cannot be read: {error}")
    typ = header.get("typ")
    kind = KINDS.get(typ[5:]) if type(typ) is str and typ.startswith("licd-") else None
    if kind is None:
        wrong("typ is not a kind of document")
    if type(header.get("alg")) is not str or header["alg"] not in kind.algorithms:
        wrong(f"alg of {kind.words} must be one of: {', '.join(kind.algorithms)}")
    if header.get("b64") is not False or header.get("crit") != ["b64"]:
        wrong('b64 must be false, and crit ["b64"]')
    allowed = _ALWAYS | kind.header
    if header.keys() != allowed:
        odd = sorted(header.keys() ^ allowed)[0]
        wrong(f"{odd!a} is missing" if odd in allowed else f"{odd[:32]!a} is not allowed")
    if type(header.get("x5t#S256", "")) is not str:
        wrong("x5t#S256 must be text")
    if "jwk" in header and not _is_device_key(header["jwk"]):
        wrong("jwk must be the public key of a device, kty OKP, crv Ed25519, x of 32 bytes, and nothing else")
    return header


def _is_device_key(jwk: Any) -> bool:
    try:
        return jwk == device_key(jwk["x"]) and len(b64url_decode(jwk["x"].encode("ascii"))) == 32
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _text(record: Record) -> bytes:
    return b"%s\t%s..%s\n" % (record.payload, record.protected.encode(), b64url(record.signature))


def read_json(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`: printable ASCII, no duplicate member, no number but integers within 2^53, depth <= 4.

    Errors: ValueError saying what is wrong
    """
    if not data.isascii() or not (text := data.decode("ascii")).isprintable():
        raise ValueError("it holds other characters than printable ASCII")
    if _DEPTH.fullmatch(text) is None:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}, or its brackets or quotes do not match")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg}, character {error.pos + 1}") from None
    if type(value) is not dict:
        raise ValueError("it is not a JSON object")
    if _SURROGATE.search(data):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a character (a lone surrogate)") from None
    return value


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        twice = Counter(name for name, _ in members).most_common(1)[0][0]
        raise ValueError(f"the member {twice[:32]!a} stands twice")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        raise ValueError("a number is beyond 2^53")
    return int(digits)


def _no_fraction(_: str) -> NoReturn:
    raise ValueError("a number is not a plain integer")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_no_fraction, parse_constant=_no_fraction
)


def write_json(value: dict[str, Any]) -> bytes:
    """The payload of a line: compact, printable ASCII, members in the order given."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def signing_input(protected: str, payload: bytes) -> bytes:
    return protected.encode("ascii") + b"." + payload


def build_line(value: dict[str, Any], header: dict[str, Any], sign: Callable[[bytes], bytes]) -> bytes:
    """The line that says `value` under this protected header; `sign` gives the raw JWS signature of some bytes."""
    payload = write_json(value)
    protected = b64url(write_json(header)).decode()
    return b"%s\t%s..%s\n" % (payload, protected.encode(), b64url(sign(signing_input(protected, payload))))


def vendor_header(kind: str, algorithm: str, thumbprint: bytes, chain: list[str] | None = None) -> dict[str, Any]:
    """The protected header of a vendor's line; `chain` (base64 of DER, the signer first) on a first line only."""
    header: dict[str, Any] = {"alg": algorithm, "typ": f"licd-{kind}", "b64": False, "crit": ["b64"]}
    header["x5t#S256"] = b64url(thumbprint).decode()
    if chain is not None:
        header["x5c"] = chain
    return header


def device_header(kind: str, key: str) -> dict[str, Any]:
    """The protected header of a device's line; `key` is the public half, base64url of 32 bytes."""
    return {"alg": "EdDSA", "typ": f"licd-{kind}", "b64": False, "crit": ["b64"], "jwk": device_key(key)}


def device_key(key: str) -> dict[str, str]:
    """The key as a JWK (RFC 8037, section 2)."""
    return {"kty": "OKP", "crv": "Ed25519", "x": key}


def b64(data: bytes) -> str:
    """Base64 as x5c has it (RFC 7515, 4.1.6): not for URLs, with padding."""
    return b64encode(data).decode()


def b64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def b64url_decode(text: bytes) -> bytes:
    """Errors: ValueError, also where other letters would decode to the same bytes."""
    try:
        data = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except Base64Error:
        raise ValueError("it is not base64url") from None
    if b64url(data) != text:
        raise ValueError("it is not base64url")
    return data
