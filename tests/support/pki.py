"""Vendors for tests: whole PKIs, license files, and files with exactly one rule broken, signed again.

    vendor = pki.Vendor()
    vendor.write_profile(vendor_d)
    data = vendor.license_file(seq=1, lines=[{"name": "kso.scales", "seats": 3}])

What a test breaks it says by name: members of the payload (`header=`, keys of `lines`; DROP leaves one out), members of
the signature header (`protected=`), or the certificate (`pki.Vendor(leaf={...})`, `root={...}`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from licd.license import document, install
from licd.license.dates import later, timestamp
from licd.license.renewal import RenewalRequest
from licd.license.signer import SIGNING_PURPOSE, key_print
from licd_vendor.keys import PrivateKey, algorithm_of, sign_bytes, write_key, write_profile

DROP = object()  # as a member's value: leave it out

DAY = 86400.0
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()  # when the files of these vendors are issued, unless told
START = datetime(2026, 1, 1, tzinfo=UTC)  # when their certificates begin
DAYS = 36500  # how long they last: longer than these tests are run, for daemons go by the real clock


@cache
def key(kind: str, number: int = 0) -> PrivateKey:
    """The number-th key of a kind; made once a test run, because RSA is slow."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:] or 2048))
    return ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[kind])


def usage(*names: str) -> x509.KeyUsage:
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in names for name in every})


@dataclass
class Authority:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey


def issue(
    subject: str,
    subject_key: PrivateKey,
    issuer: Authority | None,
    *,
    ca: bool | None,
    key_usage: x509.KeyUsage | None,
    purposes: Iterable[x509.ObjectIdentifier] | None = None,
    begins: datetime = START,
    days: float = DAYS,
    path_length: int | None = None,
    extra: Iterable[tuple[x509.ExtensionType, bool]] = (),
    certified: CertificatePublicKeyTypes | None = None,
) -> Authority:
    """A certificate with just what is asked for; ca=None leaves basicConstraints out, issuer=None signs itself.

    certified: the public key in the certificate, if it is not to be that of subject_key
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(certified or subject_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=True)
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=True)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    return Authority(builder.sign(issuer.key if issuer else subject_key, SHA256()), subject_key)


def authority(subject: str = "root", issuer: Authority | None = None, kind: str = "p256", **changes: Any) -> Authority:
    """A CA; a root if no issuer is given."""
    number = sum(subject.encode())
    options: dict[str, Any] = {"ca": True, "key_usage": usage("key_cert_sign", "crl_sign"), **changes}
    return issue(subject, key(kind, number), issuer, **options)


def signer(issuer: Authority | None, kind: str = "p256", subject: str = "signer", **changes: Any) -> Authority:
    """A proper signing leaf, but for the changes."""
    options: dict[str, Any] = {
        "ca": False,
        "key_usage": usage("digital_signature"),
        "purposes": [SIGNING_PURPOSE],
        **changes,
    }
    return issue(subject, key(kind, sum(subject.encode())), issuer, **options)


class Vendor:
    """A vendor with a root, optionally intermediate CAs, and a signing leaf.

    root, leaf: changes to the certificates (arguments of `issue`, and kind); between: CAs from the root downwards
    """

    def __init__(
        self,
        vendor: str = "acme",
        names: tuple[str, ...] = ("kso.*",),
        kind: str = "p256",
        *,
        root: Mapping[str, Any] | Authority | None = None,
        leaf: Mapping[str, Any] | None = None,
        between: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.vendor = vendor
        self.names = names
        made = root if isinstance(root, Authority) else authority(**{"subject": f"{vendor} root", **(root or {})})
        self.root = made
        self.between: list[Authority] = []
        for n, changes in enumerate(between):
            made = authority(**{"subject": f"{vendor} ca {n}", "issuer": made, **changes})
            self.between.insert(0, made)
        self.leaf = signer(**{"issuer": made, "kind": kind, "subject": f"{vendor} signer", **(leaf or {})})
        self.algorithm = algorithm_of(self.leaf.key)

    # --- the profile ----------------------------------------------------------------------------------------

    def write_profile(
        self, vendor_d: Path, name: str | None = None, url: str | None = None, ca: Path | None = None
    ) -> Path:
        """vendor.d/NAME (the vendor's id unless told) trusts this vendor, and for TLS the certificates in `ca`."""
        folder = vendor_d / (name or self.vendor)
        write_profile(folder, self.vendor, list(self.names), url, [self.root.certificate])
        if ca is not None:
            with (folder / "vendor.conf").open("a") as conf:
                conf.write(f"ca = {ca}\n")
        return folder

    def write_folder(self, folder: Path) -> Path:
        """The vendor's own folder, as licd-vendor init makes it, with these certificates."""
        self.write_profile(folder, "profile")
        write_key(folder / "signer.key", self.leaf.key, None)
        chain = (each.certificate.public_bytes(serialization.Encoding.PEM) for each in (self.leaf, *self.between))
        (folder / "signer.pem").write_bytes(b"".join(chain))
        return folder

    def withdrawn(self, *certificates: tuple[x509.Certificate, bool], seq: int = 1, **header: Any) -> bytes:
        """The signed list of withdrawn certificates: (certificate, void) each."""
        entries = [{"key#S256": key_print(certificate), "void": void} for certificate, void in certificates]
        value = {"licd": 1, "type": document.WITHDRAWN, "vendor": self.vendor, "seq": seq}
        value |= {"issued": timestamp(NOW), "keys": entries, **header}
        return self.line(value, document.WITHDRAWN)

    def public_pem(self) -> bytes:
        """The signing key's public half."""
        return self.leaf.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    # --- documents ------------------------------------------------------------------------------------------

    def license_file(
        self,
        seq: int = 1,
        lines: Iterable[Mapping[str, Any]] = ({"name": "kso.scales", "seats": 3},),
        *,
        issued: float = NOW,
        header: Mapping[str, Any] | None = None,
        protected: Mapping[str, Any] | None = None,
        line_protected: Mapping[str, Any] | None = None,
    ) -> bytes:
        """A license file. Each of `lines` gives what differs from an uneventful license of one seat."""
        return b"".join(
            self.license_lines(
                seq, lines, issued=issued, header=header, protected=protected, line_protected=line_protected
            )
        )

    def license_lines(
        self,
        seq: int = 1,
        lines: Iterable[Mapping[str, Any]] = ({"name": "kso.scales", "seats": 3},),
        *,
        issued: float = NOW,
        header: Mapping[str, Any] | None = None,
        protected: Mapping[str, Any] | None = None,
        line_protected: Mapping[str, Any] | None = None,
    ) -> list[bytes]:
        """The same as a list of lines, for tests that move them about."""
        lines = list(lines)
        first = {
            "licd": 1,
            "type": document.LICENSE_FILE,
            "id": f"file-{seq}",
            "vendor": self.vendor,
            "device": None,
            "seq": seq,
            "request": None,
            "issued": timestamp(issued),
            "lines": len(lines),
            "renewal": {"need": "none"},
            "device_grace_days": 7,
        }
        made = [self.line(first | dict(header or {}), document.LICENSE_FILE, protected)]
        for n, line in enumerate(lines, 1):
            made.append(self.line(license_value(f"file-{seq}", n, issued, line), document.LICENSE, line_protected))
        return made

    def install_request(self, *, protected: Mapping[str, Any] | None = None, **members: Any) -> bytes:
        """An install request that asks for a board serial and disks, but for the changes."""
        value = {
            "licd": 1,
            "type": document.INSTALL_REQUEST,
            "id": "install-1",
            "vendor": self.vendor,
            "issued": timestamp(NOW),
            "salt": document.b64url(bytes(range(16))).decode(),
            "weights": {"board_serial": 20, "disk": 30},
            "share": 50,
            "url": None,
        }
        return self.line(value | members, document.INSTALL_REQUEST, protected)

    def unchanged(
        self, request: RenewalRequest | None = None, /, *, protected: Mapping[str, Any] | None = None, **members: Any
    ) -> bytes:
        """The answer to this renewal request (to that of `renewal_request`, unless told) that all stays as it is."""
        return self._answer(document.UNCHANGED, request, protected, members)

    def refusal(
        self, request: RenewalRequest | None = None, /, *, protected: Mapping[str, Any] | None = None, **members: Any
    ) -> bytes:
        """The refusal of this renewal request; the licenses stop on the day after it was issued, unless told."""
        try:
            stops = later(members["issued"][:10], 1)
        except (KeyError, TypeError, ValueError):  # not told, or broken by intent
            stops = later(timestamp(NOW)[:10], 1)
        members = {"reason": "The order was suspended: not paid.", "stops": stops, **members}
        return self._answer(document.REFUSAL, request, protected, members)

    def _answer(
        self, kind: str, request: RenewalRequest | None, protected: Mapping[str, Any] | None, members: Mapping[str, Any]
    ) -> bytes:
        value = {
            "licd": 1,
            "type": kind,
            "vendor": self.vendor,
            "request": request.id if request else "renewal-1",
            "device": request.device if request else document.b64url(bytes(range(32))).decode(),
            "file": request.file if request else "file-1",
            "seq": request.seq if request else 1,
            "issued": timestamp(NOW),
        }
        return self.line(value | dict(members), kind, protected)

    def line(self, value: Mapping[str, Any], kind: str, protected: Mapping[str, Any] | None = None) -> bytes:
        """One signed line. DROP members are left out."""
        return self.raw_line(document.write_json(_without_drops(value)), kind, protected)

    def raw_line(
        self,
        payload: bytes,
        kind: str,
        protected: Mapping[str, Any] | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> bytes:
        """One signed line with any bytes as its payload."""
        sign = sign or (lambda data: sign_bytes(self.leaf.key, self.algorithm, data))
        return signed_line(payload, self.protected(kind) | dict(protected or {}), sign)

    def protected(self, kind: str) -> dict[str, Any]:
        """The signature header of a first or other line of this vendor."""
        chain = [x5c(each.certificate) for each in (self.leaf, *self.between)]
        thumbprint = self.leaf.certificate.fingerprint(SHA256())
        return document.vendor_header(kind, self.algorithm, thumbprint, None if kind == document.LICENSE else chain)


def license_request(
    key: Ed25519PrivateKey,
    *,
    protected: Mapping[str, Any] | None = None,
    sign: Callable[[bytes], bytes] | None = None,
    **members: Any,
) -> bytes:
    """The license request of a device with a board serial and a disk, signed by its key, but for the changes."""
    value = {
        "licd": 1,
        "type": document.LICENSE_REQUEST,
        "id": "request-1",
        "vendor": "acme",
        "install_request": "install-1",
        "issued": timestamp(NOW),
        "device": install.public_key(key),
        "fingerprint": {"board_serial": ["00ff00"], "disk": ["123456"]},
        "unreadable": ["product_serial"],
        "software": {"os": "debian", "os_version": "13", "architecture": "x86_64", "licd": "0.1.0"},
        "machine": {"kind": "physical", "name": None},
        "rehost": False,
    }
    header = document.device_header(document.LICENSE_REQUEST, install.public_key(key))
    payload = document.write_json(_without_drops(value | members))
    return signed_line(payload, header | dict(protected or {}), sign or key.sign)


def renewal_request(
    key: Ed25519PrivateKey,
    license_file: bytes,
    *,
    protected: Mapping[str, Any] | None = None,
    sign: Callable[[bytes], bytes] | None = None,
    **members: Any,
) -> bytes:
    """The renewal request of a device with this license file, signed by its key, but for the changes."""
    (file,) = document.parse(license_file)
    said = file.records[0].value
    value = {
        "licd": 1,
        "type": document.RENEWAL_REQUEST,
        "id": "renewal-1",
        "vendor": said["vendor"],
        "issued": timestamp(NOW),
        "device": install.public_key(key),
        "fingerprint": {"board_serial": ["00ff00"], "disk": ["123456"]},
        "unreadable": ["product_serial"],
        "file": said["id"],
        "seq": said["seq"],
        "digest": file.digest,
        "usage": {"from": "2026-05-30", "peaks": {"kso.scales": [0, 3]}},
    }
    header = document.device_header(document.RENEWAL_REQUEST, install.public_key(key))
    payload = document.write_json(_without_drops(value | members))
    return signed_line(payload, header | dict(protected or {}), sign or key.sign) + license_file


def signed_line(payload: bytes, header: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> bytes:
    """One line with any bytes as its payload and any header, of which DROP members are left out."""
    encoded = document.b64url(document.write_json(_without_drops(header))).decode()
    signature = document.b64url(sign(document.signing_input(encoded, payload)))
    return payload + b"\t" + encoded.encode() + b".." + signature + b"\n"


def _without_drops(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if each is not DROP}


def x5c(certificate: x509.Certificate) -> str:
    return document.b64(certificate.public_bytes(serialization.Encoding.DER))


def license_value(file: str, n: int, issued: float, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a license line: one counted, perpetual seat for any version, but for the changes."""
    value = {
        "licd": 1,
        "type": document.LICENSE,
        "file": file,
        "n": n,
        "id": f"l{n}",
        "name": "kso.scales",
        "title": "",
        "license": "counted",
        "seats": None if changes.get("license") == "uncounted" else 1,
        "not_before": None,
        "expires": None,
        "versions": None,
        "grace_days": 0,
        "renewal": None,
        "replaces": None,
        "issued": timestamp(issued),
    }
    return value | dict(changes)
