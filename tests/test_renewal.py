"""The renewal request: one line that the device signs, and the whole license file behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licd.license import document, install, renewal
from licd.license.document import LICENSE_FILE, MAX_DOCUMENT_BYTES, MAX_HEADER_LINE, MAX_RENEWAL_BYTES, RENEWAL_REQUEST
from licd.license.renewal import NO_USAGE, RenewalRequest, Usage, sign_renewal_request, verify_renewal_request
from licd.rpc.errors import (
    BAD_DOCUMENT,
    BAD_SIGNATURE,
    BAD_SIGNATURE_HEADER,
    DAMAGED_DOCUMENT,
    DOCUMENT_TOO_LARGE,
    LINES_DO_NOT_FIT,
    WRONG_DOCUMENT,
    Error,
    Refused,
)
from tests.support import pki
from tests.support.installing import ANSWER, FACTORS, JWK, KEY, OTHER, an_id, b64url, read_or_refused
from tests.support.pki import DROP, NOW
from tests.support.points import points_of_small_order
from tests.support.renewal_documents import ASKED, LINE, not_asked
from tests.support.trusting import FILE, LINES, VENDOR, flipped, verify

# --- who signed it ----------------------------------------------------------------------------------------------


def test_a_changed_letter_anywhere_in_the_payload_is_a_bad_signature() -> None:
    for at in range(1, LINE.index(b"\t") - 1):
        assert not_asked(flipped(ASKED, at)).error is BAD_SIGNATURE


def test_a_request_signed_by_another_key_is_a_bad_signature() -> None:
    other = document.device_key(install.public_key(OTHER))
    for request in (
        pki.renewal_request(KEY, FILE, sign=OTHER.sign),
        pki.renewal_request(KEY, FILE, protected={"jwk": other}),
        pki.renewal_request(KEY, FILE, protected={"jwk": other}, sign=OTHER.sign),
        pki.renewal_request(KEY, FILE, device=install.public_key(OTHER)),
    ):
        assert not_asked(request).error is BAD_SIGNATURE


def test_a_key_of_small_order_is_refused_for_anybody_can_sign_under_it() -> None:
    for key in points_of_small_order():
        request = pki.renewal_request(
            KEY,
            FILE,
            device=b64url(key),
            protected={"jwk": document.device_key(b64url(key))},
            sign=lambda _: (1).to_bytes(32, "little") + bytes(32),
        )
        found = not_asked(request)
        assert found.error is BAD_SIGNATURE_HEADER
        assert "anybody" in found.message


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"}, {"alg": "ES256"}, {"alg": DROP}, {"jwk": JWK | {"d": "A" * 43}},
        {"jwk": JWK | {"crv": "X25519"}}, {"jwk": DROP}, {"x5c": []}, {"b64": True}, {"crit": DROP},
        {"typ": "licd-license-file"}, {"typ": DROP},
    ],
    ids=an_id,
)  # fmt: skip
def test_a_renewal_request_with_another_signature_header_is_refused(header: dict[str, Any]) -> None:
    found = not_asked(pki.renewal_request(KEY, FILE, protected=header))
    assert (found.error, found.data["line"]) == (BAD_SIGNATURE_HEADER, 1)


def test_a_license_request_under_the_typ_of_a_renewal_request_is_neither() -> None:
    request = pki.license_request(KEY, protected={"typ": f"licd-{RENEWAL_REQUEST}"})
    assert not_asked(request + FILE).error is BAD_DOCUMENT


def test_a_vendor_cannot_sign_a_renewal_request() -> None:
    assert not_asked(VENDOR.raw_line(LINE.split(b"\t")[0], RENEWAL_REQUEST) + FILE).error is BAD_SIGNATURE_HEADER


# --- the two documents ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error", "line"),
    [
        pytest.param(FILE + LINE, WRONG_DOCUMENT, None, id="the license file first"),
        pytest.param(FILE, WRONG_DOCUMENT, None, id="the license file alone"),
        pytest.param(ANSWER + FILE, WRONG_DOCUMENT, None, id="behind a license request"),
        pytest.param(LINE, DAMAGED_DOCUMENT, 1, id="without the license file"),
        pytest.param(LINE + LINE, WRONG_DOCUMENT, None, id="two renewal requests"),
        pytest.param(LINE + VENDOR.withdrawn(), WRONG_DOCUMENT, None, id="a withdrawn list behind it"),
        pytest.param(ASKED + FILE, BAD_DOCUMENT, 6, id="the license file twice"),
        pytest.param(ASKED + VENDOR.withdrawn(), BAD_DOCUMENT, 6, id="and a withdrawn list"),
        pytest.param(ASKED + ASKED, BAD_DOCUMENT, 6, id="all twice"),
        pytest.param(LINE + b"".join(LINES[:-1]), LINES_DO_NOT_FIT, 2, id="a license less"),
        pytest.param(ASKED + LINES[1], LINES_DO_NOT_FIT, 2, id="a license twice"),
        pytest.param(LINE + LINES[0] + LINES[2] + LINES[1] + LINES[3], LINES_DO_NOT_FIT, 2, id="changed places"),
        pytest.param(LINE + VENDOR.license_file(seq=2), LINES_DO_NOT_FIT, 2, id="another license file"),
        pytest.param(LINE + b"".join(LINES[1:]), LINES_DO_NOT_FIT, 2, id="licenses without their first line"),
        pytest.param(b"", DAMAGED_DOCUMENT, 1, id="nothing"),
        pytest.param(ASKED + b"and more\n", DAMAGED_DOCUMENT, 6, id="text behind it"),
        pytest.param(ASKED[:-20], DAMAGED_DOCUMENT, 5, id="cut in the last line"),
    ],
)
def test_a_renewal_request_is_one_line_and_one_license_file(data: bytes, error: Error, line: int | None) -> None:
    found = not_asked(data)
    assert (found.error, found.data.get("line")) == (error, line)


def test_one_changed_letter_anywhere_in_the_license_file_is_refused() -> None:
    errors = {not_asked(flipped(ASKED, at)).error for at in range(len(LINE), len(ASKED) - 1) if ASKED[at] != 9}
    assert errors == {LINES_DO_NOT_FIT, DAMAGED_DOCUMENT, BAD_SIGNATURE_HEADER}  # the digest; what no longer parses


@pytest.mark.parametrize("members", [{"file": "file-2"}, {"seq": 2}, {"vendor": "other"}], ids=an_id)
def test_a_request_that_names_another_file_than_the_one_behind_it_is_a_bad_document(members: dict[str, Any]) -> None:
    found = not_asked(pki.renewal_request(KEY, FILE, **members))
    assert (found.error, found.data["line"]) == (BAD_DOCUMENT, 1)


@pytest.mark.parametrize("wrong", [{"id": DROP}, {"seq": "1"}, {"licd": 2}, {"vendor": ["acme"]}], ids=an_id)
def test_a_license_file_that_nobody_can_read_behind_it_is_a_bad_document(wrong: dict[str, Any]) -> None:
    first = VENDOR.license_lines(lines=[])[0]
    (good,) = document.parse(first)
    bad = VENDOR.license_file(lines=[], header=wrong)
    line = pki.renewal_request(KEY, first, digest=document.parse(bad)[0].digest)[: -len(first)]
    assert good.digest.encode() not in line
    assert not_asked(line + bad).error is BAD_DOCUMENT


# --- what it may say --------------------------------------------------------------------------------------------

_DAYS = {"from": "2026-05-30", "peaks": {"kso.scales": [0, 3]}}


@pytest.mark.parametrize(
    "members",
    [
        {"licd": 2}, {"licd": True}, {"licd": DROP}, {"type": "license-request"}, {"type": DROP},
        {"id": ""}, {"id": 1}, {"id": "a b"}, {"id": "A" * 65}, {"id": None}, {"id": DROP},
        {"vendor": "ACME"}, {"vendor": None}, {"vendor": DROP},
        {"issued": "2026-06-01"}, {"issued": "2026-06-01T24:00:00Z"}, {"issued": 1}, {"issued": None}, {"issued": DROP},
        {"device": ""}, {"device": b64url(bytes(31))}, {"device": None}, {"device": JWK}, {"device": DROP},
        {"fingerprint": None}, {"fingerprint": []}, {"fingerprint": {"disk": []}}, {"fingerprint": {"disk": "123456"}},
        {"fingerprint": {"disk": ["12345"]}}, {"fingerprint": {"Disk": ["123456"]}}, {"fingerprint": DROP},
        {"fingerprint": {"disk": ["123456"] * 65}}, {"fingerprint": {f: ["123456"] for f in [*FACTORS, "factor_32"]}},
        {"unreadable": None}, {"unreadable": ["Disk"]}, {"unreadable": ["disk", "disk"]}, {"unreadable": DROP},
        {"unreadable": [*FACTORS, "factor_32"]}, {"file": ""}, {"file": None}, {"file": DROP}, {"file": "a b"},
        {"seq": 0}, {"seq": -1}, {"seq": "1"}, {"seq": True}, {"seq": None}, {"seq": DROP}, {"seq": 2**53},
        {"digest": ""}, {"digest": "a" * 63}, {"digest": "a" * 65}, {"digest": "A" * 64}, {"digest": None},
        {"digest": DROP}, {"usage": None}, {"usage": []}, {"usage": {}}, {"usage": DROP}, {"usage": {"from": None}},
        {"usage": {"peaks": {}}}, {"usage": _DAYS | {"to": "2026-06-01"}}, {"usage": _DAYS | {"from": "yesterday"}},
        {"usage": _DAYS | {"from": "2026-05-30T00:00:00Z"}}, {"usage": _DAYS | {"from": None}},
        {"usage": _DAYS | {"from": 1}}, {"usage": _DAYS | {"peaks": []}}, {"usage": _DAYS | {"peaks": None}},
        {"usage": _DAYS | {"peaks": {"kso.a": []}}}, {"usage": _DAYS | {"peaks": {"kso.a": [0] * 101}}},
        {"usage": _DAYS | {"peaks": {"kso.a": 3}}}, {"usage": _DAYS | {"peaks": {"kso.a": {"0": 3}}}},
        {"usage": _DAYS | {"peaks": {"kso.a": [-1]}}}, {"usage": _DAYS | {"peaks": {"kso.a": [True]}}},
        {"usage": _DAYS | {"peaks": {"kso.a": ["3"]}}}, {"usage": _DAYS | {"peaks": {"kso.a": [None]}}},
        {"usage": _DAYS | {"peaks": {"kso.a": [2**53]}}}, {"usage": _DAYS | {"peaks": {"KSO": [1]}}},
        {"usage": _DAYS | {"peaks": {"": [1]}}}, {"usage": _DAYS | {"peaks": {"k" * 65: [1]}}},
        {"usage": _DAYS | {"peaks": {"kso.a": [1, 2], "kso.b": [1]}}},
        {"usage": _DAYS | {"peaks": {f"kso.{n}": [1] for n in range(257)}}},
        {"x": {}}, {"hostname": "shop-12"}, {"install_request": "install-1"},
    ],
    ids=an_id,
)  # fmt: skip
def test_a_renewal_request_outside_the_schema_is_a_bad_document(members: dict[str, Any]) -> None:
    found = not_asked(pki.renewal_request(KEY, FILE, **members))
    assert (found.error, found.data["line"]) == (BAD_DOCUMENT, 1)
    name = next(iter(members))
    if name not in ("licd", "type") and "2^53" not in found.message:
        assert f"the member {name}" in found.message.replace("'", "")


@pytest.mark.parametrize(
    "members",
    [
        {"fingerprint": {}, "unreadable": []}, {"unreadable": FACTORS}, {"id": "A" * 64},
        {"issued": "2000-01-01T00:00:00Z"},
        {"fingerprint": {factor: ["00ff00"] for factor in FACTORS}}, {"usage": {"from": None, "peaks": {}}},
        {"usage": _DAYS | {"peaks": {}}}, {"usage": _DAYS | {"peaks": {"kso.a": [0] * 100}}},
        {"usage": _DAYS | {"peaks": {f"kso.{n}": [2**53 - 1] for n in range(256)}}},
        {"usage": {"from": "9998-12-31", "peaks": {"k" * 64: [1]}}},
    ],
    ids=an_id,
)  # fmt: skip
def test_a_renewal_request_just_within_the_bounds_is_read(members: dict[str, Any]) -> None:
    assert verify_renewal_request(pki.renewal_request(KEY, FILE, **members)).file == "file-1"


# --- how large it may be ----------------------------------------------------------------------------------------


def _file_of(size: int) -> bytes:
    """A license file of just so many bytes."""
    line = {"x": {"pad": "x" * 15_000}}
    file = VENDOR.license_file(lines=[line] * 60)
    rest = size - len(file)
    pads = [60 * [{"x": {"pad": "x" * 15_000}}], []]
    while rest > 0:
        pads[1].append({"x": {"pad": "x" * 10_000}})
        rest = size - len(VENDOR.license_file(lines=[*pads[0], *pads[1]]))
    spare = -rest
    if spare:
        pads[1][-1] = {"x": {"pad": "x" * (10_000 - spare)}}
    return VENDOR.license_file(lines=[*pads[0], *pads[1]])


def test_the_largest_license_file_goes_back_behind_the_longest_line() -> None:
    file = _file_of(MAX_DOCUMENT_BYTES)
    assert len(file) == MAX_DOCUMENT_BYTES
    usage = Usage("2026-03-01", {f"kso.{n}": [99_999] * 100 for n in range(256)})
    made = _signed(verify(file), usage)
    assert MAX_RENEWAL_BYTES - 2000 < len(made.text) <= MAX_RENEWAL_BYTES
    assert verify_renewal_request(made.text) == made
    assert not_asked(made.text + b"#" * (MAX_RENEWAL_BYTES - len(made.text)) + b"\n").error is DOCUMENT_TOO_LARGE


def test_a_first_line_over_its_limit_is_too_large() -> None:
    many = {"from": "2026-03-01", "peaks": {f"kso.{n}": [99_999] * 100 for n in range(256)}}
    assert not_asked(pki.renewal_request(KEY, FILE, usage=many)).error is DOCUMENT_TOO_LARGE


# --- what a device signs ----------------------------------------------------------------------------------------


def _signed(file: Any, usage: Usage = NO_USAGE, **changes: Any) -> RenewalRequest:
    options: dict[str, Any] = {"id": "r-2", "vendor": "acme", "issued": NOW + 0.75, "fingerprint": {}, "unreadable": ()}
    return sign_renewal_request(KEY, file=file, usage=usage, **(options | changes))


def test_a_renewal_request_is_read() -> None:
    assert verify_renewal_request(ASKED) == RenewalRequest(
        id="renewal-1",
        vendor="acme",
        issued=NOW,
        device=install.public_key(KEY),
        fingerprint={"board_serial": ["00ff00"], "disk": ["123456"]},
        unreadable=("product_serial",),
        file="file-1",
        seq=1,
        digest=verify(FILE).digest,
        usage=Usage("2026-05-30", {"kso.scales": [0, 3]}),
        text=ASKED,
        license_file=FILE,
    )


def test_what_a_device_signs_reads_back_as_it_was_meant() -> None:
    usage = Usage("2026-05-01", {"kso.scales": (1, 2, 3), "kso.pay": (0, 0, 9)})
    made = _signed(verify(FILE), usage, fingerprint={"disk": ("123456",)}, unreadable=iter(["board_serial"]))
    assert made == verify_renewal_request(made.text)
    assert made.usage == Usage("2026-05-01", {"kso.scales": [1, 2, 3], "kso.pay": [0, 0, 9]})
    assert (made.issued, made.device, made.license_file) == (NOW, install.public_key(KEY), FILE)
    assert (made.fingerprint, made.unreadable) == ({"disk": ["123456"]}, ("board_serial",))


@pytest.mark.parametrize("usage", [NO_USAGE, Usage(None, {}), Usage("2026-05-01", {}), Usage("2026-05-01", {"a": []})])
def test_no_usage_is_told_as_such(usage: Usage) -> None:
    made = _signed(verify(FILE), usage)
    assert verify_renewal_request(made.text).usage == made.usage == NO_USAGE


def test_of_more_days_than_a_request_may_tell_the_newest_are_told() -> None:
    made = _signed(verify(FILE), Usage("2026-01-01", {"kso.a": list(range(130))}))
    assert made.usage == Usage("2026-01-31", {"kso.a": list(range(30, 130))})


@given(st.integers(1, 256), st.integers(1, 120), st.sampled_from([0, 9, 12_345, 2**53 - 1]))
def test_of_usage_as_many_of_the_newest_days_are_told_as_fit_the_line(names: int, days: int, peak: int) -> None:
    usage = Usage("2026-01-01", {f"kso.{n}": [peak] * (days - 1) + [n] for n in range(names)})
    made = _signed(verify(FILE), usage)
    line = made.text[: -len(FILE)]
    assert len(line) <= MAX_HEADER_LINE
    kept = len(made.usage.peaks["kso.0"])
    assert all(told[-1] == n for n, told in enumerate(made.usage.peaks.values()))
    assert len(made.usage.peaks) == names
    another_day = names * (len(str(peak)) + 1) * 4 // 3  # nothing of the payload is encoded, so this is ample
    assert kept == min(days, renewal.MAX_DAYS) or len(line) + another_day > MAX_HEADER_LINE


def test_a_day_is_left_out_when_the_line_is_one_byte_too_long_and_not_before() -> None:
    def days(longer: int) -> tuple[int, int]:
        """The bytes of the line and the days that it tells, where so many peaks have two digits."""
        peaks = {f"kso.{n}": [10] * min(100, max(0, longer - 100 * n)) for n in range(256)}
        filled = {name: each + [9] * (100 - len(each)) for name, each in peaks.items()}
        made = _signed(verify(FILE), Usage("2026-01-01", filled))
        return len(made.text) - len(FILE), len(made.usage.peaks["kso.0"])

    bare, _ = days(0)
    longest = MAX_HEADER_LINE - bare
    assert days(longest) == (MAX_HEADER_LINE, 100)
    assert days(longest + 1)[1] == 99


@pytest.mark.parametrize(
    "wrong",
    [{"id": ""}, {"vendor": "ACME"}, {"fingerprint": {"Disk": ["123456"]}}, {"usage": Usage("2026-01-01", {"A": [1]})}],
    ids=an_id,
)
def test_a_device_does_not_sign_what_no_renewal_request_may_say(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        _signed(verify(FILE), **wrong)
    assert caught.value.error is BAD_DOCUMENT


# --- travel and any bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "travel",
    [
        pytest.param(lambda data: data.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="BOM"),
        pytest.param(lambda data: data.replace(b"\t", b"    ").replace(b"\n", b" \t \n\n"), id="blanks"),
        pytest.param(lambda data: data.rstrip(b"\n"), id="no last newline"),
        pytest.param(lambda data: b"# from shop 12\n" + data.replace(b"\n", b"\n# here\n", 1), id="comments"),
    ],
)
def test_what_travel_does_outside_the_signed_bytes_leaves_no_trace(travel: Callable[[bytes], bytes]) -> None:
    assert verify_renewal_request(travel(ASKED)).text == ASKED


@given(st.binary(max_size=200), st.integers(0, len(ASKED)), st.integers(0, 40))
def test_any_bytes_put_anywhere_are_read_or_refused_by_name(data: bytes, at: int, cut: int) -> None:
    read_or_refused(verify_renewal_request, ASKED[:at] + data + ASKED[at + cut :])


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1001) | st.text(max_size=8) | st.just("2026-06-01"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["from", "peaks", "disk"]), inner),
    max_leaves=6,
)


@given(st.sampled_from(list(renewal._RENEWAL_REQUEST)), _values)
def test_any_signed_value_of_a_member_is_read_or_refused(name: str, value: Any) -> None:
    data = pki.renewal_request(KEY, FILE, **{name: value})
    try:
        assert verify_renewal_request(data).text == data
    except Refused as error:
        allowed = {"device": BAD_SIGNATURE, "digest": LINES_DO_NOT_FIT}
        assert error.error in (BAD_DOCUMENT, allowed.get(name))  # noqa: PT017


def test_a_renewal_request_is_no_license_file() -> None:
    assert document.parse(ASKED)[0].kind == RENEWAL_REQUEST
    assert document.parse(ASKED)[1].kind == LICENSE_FILE
