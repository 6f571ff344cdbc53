"""License files under a vendor profile: each test breaks exactly one rule and signs again."""

from __future__ import annotations

from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from licd.license import document, trust
from licd.rpc.errors import (
    BAD_SIGNATURE,
    BAD_SIGNATURE_HEADER,
    DAMAGED_DOCUMENT,
    LINES_DO_NOT_FIT,
    SIGNER_RETIRED,
    Error,
    Refused,
)
from tests.support import pki
from tests.support.pki import DAY, NOW
from tests.support.trusting import FILE, LINES, PROFILES, THREE, VENDOR, flipped, profile_of, refused, verify

# --- what is accepted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
def test_a_license_file_signed_with_each_kind_of_key_is_verified(kind: str) -> None:
    vendor = pki.Vendor(kind=kind)
    file = verify(vendor.license_file(seq=7, lines=THREE), profile_of(vendor))
    assert (file.vendor, file.profile, file.seq, file.issued) == ("acme", "acme", 7, NOW)
    assert [(line.name, line.seats) for line in file.lines] == [("kso.scales", 3), ("kso.pay", 0), ("kso.light", 1)]


def test_rs256_is_accepted_too() -> None:
    vendor = pki.Vendor(kind="rsa")
    vendor.algorithm = "RS256"
    assert verify(vendor.license_file(), profile_of(vendor)).seq == 1


def test_a_file_of_no_licenses_is_accepted() -> None:
    assert verify(VENDOR.license_file(lines=[])).lines == ()


def test_verification_yields_once_a_signature_so_that_it_can_be_sliced() -> None:
    (only,) = document.parse(FILE)
    assert sum(1 for _ in trust.verify(only, PROFILES, trusted_now=NOW, new=True)) == len(LINES)


def test_a_leaf_without_basic_constraints_is_accepted() -> None:
    vendor = pki.Vendor(leaf={"ca": None})
    assert verify(vendor.license_file(), profile_of(vendor)).seq == 1


def test_a_chain_with_as_many_cas_between_as_x5c_holds_is_accepted() -> None:
    vendor = pki.Vendor(between=[{}, {}, {}])
    assert verify(vendor.license_file(), profile_of(vendor)).seq == 1


def test_a_new_root_is_reached_by_a_cross_certificate() -> None:
    old = pki.authority("old root")
    new = pki.authority("new root")
    vendor = pki.Vendor(root=new)
    cross = pki.issue("new root", new.key, old, ca=True, key_usage=pki.usage("key_cert_sign"))
    vendor.between = [cross]
    for root in (old, new):
        assert verify(vendor.license_file(), profile_of(vendor, anchors=(root.certificate,))).seq == 1


def test_a_perpetual_license_outlives_its_signer_where_it_is_in_force() -> None:
    ended = VENDOR.leaf.certificate.not_valid_after_utc.timestamp()
    assert verify(FILE, now=ended + 40 * 365 * DAY, new=False).seq == 1


def test_an_x_member_is_the_vendors_to_fill() -> None:
    x = {"order": "4711", "deep": {"er": [1]}}
    file = verify(VENDOR.license_file(header={"x": x}, lines=[{"x": x}]))
    assert (file.x, file.lines[0].x) == (x, x)


def test_the_text_and_digest_are_those_of_the_whole_file() -> None:
    file = verify(b"# hello\r\n" + FILE.replace(b"\n", b"\r\n"))
    assert file.text == FILE
    assert file.digest == verify(FILE).digest != verify(VENDOR.license_file()).digest


# --- one byte -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_changed_letter_in_any_payload_is_a_bad_signature_whatever_it_says_then(number: int) -> None:
    line = LINES[number]
    for at in range(1, line.index(b"\t") - 1):
        data = b"".join([*LINES[:number], flipped(line, at), *LINES[number + 1 :]])
        found = refused(data)
        assert (found.error, found.data["line"]) == (BAD_SIGNATURE, number + 1)


def test_a_changed_letter_in_any_signature_is_refused() -> None:
    line = LINES[1]
    for at in range(line.index(b"..") + 2, len(line) - 1):
        found = refused(b"".join([LINES[0], flipped(line, at), *LINES[2:]]))
        # The last letter holds bits that no byte needs: with others there it is no base64url.
        allowed = (BAD_SIGNATURE, DAMAGED_DOCUMENT) if at == len(line) - 2 else (BAD_SIGNATURE,)
        assert found.error in allowed


def test_a_changed_letter_in_any_signature_header_is_refused() -> None:
    line = LINES[1]
    names = set()
    for at in range(line.index(b"\t") + 1, line.index(b"..")):
        names.add(refused(b"".join([LINES[0], flipped(line, at), *LINES[2:]])).error)
    assert names <= {BAD_SIGNATURE, BAD_SIGNATURE_HEADER, LINES_DO_NOT_FIT}


def test_a_signature_with_the_right_numbers_but_more_bytes_is_refused() -> None:
    payload, signature = LINES[0].rstrip(b"\n").split(b"\t")
    protected, _, text = signature.rpartition(b"..")
    raw = document.b64url_decode(text)
    for longer in (raw + b"\0\0\0", raw[:32] + b"\0\0\0" + raw[32:]):
        line = payload + b"\t" + protected + b".." + document.b64url(longer) + b"\n"
        assert refused(line + b"".join(LINES[1:])).error is BAD_SIGNATURE


def test_a_signature_in_der_is_refused() -> None:
    key = VENDOR.leaf.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    data = VENDOR.raw_line(
        LINES[0].split(b"\t")[0], document.LICENSE_FILE, None, lambda data: key.sign(data, ec.ECDSA(SHA256()))
    )
    assert refused(data).error is BAD_SIGNATURE


# --- lines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "error", "number"),
    [
        pytest.param([LINES[0], LINES[2], LINES[3]], LINES_DO_NOT_FIT, 2, id="removed in the middle"),
        pytest.param([LINES[0], LINES[1], LINES[1], LINES[2]], LINES_DO_NOT_FIT, 3, id="repeated"),
        pytest.param([LINES[0], LINES[1], LINES[3], LINES[2]], LINES_DO_NOT_FIT, 3, id="reordered"),
        pytest.param([*LINES, LINES[3]], LINES_DO_NOT_FIT, 5, id="repeated at the end"),
        pytest.param(
            [*LINES[:3], VENDOR.license_lines(seq=2, lines=THREE)[3]], LINES_DO_NOT_FIT, 4, id="of another file"
        ),
        pytest.param(LINES[:3], DAMAGED_DOCUMENT, 3, id="cut off at the end of a line"),
        pytest.param(LINES[:1], DAMAGED_DOCUMENT, 1, id="only the first line"),
    ],
)
def test_lines_must_be_all_there_once_and_in_order(lines: list[bytes], error: Error, number: int) -> None:
    found = refused(b"".join(lines))
    assert (found.error, found.data["line"]) == (error, number)


def test_a_line_missing_where_another_document_follows_was_not_cut_off() -> None:
    first, _ = document.parse(b"".join(LINES[:3]) + VENDOR.license_file(seq=2))
    with pytest.raises(Refused) as caught:
        document.run(trust.verify(first, PROFILES, trusted_now=NOW, new=True))
    assert caught.value.error is LINES_DO_NOT_FIT


def test_one_line_more_than_the_first_line_says_does_not_fit() -> None:
    lines = VENDOR.license_lines(lines=THREE, header={"lines": 2})
    assert refused(b"".join(lines)).error is LINES_DO_NOT_FIT


def test_a_line_signed_by_another_leaf_of_the_same_root_does_not_fit() -> None:
    other = pki.Vendor(root=VENDOR.root, leaf={"subject": "other signer"})
    found = refused(LINES[0] + other.license_lines(lines=THREE)[1] + LINES[2] + LINES[3])
    assert (found.error, found.data["line"]) == (LINES_DO_NOT_FIT, 2)


def test_a_line_that_names_the_leaf_but_is_signed_by_another_is_a_bad_signature() -> None:
    other = pki.Vendor(root=VENDOR.root, leaf={"subject": "other signer"})
    protected = {"x5t#S256": VENDOR.protected(document.LICENSE)["x5t#S256"]}
    forged = other.license_lines(lines=THREE, line_protected=protected)[1]
    assert refused(LINES[0] + forged + LINES[2] + LINES[3]).error is BAD_SIGNATURE


# --- what is new --------------------------------------------------------------------------------------------


def test_a_signer_that_ended_over_90_days_ago_signs_nothing_new() -> None:
    ended = VENDOR.leaf.certificate.not_valid_after_utc.timestamp()
    assert verify(FILE, now=ended + 90 * DAY).seq == 1
    assert refused(FILE, now=ended + 90 * DAY + 1).error is SIGNER_RETIRED
    assert verify(FILE, now=ended + 900 * DAY, new=False).seq == 1
    assert verify(FILE, now=None).seq == 1


def _profiles_with(withdrawn: bytes) -> dict[str, trust.VendorProfile]:
    (only,) = document.parse(withdrawn)
    return profile_of(VENDOR, withdrawn=trust.verify_withdrawn(only, PROFILES["acme"]))


def test_a_withdrawn_signer_signs_nothing_new_but_what_is_in_force_stays() -> None:
    profiles = _profiles_with(VENDOR.withdrawn((VENDOR.leaf.certificate, False)))
    assert refused(FILE, profiles).error is SIGNER_RETIRED
    assert verify(FILE, profiles, new=False).seq == 1


def test_a_void_signers_files_are_no_longer_in_force() -> None:
    profiles = _profiles_with(VENDOR.withdrawn((VENDOR.leaf.certificate, True)))
    assert refused(FILE, profiles).error is SIGNER_RETIRED
    assert refused(FILE, profiles, new=False).error is SIGNER_RETIRED


def test_a_withdrawn_ca_between_withdraws_its_signers() -> None:
    vendor = pki.Vendor(between=[{}])
    (only,) = document.parse(vendor.withdrawn((vendor.between[0].certificate, True)))
    listed = trust.verify_withdrawn(only, profile_of(vendor)["acme"])
    assert refused(vendor.license_file(), profile_of(vendor, withdrawn=listed), new=False).error is SIGNER_RETIRED


def test_another_withdrawn_certificate_changes_nothing() -> None:
    other = pki.Vendor(root=VENDOR.root, leaf={"subject": "other signer"})
    assert verify(FILE, _profiles_with(VENDOR.withdrawn((other.leaf.certificate, True)))).seq == 1


def test_a_withdrawn_signer_is_not_another_one_by_another_form_of_its_certificate() -> None:
    profiles = _profiles_with(VENDOR.withdrawn((VENDOR.leaf.certificate, True)))
    r, s = decode_dss_signature(VENDOR.leaf.certificate.signature)
    der = VENDOR.leaf.certificate.public_bytes(Encoding.DER)
    old = VENDOR.leaf.certificate.signature
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
    new = encode_dss_signature(r, order - s)
    tail = der[4 + len(VENDOR.leaf.certificate.tbs_certificate_bytes) : -len(old) - 3]  # signatureAlgorithm
    inner = VENDOR.leaf.certificate.tbs_certificate_bytes + tail + bytes((3, len(new) + 1, 0)) + new
    other = b"\x30\x82" + len(inner).to_bytes(2) + inner
    thumbprint = document.b64url(sha256(other).digest()).decode()
    data = VENDOR.license_file(
        protected={"x5c": [document.b64(other)], "x5t#S256": thumbprint}, line_protected={"x5t#S256": thumbprint}
    )
    assert verify(data).seq == 1
    assert refused(data, profiles, new=False).error is SIGNER_RETIRED
