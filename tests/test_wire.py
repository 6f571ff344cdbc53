"""licd.rpc.wire: what is a message, what is a violation, and what goes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licd.rpc import wire
from licd.rpc.wire import Decoder, Notification, Request, Response, Violation

LIMIT = 64 * 1024

# [0, 7, "seat.acquire", [{"license": "kso.scales", "holder": "till-1"}]], byte by byte as the specs have it.
CAPTURED = bytes.fromhex(
    "94 00 07 ac736561742e61637175697265 91 82 a76c6963656e7365 aa6b736f2e7363616c6573 a6686f6c646572 a674696c6c2d31"
)
CAPTURED_VALUE = Request(7, "seat.acquire", [{"license": "kso.scales", "holder": "till-1"}])


def read(pieces: Iterable[bytes], limit: int = LIMIT) -> tuple[list[wire.Message], Violation | None]:
    """The messages that come out of the pieces, and the violation that ended them."""
    decoder = Decoder(limit)
    messages: list[wire.Message] = []
    for piece in pieces:
        decoder.feed(piece)
        try:
            for message in decoder:  # one by one: those before a violation count
                messages.append(message)
        except Violation as violation:
            return messages, violation
    return messages, None


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def message(*elements: Any) -> bytes:
    return bytes(msgpack.packb(list(elements)))


def violation(data: bytes) -> Violation:
    messages, violation = read([data])
    assert messages == []
    assert violation is not None, "taken for a message, or for a part of one"
    return violation


# --- whole and in pieces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 16, len(CAPTURED)])
def test_a_captured_message_comes_out_the_same_in_pieces_of_any_size(size: int) -> None:
    assert read(cut(CAPTURED, size)) == ([CAPTURED_VALUE], None)


def test_six_messages_at_once_come_out_in_their_order() -> None:
    assert read([CAPTURED * 6]) == ([CAPTURED_VALUE] * 6, None)


@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_six_messages_come_out_in_pieces_that_end_nowhere_near_their_ends(size: int) -> None:
    assert read(cut(CAPTURED * 6, size)) == ([CAPTURED_VALUE] * 6, None)


def test_nothing_comes_out_before_the_last_byte() -> None:
    decoder = Decoder(LIMIT)
    for at in range(len(CAPTURED) - 1):
        decoder.feed(CAPTURED[at : at + 1])
        assert list(decoder) == []
        assert decoder.waiting == at + 1
    decoder.feed(CAPTURED[-1:])
    assert list(decoder) == [CAPTURED_VALUE]
    assert decoder.waiting == 0


def test_a_decoder_without_a_byte_gives_nothing() -> None:
    assert list(Decoder(LIMIT)) == []


def test_what_waits_is_what_came_after_the_last_message_given_out() -> None:
    decoder = Decoder(LIMIT)
    decoder.feed(CAPTURED * 2 + b"\x94\x00")
    assert next(decoder) == CAPTURED_VALUE
    assert decoder.waiting == len(CAPTURED) + 2
    assert next(decoder) == CAPTURED_VALUE
    assert decoder.waiting == 2


@given(
    st.lists(st.sampled_from([CAPTURED, message(1, 3, None, {"a": [1, 2]}), message(2, "m", [])])), st.integers(1, 9)
)
@settings(max_examples=50, deadline=None)
def test_any_run_of_messages_in_any_pieces_is_the_same_run(run: list[bytes], size: int) -> None:
    whole, ended = read([b"".join(run)])
    assert (len(whole), ended) == (len(run), None)
    assert read(cut(b"".join(run), size)) == (whole, None)


# --- the three kinds -----------------------------------------------------------------------------------------


def test_a_request_a_response_and_a_notification_are_told_apart() -> None:
    messages, ended = read([message(0, 1, "m", []) + message(1, 1, None, 5) + message(2, "n", [{}])])
    assert ended is None
    assert messages == [Request(1, "m", []), Response(1, None, 5), Notification("n", [{}])]
    assert [type(one) for one in messages] == [Request, Response, Notification]


@pytest.mark.parametrize("msgid", [0, 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("kind", [0, 1])
def test_a_msgid_is_any_unsigned_integer_of_32_bits(kind: int, msgid: int) -> None:
    messages, ended = read([message(kind, msgid, "m", [])])
    assert ended is None
    assert isinstance(messages[0], Request | Response)
    assert messages[0].msgid == msgid


@pytest.mark.parametrize("params", [None, {}, {"a": 1}, 5, "text", b"bin", [1, 2, 3], [[]], True])
def test_params_of_any_shape_are_a_readable_message_that_can_be_answered(params: Any) -> None:
    assert read([message(0, 9, "m", params)]) == ([Request(9, "m", params)], None)


# --- violations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [5, -1, True, None, 1.5, "text", b"bin", {}, {0: 1}, [], [0], [0, 1], [0, 1, "m"], [0, 1, "m", [], 5], [1, 1, None],
     [1, 1, None, None, 5], [2, "m"], [2, "m", [], 5], [3, 1, "m", []], [-1, 1, "m", []], [0, "m", []], [None] * 4,
     ["0", 1, "m", []], [0.0, 1, "m", []], [[], 1, "m", []]],
)  # fmt: skip
def test_an_object_that_is_no_message_is_a_violation(value: Any) -> None:
    assert violation(msgpack.packb(value)).msgid is None


@pytest.mark.parametrize("kind", [False, True])
def test_a_boolean_is_no_type_of_message_though_true_equals_1(kind: bool) -> None:
    assert violation(message(kind, 1, "m", [])).msgid is None


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("msgid", [-1, 2**32, 2**63, 2**64 - 1, -(2**63), True, False, None, 1.0, "1", b"1", [1]])
def test_a_msgid_out_of_range_or_of_another_type_is_a_violation_without_a_msgid(kind: int, msgid: Any) -> None:
    assert violation(message(kind, msgid, "m", [])).msgid is None


@pytest.mark.parametrize("method", [None, 5, True, b"server.hello", ["m"], {"m": 1}])
def test_a_method_that_is_no_string_is_a_violation_that_still_names_its_request(method: Any) -> None:
    assert violation(message(0, 77, method, [])).msgid == 77
    assert violation(message(2, method, [])).msgid is None


CLAIMS = {
    "array32": b"\xdd\xff\xff\xff\xff",
    "array16": b"\xdc\xff\xff",
    "map32": b"\xdf\xff\xff\xff\xff",
    "map16": b"\xde\xff\xff",
    "129 elements": b"\xdc\x00\x81",
    "129 entries": b"\xde\x00\x81",
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())
@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("before", [b"", b"\x94\x00\x01\xa1m", b"\x94\x00\x01\xa1m\x91\x81\xa1a"])
def test_a_header_that_claims_too_much_is_a_violation_before_what_it_claims_has_come(
    claim: bytes, size: int, before: bytes
) -> None:
    messages, ended = read(cut(before + claim, size))
    assert messages == []
    assert ended is not None
    assert ended.msgid is None


@pytest.mark.parametrize(
    "claim", [*CLAIMS.values(), b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x00"]
)
@pytest.mark.parametrize("before", [b"", b"\x94\x00\x01\xa1m\x92\xda\x03\xe8" + b"x" * 1000])
def test_a_claim_that_is_not_seen_early_is_a_violation_once_the_limit_has_come(claim: bytes, before: bytes) -> None:
    messages, ended = read(cut(before + claim + b"\x00" * LIMIT, 4096))
    assert messages == []
    assert ended is not None


def test_a_claim_in_a_later_message_is_seen_as_early_as_in_the_first() -> None:
    messages, ended = read([CAPTURED[:20], CAPTURED[20:], b"\x94\x00\x01\xa1m\xdd\xff\xff\xff\xff"])
    assert messages == [CAPTURED_VALUE]
    assert ended is not None


def test_a_claim_is_seen_or_not_seen_early_whatever_the_pieces_it_comes_in() -> None:
    for length in range(200, 300):
        part = b"\x94\x00\x01\xa1m\x92\xda" + length.to_bytes(2, "big") + b"x" * length + b"\xdd\xff\xff\xff\xff"
        assert (read([part])[1] is None) == (read(cut(part, 1))[1] is None)


def test_an_extension_of_65_bytes_is_a_violation() -> None:
    violation(message(0, 1, "m", [msgpack.ExtType(5, b"x" * 65)]))


def test_nesting_10000_deep_is_a_violation_at_once() -> None:
    for opening in (b"\x91", b"\x81\x01", b"\xdc\x00\x01"):
        assert violation(b"\x94\x00\x01\xa1m" + opening * 10_000).msgid is None


def test_nesting_within_the_limits_of_the_codec_is_read() -> None:
    value: Any = 1
    for _ in range(500):
        value = [value]
    assert read([message(0, 1, "m", value)])[0] == [Request(1, "m", value)]


def test_the_reserved_byte_is_a_violation() -> None:
    assert violation(b"\xc1").msgid is None
    assert violation(b"\x94\x00\x01\xa1m\xc1").msgid is None


def test_an_array_as_the_key_of_a_map_is_a_violation() -> None:
    assert violation(b"\x94\x00\x01\xa1m\x91\x81\x91\x01\x02").msgid is None


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_messages_or_a_violation_or_a_part_and_never_anything_else(data: bytes) -> None:
    whole, ended = read([data])
    pieces, ended_too = read(cut(data, 1))
    assert repr(whole) == repr(pieces)  # NaN is equal to itself in no other way
    assert (ended is None) == (ended_too is None)


@given(st.binary(min_size=1, max_size=60), st.integers(0, len(CAPTURED) - 1))
@settings(max_examples=300, deadline=None)
def test_a_message_with_other_bytes_in_its_middle_never_surprises(noise: bytes, at: int) -> None:
    read([CAPTURED[:at] + noise + CAPTURED[at:]])


def test_a_peer_that_speaks_http_is_told_at_its_first_byte() -> None:
    assert "array" in violation(b"GET / HTTP/1.1\r\n\r\n").reason


# --- the latch -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [b"\xc1", b"\x05", b"\xdd\xff\xff\xff\xff", message(0, 5, None, [])])
def test_after_a_violation_no_message_comes_out_again_and_the_violation_is_the_same(bad: bytes) -> None:
    decoder = Decoder(LIMIT)
    decoder.feed(CAPTURED + bad + CAPTURED)
    assert next(decoder) == CAPTURED_VALUE
    with pytest.raises(Violation) as first:
        next(decoder)
    for _ in range(3):
        decoder.feed(CAPTURED)
        with pytest.raises(Violation) as again:
            next(decoder)
        assert again.value is first.value


# --- sizes ---------------------------------------------------------------------------------------------------


def sized(size: int) -> bytes:
    """A request of exactly so many bytes."""
    empty = len(msgpack.packb([0, 1, "m", ["x" * 300]])) - 300
    data = message(0, 1, "m", ["x" * (size - empty)])
    assert len(data) == size
    return data


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_message_of_the_limit_is_read_and_one_byte_more_is_too_large(pieces: int) -> None:
    assert len(read(cut(sized(1000), 1000 // pieces), limit=1000)[0]) == 1
    messages, ended = read(cut(sized(1001), 1000 // pieces), limit=1000)
    assert messages == []
    assert ended is not None
    assert ended.too_large


def test_many_small_messages_at_once_may_be_more_than_the_limit_of_one() -> None:
    assert read([sized(400) * 50], limit=1000) == ([Request(1, "m", ["x" * 391])] * 50, None)


def test_the_limit_counts_each_message_from_its_own_start() -> None:
    messages, ended = read([sized(900) + sized(1001)], limit=1000)
    assert len(messages) == 1
    assert ended is not None
    assert ended.too_large


def test_half_a_message_over_the_limit_is_too_large_before_it_is_whole() -> None:
    messages, ended = read([sized(5000)[:1001]], limit=1000)
    assert messages == []
    assert ended is not None
    assert ended.too_large
    assert read([sized(5000)[:1000]], limit=10_000) == ([], None)


def test_an_array_and_a_map_of_128_are_read() -> None:
    params = [list(range(128)), {str(n): n for n in range(128)}]
    assert read([message(0, 1, "m", params)])[0] == [Request(1, "m", params)]


def test_another_bound_on_elements_is_the_callers_to_give() -> None:
    decoder = Decoder(LIMIT, max_items=1000)
    decoder.feed(message(1, 1, None, list(range(1000))))
    assert len(list(decoder)) == 1
    decoder.feed(message(1, 1, None, list(range(1001))))
    with pytest.raises(Violation):
        next(decoder)


# --- readable, though no method will take it -----------------------------------------------------------------


def test_a_string_that_is_not_utf8_is_read_and_comes_back_as_the_bytes_it_was() -> None:
    raw = b"\xff\xfe\x00kso\xc3"
    messages, ended = read([b"\x94\x00\x05\xa1m\x91\xa7" + raw[:7]])
    assert ended is None
    assert isinstance(messages[0], Request)
    text = messages[0].params[0]
    assert type(text) is str
    assert not text.isprintable()
    assert text.encode("utf-8", "surrogateescape") == raw[:7]


def test_a_method_that_is_not_utf8_is_a_request_for_a_method_that_does_not_exist() -> None:
    messages, ended = read([b"\x94\x00\x05\xa2\xff\xfe\x90"])
    assert ended is None
    assert isinstance(messages[0], Request)
    assert messages[0].msgid == 5


@pytest.mark.parametrize("ext", [msgpack.ExtType(5, b"x" * 64), msgpack.Timestamp(1, 2), msgpack.ExtType(127, b"")])
def test_a_small_extension_is_a_readable_message(ext: Any) -> None:
    assert read([message(0, 5, "m", [{"a": ext}])]) == ([Request(5, "m", [{"a": ext}])], None)


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63)])
def test_an_integer_beyond_63_bits_is_a_readable_message(number: int) -> None:
    assert read([message(0, 5, "m", [number])]) == ([Request(5, "m", [number])], None)


def test_keys_that_are_no_strings_are_a_readable_message() -> None:
    params = [{1: 1, None: 2, b"b": 3, 1.5: 4}]
    assert read([message(0, 5, "m", params)]) == ([Request(5, "m", params)], None)


# --- encoding ------------------------------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
_PARAMS = st.dictionaries(st.text(), _VALUES, max_size=5)
_MSGID = st.integers(0, 2**32 - 1)


@given(_MSGID, st.text(), _PARAMS, _VALUES)
@settings(max_examples=100, deadline=None)
def test_what_encodes_decodes_to_the_same_here_and_with_plain_msgpack(
    msgid: int, method: str, params: dict[str, Any], value: Any
) -> None:
    request = wire.encode_request(msgid, method, params)
    answer = wire.encode_response(msgid, None, value)
    refusal = wire.encode_response(msgid, params, None)
    word = wire.encode_notification(method, params)
    assert read([request + answer + refusal + word]) == (
        [
            Request(msgid, method, [params]),
            Response(msgid, None, value),
            Response(msgid, params, None),
            Notification(method, [params]),
        ],
        None,
    )
    assert msgpack.unpackb(request) == [0, msgid, method, [params]]
    assert msgpack.unpackb(answer) == [1, msgid, None, value]
    assert msgpack.unpackb(refusal) == [1, msgid, params, None]
    assert msgpack.unpackb(word) == [2, method, [params]]


def test_a_client_of_the_old_spec_without_bin_is_understood() -> None:
    data = msgpack.packb([0, 1, b"server.hello", [{b"document": b"\xff\x00"}]], use_bin_type=False)
    (request,), ended = read([data])
    assert ended is None
    assert isinstance(request, Request)
    assert request.method == "server.hello"
    assert request.params[0]["document"].encode("utf-8", "surrogateescape") == b"\xff\x00"


def test_a_string_that_came_in_broken_goes_out_readable() -> None:
    assert msgpack.unpackb(wire.encode_response(1, {"reason": "\udcff is bad"}, None))[2] == {
        "reason": "\\udcff is bad"
    }


def test_what_cannot_be_encoded_leaves_nothing_behind_for_the_next_message() -> None:
    with pytest.raises(TypeError):
        wire.encode_response(1, None, ["begun", object()])
    with pytest.raises(OverflowError):
        wire.encode_response(1, None, 2**64)
    assert msgpack.unpackb(wire.encode_response(2, None, "whole")) == [1, 2, None, "whole"]


# --- a request but for its msgid -----------------------------------------------------------------------------


REST = CAPTURED[3:]


@pytest.mark.parametrize(
    "head", ["00", "7f", "cc 00", "cc ff", "cd 00 07", "cd ff ff", "ce 00 00 00 00", "ce ff ff ff ff"]
)
def test_a_request_is_split_behind_its_msgid_in_whatever_form_that_is(head: str) -> None:
    data = b"\x94\x00" + bytes.fromhex(head) + REST
    end = wire.MSGID_ENDS[data[:3]]
    assert data[end:] == REST
    msgid = msgpack.unpackb(data[2:end])
    assert read([data])[0] == [Request(msgid, CAPTURED_VALUE.method, CAPTURED_VALUE.params)]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x94", b"\x94\x00", message(1, 7, None, {"a": 1}), message(2, "seat.confirm", [{}]),
        message(0, 2**32, "server.hello", []), message(0, -1, "server.hello", []), message(0, True, "server.hello", []),
        message(0, 1.0, "server.hello", []), b"\xdc\x00\x04\x00\x07" + REST, b"\x94\xcc\x00\x07" + REST,
    ],
)  # fmt: skip
def test_what_is_no_request_or_not_in_its_usual_form_is_not_split(data: bytes) -> None:
    assert data[:3] not in wire.MSGID_ENDS


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=9), st.none() | st.booleans() | st.integers(-5, 5) | st.text() | st.binary()),
)
@settings(max_examples=200, deadline=None)
def test_what_stands_behind_a_msgid_means_the_same_behind_any_other(
    msgid: int, other: int, method: str, params: dict[str, Any]
) -> None:
    request = message(0, msgid, method, [params])
    rest = request[wire.MSGID_ENDS[request[:3]] :]
    assert read([b"\x94\x00" + msgpack.packb(other) + rest]) == ([Request(other, method, [params])], None)
