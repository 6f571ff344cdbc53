"""Who signed an install request or a license request, and the signature header that says so."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import OKPKey

from licd.license import document, install
from licd.license.document import INSTALL_REQUEST, LICENSE_REQUEST
from licd.rpc.errors import (
    BAD_DOCUMENT,
    BAD_SIGNATURE,
    BAD_SIGNATURE_HEADER,
    DAMAGED_DOCUMENT,
    WRONG_DOCUMENT,
)
from licd_vendor.keys import sign_bytes
from tests.support import pki
from tests.support.installing import (
    ANSWER,
    ASKED,
    JWK,
    KEY,
    OTHER,
    an_id,
    b64url,
    no_answer,
    no_request,
    refused,
)
from tests.support.pki import DROP
from tests.support.points import points_of_small_order
from tests.support.trusting import VENDOR, flipped, verify

# --- any JWS library verifies a license request ------------------------------------------------------------------


def test_pyjwt_verifies_a_license_request_as_rfc_7797_says() -> None:
    payload, signature = ANSWER.rstrip(b"\n").split(b"\t")

    def read(payload: bytes) -> dict[str, Any]:
        return jwt.PyJWS().decode_complete(signature, KEY.public_key(), algorithms=["EdDSA"], detached_payload=payload)

    assert read(payload)["header"]["jwk"] == JWK
    with pytest.raises(jwt.InvalidSignatureError):
        read(payload.replace(b"request-1", b"request-2"))


# RFC 9864 would rather say Ed25519, which few libraries read so far.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_joserfc_verifies_a_license_request_with_the_key_it_names() -> None:
    payload, signature = ANSWER.rstrip(b"\n").split(b"\t")
    jwk = document.parse(ANSWER)[0].records[0].header["jwk"]
    registry = jws.JWSRegistry(algorithms=["EdDSA"], strict_check_header=False)
    found = jws.deserialize_compact(signature, OKPKey.import_key(jwk), payload=payload, registry=registry)
    assert found.payload == payload


# --- who signed a license request --------------------------------------------------------------------------------


def test_a_changed_letter_anywhere_in_the_payload_is_a_bad_signature_whatever_it_says_then() -> None:
    for data, no in ((ANSWER, no_answer), (ASKED, no_request)):
        for at in range(1, data.index(b"\t") - 1):
            assert no(flipped(data, at)).error is BAD_SIGNATURE


def test_a_changed_letter_in_a_signature_is_refused() -> None:
    for at in range(ANSWER.index(b"..") + 2, len(ANSWER) - 1):
        # The last letter holds bits that no byte needs: with others there it is no base64url.
        allowed = (BAD_SIGNATURE, DAMAGED_DOCUMENT) if at == len(ANSWER) - 2 else (BAD_SIGNATURE,)
        assert no_answer(flipped(ANSWER, at)).error in allowed


def test_a_changed_letter_in_a_signature_header_is_refused() -> None:
    names = {no_answer(flipped(ANSWER, at)).error for at in range(ANSWER.index(b"\t") + 1, ANSWER.index(b".."))}
    assert names == {BAD_SIGNATURE, BAD_SIGNATURE_HEADER}


def test_a_request_that_names_another_key_in_its_header_is_a_bad_signature() -> None:
    jwk = document.device_key(install.public_key(OTHER))
    assert no_answer(pki.license_request(KEY, protected={"jwk": jwk})).error is BAD_SIGNATURE
    assert no_answer(pki.license_request(KEY, sign=OTHER.sign)).error is BAD_SIGNATURE


def test_a_request_signed_again_by_another_key_under_the_name_of_the_first_is_a_bad_signature() -> None:
    jwk = document.device_key(install.public_key(OTHER))
    forged = pki.license_request(KEY, protected={"jwk": jwk}, sign=OTHER.sign)
    assert no_answer(forged).error is BAD_SIGNATURE
    assert no_answer(pki.license_request(KEY, device=install.public_key(OTHER))).error is BAD_SIGNATURE


def test_a_signature_with_its_second_half_reduced_otherwise_is_refused() -> None:
    # RFC 8032, 5.1.7: S must lie below the order of the group, or one message has many signatures.
    order = 2**252 + 27742317777372353535851937790883648493

    def longer(data: bytes) -> bytes:
        signature = KEY.sign(data)
        return signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")

    assert no_answer(pki.license_request(KEY, sign=longer)).error is BAD_SIGNATURE


def test_a_signature_of_other_length_is_refused() -> None:
    assert no_answer(pki.license_request(KEY, sign=lambda data: KEY.sign(data) + b"\0")).error is BAD_SIGNATURE
    assert no_answer(pki.license_request(KEY, sign=lambda data: KEY.sign(data)[:-1])).error is DAMAGED_DOCUMENT


def test_a_key_of_small_order_is_refused_for_anybody_can_sign_under_it() -> None:
    keys = points_of_small_order()
    assert len(keys) == 14  # five y, two of them in a second form, each with either sign
    for key in keys:
        found = no_answer(
            pki.license_request(
                KEY,
                device=b64url(key),
                protected={"jwk": document.device_key(b64url(key))},
                sign=lambda _: (1).to_bytes(32, "little") + bytes(32),
            )
        )
        assert found.error is BAD_SIGNATURE_HEADER
        assert "anybody" in found.message


# --- the signature header is a closed list -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        *({"alg": alg} for alg in ("none", "HS256", "ES256", "RS256", "Ed25519", "EdDSA ", None, DROP, ["EdDSA"])),
        *({"jwk": JWK | more} for more in ({"d": "A" * 43}, {"kid": "1"}, {"alg": "EdDSA"}, {"use": "sig"})),
        *({"jwk": JWK | {"kty": kty}} for kty in ("EC", "okp", None)),
        *({"jwk": JWK | {"crv": crv}} for crv in ("X25519", "Ed448", "P-256", None)),
        *({"jwk": JWK | {"x": x}} for x in ("", "AA", b64url(bytes(31)), b64url(bytes(33)), JWK["x"] + "=", 5, None)),
        *({"jwk": JWK | {"x": x}} for x in ("A" * 42 + "B", "é" * 43, "+" * 43, [JWK["x"]])),
        *({"jwk": jwk} for jwk in ({}, {"x": JWK["x"]}, None, DROP, JWK["x"], [JWK])),
        {"x5c": []}, {"x5t#S256": ""}, {"kid": "1"}, {"b64": True}, {"b64": DROP}, {"crit": ["b64", "exp"]},
        {"crit": DROP}, {"typ": "licd-install-request"}, {"typ": "licd-license-file"}, {"typ": "JOSE"}, {"typ": DROP},
        VENDOR.protected(INSTALL_REQUEST),
    ],
    ids=an_id,
)  # fmt: skip
def test_a_license_request_with_another_signature_header_is_refused(header: dict[str, Any]) -> None:
    found = no_answer(pki.license_request(KEY, protected=header))
    assert (found.error, found.data["line"]) == (BAD_SIGNATURE_HEADER, 1)


def test_a_key_of_another_curve_signs_no_license_request() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": b64url(numbers.x.to_bytes(32)), "y": b64url(numbers.y.to_bytes(32))}
    data = pki.license_request(
        KEY, protected={"alg": "ES256", "jwk": jwk}, sign=lambda data: sign_bytes(key, "ES256", data)
    )
    assert no_answer(data).error is BAD_SIGNATURE_HEADER


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "EdDSA"}, {"alg": "none"}, {"alg": "HS256"}, {"jwk": JWK}, {"x5c": DROP}, {"x5c": []},
        {"x5t#S256": b64url(bytes(32))}, {"typ": "licd-license-request"}, {"typ": "licd-license"},
        {"alg": "EdDSA", "jwk": JWK, "x5c": DROP, "x5t#S256": DROP},
    ],
    ids=an_id,
)  # fmt: skip
def test_an_install_request_with_another_signature_header_is_refused(header: dict[str, Any]) -> None:
    assert no_request(VENDOR.install_request(protected=header)).error is BAD_SIGNATURE_HEADER


def test_an_install_request_under_the_typ_of_a_license_file_is_taken_for_neither() -> None:
    data = VENDOR.install_request(protected={"typ": "licd-license-file"})
    assert no_request(data).error is WRONG_DOCUMENT
    assert refused(verify, data).error is BAD_DOCUMENT


def test_an_algorithm_that_does_not_fit_the_certificates_key_is_refused() -> None:
    payload = ASKED.split(b"\t")[0]
    data = VENDOR.raw_line(payload, INSTALL_REQUEST, {"alg": "ES384"}, lambda _: bytes(96))
    assert no_request(data).error is BAD_SIGNATURE_HEADER


def test_a_device_cannot_sign_an_install_request() -> None:
    payload = ASKED.split(b"\t")[0]
    header = document.device_header(INSTALL_REQUEST, install.public_key(KEY))
    assert no_request(pki.signed_line(payload, header, KEY.sign)).error is BAD_SIGNATURE_HEADER


def test_a_vendor_cannot_sign_a_license_request() -> None:
    payload = ANSWER.split(b"\t")[0]
    assert no_answer(VENDOR.raw_line(payload, LICENSE_REQUEST)).error is BAD_SIGNATURE_HEADER
