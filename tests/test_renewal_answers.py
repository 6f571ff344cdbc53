"""The vendor's answers to a renewal request: unchanged, refusal. What is read, whom it is believed, what is none."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from licd.license import document, renewal, trust
from licd.license.dates import FOREVER
from licd.license.document import REFUSAL, UNCHANGED
from licd.license.renewal import Answer, verify_renewal_request
from licd.rpc.errors import (
    BAD_CERTIFICATE,
    BAD_DOCUMENT,
    BAD_SIGNATURE,
    BAD_SIGNATURE_HEADER,
    LINES_DO_NOT_FIT,
    SIGNER_RETIRED,
    UNTRUSTED_SIGNER,
    WRONG_DOCUMENT,
    Refused,
)
from tests.support import pki
from tests.support.installing import ANSWER, ASKED, KEY, an_id, b64url, read_or_refused
from tests.support.pki import DAY, DROP, NOW
from tests.support.renewal_documents import ASKED as RENEWAL
from tests.support.renewal_documents import LINE, answered, not_answered
from tests.support.trusting import FILE, LINES, PROFILES, VENDOR, flipped, profile_of

REQUEST = verify_renewal_request(RENEWAL)
SAME = VENDOR.unchanged(REQUEST)
NO = VENDOR.refusal(REQUEST)
BOTH = [pytest.param(SAME, id=UNCHANGED), pytest.param(NO, id=REFUSAL)]


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# --- whom it is believed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", BOTH)
def test_a_changed_letter_anywhere_in_the_payload_is_a_bad_signature(data: bytes) -> None:
    for at in range(1, data.index(b"\t") - 1):
        assert not_answered(flipped(data, at)).error is BAD_SIGNATURE


@pytest.mark.parametrize("data", BOTH)
def test_an_answer_of_another_root_or_vendor_is_not_trusted(data: bytes) -> None:
    payload, kind = data.split(b"\t")[0], document.parse(data)[0].kind
    foreign = pki.Vendor(root={"subject": "foreign root"})
    assert not_answered(foreign.raw_line(payload, kind)).error is UNTRUSTED_SIGNER
    other = pki.Vendor("other", names=("cam.*",))
    both = PROFILES | profile_of(other)
    assert not_answered(other.raw_line(payload, kind), both).error is UNTRUSTED_SIGNER
    assert answered(other.unchanged(), both).profile == "other"
    assert not_answered(data, {}).error is UNTRUSTED_SIGNER


@pytest.mark.parametrize("make", ["unchanged", "refusal"])
@pytest.mark.parametrize(
    "leaf",
    [{"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]}, {"ca": True}, {"key_usage": pki.usage("key_encipherment")}],
    ids=["of a web site", "of a CA", "not for signatures"],
)
def test_a_certificate_that_signs_no_licenses_signs_no_answer(make: str, leaf: dict[str, Any]) -> None:
    vendor = pki.Vendor(root=VENDOR.root, leaf=leaf)
    assert not_answered(getattr(vendor, make)(REQUEST)).error is BAD_CERTIFICATE


@pytest.mark.parametrize("make", ["unchanged", "refusal"])
def test_an_answer_issued_before_its_signers_certificate_is_refused(make: str) -> None:
    assert not_answered(getattr(VENDOR, make)(issued="2025-12-31T23:59:59Z")).error is BAD_CERTIFICATE


@pytest.mark.parametrize("data", BOTH)
def test_a_signer_that_ended_over_90_days_ago_signs_no_new_answer_but_what_was_taken_in_stays(data: bytes) -> None:
    ended = VENDOR.leaf.certificate.not_valid_after_utc.timestamp()
    assert answered(data, trusted_now=ended + 90 * DAY).seq == 1
    assert not_answered(data, trusted_now=ended + 90 * DAY + 1).error is SIGNER_RETIRED
    assert answered(data, trusted_now=ended + 90 * DAY + 1, new=False).seq == 1
    assert answered(data, trusted_now=None).seq == 1


@pytest.mark.parametrize("data", BOTH)
def test_a_withdrawn_signer_signs_no_new_answer_and_a_void_one_none_at_all(data: bytes) -> None:
    for void in (False, True):
        (only,) = document.parse(VENDOR.withdrawn((VENDOR.leaf.certificate, void)))
        profiles = profile_of(VENDOR, withdrawn=trust.verify_withdrawn(only, PROFILES["acme"]))
        assert not_answered(data, profiles).error is SIGNER_RETIRED
        if void:
            assert not_answered(data, profiles, new=False).error is SIGNER_RETIRED
        else:
            assert answered(data, profiles, new=False).seq == 1


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "EdDSA"}, {"alg": "none"}, {"alg": "HS256"}, {"alg": "ES384"}, {"jwk": {}}, {"x5c": DROP}, {"x5c": []},
        {"x5t#S256": b64url(bytes(32))}, {"typ": "licd-license-request"}, {"typ": "licd-license"}, {"b64": DROP},
    ],
    ids=an_id,
)  # fmt: skip
@pytest.mark.parametrize("kind", [UNCHANGED, REFUSAL])
def test_an_answer_with_another_signature_header_is_refused(kind: str, header: dict[str, Any]) -> None:
    payload = (SAME if kind == UNCHANGED else NO).split(b"\t")[0]
    data = VENDOR.raw_line(payload, kind, header, lambda _: bytes(96))
    assert not_answered(data).error is BAD_SIGNATURE_HEADER


def test_a_device_cannot_sign_an_answer() -> None:
    header = document.device_header(UNCHANGED, REQUEST.device)
    assert not_answered(pki.signed_line(SAME.split(b"\t")[0], header, KEY.sign)).error is BAD_SIGNATURE_HEADER


@pytest.mark.parametrize(("data", "typ"), [(SAME, REFUSAL), (NO, UNCHANGED), (SAME, document.WITHDRAWN)])
def test_one_kind_of_answer_under_the_typ_of_another_is_neither(data: bytes, typ: str) -> None:
    (only,) = document.parse(VENDOR.raw_line(data.split(b"\t")[0], typ))
    with pytest.raises(Refused) as caught:
        renewal.verify_answer(only, PROFILES, trusted_now=NOW, new=True)
    assert caught.value.error is (WRONG_DOCUMENT if typ == document.WITHDRAWN else BAD_DOCUMENT)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (FILE, "a license file"), (VENDOR.withdrawn(), "a withdrawn list"), (ASKED, "an install request"),
        (ANSWER, "a license request"), (LINE, "a renewal request"),
    ],
    ids=an_id,
)  # fmt: skip
def test_another_document_is_no_answer(data: bytes, words: str) -> None:
    found = not_answered(data)
    assert found.error is WRONG_DOCUMENT
    assert found.message == f"It is {words}, not an answer to a renewal request."


@pytest.mark.parametrize("data", BOTH)
def test_no_license_belongs_behind_an_answer(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        document.parse(data + LINES[1])
    assert caught.value.error is LINES_DO_NOT_FIT


def test_an_answer_with_a_withdrawn_list_behind_it_is_two_documents() -> None:
    for data in (SAME, NO, FILE):
        first, second = document.parse(data + VENDOR.withdrawn())
        assert (first.text, second.kind) == (data, document.WITHDRAWN)


# --- what it may say --------------------------------------------------------------------------------------------

_BOTH_MAY_NOT: list[dict[str, Any]] = [
    {"licd": 2}, {"licd": DROP}, {"type": "license-file"}, {"type": DROP},
    {"vendor": "ACME"}, {"vendor": None}, {"vendor": DROP}, {"request": ""}, {"request": None}, {"request": DROP},
    {"request": "A" * 65}, {"device": ""}, {"device": None}, {"device": b64url(bytes(31))}, {"device": DROP},
    {"file": ""}, {"file": None}, {"file": DROP}, {"file": 5}, {"seq": 0}, {"seq": "1"}, {"seq": True}, {"seq": None},
    {"seq": DROP}, {"issued": "2026-06-01"}, {"issued": None}, {"issued": DROP}, {"issued": 1780000000},
    {"x": None}, {"x": []}, {"x": "text"}, {"color": "red"}, {"id": "answer-1"}, {"digest": "0" * 64},
]  # fmt: skip
_UNCHANGED_MAY_NOT = [*_BOTH_MAY_NOT, {"reason": "x"}, {"stops": "2026-06-02"}, {"reason": None}, {"stops": None}]
_REFUSAL_MAY_NOT = [
    *_BOTH_MAY_NOT,
    {"reason": ""}, {"reason": None}, {"reason": DROP}, {"reason": "x" * 201}, {"reason": "\x1b[2J"},
    {"reason": "a\nb"}, {"reason": 5}, {"reason": ["x"]}, {"stops": None}, {"stops": DROP}, {"stops": ""},
    {"stops": "soon"},
    {"stops": "2026-06-02T00:00:00Z"}, {"stops": "2026-02-30"}, {"stops": "9999-12-31"}, {"stops": 20260602},
    {"stops": "2026-06-01"}, {"stops": "2026-05-31"}, {"stops": "2000-01-01"},
    {"issued": "2026-06-02T00:00:00Z", "stops": "2026-06-02"},
    {"issued": "2026-06-02T23:59:59Z", "stops": "2026-06-02"},
]  # fmt: skip


@pytest.mark.parametrize("members", _UNCHANGED_MAY_NOT, ids=an_id)
def test_an_unchanged_answer_outside_the_schema_is_a_bad_document(members: dict[str, Any]) -> None:
    _is_bad(VENDOR.unchanged(REQUEST, **members), members)


@pytest.mark.parametrize("members", _REFUSAL_MAY_NOT, ids=an_id)
def test_a_refusal_outside_the_schema_is_a_bad_document(members: dict[str, Any]) -> None:
    _is_bad(VENDOR.refusal(REQUEST, **members), members)


def _is_bad(data: bytes, members: dict[str, Any]) -> None:
    found = not_answered(data)
    assert (found.error, found.data["line"]) == (BAD_DOCUMENT, 1)
    name = list(members)[-1]
    assert name in ("licd", "type") or f"the member {name}" in found.message.replace("'", "")


@pytest.mark.parametrize(
    ("members", "stops_at"),
    [
        ({"issued": "2026-06-01T00:00:00Z", "stops": "2026-06-02"}, "2026-06-03T12:00:00Z"),
        ({"issued": "2026-06-01T23:59:59Z", "stops": "2026-06-02"}, "2026-06-03T12:00:00Z"),
        ({"stops": "9998-12-31"}, "9999-01-01T12:00:00Z"),
        ({"reason": "x"}, "2026-06-03T12:00:00Z"),
        ({"reason": "Договор расторгнут" + "!" * 182}, "2026-06-03T12:00:00Z"),
        ({"x": {"order": 4711}}, "2026-06-03T12:00:00Z"),
    ],
)
def test_a_refusal_just_within_the_bounds_is_read_and_stops_at_the_end_of_its_day(
    members: dict[str, Any], stops_at: str
) -> None:
    found = answered(VENDOR.refusal(REQUEST, **members))
    assert found.stops_at == moment(stops_at)
    assert found.x == members.get("x", {})


# --- what is read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
def test_answers_signed_with_each_kind_of_key_are_read(kind: str) -> None:
    vendor = pki.Vendor(kind=kind, between=[{}])
    profiles = {"shop": profile_of(vendor)["acme"]._replace(name="shop")}
    same = vendor.unchanged(REQUEST, x={"note": "thanks"})
    expected = Answer(
        kind=UNCHANGED,
        vendor="acme",
        profile="shop",
        request="renewal-1",
        device=REQUEST.device,
        file="file-1",
        seq=1,
        issued=NOW,
        reason=None,
        stops=None,
        stops_at=FOREVER,
        x={"note": "thanks"},
        text=same,
        digest=document.parse(same)[0].digest,
    )
    assert answered(same, profiles) == expected
    no = vendor.refusal(REQUEST, reason="The order has ended.", stops="2026-07-01")
    assert answered(no, profiles) == expected._replace(
        kind=REFUSAL,
        reason="The order has ended.",
        stops="2026-07-01",
        stops_at=moment("2026-07-02T12:00:00Z"),
        x={},
        text=no,
        digest=document.parse(no)[0].digest,
    )


@pytest.mark.parametrize("data", BOTH)
def test_what_travel_does_outside_the_signed_bytes_leaves_no_trace(data: bytes) -> None:
    travelled = b"\xef\xbb\xbf# from the vendor\r\n" + data.replace(b"\t", b"    ").replace(b"\n", b"  \r\n\r\n")
    assert answered(travelled) == answered(data)


@given(st.binary(max_size=200), st.integers(0, len(NO)), st.integers(0, 40))
def test_any_bytes_put_anywhere_are_read_or_refused_by_name(data: bytes, at: int, cut: int) -> None:
    def read(whole: bytes) -> None:
        for each in document.parse(whole):
            renewal.verify_answer(each, PROFILES, trusted_now=NOW, new=True)

    for whole in (SAME, NO):
        read_or_refused(read, whole[:at] + data + whole[at + cut :])


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1001) | st.text(max_size=8) | st.just("2026-06-05"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.sampled_from(list(renewal._REFUSAL)), _values)
def test_any_signed_value_of_a_member_is_read_or_refused(name: str, value: Any) -> None:
    data = VENDOR.refusal(REQUEST, **{"issued": "2026-06-01T12:00:00Z", name: value})
    try:
        assert answered(data).text == data
    except Refused as error:
        assert error.error in (BAD_DOCUMENT, UNTRUSTED_SIGNER)  # noqa: PT017
