"""What a signer may say: each test breaks exactly one rule of a line's schema and signs again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from licd.license import document
from licd.license.binding import Binding
from licd.rpc.errors import (
    BAD_DOCUMENT,
    FOREIGN_NAME,
)
from tests.support.pki import DROP
from tests.support.trusting import VENDOR, profile_of, refused, verify

# --- what the signer said ---------------------------------------------------------------------------------------

_BINDING: dict[str, Any] = {
    "key": document.b64url(bytes(32)).decode(),
    "salt": document.b64url(bytes(16)).decode(),
    "fingerprint": {"board_serial": ["00ff00"], "disks": ["123456", "abcdef"]},
    "weights": {"board_serial": 3, "disks": 2},
    "share": 60,
}
_FACTORS = {f"factor_{n}": ["00ff00"] for n in range(33)}
_MOST = list(_FACTORS)[:32]


def test_a_binding_is_read() -> None:
    assert verify(VENDOR.license_file(header={"device": _BINDING})).device == Binding(**_BINDING)


def test_a_license_file_for_any_device_is_bound_to_none() -> None:
    assert verify(VENDOR.license_file()).device is None


@pytest.mark.parametrize(
    "change",
    [
        {"weights": dict.fromkeys(_MOST, 1000), "fingerprint": {factor: ["00ff00"] for factor in _MOST}},
        {"weights": {"disks": 1}, "fingerprint": {"disks": [f"{n:06x}" for n in range(64)]}},
        {"fingerprint": {}}, {"share": 1}, {"share": 100},
    ],
    ids=lambda change: json.dumps(change)[:60],
)  # fmt: skip
def test_a_binding_just_within_the_bounds_is_read(change: dict[str, Any]) -> None:
    device = _BINDING | change
    assert verify(VENDOR.license_file(header={"device": device})).device == Binding(**device)


@pytest.mark.parametrize(
    "line",
    [
        {"seats": 1}, {"seats": 1_000_000}, {"title": "x" * 200}, {"name": "kso." + "x" * 60}, {"grace_days": 365},
        {"expires": "9998-12-31"}, {"not_before": "2000-01-01", "expires": "2000-01-01"}, {"expires": "2028-02-29"},
        {"renewal": {"need": "optional", "every_days": 1, "grace_days": 0}}, {"issued": "2026-01-01T00:00:00Z"},
        {"versions": ">=4,<6"}, {"x": {}},
    ],
    ids=lambda line: json.dumps(line)[:60],
)  # fmt: skip
def test_what_lies_just_within_the_bounds_is_accepted(line: dict[str, Any]) -> None:
    assert len(verify(VENDOR.license_file(lines=[line])).lines) == 1


@pytest.mark.parametrize(
    "header",
    [
        {"id": ""}, {"id": 1}, {"id": "a b"}, {"id": DROP}, {"licd": 2}, {"licd": True}, {"licd": DROP},
        {"type": "invoice"}, {"type": None}, {"vendor": "ACME"}, {"vendor": None}, {"device": DROP}, {"device": {}},
        {"device": []}, {"device": _BINDING | {"share": 0}}, {"device": _BINDING | {"key": "AA"}},
        {"device": _BINDING | {"key": 5}}, {"device": _BINDING | {"name": "x"}},
        {"device": _BINDING | {"weights": {"disks": 1}}}, {"device": _BINDING | {"fingerprint": {"disks": 5}}},
        {"device": _BINDING | {"fingerprint": {}, "weights": {"Disks": 1}}},
        {"device": _BINDING | {"fingerprint": {"disks": ["12345"]}}}, {"device": _BINDING | {"fingerprint": {"": []}}},
        {"device": _BINDING | {"fingerprint": {"disks": "123456"}}}, {"device": _BINDING | {"share": 101}},
        {"device": _BINDING | {"share": True}}, {"device": _BINDING | {"salt": document.b64url(bytes(15)).decode()}},
        {"device": _BINDING | {"weights": {}, "fingerprint": {}}},
        {"device": _BINDING | {"weights": {"board_serial": 0, "disks": 2}}},
        {"device": _BINDING | {"weights": {"board_serial": 1001, "disks": 2}}},
        {"device": _BINDING | {"weights": {"board_serial": "3", "disks": 2}}},
        {"device": _BINDING | {"weights": [3]}}, {"device": _BINDING | {"fingerprint": {"disks": []}}},
        {"device": _BINDING | {"fingerprint": {"disks": ["00FF00"]}}},
        {"device": _BINDING | {"fingerprint": {"disks": ["000000"] * 65}}},
        {"device": _BINDING | {"fingerprint": {"disks": [123456]}}},
        {"device": _BINDING | {"weights": dict.fromkeys(_FACTORS, 1), "fingerprint": {}}},
        {"seq": 0}, {"seq": -1}, {"seq": "1"}, {"seq": True}, {"seq": None}, {"request": ""}, {"request": 5},
        {"issued": "2026-06-01"}, {"issued": "2026-06-01T12:00:00"}, {"issued": "2026-06-01T24:00:00Z"},
        {"issued": "2026-02-30T12:00:00Z"}, {"issued": "9999-12-31T12:00:00Z"}, {"issued": 1780000000},
        {"lines": -1}, {"lines": 2000}, {"lines": "1"}, {"lines": None}, {"renewal": None}, {"renewal": {}},
        {"renewal": {"need": "never", "every_days": 30, "grace_days": 1}},
        {"renewal": {"need": "none", "every_days": 1}},
        {"renewal": {"need": "required", "every_days": 30}},
        {"renewal": {"need": "required", "every_days": 0, "grace_days": 1}},
        {"device_grace_days": -1}, {"device_grace_days": 366}, {"x": None}, {"x": 1}, {"color": "red"}, {"": 1},
    ],
    ids=lambda header: json.dumps(header, default=lambda _: "left out")[:60],
)  # fmt: skip
def test_a_first_line_outside_the_schema_is_a_bad_document(header: dict[str, Any]) -> None:
    found = refused(VENDOR.license_file(header=header))
    assert (found.error, found.data["line"]) == (BAD_DOCUMENT, 1)


@pytest.mark.parametrize(
    "line",
    [
        {"seats": 0}, {"seats": -1}, {"seats": 1_000_001}, {"seats": True}, {"seats": "3"}, {"seats": None},
        {"seats": [3]}, {"seats": DROP}, {"license": "uncounted", "seats": 1}, {"license": "floating"},
        {"license": None}, {"name": "KSO.scales"}, {"name": ".kso"}, {"name": "kso." + "x" * 61}, {"name": ""},
        {"name": 1}, {"name": DROP}, {"title": None}, {"title": "x" * 201}, {"title": "\x1b[2J"}, {"title": "a\nb"},
        {"id": ""}, {"id": None}, {"expires": "9999-12-31"}, {"expires": "1999-12-31"}, {"expires": "2026-02-30"},
        {"expires": "2026-6-1"}, {"expires": "20260601"}, {"expires": "2026-W01-1"}, {"expires": ""},
        {"expires": "2026-06-01T00:00:00Z"}, {"expires": 20260601}, {"expires": DROP}, {"not_before": "soon"},
        {"not_before": "2026-06-02", "expires": "2026-06-01"}, {"versions": ""}, {"versions": "*"}, {"versions": "5.x"},
        {"versions": 5}, {"versions": "<5.*"}, {"versions": ">=4,"}, {"versions": "=5"}, {"versions": "1." * 8 + "1"},
        {"versions": ",".join(["1"] * 9)}, {"versions": "5.*" + " " * 200}, {"grace_days": -1}, {"grace_days": 366},
        {"grace_days": None}, {"renewal": "none"}, {"replaces": ""}, {"replaces": "l1"},
        {"issued": "2026-06-01T12:00:01Z"}, {"issued": None}, {"n": "1"}, {"n": 0}, {"n": None}, {"file": None},
        {"x": []}, {"color": "red"}, {"Seats": 3}, {"licd": 1.0}, {"type": DROP},
    ],
    ids=lambda line: json.dumps(line, default=lambda _: "left out")[:60],
)  # fmt: skip
def test_a_license_outside_the_schema_is_a_bad_document(line: dict[str, Any]) -> None:
    found = refused(VENDOR.license_file(lines=[line]))
    assert found.error is BAD_DOCUMENT
    if line.keys() & {"license", "seats"}:
        assert f"the member {list(line)[-1]}" in found.message


@pytest.mark.parametrize(
    "change",
    [
        (b'"seats":3', b'"seats":3,"seats":300'),
        (b'"seats":3', b'"seats":NaN'),
        (b'"seats":3', b'"seats":1e400'),
        (b'"seats":3', b'"seats":3.0'),
        (b'"seats":3', b'"seats":03'),
        (b'"seats":3', b'"seats":9007199254740993'),
        (b'"title":""', b'"title":"\\ud800"'),
        (b'"title":""', b'"title":' + b"[" * 7000 + b"]" * 7000),
        (b'"title":""', b'"x":{"a":[[["deep"]]]}'),
    ],
    ids=lambda change: change[1][:24].decode(),
)
def test_json_that_is_signed_but_not_strict_is_a_bad_document(change: tuple[bytes, bytes]) -> None:
    first, line = VENDOR.license_lines()
    payload = line.split(b"\t")[0].replace(*change)
    found = refused(first + VENDOR.raw_line(payload, document.LICENSE))
    assert (found.error, found.data["line"]) == (BAD_DOCUMENT, 2)


def test_100_000_brackets_in_a_signed_first_line_are_refused_without_recursion() -> None:
    payload = b'{"licd":1,"type":"license-file","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    assert refused(VENDOR.raw_line(payload, document.LICENSE_FILE)).error is BAD_DOCUMENT


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([{"id": "a"}, {"id": "a"}], id="two of one id"),
        pytest.param([{"id": "a", "replaces": "b"}, {"id": "b", "replaces": "a"}], id="a circle of two"),
        pytest.param(
            [{"id": "a", "replaces": "b"}, {"id": "b", "replaces": "c"}, {"id": "c", "replaces": "b"}],
            id="a circle behind a line",
        ),
    ],
)
def test_licenses_of_one_file_must_fit_each_other(lines: Iterable[Mapping[str, Any]]) -> None:
    assert refused(VENDOR.license_file(lines=lines)).error is BAD_DOCUMENT


def _every(*days: int) -> list[dict[str, Any]]:
    return [{"renewal": {"need": "optional", "every_days": each, "grace_days": each}} for each in days]


def test_the_licenses_of_a_file_are_renewed_at_16_different_intervals_at_most() -> None:
    never = {"renewal": {"need": "none"}}
    assert len(verify(VENDOR.license_file(lines=[*_every(*range(1, 17)), *_every(16, 1), never])).lines) == 19
    found = refused(VENDOR.license_file(lines=[*_every(*range(1, 18)), never]))
    assert (found.error, found.data["line"]) == (BAD_DOCUMENT, 1)
    assert "at more than 16 different intervals" in found.message


def test_the_interval_of_the_first_line_counts_where_a_license_takes_it_over() -> None:
    header = {"renewal": _every(100)[0]["renewal"]}
    assert verify(VENDOR.license_file(lines=_every(*range(1, 17)), header=header)).seq == 1
    assert refused(VENDOR.license_file(lines=[*_every(*range(1, 17)), {}], header=header)).error is BAD_DOCUMENT


@pytest.mark.parametrize("name", ["acme.scales", "kso", "ksoscales", "ks"])
def test_a_name_outside_the_profile_is_foreign(name: str) -> None:
    found = refused(VENDOR.license_file(lines=[{}, {"name": name}]))
    assert (found.error, found.data["line"], found.data["license"]) == (FOREIGN_NAME, 3, name)


def test_an_exact_name_in_the_profile_is_that_name_only() -> None:
    profiles = profile_of(VENDOR, names=("kso.scales",))
    assert verify(VENDOR.license_file(), profiles).seq == 1
    for name in ("kso.scales.x", "kso.scale"):
        assert refused(VENDOR.license_file(lines=[{"name": name}]), profiles).error is FOREIGN_NAME
