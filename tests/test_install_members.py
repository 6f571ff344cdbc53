"""What an install request and a license request may say: each test breaks exactly one rule and signs again."""

from __future__ import annotations

from typing import Any

import pytest

from licd.license import install
from licd.license.document import INSTALL_REQUEST
from licd.rpc.errors import (
    BAD_DOCUMENT,
)
from tests.support import pki
from tests.support.installing import (
    ASKED,
    FACTORS,
    JWK,
    KEY,
    an_id,
    b64url,
    no_answer,
    no_request,
)
from tests.support.pki import DROP
from tests.support.trusting import VENDOR

# --- what an install request may say ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"licd": 2}, {"licd": True}, {"licd": DROP}, {"type": "license-request"}, {"type": DROP},
        {"id": ""}, {"id": 1}, {"id": "a b"}, {"id": "A" * 65}, {"id": None}, {"id": DROP},
        {"vendor": "ACME"}, {"vendor": None}, {"vendor": DROP},
        {"issued": "2026-06-01"}, {"issued": "2026-06-01T12:00:00"}, {"issued": "2026-06-01T12:00:00+00:00"},
        {"issued": "2026-06-01T24:00:00Z"}, {"issued": "1970-01-01T00:00:00Z"}, {"issued": DROP},
        {"issued": 1780000000},
        {"salt": b64url(bytes(15))}, {"salt": b64url(bytes(17))}, {"salt": ""}, {"salt": "A" * 21 + "B"}, {"salt": 5},
        {"salt": b64url(bytes(16)) + "=="}, {"salt": None}, {"salt": DROP},
        {"weights": {}}, {"weights": {"disk": 0}}, {"weights": {"disk": -1}}, {"weights": {"disk": 1001}},
        {"weights": {"disk": True}}, {"weights": {"disk": "30"}}, {"weights": {"disk": 30, "nic": 0}},
        {"weights": {"Disk": 1}}, {"weights": {"": 1}}, {"weights": {"a" * 33: 1}}, {"weights": {"disk-1": 1}},
        {"weights": ["disk"]}, {"weights": None}, {"weights": DROP},
        {"weights": dict.fromkeys([*FACTORS, "factor_32"], 1)},
        {"share": 0}, {"share": 101}, {"share": True}, {"share": "50"}, {"share": None}, {"share": DROP},
        {"url": "http://example.com/"}, {"url": "https://"}, {"url": "HTTPS://example.com"}, {"url": ""}, {"url": 5},
        {"url": "https://a b"}, {"url": "https://example.com/\n"}, {"url": "https://пример.рф/"},
        {"url": "https://" + "x" * 1001}, {"url": "ftp://https://x"}, {"url": DROP},
        {"x": None}, {"x": []}, {"x": "text"}, {"color": "red"}, {"lines": 0}, {"seq": 1},
    ],
    ids=an_id,
)  # fmt: skip
def test_an_install_request_outside_the_schema_is_a_bad_document(members: dict[str, Any]) -> None:
    found = no_request(VENDOR.install_request(**members))
    assert (found.error, found.data["line"]) == (BAD_DOCUMENT, 1)
    name = next(iter(members))
    assert name in ("licd", "type") or f"the member {name}" in found.message.replace("'", "")


@pytest.mark.parametrize(
    "change",
    [
        (b'"share":50', b'"share":50,"share":1'), (b'"share":50', b'"share":50.0'), (b'"share":50', b'"share":5e1'),
        (b'"disk":30', b'"disk":30,"disk":1'), (b'"share":50', b'"share":NaN'), (b'{"licd":1,', b'{"id":1,"licd":1,'),
        (b'"share":50', b'"x":{"a":' + b"[" * 30_000 + b"]" * 30_000 + b'},"share":50'),
    ],
    ids=lambda change: change[1][:24].decode(),
)  # fmt: skip
def test_json_that_is_signed_but_not_strict_is_a_bad_document(change: tuple[bytes, bytes]) -> None:
    payload = ASKED.split(b"\t")[0].replace(*change)
    assert no_request(VENDOR.raw_line(payload, INSTALL_REQUEST)).error is BAD_DOCUMENT


# --- what a license request may say -----------------------------------------------------------------------------

_SOFTWARE = {"os": "debian", "os_version": "13", "architecture": "x86_64", "licd": "0.1.0"}


@pytest.mark.parametrize(
    "members",
    [
        {"licd": 2}, {"licd": DROP}, {"type": "install-request"}, {"id": ""}, {"id": None}, {"id": DROP},
        {"vendor": "ACME"}, {"vendor": DROP}, {"install_request": ""}, {"install_request": None},
        {"install_request": DROP}, {"issued": "2026-06-01"}, {"issued": None}, {"issued": DROP},
        {"device": ""}, {"device": b64url(bytes(31))}, {"device": install.public_key(KEY) + "="}, {"device": None},
        {"device": JWK}, {"device": DROP},
        {"fingerprint": None}, {"fingerprint": []}, {"fingerprint": {"disk": []}}, {"fingerprint": {"disk": "123456"}},
        {"fingerprint": {"disk": ["12345"]}}, {"fingerprint": {"disk": ["1234567"]}},
        {"fingerprint": {"disk": ["ABCDEF"]}}, {"fingerprint": {"disk": [123456]}},
        {"fingerprint": {"Disk": ["123456"]}}, {"fingerprint": {"disk": ["123456"] * 65}},
        {"fingerprint": {"disk": {"123456": 1}}},
        {"fingerprint": {factor: ["123456"] for factor in [*FACTORS, "factor_32"]}}, {"fingerprint": DROP},
        {"unreadable": None}, {"unreadable": "disk"}, {"unreadable": {"disk": 1}}, {"unreadable": ["Disk"]},
        {"unreadable": [5]}, {"unreadable": [["disk"]]}, {"unreadable": ["disk", "disk"]},
        {"unreadable": [*FACTORS, "factor_32"]}, {"unreadable": DROP},
        {"software": None}, {"software": {}}, {"software": _SOFTWARE | {"kernel": "6.1"}},
        {"software": _SOFTWARE | {"os": None}}, {"software": _SOFTWARE | {"os": 5}},
        {"software": _SOFTWARE | {"os": "x" * 65}}, {"software": _SOFTWARE | {"os_version": "\x1b[2J"}},
        {"software": _SOFTWARE | {"licd": "0.1\n"}}, {"software": _SOFTWARE | {"architecture": "\u202e"}},
        {"software": DROP},
        {"machine": None}, {"machine": "vm"}, {"machine": {"kind": "vm"}},
        {"machine": {"kind": "toaster", "name": None}}, {"machine": {"kind": None, "name": None}},
        {"machine": {"kind": "vm", "name": ["kvm"]}},
        {"machine": {"kind": "vm", "name": "k\x00vm"}}, {"machine": {"kind": "vm", "name": "x" * 65}},
        {"machine": {"kind": "vm", "name": None, "host": "a"}}, {"machine": DROP},
        {"rehost": None}, {"rehost": 0}, {"rehost": "false"}, {"rehost": DROP},
        {"x": {}}, {"salt": b64url(bytes(16))}, {"hostname": "shop-12"},
    ],
    ids=an_id,
)  # fmt: skip
def test_a_license_request_outside_the_schema_is_a_bad_document(members: dict[str, Any]) -> None:
    found = no_answer(pki.license_request(KEY, **members))
    assert (found.error, found.data["line"]) == (BAD_DOCUMENT, 1)
    name = next(iter(members))
    assert name in ("licd", "type") or f"the member {name}" in found.message.replace("'", "")
