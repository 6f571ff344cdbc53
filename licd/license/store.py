"""The license files in the state folder: NAME.licd in force, NAME.licd.previous before it. No policy.

At every moment, also after a power cut, NAME.licd is one whole file: the old one or the new one.
"""

from __future__ import annotations

import os
from pathlib import Path

from licd import durable
from licd.license.document import MAX_DOCUMENT_BYTES

_MODE = 0o640  # the group of the state folder may look, for backups


class Store:
    """Errors: OSError of every method is let through; what it was about to change has not changed then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str, most: int = MAX_DOCUMENT_BYTES) -> bytes | None:
        """The file in force, or its first most + 1 bytes: so too much is seen as too much."""
        try:
            return durable.read(self._folder / f"{name}.licd", most + 1)
        except FileNotFoundError:
            return None

    def replace(self, name: str, data: bytes) -> None:
        """`data` is in force, on the medium; what was in force is the previous."""
        current, previous = self._folder / f"{name}.licd", self._folder / f"{name}.licd.previous"
        fresh, link = self._folder / f"{name}.licd.new", self._folder / f"{name}.licd.link"
        durable.make_folder(self._folder, 0o750)
        fresh.unlink(missing_ok=True)  # left by a crash
        link.unlink(missing_ok=True)
        try:
            durable.create(fresh, data, _MODE)
            # A second name for the old file, then two renames: there is never a moment without a file in force.
            if current.exists():
                try:
                    os.link(current, link)
                except OSError:  # no hard links here, or none to a file of root's (proc(5), protected_hardlinks)
                    link.touch(_MODE)
                    link.write_bytes(current.read_bytes())
                os.rename(link, previous)
            os.rename(fresh, current)
        finally:
            # rename(2) of two names of one file (a crash came between the two renames above) leaves both.
            link.unlink(missing_ok=True)
            fresh.unlink(missing_ok=True)
        durable.sync_folder(self._folder)

    def remove(self, name: str) -> None:
        """NAME.licd is gone, its previous stays. After a power cut it may be there again."""
        (self._folder / f"{name}.licd").unlink(missing_ok=True)
