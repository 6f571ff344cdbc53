"""One process at a time on a state folder: flock on its file `lock`, which is never renamed or removed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Locked(Exception):
    """Another process holds the state folder. `holder` is what it wrote about itself, such as "pid 812"."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def acquire(folder: Path) -> int | None:
    """The descriptor that holds the lock for as long as it is open; None where the folder lets nobody write.

    Errors: Locked, OSError if there is no such folder
    """
    path = folder / "lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:
        folder.stat()  # a folder that is not there is another matter
        return None  # nothing can be recorded here, so there is nothing to keep apart
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 100, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise Locked(holder) from None
    except OSError:  # a file system without locks
        os.close(fd)
        return None
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"pid %d\n" % os.getpid(), 0)
    except OSError:
        pass  # a full disk: the lock holds without its label
    return fd
