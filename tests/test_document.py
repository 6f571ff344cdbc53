"""Bytes to lines: what travel does to a file is tolerated, what is no document is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from licd.license import document
from licd.rpc.errors import (
    BAD_DOCUMENT,
    BAD_SIGNATURE_HEADER,
    DAMAGED_DOCUMENT,
    DOCUMENT_TOO_LARGE,
    LINES_DO_NOT_FIT,
    Refused,
)
from tests.support import pki

VENDOR = pki.Vendor()
LINES = VENDOR.license_lines(lines=[{"name": "kso.scales", "seats": 3}, {"name": "kso.pay", "license": "uncounted"}])
FILE = b"".join(LINES)


def refused(data: bytes, *most: int) -> Refused:
    with pytest.raises(Refused) as caught:
        document.parse(data, *most)
    assert caught.value.message  # the data fill the sentence
    return caught.value


# --- what is accepted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "travel",
    [
        pytest.param(lambda data: data.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda data: data.replace(b"\n", b"\r"), id="CR"),
        pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="BOM"),
        pytest.param(lambda data: data.replace(b"\n", b" \t \n"), id="trailing blanks"),
        pytest.param(lambda data: data.replace(b"\t", b"    "), id="TAB turned into blanks"),
        pytest.param(lambda data: data.rstrip(b"\n"), id="no last newline"),
        pytest.param(lambda data: data.replace(b"\n", b"\n\n  \n"), id="blank lines"),
        pytest.param(lambda data: b"# for shop 12\n" + data.replace(b"\n", b"\n# a comment {\n"), id="comments"),
        pytest.param(lambda data: "# для магазина\n".encode() + data, id="a comment in Russian"),
        pytest.param(lambda data: b"  " + data.replace(b"\n", b"\n  "), id="indented"),
    ],
)
def test_what_travel_does_outside_the_signed_bytes_is_accepted_and_leaves_no_trace(
    travel: Callable[[bytes], bytes],
) -> None:
    (only,) = document.parse(travel(FILE))
    assert only.text == FILE
    assert [record.payload for record in only.records] == [line.split(b"\t")[0] for line in LINES]


def test_a_delivery_is_parsed_into_its_documents_in_order() -> None:
    second = VENDOR.license_file(seq=2, lines=[{}])
    one, two = document.parse(FILE + b"\n# the next\n" + second)
    assert (one.text, two.text) == (FILE, second)
    assert (one.at_end, two.at_end) == (False, True)
    assert two.records[0].number == len(LINES) + 3


def test_the_text_of_a_document_parses_to_the_same_text() -> None:
    (once,) = document.parse(FILE.replace(b"\n", b"\r\n"))
    (twice,) = document.parse(once.text)
    assert twice.text == once.text


# --- any JWS library verifies a line --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
def test_pyjwt_verifies_a_line_as_rfc_7797_says(kind: str) -> None:
    vendor = pki.Vendor(kind=kind)
    payload, signature = vendor.license_file(lines=[]).rstrip(b"\n").split(b"\t")
    decoded = jwt.PyJWS().decode_complete(
        signature, vendor.leaf.key.public_key(), algorithms=[vendor.algorithm], detached_payload=payload
    )
    assert decoded["payload"] == payload
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.PyJWS().decode_complete(
            signature,
            vendor.leaf.key.public_key(),
            algorithms=[vendor.algorithm],
            detached_payload=payload.replace(b"file-1", b"file-2"),
        )


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
def test_joserfc_verifies_a_line_as_rfc_7797_says(kind: str) -> None:
    vendor = pki.Vendor(kind=kind)
    payload, signature = vendor.license_file(lines=[]).rstrip(b"\n").split(b"\t")
    pem = vendor.public_pem()
    key = RSAKey.import_key(pem) if kind == "rsa" else ECKey.import_key(pem)
    registry = jws.JWSRegistry(algorithms=[vendor.algorithm], strict_check_header=False)
    registry.max_header_length = document.MAX_HEADER_LINE  # its own bound, 512 bytes, is too small for x5c
    found = jws.deserialize_compact(signature, key, payload=payload, registry=registry)
    assert found.payload == payload


# --- damage, told apart from forgery --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "nothing is left", id="empty"),
        pytest.param(b"\n# only a comment\n", "nothing is left", id="comments only"),
        pytest.param(FILE.decode().encode("utf-16"), "UTF-16", id="saved as UTF-16"),
        pytest.param(FILE.replace(b"acme", b"acm\xe9", 1), "0xe9", id="not ASCII"),
        pytest.param(FILE.replace(b"acme", b"ac\0e", 1), "0x00", id="NUL"),
        pytest.param(FILE.replace(b"=", b"=3D").replace(b"\t", b"=09"), "quoted-printable", id="quoted-printable"),
        pytest.param(FILE[:300] + b"=\n" + FILE[300:], "quoted-printable", id="a soft line break"),
        pytest.param(FILE[:300] + b"\n" + FILE[300:], "wrapped", id="wrapped inside the payload"),
        pytest.param(FILE.replace(b"\t", b"\n", 1), "wrapped", id="wrapped before the signature"),
        pytest.param(LINES[0][:-9] + b"\n" + LINES[0][-9:], "line 1", id="wrapped inside the signature"),
        pytest.param(b"Dear customer,\n" + FILE, "text added", id="text around it"),
        pytest.param(b"> " + FILE, "text added", id="quoted in a reply"),
        pytest.param(FILE.replace(b"..", b"..*", 1), "signature is broken", id="not base64url"),
        pytest.param(LINES[0][:-1] + b" and more\n", "line 1", id="text behind the signature"),
        pytest.param(LINES[0][:-1] + b"..AAAA\n", "line 1", id="a second signature behind the first"),
        pytest.param(LINES[0][:-2] + b"B\n", "cut or altered", id="base64url with other bits"),
        pytest.param(LINES[0][:-2] + b"\n", "cut", id="base64url one letter short"),
    ],
)
def test_what_was_damaged_on_the_way_is_called_so(data: bytes, reason: str) -> None:
    found = refused(data)
    assert found.error is DAMAGED_DOCUMENT
    assert reason in found.message


def test_a_file_cut_anywhere_but_at_the_end_of_a_line_is_called_damaged() -> None:
    # What is cut at the end of a line parses; trust.verify knows how many lines there must be.
    ends = {len(b"".join(LINES[:n])) - newline for n in range(1, len(LINES) + 1) for newline in (0, 1)}
    for end in range(len(FILE)):
        if end not in ends:
            assert refused(FILE[:end]).error is DAMAGED_DOCUMENT


# --- lines that do not belong together --------------------------------------------------------------------------


def test_a_license_without_its_first_line_does_not_fit() -> None:
    found = refused(LINES[1])
    assert (found.error, found.data["line"]) == (LINES_DO_NOT_FIT, 1)


def test_a_license_behind_a_withdrawn_list_does_not_fit() -> None:
    assert refused(VENDOR.withdrawn() + LINES[1]).error is LINES_DO_NOT_FIT


def test_an_unsigned_line_is_refused_for_its_missing_signature() -> None:
    unsigned = LINES[1].split(b"\t")[0] + b"\n"
    for data in (LINES[0] + unsigned + LINES[2], LINES[0] + LINES[2] + unsigned):
        found = refused(data)
        assert found.error is BAD_SIGNATURE_HEADER
        assert "no signature" in found.message


# --- the signature header is a closed list ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"alg": "none"}, id="alg none"),
        pytest.param({"alg": "None"}, id="alg None"),
        pytest.param({"alg": "HS256"}, id="alg HS256"),
        pytest.param({"alg": "EdDSA"}, id="alg of a device"),
        pytest.param({"jwk": document.device_key("A" * 43)}, id="jwk of a device"),
        pytest.param({"alg": "ES512"}, id="alg of no vendor"),
        pytest.param({"alg": ["ES256"]}, id="alg a list"),
        pytest.param({"alg": pki.DROP}, id="no alg"),
        pytest.param({"b64": pki.DROP}, id="b64 missing"),
        pytest.param({"b64": True}, id="b64 true"),
        pytest.param({"b64": 0}, id="b64 0"),
        pytest.param({"crit": pki.DROP}, id="crit missing"),
        pytest.param({"crit": []}, id="crit empty"),
        pytest.param({"crit": ["b64", "exp"]}, id="crit with another"),
        pytest.param({"crit": ["b64", "b64"]}, id="crit twice"),
        pytest.param({"crit": "b64"}, id="crit as text"),
        pytest.param({"typ": "licd-license-request"}, id="typ of another document"),
        pytest.param({"typ": "licd-license-request", "x5c": pki.DROP}, id="typ of another document's line"),
        pytest.param({"typ": "licd-license"}, id="typ of a line that begins nothing"),
        pytest.param({"typ": "JOSE"}, id="typ of another use"),
        pytest.param({"typ": "mail-license-file"}, id="typ with another beginning"),
        pytest.param({"typ": pki.DROP}, id="no typ"),
        pytest.param({"typ": None}, id="typ null"),
        pytest.param({"jwk": {"kty": "EC"}}, id="jwk"),
        pytest.param({"kid": "1"}, id="kid"),
        pytest.param({"x5u": "https://example.com/"}, id="x5u"),
        pytest.param({"x5t#S256": pki.DROP}, id="no x5t"),
        pytest.param({"x5t#S256": 1}, id="x5t a number"),
        pytest.param({"x5c": pki.DROP}, id="no x5c"),
    ],
)
def test_a_signature_header_outside_the_closed_list_is_refused(header: dict[str, object]) -> None:
    found = refused(VENDOR.license_file(protected=header))
    assert (found.error, found.data["line"]) == (BAD_SIGNATURE_HEADER, 1)


def test_hs256_with_the_public_key_as_its_secret_is_refused() -> None:
    payload = LINES[0].split(b"\t")[0]
    pem = VENDOR.public_pem()

    def sign(data: bytes) -> bytes:
        return jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(data, pem)

    forged = VENDOR.raw_line(payload, document.LICENSE_FILE, {"alg": "HS256"}, sign)
    assert refused(forged + LINES[1]).error is BAD_SIGNATURE_HEADER


def test_a_later_line_must_not_bring_certificates() -> None:
    found = refused(VENDOR.license_file(line_protected={"x5c": VENDOR.protected(document.LICENSE_FILE)["x5c"]}))
    assert (found.error, found.data["line"]) == (BAD_SIGNATURE_HEADER, 2)


@pytest.mark.parametrize("protected", [b"e30", b"bm8", b"W10", b"eyJ0eXAiOjEsInR5cCI6MX0", b"A"])
def test_a_signature_header_that_is_no_proper_json_object_is_refused(protected: bytes) -> None:
    payload, signature = LINES[0].split(b"\t")
    assert refused(payload + b"\t" + protected + b".." + signature.split(b"..")[1]).error is BAD_SIGNATURE_HEADER


# --- limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(FILE + b"#" * document.MAX_DOCUMENT_BYTES, "bytes", id="bytes"),
        pytest.param(LINES[0] + LINES[1] * document.MAX_LINES, "2000 lines", id="lines"),
        pytest.param(FILE + b"\n" * document.MAX_INPUT_LINES, "lines", id="blank lines"),
        pytest.param(FILE + b"\n" * 1_000_000, "lines", id="a megabyte of newlines"),
        pytest.param(LINES[0].replace(b"{", b"{" + b" " * document.MAX_HEADER_LINE, 1), "line 1", id="first line"),
        pytest.param(LINES[0] + LINES[1].replace(b"{", b"{" + b" " * document.MAX_LINE, 1), "line 2", id="other line"),
    ],
)
def test_what_is_over_a_limit_is_too_large(data: bytes, reason: str) -> None:
    if len(data) > document.MAX_DOCUMENT_BYTES and reason != "bytes":
        data = data[: document.MAX_DOCUMENT_BYTES]
    found = refused(data)
    assert found.error is DOCUMENT_TOO_LARGE
    assert reason in found.message


def test_a_delivery_is_as_large_as_its_reader_allows() -> None:
    padded = FILE + b"#" * (document.MAX_DOCUMENT_BYTES - len(FILE))
    document.parse(padded)
    assert refused(padded + b"#").data["reason"] == "1048577 bytes, at most 1048576"
    more = FILE + b"#" * (document.MAX_RENEWAL_BYTES - len(FILE))
    document.parse(more, document.MAX_RENEWAL_BYTES)
    assert refused(more + b"#", document.MAX_RENEWAL_BYTES).error is DOCUMENT_TOO_LARGE


def test_a_file_at_the_limit_of_lines_is_accepted() -> None:
    (only,) = document.parse(LINES[0] + LINES[1] * (document.MAX_LINES - 1))
    assert len(only.records) == document.MAX_LINES


# --- strict JSON ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"a":1,"a":1}', id="duplicate key"),
        pytest.param('{"a":{"b":1,"b":2}}', id="duplicate key inside"),
        pytest.param('{"a":1,"\\u0061":1}', id="duplicate key, escaped"),
        pytest.param('{"a":NaN}', id="NaN"),
        pytest.param('{"a":Infinity}', id="Infinity"),
        pytest.param('{"a":-Infinity}', id="-Infinity"),
        pytest.param('{"a":1e400}', id="1e400"),
        pytest.param('{"a":1e2}', id="an exponent"),
        pytest.param('{"a":3.0}', id="a fraction"),
        pytest.param('{"a":9007199254740992}', id="2^53"),
        pytest.param('{"a":-9007199254740992}', id="-2^53"),
        pytest.param('{"a":' + "9" * 10_000 + "}", id="10,000 digits"),
        pytest.param('{"a":01}', id="a leading zero"),
        pytest.param('{"a":"\\ud800"}', id="a lone high surrogate"),
        pytest.param('{"a":"\\uDFFFx"}', id="a lone low surrogate"),
        pytest.param('{"\\ud800":1}', id="a lone surrogate as a key"),
        pytest.param('{"a":[[[[1]]]]}', id="depth 5"),
        pytest.param('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", id="100,000 brackets"),
        pytest.param("{" + "[" * 100_000, id="100,000 open brackets"),
        pytest.param('{"a":' * 100_000 + "1" + "}" * 100_000, id="100,000 objects"),
        pytest.param('{"a":1]', id="other bracket"),
        pytest.param('{"a":"b}', id="open text"),
        pytest.param('{"a":1}}', id="one brace too many"),
        pytest.param('{"a":1}{"b":2}', id="two objects"),
        pytest.param('{"a":1,}', id="a comma too many"),
        pytest.param("{'a':1}", id="other quotes"),
        pytest.param('{"a":"\t"}', id="a raw TAB in text"),
        pytest.param('{"a":\n1}', id="a newline"),
        pytest.param('{"a":"é"}', id="not ASCII"),
        pytest.param('{"a":"\x7f"}', id="DEL"),
        pytest.param("[1]", id="an array"),
        pytest.param("1", id="a number"),
        pytest.param("", id="nothing"),
    ],
)
def test_json_that_readers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(it|a number|the member) "):
        document.read_json(text.encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":[[[1]]]}', {"a": [[[1]]]}),
        ('{"a":"[[[[[[{{{{"}', {"a": "[[[[[[{{{{"}),
        ('{"a":"\\"[[[[["}', {"a": '"[[[[['}),
        ('{"a":"\\\\","b":{"c":[{}]}}', {"a": "\\", "b": {"c": [{}]}}),
        ('{"a":"\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
        ('{"a":9007199254740991,"b":-9007199254740991}', {"a": 2**53 - 1, "b": -(2**53) + 1}),
        ('{ "a" : true , "b" : null }', {"a": True, "b": None}),
        ("{}", {}),
    ],
)
def test_plain_json_is_read(text: str, value: object) -> None:
    assert document.read_json(text.encode()) == value


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), _values, max_size=4))
def test_what_is_written_is_read_back_the_same_if_it_is_not_too_deep(value: dict[str, object]) -> None:
    data = document.write_json(value)
    if _depth(value) <= document.MAX_DEPTH:
        assert document.read_json(data) == value
    else:
        with pytest.raises(ValueError, match="nested"):
            document.read_json(data)


@given(st.binary(max_size=400) | st.text(alphabet='{}[]",:\\u0d8ae+-.1tfn \t', max_size=100).map(str.encode))
def test_any_bytes_are_read_as_the_standard_reader_reads_them_or_refused(data: bytes) -> None:
    try:
        value = document.read_json(data)
    except ValueError:
        return
    assert json.loads(data) == value


@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_refused_by_name(data: bytes) -> None:
    for each in (data, FILE + data, data + FILE, FILE[:400] + data + FILE[400:]):
        try:
            document.parse(each)
        except Refused as error:
            assert error.message  # noqa: PT017  # the refusal itself is not what is asserted


def test_a_payload_must_begin_with_licd_and_type() -> None:
    for payload in (
        b'{"type":"license-file","licd":1}',
        b'{"licd":2,"type":"license-file"}',
        b'{"licd":true,"type":"x"}',
    ):
        (only,) = document.parse(VENDOR.raw_line(payload, document.LICENSE_FILE))
        with pytest.raises(Refused) as caught:
            _ = only.records[0].value
        assert caught.value.error is BAD_DOCUMENT
