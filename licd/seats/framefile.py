"""One journal file on disk: frames at the front, allocated space behind."""

from __future__ import annotations

import os
from pathlib import Path

from licd.seats import frames

GROW_BYTES = 1024 * 1024  # zeros written in one step; some 10 ms on eMMC
# Zeros written at once. What is written at once becomes one folio of the page cache, and a sync looks through all of a
# folio that one frame has dirtied: of 1 MiB, that is 10 us more of 90.
BLOCK_BYTES = 4096


class FrameFile:
    """Opened for writing, made if it was not there. Nothing is on the medium until sync()."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self.size = os.fstat(self._fd).st_size
        self.end = 0
        self._generation = b""
        self._sequence = 0

    def begin(self) -> None:
        """The file is written from its start, as another generation; what it holds becomes stale."""
        self.end = 0
        self._sequence = 0
        self._generation = os.urandom(frames.GENERATION_BYTES)

    def append(self, payload: bytes) -> None:
        frame = frames.build(self._generation, self._sequence, payload)
        _write_all(self._fd, frame, self.end)
        self.end += len(frame)
        self.size = max(self.size, self.end)
        self._sequence += 1

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def allocate(self, size: int, *, most: int | None = None) -> None:
        """The file has this size (or `most` bytes more than before), all of it written.

        Errors: OSError; the file is then no shorter than before
        """
        goal = size if most is None else min(size, self.size + most)
        while self.size < goal:
            count = min(GROW_BYTES, goal - self.size)
            try:
                for at in range(0, count, BLOCK_BYTES):
                    _write_all(self._fd, bytes(min(BLOCK_BYTES, count - at)), self.size + at)
            except OSError:
                os.ftruncate(self._fd, self.size)
                raise
            self.size += count
        if self.size >= size:
            os.fsync(self._fd)  # its size is metadata, which fdatasync of a later frame then need not write

    def close(self) -> None:
        os.close(self._fd)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
