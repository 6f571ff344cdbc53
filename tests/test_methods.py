"""licd.daemon.methods: the one table, and for each argument what is taken and what is refused by its name."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licd.daemon import methods
from licd.daemon.device_methods import DeviceMethods
from licd.daemon.install_methods import InstallMethods
from licd.daemon.license_methods import LicenseMethods
from licd.daemon.methods import METHODS, TABLE, Compiled
from licd.daemon.renewal_methods import RenewalMethods
from licd.daemon.seat_methods import SeatMethods
from licd.daemon.service import Service
from licd.rpc import wire
from licd.rpc.errors import BAD_PARAMS, Refused

HANDLERS: dict[str, type] = {
    "server": Service,
    "seat": SeatMethods,
    "license": LicenseMethods,
    "install": InstallMethods,
    "device": DeviceMethods,
    "renewal": RenewalMethods,
}

LEASE = "0123456789abcdef01234567"

# The least that each method wants.
LEAST: dict[str, dict[str, Any]] = {
    "server.hello": {},
    "server.status": {},
    "seat.acquire": {"license": "kso.scales", "holder": "till-1"},
    "seat.confirm": {},
    "seat.release": {},
    "seat.list": {},
    "license.check": {"license": "kso.scales"},
    "license.list": {},
    "license.import": {"document": b"{}"},
    "license.export": {},
    "install.import": {"document": b"{}"},
    "install.request": {},
    "device.fingerprint": {},
    "renewal.plan": {},
    "renewal.request": {},
    "renewal.report": {},
}

_WRONG_FOR_ALL = [[], {}, 1.0, 1.5, msgpack.ExtType(1, b"x"), msgpack.Timestamp(1), [[]], {"a": 1}]
_BAD_TEXT = [
    "",
    "a\nb",
    "a\tb",
    "a\x00",
    "\x1b[2J",
    "\x7f",
    "a\u2028b",
    "\udcff",
    "a\ud800",
    "\u200b",
    "\ufeff",
    "a\x85",
]
_NO_TEXT = [5, True, False, b"till-1", *_WRONG_FOR_ALL]
_NO_INTEGER = [True, False, "1", b"1", *_WRONG_FOR_ALL]
_NO_NAME = [
    "", "A", "kso.Scales", ".a", "-a", "_a", "a b", "a/b", "а", "a\n", "a\x00", "é", "a" * 65, "a*", "\udcff", *_NO_TEXT
]  # fmt: skip
_NAMES = ["a", "0", "kso.scales", "a" * 64, "0-_.", "a..b"]
_TEXTS = ["x", " ", "till-1", "Касса № 3", "日本", "a'b\"c\\"]
_NO_VERSION = [
    "", "v5", "5.", ".5", "5..1", "5,1", "5.x", "5.*", " 5", "5\n", "1.2.3.4.5.6.7.8.9", "1234567890", "5.1234567890",
    "5-", "5-" + "a" * 41, "5 beta", "٣", "5.\x00", "\udcff", 5, True, False, b"5", *_WRONG_FOR_ALL,
]  # fmt: skip
_VERSIONS = ["5", "0", "5.2.1", "1.2.3.4.5.6.7.8", "123456789.123456789", "5.2-rc.1", "5+git~1", "5~a", "5-" + "a" * 40]
_NO_LEASE = [
    "", LEASE[1:], LEASE + "0", LEASE.upper(), "g" * 24, LEASE + "\n", "٣" * 24, "\udcff", 5, True, LEASE.encode(),
    *_WRONG_FOR_ALL,
]  # fmt: skip

# (method, argument): what is taken, and what is refused.
CASES: dict[tuple[str, str], tuple[list[Any], list[Any]]] = {
    ("seat.acquire", "license"): (_NAMES, [None, *_NO_NAME]),
    ("seat.acquire", "holder"): ([*_TEXTS, "x" * 128, "Я" * 128], [None, "x" * 129, *_BAD_TEXT, *_NO_TEXT]),
    ("seat.acquire", "seats"): ([1, 2, 1_000_000], [0, -1, 1_000_001, 2**63, 2**64 - 1, -(2**63), *_NO_INTEGER]),
    ("seat.acquire", "version"): (_VERSIONS, _NO_VERSION),
    ("seat.acquire", "ttl"): ([10, 60, 604_800], [9, 0, -10, 604_801, 2**64 - 1, *_NO_INTEGER]),
    ("seat.acquire", "wait"): ([0], [1, -1, 2**64 - 1, *_NO_INTEGER]),
    ("seat.acquire", "on_close"): (["keep", "release"], ["", "Keep", "keep ", b"keep", 0, True, *_WRONG_FOR_ALL]),
    ("seat.confirm", "lease"): ([LEASE, "f" * 24], _NO_LEASE),
    ("seat.confirm", "license"): (_NAMES, _NO_NAME),
    ("seat.confirm", "holder"): ([*_TEXTS, "x" * 128], ["x" * 129, *_BAD_TEXT, *_NO_TEXT]),
    ("seat.confirm", "leases"): (
        [[LEASE], [LEASE] * 100],
        [[LEASE] * 101, [LEASE, ""], [LEASE, 5], [LEASE, None], [None], [[LEASE]], LEASE, {LEASE: 1}, 5, True, b"",
         *_WRONG_FOR_ALL],
    ),
    ("seat.release", "lease"): ([LEASE], _NO_LEASE),
    ("seat.release", "license"): (_NAMES, _NO_NAME),
    ("seat.release", "holder"): ([*_TEXTS, "x" * 128], ["x" * 129, *_BAD_TEXT, *_NO_TEXT]),
    ("seat.release", "reason"): ([*_TEXTS, "x" * 64], ["x" * 65, *_BAD_TEXT, *_NO_TEXT]),
    ("seat.list", "license"): (_NAMES, _NO_NAME),
    ("seat.list", "holder"): ([*_TEXTS, "x" * 128], ["x" * 129, *_BAD_TEXT, *_NO_TEXT]),
    ("seat.list", "after"): ([-1, 0, 2**53], [-2, 2**53 + 1, 2**64 - 1, *_NO_INTEGER]),
    ("seat.list", "limit"): ([1, 100], [0, -1, 101, 2**64 - 1, *_NO_INTEGER]),
    ("license.check", "license"): (_NAMES, [None, *_NO_NAME]),
    ("license.check", "version"): (_VERSIONS, _NO_VERSION),
    ("license.import", "document"): ([b"", b"{}", b"\xff\x00"], [None, 5, True, *_WRONG_FOR_ALL]),
    ("license.import", "dry_run"): ([True, False], [0, 1, "true", b"", *_WRONG_FOR_ALL]),
    ("license.export", "vendor"): (_NAMES, _NO_NAME),
    ("install.import", "document"): ([b"", b"{}", b"\xff\x00"], [None, 5, True, *_WRONG_FOR_ALL]),
    ("install.request", "vendor"): (_NAMES, _NO_NAME),
    ("renewal.request", "vendor"): (_NAMES, _NO_NAME),
    ("renewal.report", "vendor"): (_NAMES, _NO_NAME),
    ("renewal.report", "document"): ([b"", b"{}", b"\xff\x00"], [5, True, *_WRONG_FOR_ALL]),
    ("renewal.report", "failure"): ([*_TEXTS, "x" * 200], ["x" * 201, *_BAD_TEXT, *_NO_TEXT]),
    ("renewal.report", "retry_after"): ([0, 1, 2**31], [-1, 2**31 + 1, 2**64 - 1, *_NO_INTEGER]),
    ("device.fingerprint", "without"): (
        [[], ["disk"], ["disk"] * 16],
        [["disk"] * 17, ["Disk"], [""], ["a\n"], ["\udcff"], ["a" * 33], [5], [None], "disk", {"disk": 1}, 5, True, b"",
         1.5, [[]]],
    ),
}  # fmt: skip

TAKEN = [(*key, value) for key, (taken, _) in CASES.items() for value in taken]
REFUSED = [(*key, value) for key, (_, refused) in CASES.items() for value in refused]


def arguments(method: str, *params: Any) -> dict[str, Any]:
    row = TABLE[method]
    return dict(zip(row.names, row.arguments(list(params)), strict=True))


def refusal(method: str, params: Any) -> str:
    with pytest.raises(Refused) as caught:
        TABLE[method].arguments(params)
    assert caught.value.error is BAD_PARAMS
    return str(caught.value.data["reason"])


# --- the table -----------------------------------------------------------------------------------------------


def test_the_cases_here_cover_every_argument_of_every_method() -> None:
    assert set(CASES) == {(method.name, param.name) for method in METHODS for param in method.params}
    assert set(LEAST) == {method.name for method in METHODS} == set(TABLE)


def test_a_method_stands_in_the_table_once_and_an_argument_in_a_method_once() -> None:
    assert len(TABLE) == len(METHODS)
    for method in METHODS:
        assert len({param.name for param in method.params}) == len(method.params)


@pytest.mark.parametrize("method", METHODS, ids=[method.name for method in METHODS])
def test_a_method_has_its_family_and_a_handler_that_takes_exactly_its_arguments(method: methods.Method) -> None:
    family, _, word = method.name.partition(".")
    assert word.isidentifier()
    handler = getattr(HANDLERS[family], method.handler)
    code = handler.__code__
    assert code.co_varnames[:3] == ("self", "connection", "msgid")
    assert code.co_varnames[3 : code.co_argcount] == tuple(param.name for param in method.params)
    assert code.co_kwonlyargcount == 0
    assert handler.__defaults__ is None  # a default stands in the table and nowhere else


def test_who_may_call_what_is_as_the_design_has_it() -> None:
    assert {name: row.who for name, row in TABLE.items()} == {
        "server.hello": "any",
        "server.status": "client",
        "seat.acquire": "client",
        "seat.confirm": "client",
        "seat.release": "client",
        "seat.list": "client",
        "license.check": "client",
        "license.list": "client",
        "license.import": "admin",
        "license.export": "admin",
        "install.import": "admin",
        "install.request": "admin",
        "device.fingerprint": "admin",
        "renewal.plan": "courier",
        "renewal.request": "courier",
        "renewal.report": "courier",
    }


def test_only_what_makes_sense_without_an_answer_is_carried_out_as_a_notification() -> None:
    assert {name for name, row in TABLE.items() if row.notification} == {"seat.confirm", "seat.release"}


def test_the_defaults_are_as_the_design_has_them() -> None:
    assert arguments("seat.acquire", LEAST["seat.acquire"]) == {
        "license": "kso.scales", "holder": "till-1", "seats": 1, "version": None, "ttl": 60, "wait": 0,
        "on_close": "keep",
    }  # fmt: skip
    assert arguments("seat.confirm") == {"lease": None, "license": None, "holder": None, "leases": None}
    assert arguments("seat.release") == {"lease": None, "license": None, "holder": None, "reason": None}
    assert arguments("seat.list") == {"license": None, "holder": None, "after": -1, "limit": 100}
    assert arguments("license.check", {"license": "a"}) == {"license": "a", "version": None}
    assert arguments("license.import", {"document": b""}) == {"document": b"", "dry_run": False}
    assert arguments("license.export") == {"vendor": None}
    assert arguments("install.request") == {"vendor": None}
    assert arguments("device.fingerprint") == {"without": None}


def test_the_defaults_pass_their_own_checks() -> None:
    for method in METHODS:
        for param in method.params:
            if param.default is not methods.REQUIRED and param.default is not None:
                assert param.check(param.default) == param.default


def test_as_many_leases_as_may_be_confirmed_at_once_fit_into_an_array_on_the_wire() -> None:
    assert methods.MAX_CONFIRMS <= wire.MAX_ITEMS
    assert methods.MAX_LISTED <= wire.MAX_ITEMS


# --- each argument -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "name", "value"), TAKEN)
def test_a_value_within_its_bounds_reaches_the_handler_as_it_is(method: str, name: str, value: Any) -> None:
    taken = arguments(method, {**LEAST[method], name: value})[name]
    if isinstance(value, list):
        value = tuple(value)  # a request is remembered: nobody may change its arguments
    assert taken == value
    assert type(taken) is type(value)


@pytest.mark.parametrize(("method", "name", "value"), REFUSED)
def test_a_value_of_another_type_or_out_of_bounds_is_refused_by_its_name(method: str, name: str, value: Any) -> None:
    reason = refusal(method, [{**LEAST[method], name: value}])
    assert reason.startswith(f"{name} must be ")
    assert reason.isprintable()


@pytest.mark.parametrize(("method", "name"), CASES.keys())
def test_nil_is_as_good_as_not_given_where_an_argument_may_be_left_out(method: str, name: str) -> None:
    if name in LEAST[method]:
        assert refusal(method, [{**LEAST[method], name: None}]).startswith(f"{name} must be ")
    else:
        assert arguments(method, {**LEAST[method], name: None}) == arguments(method, LEAST[method])


@pytest.mark.parametrize(("method", "name"), [key for key in CASES if key[1] in LEAST[key[0]]])
def test_a_missing_argument_is_named(method: str, name: str) -> None:
    given = {key: value for key, value in LEAST[method].items() if key != name}
    assert refusal(method, [given]) == f"the argument {name} is missing"


def test_of_two_missing_arguments_always_the_first_is_named() -> None:
    assert refusal("seat.acquire", []) == refusal("seat.acquire", [{}]) == "the argument license is missing"
    assert TABLE["seat.acquire"].names[:2] == ("license", "holder")


@pytest.mark.parametrize("method", LEAST)
@pytest.mark.parametrize(
    "unknown", ["licence", "", "Seats", b"holder", 5, True, None, 1.5, "a\nb", "\udcff", "x" * 999]
)
def test_an_unknown_argument_is_refused_and_shown_readably(method: str, unknown: Any) -> None:
    reason = refusal(method, [{**LEAST[method], unknown: 1}])
    assert reason.endswith("is not an argument of this method")
    assert reason.isprintable()
    assert len(reason) < 100


def test_an_unknown_argument_is_refused_even_when_it_is_nil() -> None:
    assert refusal("server.hello", [{"verbose": None}]) == "verbose is not an argument of this method"


@pytest.mark.parametrize("method", LEAST)
@pytest.mark.parametrize("params", [None, {}, 5, True, "", b"", [5], [None], [[]], ["a"], [{}, {}], [{}, 5]])
def test_params_that_are_no_array_with_at_most_one_map_are_refused(method: str, params: Any) -> None:
    assert refusal(method, params) == "params is an array with at most one map of named arguments"


@pytest.mark.parametrize("method", [name for name, least in LEAST.items() if not least])
def test_a_method_that_wants_nothing_takes_no_map_and_an_empty_map_alike(method: str) -> None:
    assert arguments(method) == arguments(method, {})


def test_one_request_leaves_nothing_behind_for_the_next() -> None:
    arguments("seat.list", {"limit": 5, "license": "a"})
    assert arguments("seat.list")["limit"] == 100
    assert arguments("seat.list")["license"] is None


def test_a_document_as_a_string_that_was_not_utf8_comes_back_as_the_bytes_it_was() -> None:
    for raw in (b"\xff\xfe{}", "{\u00fc}".encode(), b"\xed\xa0\x80", bytes(range(256))):
        data = msgpack.packb([0, 1, "license.import", [{"document": raw}]], use_bin_type=False)
        decoder = wire.Decoder(65536)
        decoder.feed(data)
        request = next(decoder)
        assert isinstance(request, wire.Request)
        assert arguments("license.import", *request.params)["document"] == raw


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(CASES)), _ANYTHING)
@settings(max_examples=200, deadline=None)
def test_any_value_at_all_is_taken_or_refused_as_bad_params(key: tuple[str, str], value: Any) -> None:
    method, name = key
    row: Compiled = TABLE[method]
    refused: Refused | None = None
    try:
        row.arguments([{**LEAST[method], name: value}])
    except Refused as error:
        refused = error
    assert refused is None or (refused.error is BAD_PARAMS and refused.message.isprintable())
