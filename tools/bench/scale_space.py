"""What the journal's space costs: a frame into allocated space, into recycled space, and appended to a plain file."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from machine import pinned
from scale_parts import Figure, Setting

from licd.seats.framefile import GROW_BYTES, FrameFile

FRAME_BYTES = 100  # payload of an acquire
ROUNDS = 5


class Appended:
    """What FrameFile would be without space behind its end."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, payload: bytes) -> None:
        os.write(self._fd, payload)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def space(setting: Setting) -> list[Figure]:
    """In turn, so that the disk's moods fall on all of them."""
    frames = max(20, min(500, int(1000 * setting.seconds)))
    names: dict[str, Callable[[Path], FrameFile | Appended]] = {
        "allocated": _allocated, "recycled": _recycled, "appended": Appended
    }  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in names}
    with pinned(setting.where.server):
        for number in range(ROUNDS):
            for name, make in names.items():
                found[name].append(_synced_us(make(setting.folder / f"{name}-{number}"), frames))
    medians = {name: statistics.median(each) for name, each in found.items()}
    return [
        Figure("allocated_us", "one frame into allocated space, synced", medians["allocated"], "us"),
        Figure("recycled_us", "the same over stale frames of the file's earlier life", medians["recycled"], "us"),
        Figure("appended_us", "the same appended to a plain file", medians["appended"], "us"),
        Figure("ratio", "allocated over appended", medians["allocated"] / medians["appended"], "", 1),
    ]


def _allocated(path: Path) -> FrameFile:
    file = FrameFile(path)
    file.allocate(GROW_BYTES)
    file.begin()
    return file


def _recycled(path: Path) -> FrameFile:
    file = _allocated(path)
    while file.end + 2 * FRAME_BYTES < GROW_BYTES:
        file.append(os.urandom(FRAME_BYTES))
    file.sync()
    file.begin()
    return file


def _synced_us(file: FrameFile | Appended, frames: int) -> float:
    took = []
    for _ in range(frames):
        payload = os.urandom(FRAME_BYTES)
        began = time.perf_counter()
        file.append(payload)
        file.sync()
        took.append((time.perf_counter() - began) * 1e6)
    file.close()
    return statistics.median(took)
