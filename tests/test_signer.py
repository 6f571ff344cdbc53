"""Signature header, certificates and chain: each test breaks exactly one rule and signs again."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from licd.license import document, trust
from licd.license.signer import SIGNING_PURPOSE
from licd.rpc.errors import (
    BAD_CERTIFICATE,
    BAD_DOCUMENT,
    BAD_SIGNATURE,
    BAD_SIGNATURE_HEADER,
    UNTRUSTED_SIGNER,
    WRONG_DOCUMENT,
    Refused,
)
from tests.support import pki
from tests.support.trusting import FILE, LINES, PROFILES, VENDOR, profile_of, refused

# --- the first line's header --------------------------------------------------------------------------------------


def test_x5t_and_x5c_must_agree() -> None:
    other = pki.Vendor(root=VENDOR.root, leaf={"subject": "other signer"})
    found = refused(VENDOR.license_file(protected={"x5t#S256": other.protected(document.LICENSE)["x5t#S256"]}))
    assert found.error is BAD_SIGNATURE_HEADER


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("p256", "ES384"), ("p256", "PS256"), ("p384", "ES256"), ("rsa", "ES256")],
)
def test_an_algorithm_that_does_not_fit_the_key_is_refused(kind: str, algorithm: str) -> None:
    vendor = pki.Vendor(kind=kind)
    first, *rest = VENDOR.license_lines()
    payload = first.split(b"\t")[0]
    forged = vendor.raw_line(payload, document.LICENSE_FILE, {"alg": algorithm}, lambda data: b"\1" * 384)
    assert refused(forged + b"".join(rest), profile_of(vendor)).error is BAD_SIGNATURE_HEADER


def test_the_type_in_the_payload_must_be_the_signed_kind() -> None:
    assert refused(VENDOR.license_file(header={"type": "license"})).error is BAD_DOCUMENT
    assert refused(VENDOR.license_file(lines=[{"type": "license-file"}])).error is BAD_DOCUMENT


def test_a_withdrawn_list_is_no_license_file() -> None:
    found = refused(VENDOR.withdrawn())
    assert (found.error, found.message) == (WRONG_DOCUMENT, "It is a withdrawn list, not a license file.")


def test_a_license_file_is_no_withdrawn_list() -> None:
    (only,) = document.parse(FILE)
    with pytest.raises(Refused, match=r"WRONG_DOCUMENT.* a license file, not a withdrawn list"):
        trust.verify_withdrawn(only, PROFILES["acme"])


def test_a_certificate_not_valid_at_issue_is_named_with_the_date() -> None:
    vendor = pki.Vendor(leaf={"days": 30})
    found = refused(vendor.license_file(), profile_of(vendor))
    assert "CN=acme signer was not valid when the line was issued (2026-06-01)" in found.message
    vendor = pki.Vendor(leaf={"purposes": None})
    found = refused(vendor.license_file(), profile_of(vendor))
    assert "required extension" in found.message


@pytest.mark.parametrize(
    "x5c",
    [
        pytest.param([], id="empty"),
        pytest.param([pki.x5c(VENDOR.leaf.certificate)] * 5, id="five"),
        pytest.param(pki.x5c(VENDOR.leaf.certificate), id="text"),
        pytest.param(1, id="a number"),
        pytest.param({"0": pki.x5c(VENDOR.leaf.certificate)}, id="an object"),
        pytest.param([1], id="a number inside"),
        pytest.param(["AAAA"], id="no certificate"),
        pytest.param(["é"], id="not ASCII"),
        pytest.param([pki.x5c(VENDOR.leaf.certificate)[:-8]], id="cut"),
        pytest.param([pki.x5c(VENDOR.leaf.certificate).replace("A", "A\n", 1)], id="with a newline"),
        pytest.param([pki.x5c(VENDOR.leaf.certificate), "AAAA"], id="a second that is none"),
    ],
)
def test_x5c_that_holds_no_proper_certificates_is_refused(x5c: object) -> None:
    assert refused(VENDOR.license_file(protected={"x5c": x5c})).error is BAD_SIGNATURE_HEADER


# --- the signer ---------------------------------------------------------------------------------------------


def test_a_vendor_without_a_profile_is_untrusted() -> None:
    assert refused(FILE, {}).error is UNTRUSTED_SIGNER
    assert refused(pki.Vendor("other").license_file()).error is UNTRUSTED_SIGNER


@pytest.mark.parametrize(
    "root", [{"subject": "foreign root"}, {"subject": "acme root", "kind": "p384"}], ids=["foreign", "of the same name"]
)
def test_a_chain_to_a_foreign_anchor_is_untrusted(root: dict[str, Any]) -> None:
    assert refused(pki.Vendor(root=root).license_file()).error is UNTRUSTED_SIGNER


def test_a_chain_to_a_foreign_anchor_over_a_ca_that_it_brings_along_is_untrusted() -> None:
    assert refused(pki.Vendor(root={"subject": "foreign root"}, between=[{}]).license_file()).error is UNTRUSTED_SIGNER


def test_a_signer_of_one_vendor_cannot_sign_for_another() -> None:
    other = pki.Vendor("other", ("other.*",))
    profiles = PROFILES | profile_of(other)
    data = other.license_file(header={"vendor": "acme"})
    assert refused(data, profiles).error is UNTRUSTED_SIGNER


def test_a_self_signed_leaf_is_untrusted() -> None:
    vendor = pki.Vendor(leaf={"issuer": None})
    assert refused(vendor.license_file()).error is UNTRUSTED_SIGNER


def test_a_chain_whose_ca_between_is_left_out_is_untrusted() -> None:
    vendor = pki.Vendor(between=[{}])
    vendor.between = []
    assert refused(vendor.license_file(), profile_of(vendor)).error is UNTRUSTED_SIGNER


_WEB = [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param({"key_usage": pki.usage("key_encipherment")}, id="without digitalSignature"),
        pytest.param({"key_usage": None}, id="without keyUsage"),
        pytest.param({"key_usage": pki.usage("digital_signature", "key_cert_sign")}, id="with keyCertSign"),
        pytest.param({"purposes": None}, id="without a purpose"),
        pytest.param({"purposes": _WEB}, id="a web certificate"),
        pytest.param({"purposes": [SIGNING_PURPOSE, *_WEB]}, id="with another purpose beside"),
        pytest.param({"purposes": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]}, id="for any purpose"),
        pytest.param({"ca": True}, id="a CA"),
        pytest.param({"begins": datetime(2026, 6, 2, tzinfo=UTC)}, id="not yet valid at issue"),
        pytest.param({"days": 30}, id="no longer valid at issue"),
        pytest.param(
            {"extra": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)]},
            id="with an unknown critical extension",
        ),
        pytest.param({"kind": "rsa1024"}, id="RSA 1024"),
        # These two keys are none (any odd number has the form of a modulus): they are refused before they are used.
        pytest.param({"certified": rsa.RSAPublicNumbers(65537, 2**4104 - 1).public_key()}, id="RSA 4104"),
        pytest.param({"certified": rsa.RSAPublicNumbers(3, 2**2048 - 1).public_key()}, id="RSA with e 3"),
    ],
)
def test_a_certificate_that_may_not_sign_licenses_is_a_bad_certificate(leaf: dict[str, Any]) -> None:
    vendor = pki.Vendor(leaf=leaf)
    assert refused(vendor.license_file(), profile_of(vendor)).error is BAD_CERTIFICATE


def test_an_rsa_key_of_4096_bits_is_the_largest_taken() -> None:
    public = rsa.RSAPublicNumbers(65537, 2**4095 + 1).public_key()  # no key, but of its form
    vendor = pki.Vendor(kind="rsa", leaf={"certified": public})
    assert refused(vendor.license_file(), profile_of(vendor)).error is BAD_SIGNATURE


@pytest.mark.parametrize(
    "between",
    [
        pytest.param([{"ca": False}], id="no CA"),
        pytest.param([{"ca": None}], id="without basicConstraints"),
        pytest.param([{"key_usage": pki.usage("digital_signature")}], id="without keyCertSign"),
        pytest.param([{"key_usage": None}], id="without keyUsage"),
        pytest.param([{"days": 30}], id="no longer valid at issue"),
        pytest.param([{"path_length": 0}, {}], id="with too short a path length"),
    ],
)
def test_an_issuer_that_may_not_issue_is_a_bad_certificate(between: list[dict[str, Any]]) -> None:
    vendor = pki.Vendor(between=between)
    assert refused(vendor.license_file(), profile_of(vendor)).error is BAD_CERTIFICATE


def test_a_leaf_cannot_issue_another_leaf() -> None:
    inner = pki.Vendor(leaf={"issuer": VENDOR.leaf, "subject": "inner"})
    inner.between = [VENDOR.leaf]
    assert refused(inner.license_file()).error is BAD_CERTIFICATE


def test_each_lines_own_time_of_issue_is_checked() -> None:
    early = {"issued": "2025-06-01T00:00:00Z"}
    assert refused(VENDOR.license_file(lines=[early])).error is BAD_CERTIFICATE


def test_an_edwards_curve_certificate_cannot_sign() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([])
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begins, begins + timedelta(1000))
    vendor = pki.Vendor()
    vendor.leaf = pki.Authority(builder.sign(key, None), vendor.leaf.key)
    assert refused(vendor.license_file()).error is BAD_SIGNATURE_HEADER


def test_a_certificate_with_any_byte_changed_is_refused_by_name() -> None:
    # The signature header is rightly signed over each broken certificate: the DER is at fault, wherever it is read.
    payload = LINES[0].split(b"\t")[0]
    der = VENDOR.leaf.certificate.public_bytes(serialization.Encoding.DER)
    names = set()
    for at in range(len(der)):
        broken = der[:at] + bytes([der[at] ^ (0x55 if at % 2 else 0x03)]) + der[at + 1 :]
        protected = {
            "x5c": [document.b64(broken)],
            "x5t#S256": document.b64url(hashlib.sha256(broken).digest()).decode(),
        }
        names.add(refused(VENDOR.raw_line(payload, document.LICENSE_FILE, protected)).error)
    assert names <= {BAD_CERTIFICATE, BAD_SIGNATURE, BAD_SIGNATURE_HEADER, UNTRUSTED_SIGNER}
