"""The bytes of a journal file, cut and flipped everywhere: what is read is what an independent reading expects.

Every file here is laid out by the test itself, from the description of the format, so that it knows which frames a
damage has hit; the code under test builds and expects nothing.
"""

from __future__ import annotations

import struct
import zlib
from operator import eq
from typing import NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from licd.seats import frames

MAGIC = b"\xc1LJ1"
HEADER_BYTES = 28
LIVE, STALE = b"\x01live\x02\x03\x04", b"\xf1stale\xf2\xf3"
PAYLOADS = (b"\x81a", b"", b"the third, a longer one " * 2, b"d" * 9)
EMPTY = bytes(64)  # space allocated, never written


def frame(generation: bytes, sequence: int, payload: bytes) -> bytes:
    """magic 4 | generation 8 | sequence 8 | length 4 | CRC-32 4 | payload; the checksum is over all but itself."""
    head = MAGIC + generation + struct.pack("<QI", sequence, len(payload))
    return head + struct.pack("<I", zlib.crc32(head + payload)) + payload


class File(NamedTuple):
    """Frames from the first byte on, and the rest. Which bytes are whose is known."""

    frames: tuple[bytes, ...]
    rest: bytes

    @property
    def data(self) -> bytes:
        return b"".join(self.frames) + self.rest

    def at(self, offset: int) -> int:
        """The number of the frame that this byte is in; of the rest: one more than the last."""
        for n, each in enumerate(self.frames):
            if offset < len(each):
                return n
            offset -= len(each)
        return len(self.frames)

    def begin(self, n: int) -> int:
        return sum(map(len, self.frames[:n]))


def file(count: int, rest: bytes) -> File:
    return File(tuple(frame(LIVE, n, PAYLOADS[n]) for n in range(count)), rest)


# What an earlier life of the file left: the frames behind those overwritten, the first of them cut into.
LEFT = frame(STALE, 2, b"an old lease, long gone")[7:] + frame(STALE, 3, b"another") + frame(STALE, 4, b"") + EMPTY
ALIGNED = frame(STALE, 1, b"an old lease where the live frames end") + LEFT
RESTS = pytest.mark.parametrize(
    "rest", [b"", EMPTY, LEFT, ALIGNED], ids=["full", "empty-space", "stale-frames", "stale-frames-at-once"]
)
COUNTS = pytest.mark.parametrize("count", [1, 2, 4])


def test_a_frame_is_laid_out_as_described() -> None:
    assert frames.build(LIVE, 3, b"payload") == frame(LIVE, 3, b"payload")
    assert frames.HEADER_BYTES == HEADER_BYTES
    assert len(LIVE) == frames.GENERATION_BYTES


def test_neither_messagepack_nor_text_holds_the_first_byte_of_a_frame() -> None:
    """0xc1 is never used by MessagePack; in UTF-8 it would be an overlong form."""
    assert frames.MAGIC[0] == 0xC1


@RESTS
@COUNTS
def test_a_file_as_it_was_written_is_whole(count: int, rest: bytes) -> None:
    assert frames.scan(file(count, rest).data) == (list(PAYLOADS[:count]), "whole")


@pytest.mark.parametrize(
    "data", [b"", EMPTY, b"\xc1", MAGIC * 20, b"not a journal at all" * 5, frame(LIVE, 0, b"x")[1:]]
)
def test_a_file_without_a_frame_is_damaged_and_says_nothing(data: bytes) -> None:
    assert frames.scan(data) == ([], "damaged")


@RESTS
@COUNTS
def test_a_write_that_was_cut_at_any_byte_leaves_the_frames_before_it_and_is_no_damage(count: int, rest: bytes) -> None:
    """Behind the cut stands what stood there before: nothing, empty space, or frames of an earlier life."""
    before = file(count, b"")
    last = frame(LIVE, count, b"in the middle of being written")
    for cut in range(len(last)):
        below = rest[cut:] if len(rest) > len(last) else bytes(len(last) - cut) + rest if rest else b""
        found = frames.scan(before.data + last[:cut] + below)
        begun = cut >= len(MAGIC + LIVE)
        assert found == (list(PAYLOADS[:count]), "torn" if begun else "whole"), cut


@RESTS
@COUNTS
def test_a_file_cut_at_every_byte_is_the_frames_before_the_cut(count: int, rest: bytes) -> None:
    whole = file(count, rest)
    for cut in range(len(whole.data) + 1):
        n = whole.at(cut) if cut < len(whole.data) else count
        over = cut - whole.begin(n)
        torn = n < count and over >= len(MAGIC + LIVE)
        condition = "damaged" if n == 0 else "torn" if torn else "whole"
        assert frames.scan(whole.data[:cut]) == (list(PAYLOADS[:n]), condition), cut


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
@RESTS
@COUNTS
def test_a_file_flipped_at_every_byte_loses_the_frame_that_was_hit_and_no_other(
    count: int, rest: bytes, flip: int
) -> None:
    whole = file(count, rest)
    for offset in range(len(whole.data)):
        n = whole.at(offset)
        expected = [payload for i, payload in enumerate(PAYLOADS[:count]) if i != n]
        if n >= count:
            condition = "whole"
        elif n == count - 1 and n > 0:  # nothing behind it: as if its write had been cut
            condition = "whole" if offset - whole.begin(n) < len(MAGIC + LIVE) else "torn"
        else:
            condition = "damaged"
        data = bytearray(whole.data)
        data[offset] ^= flip
        assert frames.scan(bytes(data)) == (expected, condition), offset


def test_frames_of_an_earlier_life_never_stand_in_for_a_first_frame_that_was_hit() -> None:
    """The file was just begun anew: one frame, and behind it whole leases that ended long ago."""
    data = frame(LIVE, 0, b"the only one")
    for offset in range(len(data)):
        hit = bytearray(data)
        hit[offset] ^= 0xFF
        assert frames.scan(bytes(hit) + LEFT) == ([], "damaged"), offset


def test_frames_whose_first_one_is_gone_altogether_are_salvaged() -> None:
    whole = file(4, LEFT)
    lost = len(whole.frames[0])
    for filling in (bytes(lost), b"\xff" * lost):
        assert frames.scan(filling + whole.data[lost:]) == (list(PAYLOADS[1:4]), "damaged")


def test_bytes_before_the_first_frame_are_damage_and_cost_nothing() -> None:
    assert frames.scan(b"junk" + file(3, EMPTY).data) == (list(PAYLOADS[:3]), "damaged")


def test_a_frame_of_another_format_is_none_though_its_checksum_is_right() -> None:
    head = b"\xc1LJ2" + LIVE + struct.pack("<QI", 1, 3)
    data = frame(LIVE, 0, b"first") + head + struct.pack("<I", zlib.crc32(head + b"new")) + b"new"
    assert frames.scan(data) == ([b"first"], "whole")


def test_a_frame_that_is_missing_between_others_is_damage() -> None:
    first, _, third = (frame(LIVE, n, PAYLOADS[n]) for n in range(3))
    assert frames.scan(first + third) == ([PAYLOADS[0], PAYLOADS[2]], "damaged")


def test_a_file_that_does_not_begin_with_its_first_frame_is_damage() -> None:
    assert frames.scan(frame(LIVE, 1, b"second")) == ([b"second"], "damaged")


def test_a_frame_that_stands_twice_is_read_once_and_in_its_place() -> None:
    first, second, third = (frame(LIVE, n, PAYLOADS[n]) for n in range(3))
    assert frames.scan(first + third + second + second) == (list(PAYLOADS[:3]), "damaged")


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 1000])
def test_a_length_that_reaches_behind_the_file_is_not_believed(length: int) -> None:
    head = MAGIC + LIVE + struct.pack("<QI", 1, length)
    lie = head + struct.pack("<I", zlib.crc32(head + b"short")) + b"short"
    assert frames.scan(frame(LIVE, 0, b"first") + lie) == ([b"first"], "torn")


@pytest.mark.parametrize("generation", [LIVE, STALE])
def test_a_frame_inside_a_record_is_part_of_that_record(generation: bytes) -> None:
    """No client can write one: it holds no UTF-8 and no MessagePack. But if one did, it would not count."""
    inner = frame(generation, 1, b"invented")
    data = frame(LIVE, 0, b"a" + inner + b"b") + frame(LIVE, 1, b"second")
    assert frames.scan(data) == ([b"a" + inner + b"b", b"second"], "whole")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_is_done_to_a_file_no_record_is_invented_and_none_that_is_intact_is_lost(data: st.DataObject) -> None:
    payloads = data.draw(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
    whole = File(tuple(frame(LIVE, n, payload) for n, payload in enumerate(payloads)), b"")
    before = whole.data + data.draw(st.sampled_from((b"", EMPTY)))
    after = bytearray(before)
    for _ in range(data.draw(st.integers(1, 3))):
        offset = data.draw(st.integers(0, len(after) - 1))
        change = data.draw(st.binary(min_size=1, max_size=50))
        after[offset : offset + len(change)] = change[: len(after) - offset]
    if sum(map(eq, after, MAGIC)) >= 3:  # a header that names another generation is believed
        assume(sum(map(eq, after[4:12], LIVE)) > 1)
    unhurt = [after[whole.begin(n) :].startswith(each) for n, each in enumerate(whole.frames)]
    found = frames.scan(bytes(after))
    assert found.payloads == [payload for payload, intact in zip(payloads, unhurt, strict=True) if intact]
    intact_until = unhurt.index(False) if False in unhurt else len(unhurt)
    assert (found.condition == "damaged") == (any(unhurt[intact_until:]) or not unhurt[0])
