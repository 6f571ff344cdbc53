"""The journal's bytes: frames, and what a file of them says. Pure.

A file is frames one after another from its first byte; behind the last one lies space allocated in advance: zeros, or
stale frames of the file's earlier life. A frame is

    magic 4 | generation 8 | sequence 8 | length 4 | CRC-32 4 | payload

with little-endian integers and the checksum over everything but itself. The generation is random and new whenever a
file is begun, so stale frames are never taken for live ones. The sequence counts from 0 without gaps.

Only the last frame is ever unsynced. So bytes that are no frame are a torn tail if no frame of this generation lies
behind them (dropped: nobody was told of it), and damage if one does.
"""

from __future__ import annotations

import struct
import zlib
from operator import eq
from typing import Literal, NamedTuple

MAGIC = b"\xc1LJ1"  # 0xc1 stands in no MessagePack and in no UTF-8, so _find() stops at little else
GENERATION_BYTES = 8
_HEADER = struct.Struct("<4s8sQII")
HEADER_BYTES = _HEADER.size
_BEFORE_CRC = HEADER_BYTES - 4

Condition = Literal["whole", "torn", "damaged"]


class Scan(NamedTuple):
    """What a journal file holds.

    Shape:  payloads of the intact frames, in order of sequence
            condition: whole; torn (the last write was cut: nothing acknowledged is missing);
            damaged (an intact frame lies behind bytes that are none, or no frame is left at all)
    """

    payloads: list[bytes]
    condition: Condition


def build(generation: bytes, sequence: int, payload: bytes) -> bytes:
    head = _HEADER.pack(MAGIC, generation, sequence, len(payload), 0)[:_BEFORE_CRC]
    return b"".join((head, zlib.crc32(payload, zlib.crc32(head)).to_bytes(4, "little"), payload))


def scan(data: bytes) -> Scan:
    """What this file holds, whatever was done to it."""
    frame = _at(data, 0) or _find(data, MAGIC, 1)
    if frame is None or _is_stale(data, frame):
        return Scan([], "damaged")
    generation = frame.generation
    mark = MAGIC + generation
    found: dict[int, bytes] = {}
    end = 0
    damaged = frame.begin != 0
    while frame is not None:
        damaged = damaged or frame.sequence != len(found)
        found.setdefault(frame.sequence, data[frame.payload : frame.end])
        end = frame.end
        frame = _at(data, end)
        if frame is None or frame.generation != generation:
            frame = _find(data, mark, end)
            damaged = damaged or frame is not None
    condition: Condition = "damaged" if damaged else "torn" if data.startswith(mark, end) else "whole"
    return Scan([found[sequence] for sequence in sorted(found)], condition)


class _Frame(NamedTuple):
    begin: int
    payload: int
    end: int
    generation: bytes
    sequence: int


def _at(data: bytes, begin: int) -> _Frame | None:
    payload = begin + HEADER_BYTES
    if payload > len(data):
        return None
    magic, generation, sequence, length, crc = _HEADER.unpack_from(data, begin)
    if magic != MAGIC or length > len(data) - payload:
        return None
    view = memoryview(data)
    if zlib.crc32(view[payload : payload + length], zlib.crc32(view[begin : begin + _BEFORE_CRC])) != crc:
        return None
    return _Frame(begin, payload, payload + length, generation, sequence)


def _is_stale(data: bytes, first: _Frame) -> bool:
    """Whether the first intact frame is of the file's earlier life.

    Then no frame of this life is intact, and the old ones tell of leases long gone. Where the first header is only
    scratched, its random generation still tells; where it is lost altogether, what is found is taken for live.
    """
    named = sum(map(eq, data, MAGIC)) >= len(MAGIC) - 1
    alike = sum(map(eq, data[len(MAGIC) : _BEFORE_CRC], first.generation))
    return bool(named and alike < 2)  # of eight random bytes: once in 2,300


def _find(data: bytes, mark: bytes, begin: int) -> _Frame | None:
    """The first intact frame that starts with `mark` at or behind `begin`."""
    first = mark[:1]
    while (begin := data.find(first, begin)) >= 0:  # of one byte: memchr, eight times faster over empty space
        if data.startswith(mark, begin) and (frame := _at(data, begin)) is not None:
            return frame
        begin += 1
    return None
