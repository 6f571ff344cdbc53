"""Files of the kernel, read so that "there is none" and "not for us" stay two answers."""

from __future__ import annotations

import errno
from pathlib import Path

# How the kernel says that there is nothing to read: no such file, or an attribute that this device does not fill.
NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EINVAL, errno.ENODATA, errno.EOPNOTSUPP}

DMI = Path("/sys/class/dmi/id")


def read_bytes(path: Path) -> bytes | None:
    """The contents of a file of the kernel; None where there is nothing to read.

    Errors: OSError, if there is but not for us
    """
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in NOTHING:
            return None
        raise


def read_text(path: Path, keep: str = "\n") -> str | None:
    """The same as text; bytes that are none, and what is neither printable nor in `keep`, as blanks."""
    data = read_bytes(path)
    return None if data is None else printable(data.decode("utf-8", "surrogateescape"), keep).strip()


def try_text(path: Path, keep: str = "\n") -> str | None:
    """The same; None also where there is a text, but not for us."""
    try:
        return read_text(path, keep)
    except OSError:
        return None


def printable(text: str, keep: str = "") -> str:
    return "".join(character if character.isprintable() or character in keep else " " for character in text)
