"""The vendor's withdrawn list, as it stands behind answers: whoever gets a document hears what counts no more."""

from __future__ import annotations

from pathlib import Path

from licd.license import trust
from licd.license.document import MAX_DOCUMENT_BYTES
from licd_vendor import show
from licd_vendor.keys import Failure

_Mark = tuple[int, int, int]


class Carried:
    """The vendor profile of a folder, with the withdrawn list of now: a server runs on while a person withdraws."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "profile"
        self._read: tuple[_Mark | None, trust.VendorProfile, bytes] | None = None

    def profile(self) -> trust.VendorProfile:
        """Errors: Failure"""
        return self._now()[0]

    def behind(self, answer: bytes) -> bytes:
        """The answer, and behind it the list, if there is one and it has room. Errors: Failure"""
        listed = self._now()[1]
        return answer + listed if len(answer) + len(listed) <= MAX_DOCUMENT_BYTES else answer

    def _now(self) -> tuple[trust.VendorProfile, bytes]:
        path = self._folder / "withdrawn.licd"
        mark = _mark(path)
        read = self._read
        if read is None or read[0] != mark:
            read = self._read = mark, show.load_profile(self._folder), _bytes(path)
        return read[1], read[2]


def _mark(path: Path) -> _Mark | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> Failure:
    return Failure(f"{path} cannot be read: {error.strerror}.", "Let the server read it: it is no secret.")
