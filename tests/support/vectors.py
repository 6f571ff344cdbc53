"""Makes tests/vectors/documents anew: `python -m tests.support.vectors`. The keys are made up and forgotten.

Each vector is a document with its verdict in comments; whoever writes another reader of these documents can use them:

    # expect: BAD_SIGNATURE        ok, or the name of the error
    # read as: a license file      or what else licd reads: see VERIFY
    # why: one letter of the second line's payload is changed

All are judged under the vendor profile beside them, as new, at the trusted time 2026-06-15T12:00:00Z.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from licd.license import document, install, renewal, trust
from licd.rpc.errors import Refused
from tests.support import pki

Verify = Callable[[bytes, Mapping[str, trust.VendorProfile]], object]

FOLDER = Path(__file__).parent.parent / "vectors" / "documents"
JUDGED_AT = datetime(2026, 6, 15, 12, tzinfo=UTC).timestamp()

THREE = (
    {"name": "kso.scales", "title": "Весы", "seats": 3, "versions": "5.*", "expires": "2027-12-31", "grace_days": 14},
    {"name": "kso.pay", "license": "uncounted"},
    {"name": "kso.light", "seats": 2, "not_before": "2026-07-01", "x": {"order": 4711}},
)


def license_files(vendor: pki.Vendor) -> Iterator[tuple[str, str, str, bytes]]:
    """Each vector's file name, verdict, reason, and bytes."""
    root = vendor.root
    lines = vendor.license_lines(lines=THREE)
    first, one, two, three = lines
    whole = b"".join(lines)

    yield "ok-three-licenses", "ok", "as the vendor sends it", whole
    yield "ok-no-licenses", "ok", "a file of no licenses takes all back", vendor.license_file(lines=[])
    yield "ok-crlf", "ok", "lines end in CRLF", whole.replace(b"\n", b"\r\n")
    yield (
        "ok-blanks",
        "ok",
        "TAB is four blanks, blanks trail, blank lines between",
        whole.replace(b"\t", b"    ").replace(b"\n", b"  \n\n"),
    )
    yield "ok-last-newline", "ok", "the last newline is missing", whole.rstrip(b"\n")

    yield "payload-changed", "BAD_SIGNATURE", "seats of line 2 were 3", whole.replace(b'"seats":3', b'"seats":9')
    yield "payload-not-json", "BAD_SIGNATURE", "a brace was added", whole.replace(b'"seats":3', b'"seats":{')
    yield (
        "signature-swapped",
        "BAD_SIGNATURE",
        "two lines have each other's signature",
        b"".join(
            [
                first,
                one.split(b"\t")[0],
                b"\t",
                two.split(b"\t")[1],
                two.split(b"\t")[0],
                b"\t",
                one.split(b"\t")[1],
                three,
            ]
        ),
    )
    yield (
        "unsigned",
        "BAD_SIGNATURE_HEADER",
        "line 3 has no signature",
        b"".join([first, one, two.split(b"\t")[0], b"\n", three]),
    )
    yield "line-removed", "LINES_DO_NOT_FIT", "the second license is missing", first + one + three
    yield "line-repeated", "LINES_DO_NOT_FIT", "the first license stands twice", first + one + one + two
    yield "lines-reordered", "LINES_DO_NOT_FIT", "two licenses changed places", first + two + one + three
    yield (
        "line-of-another-file",
        "LINES_DO_NOT_FIT",
        "the last license is from seq 2",
        first + one + two + vendor.license_lines(seq=2, lines=THREE)[3],
    )
    yield "cut-lines", "DAMAGED_DOCUMENT", "the last license was cut off", first + one + two
    yield "cut-signature", "DAMAGED_DOCUMENT", "cut off in the last signature", whole[:-30]
    yield "wrapped", "DAMAGED_DOCUMENT", "mail wrapped a long line", whole[:400] + b"\n" + whole[400:]
    yield "quoted-printable", "DAMAGED_DOCUMENT", "mail recoded it", whole.replace(b"=", b"=3D").replace(b"\t", b"=09")
    yield "not-ascii", "DAMAGED_DOCUMENT", "a byte beyond ASCII", whole.replace(b"kso.pay", b"kso.p\xe4y")

    for alg in ("none", "HS256"):
        yield (
            f"alg-{alg.lower()}",
            "BAD_SIGNATURE_HEADER",
            f"alg is {alg}",
            vendor.license_file(lines=THREE, protected={"alg": alg}),
        )
    yield (
        "alg-of-another-key",
        "BAD_SIGNATURE_HEADER",
        "ES384, but the key is of P-256",
        vendor.raw_line(first.split(b"\t")[0], document.LICENSE_FILE, {"alg": "ES384"}, lambda _: bytes(96)),
    )
    for name, header in (
        ("b64-missing", {"b64": pki.DROP}),
        ("b64-true", {"b64": True}),
        ("crit-unknown", {"crit": ["b64", "exp"]}),
        ("typ-unknown", {"typ": "licd-invoice"}),
        ("jwk", {"jwk": {"kty": "EC"}}),
        ("x5t-of-another", {"x5t#S256": document.b64url(bytes(32)).decode()}),
        ("x5c-missing", {"x5c": pki.DROP}),
    ):
        yield name, "BAD_SIGNATURE_HEADER", "the signature header of line 1", vendor.license_file(protected=header)

    for name, leaf in (
        ("leaf-web", {"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]}),
        ("leaf-no-digital-signature", {"key_usage": pki.usage("key_encipherment")}),
        ("leaf-is-ca", {"ca": True}),
        ("leaf-ended-before-issue", {"days": 30}),
    ):
        signer = pki.Vendor(root=root, leaf=leaf)
        yield name, "BAD_CERTIFICATE", "the signing certificate", signer.license_file(lines=THREE)
    no_ca = pki.Vendor(root=root, between=[{"ca": False}])
    yield "issuer-no-ca", "BAD_CERTIFICATE", "the issuer of the signer is no CA", no_ca.license_file(lines=THREE)
    foreign = pki.Vendor(root={"subject": "foreign root"})
    yield "foreign-anchor", "UNTRUSTED_SIGNER", "the chain ends elsewhere", foreign.license_file(lines=THREE)
    yield "unknown-vendor", "UNTRUSTED_SIGNER", "no profile", vendor.license_file(header={"vendor": "other"})
    yield "foreign-name", "FOREIGN_NAME", "the profile is for kso.*", vendor.license_file(lines=[{"name": "cam.view"}])
    old = pki.Vendor(root=root, leaf={"begins": pki.START, "days": 45})
    yield (
        "retired",
        "SIGNER_RETIRED",
        "the signer ended over 90 days ago",
        old.license_file(issued=datetime(2026, 2, 1, tzinfo=UTC).timestamp()),
    )

    def payload(old: bytes, new: bytes) -> bytes:
        changed = one.split(b"\t")[0].replace(old, new)
        return first + vendor.raw_line(changed, document.LICENSE) + two + three

    for name, new in (
        ("json-duplicate", b'"seats":3,"seats":3'),
        ("json-nan", b'"seats":NaN'),
        ("json-huge", b'"seats":1e400'),
        ("json-fraction", b'"seats":3.0'),
        ("json-true", b'"seats":true'),
        ("json-deep", b'"seats":[[[[3]]]]'),
        ("json-surrogate", b'"seats":"\\ud800"'),
        ("seats-negative", b'"seats":-1'),
        ("seats-absurd", b'"seats":1000001'),
        ("member-unknown", b'"seats":3,"colour":"red"'),
    ):
        yield name, "BAD_DOCUMENT", new.decode(), payload(b'"seats":3', new)
    for name, new in (
        ("date-impossible", b"2027-02-29"),
        ("date-year-9999", b"9999-12-31"),
        ("date-week", b"2027-W01-1"),
    ):
        yield name, "BAD_DOCUMENT", new.decode(), payload(b"2027-12-31", new)


def install_requests(vendor: pki.Vendor) -> Iterator[tuple[str, str, str, bytes]]:
    good = vendor.install_request()
    yield "ok", "ok", "as the vendor sends it", good
    yield "ok-crlf", "ok", "lines end in CRLF", good.replace(b"\n", b"\r\n")
    yield (
        "ok-later-factors",
        "ok",
        "it asks for factors that no licd knows yet",
        vendor.install_request(weights={"quantum_serial": 1000}),
    )
    yield "payload-changed", "BAD_SIGNATURE", "the share was 50", good.replace(b'"share":50', b'"share":5')
    yield (
        "alg-of-a-device",
        "BAD_SIGNATURE_HEADER",
        "EdDSA is for devices",
        vendor.raw_line(good.split(b"\t")[0], document.INSTALL_REQUEST, {"alg": "EdDSA"}, lambda _: bytes(64)),
    )
    yield "two", "BAD_DOCUMENT", "two install requests in one file", good * 2
    yield "is-license-file", "WRONG_DOCUMENT", "it is a license file", vendor.license_file()
    foreign = pki.Vendor(root={"subject": "foreign root"})
    yield "foreign-anchor", "UNTRUSTED_SIGNER", "the chain ends elsewhere", foreign.install_request()
    old = pki.Vendor(root=vendor.root, leaf={"begins": pki.START, "days": 45})
    yield (
        "retired",
        "SIGNER_RETIRED",
        "signer ended over 90 days ago",
        old.install_request(issued="2026-02-01T00:00:00Z"),
    )
    for name, members in (
        ("weights-empty", {"weights": {}}),
        ("weight-zero", {"weights": {"disk": 0}}),
        ("share-101", {"share": 101}),
        ("salt-short", {"salt": document.b64url(bytes(15)).decode()}),
        ("url-http", {"url": "http://example.com/"}),
    ):
        yield name, "BAD_DOCUMENT", str(members), vendor.install_request(**members)


def license_requests() -> Iterator[tuple[str, str, str, bytes]]:
    device, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    good = pki.license_request(device)
    yield "ok", "ok", "as the device gives it out", good
    yield (
        "ok-crlf-blanks",
        "ok",
        "lines end in CRLF, TAB is four blanks",
        good.replace(b"\n", b"\r\n").replace(b"\t", b"    "),
    )
    yield (
        "ok-nothing-found",
        "ok",
        "a container that shows no factor",
        pki.license_request(device, fingerprint={}, machine={"kind": "container", "name": "docker"}),
    )
    yield "payload-changed", "BAD_SIGNATURE", "rehost was false", good.replace(b'"rehost":false', b'"rehost":true')
    jwk = document.device_key(install.public_key(other))
    yield "jwk-of-another", "BAD_SIGNATURE", "jwk is another key", pki.license_request(device, protected={"jwk": jwk})
    yield (
        "signed-again",
        "BAD_SIGNATURE",
        "another key signed it, and jwk says so, but the member device does not",
        pki.license_request(device, protected={"jwk": jwk}, sign=other.sign),
    )
    neutral = document.b64url((1).to_bytes(32, "little")).decode()
    yield (
        "jwk-neutral",
        "BAD_SIGNATURE_HEADER",
        "under the neutral point as key, this signature fits any content",
        pki.license_request(
            device,
            device=neutral,
            protected={"jwk": document.device_key(neutral)},
            sign=lambda _: (1).to_bytes(32, "little") + bytes(32),
        ),
    )
    for name, header in (
        ("alg-none", {"alg": "none"}),
        ("alg-of-a-vendor", {"alg": "ES256"}),
        ("jwk-private", {"jwk": document.device_key(install.public_key(device)) | {"d": "A" * 43}}),
        ("jwk-x25519", {"jwk": document.device_key(install.public_key(device)) | {"crv": "X25519"}}),
        ("x5c", {"x5c": []}),
    ):
        yield name, "BAD_SIGNATURE_HEADER", "the signature header", pki.license_request(device, protected=header)
    yield "two", "BAD_DOCUMENT", "two license requests in one file", good * 2
    yield "cut", "DAMAGED_DOCUMENT", "cut off in the signature", good[:-30]
    for name, members in (
        ("member-missing", {"rehost": pki.DROP}),
        ("member-unknown", {"hostname": "shop-12"}),
        ("tags-none", {"fingerprint": {"disk": []}}),
        ("machine-unknown", {"machine": {"kind": "toaster", "name": None}}),
    ):
        yield name, "BAD_DOCUMENT", ", ".join(members), pki.license_request(device, **members)


def renewal_requests(vendor: pki.Vendor) -> Iterator[tuple[str, str, str, bytes]]:
    device, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    lines = vendor.license_lines(lines=THREE)
    file = b"".join(lines)
    good = pki.renewal_request(device, file)
    line = good[: -len(file)]
    yield "ok", "ok", "as the device sends it", good
    yield "ok-crlf", "ok", "lines end in CRLF", good.replace(b"\n", b"\r\n")
    none: dict[str, Any] = {"from": None, "peaks": {}}
    bare = pki.renewal_request(device, file, fingerprint={}, unreadable=[], usage=none)
    yield "ok-bare", "ok", "of a file that is bound to no device; no usage was recorded", bare
    foreign = pki.Vendor(root={"subject": "foreign root"}).license_file(lines=THREE)
    data = pki.renewal_request(device, foreign)
    yield "ok-file-of-anybody", "ok", "the signatures of the license file are the vendor's to know", data
    changed = good.replace(b'"kso.scales":[0,3]', b'"kso.scales":[0,4]')
    yield "payload-changed", "BAD_SIGNATURE", "a peak was 3", changed
    jwk = document.device_key(install.public_key(other))
    data = pki.renewal_request(device, file, protected={"jwk": jwk}, sign=other.sign)
    yield "signed-again", "BAD_SIGNATURE", "another key signed it; the member device does not say so", data
    neutral = document.b64url((1).to_bytes(32, "little")).decode()
    data = pki.renewal_request(
        device,
        file,
        device=neutral,
        protected={"jwk": document.device_key(neutral)},
        sign=lambda _: (1).to_bytes(32, "little") + bytes(32),
    )
    yield "jwk-neutral", "BAD_SIGNATURE_HEADER", "under the neutral point as key, this signature fits any content", data
    data = vendor.raw_line(line.split(b"\t")[0], document.RENEWAL_REQUEST) + file
    yield "by-a-vendor", "BAD_SIGNATURE_HEADER", "a vendor signed it", data
    yield "file-first", "WRONG_DOCUMENT", "the license file stands first", file + line
    yield "file-missing", "DAMAGED_DOCUMENT", "the license file is missing", line
    yield "file-twice", "BAD_DOCUMENT", "a second license file stands behind the first", good + file
    yield "file-another", "LINES_DO_NOT_FIT", "the license file is another one", line + vendor.license_file(seq=2)
    data = good.replace(b'"seats":2', b'"seats":9')
    yield "file-changed", "LINES_DO_NOT_FIT", "a letter of the license file is changed", data
    yield "file-cut", "LINES_DO_NOT_FIT", "the last license is missing", line + b"".join(lines[:-1])
    data = pki.renewal_request(device, file, seq=2)
    yield "seq-another", "BAD_DOCUMENT", "the license file behind it has seq 1", data
    for name, members in (
        ("member-missing", {"usage": pki.DROP}),
        ("member-unknown", {"hostname": "shop-12"}),
        ("digest-short", {"digest": "0" * 63}),
        ("peaks-of-two-lengths", {"usage": {"from": "2026-05-30", "peaks": {"kso.a": [1, 2], "kso.b": [1]}}}),
        ("peaks-without-from", {"usage": {"from": None, "peaks": {"kso.a": [1, 2]}}}),
        ("peak-negative", {"usage": {"from": "2026-05-30", "peaks": {"kso.a": [-1]}}}),
    ):
        yield name, "BAD_DOCUMENT", ", ".join(members), pki.renewal_request(device, file, **members)


def answers(vendor: pki.Vendor, kind: str) -> Iterator[tuple[str, str, str, bytes]]:
    """Vectors of an unchanged answer or a refusal."""

    def make(by: pki.Vendor = vendor, **members: Any) -> bytes:
        return (by.unchanged if kind == document.UNCHANGED else by.refusal)(**members)

    good = make()
    yield "ok", "ok", "as the vendor sends it", good
    yield "ok-crlf", "ok", "the line ends in CRLF", good.replace(b"\n", b"\r\n")
    yield "ok-x", "ok", "x is the vendor's to fill", make(x={"order": 4711})
    yield "payload-changed", "BAD_SIGNATURE", "seq was 1", good.replace(b'"seq":1', b'"seq":2')
    payload = good.split(b"\t")[0]
    header = document.device_header(kind, document.b64url(bytes(range(32))).decode())
    data = pki.signed_line(payload, header, Ed25519PrivateKey.generate().sign)
    yield "by-a-device", "BAD_SIGNATURE_HEADER", "a device signed it", data
    yield "is-license-file", "WRONG_DOCUMENT", "it is a license file", vendor.license_file()
    data = (vendor.refusal if kind == document.UNCHANGED else vendor.unchanged)()
    yield "is-the-other", "WRONG_DOCUMENT", "it is the other answer", data
    data = vendor.raw_line(data.split(b"\t")[0], kind)
    yield "says-the-other", "BAD_DOCUMENT", "its payload says that it is the other answer, its header does not", data
    foreign = pki.Vendor(root={"subject": "foreign root"})
    yield "foreign-anchor", "UNTRUSTED_SIGNER", "the chain ends elsewhere", make(foreign)
    old = pki.Vendor(root=vendor.root, leaf={"begins": pki.START, "days": 45})
    data = make(old, issued="2026-02-01T00:00:00Z")
    yield "retired", "SIGNER_RETIRED", "signer ended over 90 days ago", data
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("member-missing", {"device": pki.DROP}),
        ("member-unknown", {"digest": "0" * 64}),
        ("seq-zero", {"seq": 0}),
    ]
    if kind == document.UNCHANGED:
        wrong.append(("with-reason", {"reason": "not paid"}))
    else:
        wrong += [
            ("reason-empty", {"reason": ""}),
            ("reason-of-control", {"reason": "\x1b[2J"}),
            ("stops-on-the-same-day", {"issued": "2026-06-01T00:00:00Z", "stops": "2026-06-01"}),
            ("stops-null", {"stops": None}),
        ]
    for name, members in wrong:
        yield name, "BAD_DOCUMENT", ", ".join(members), make(**members)


def _license_file(data: bytes, profiles: Mapping[str, trust.VendorProfile]) -> object:
    (only,) = document.parse(data)
    return document.run(trust.verify(only, profiles, trusted_now=JUDGED_AT, new=True))


def _answer(kind: str) -> Verify:
    def verify(data: bytes, profiles: Mapping[str, trust.VendorProfile]) -> object:
        found = renewal.verify_answer(document.parse_one(data, kind), profiles, trusted_now=JUDGED_AT, new=True)
        assert found.kind == kind
        return found

    return verify


VERIFY: dict[str, Verify] = {
    document.LICENSE_FILE: _license_file,
    document.INSTALL_REQUEST: lambda data, profiles: install.verify_install_request(
        data, profiles, trusted_now=JUDGED_AT
    ),
    document.LICENSE_REQUEST: lambda data, _: install.verify_license_request(data),
    document.RENEWAL_REQUEST: lambda data, _: renewal.verify_renewal_request(data),
    document.UNCHANGED: _answer(document.UNCHANGED),
    document.REFUSAL: _answer(document.REFUSAL),
}


def verdict(data: bytes) -> str:
    """What licd says of a vector: ok, or the name of the error."""
    profiles = {"profile": trust.load_profile(FOLDER / "profile")}
    words = data.split(b"\n")[1].removeprefix(b"# read as: ").decode()
    (kind,) = (kind for kind in VERIFY if document.KINDS[kind].words == words)
    try:
        VERIFY[kind](data, profiles)
    except Refused as refused:
        return refused.error.name
    return "ok"


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    vendor = pki.Vendor(root={"begins": pki.START})
    vendor.write_profile(FOLDER, "profile")
    (FOLDER / ".gitattributes").write_text("*.licd -text\n")
    for kind, made in (
        (document.LICENSE_FILE, license_files(vendor)),
        (document.INSTALL_REQUEST, install_requests(vendor)),
        (document.LICENSE_REQUEST, license_requests()),
        (document.RENEWAL_REQUEST, renewal_requests(vendor)),
        (document.UNCHANGED, answers(vendor, document.UNCHANGED)),
        (document.REFUSAL, answers(vendor, document.REFUSAL)),
    ):
        for name, expected, why, data in made:
            comments = f"# expect: {expected}\n# read as: {document.KINDS[kind].words}\n# why: {why}\n"
            prefix = "" if kind == document.LICENSE_FILE else f"{kind}-"
            (FOLDER / f"{prefix}{name}.licd").write_bytes(comments.encode() + data)


if __name__ == "__main__":
    main()
