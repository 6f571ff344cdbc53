"""Makes tests/vectors/documents anew: `python -m tests.support.vectors`. The keys are made up and forgotten.

Each vector is a document with its verdict in comments; whoever writes another reader of these documents can use them:

    # expect: BAD_SIGNATURE        ok, or the name of the error
    # why: one letter of the second line's payload is changed

All are judged under the vendor profile beside them, as new, at the trusted time 2026-06-15T12:00:00Z.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from licd.license import document
from tests.support import pki

FOLDER = Path(__file__).parent.parent / "vectors" / "documents"
JUDGED_AT = datetime(2026, 6, 15, 12, tzinfo=UTC).timestamp()

THREE = (
    {"name": "kso.scales", "title": "Весы", "seats": 3, "versions": "5.*", "expires": "2027-12-31", "grace_days": 14},
    {"name": "kso.pay", "license": "uncounted"},
    {"name": "kso.light", "seats": 2, "not_before": "2026-07-01", "x": {"order": 4711}},
)


def vectors(vendor: pki.Vendor) -> Iterator[tuple[str, str, str, bytes]]:
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


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    vendor = pki.Vendor(root={"begins": pki.START})
    vendor.write_profile(FOLDER, "profile")
    (FOLDER / ".gitattributes").write_text("*.licd -text\n")
    for name, verdict, why, data in vectors(vendor):
        (FOLDER / f"{name}.licd").write_bytes(f"# expect: {verdict}\n# why: {why}\n".encode() + data)


if __name__ == "__main__":
    main()
