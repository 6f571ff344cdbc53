"""Files that are whole after a power cut. An edge: no policy.

A new file is written beside, synced, renamed into place, and then its folder is synced: at every moment the name stands
for one whole file, the old one or the new one.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def create(path: Path, data: bytes, mode: int) -> None:
    """A new file holds the data, on the medium but for its name (sync_folder).

    Errors: OSError
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)


def read(path: Path, most: int) -> bytes:
    """At most so many bytes of the file, at once: a FIFO in its place is refused, not waited for.

    Errors: OSError
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return stream.read(most)


def replace(path: Path, data: bytes, mode: int) -> None:
    """The file at `path` holds the data, on the medium.

    Errors: OSError; unless it was the last step, the sync of the folder, the old file is there as before
    """
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)  # left by a crash
    try:
        create(fresh, data, mode)
        os.rename(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_folder(folder: Path, mode: int) -> None:
    """The folder is there, on the medium. Errors: OSError"""
    if not folder.exists():
        folder.mkdir(mode=mode)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Names made, changed and removed in the folder are on the medium. Errors: OSError"""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
