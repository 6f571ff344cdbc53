"""Where -o leads: standard output, or a file that is whole or not there, and never one that the vendor needs himself.

`check` comes before anything is issued, `write` after it is in the store: what the store does not have must not be out
there.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from licd import durable
from licd_vendor.keys import Failure

Place = Path | None  # None is standard output


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=_place, required=True, metavar="FILE", help="where to; - for standard output"
    )


def _place(text: str) -> Place:
    return None if text == "-" else Path(text)  # ./- is a file


def name(place: Place) -> str:
    return "standard output" if place is None else str(place)


def words(place: Place) -> TextIO:
    """Where a command says what it did: not among the bytes of a document."""
    return sys.stderr if place is None else sys.stdout


def check(place: Place, folder: Path, others: Mapping[str, Path | None]) -> None:
    """Nothing, if a document may be written there.

    folder: of the vendor, with keys, certificates, profile and, where no other is named, the store
    others: what else must stay as it is, and what that is called
    Errors: Failure
    """
    if place is None:
        return
    if place.is_dir():
        raise Failure(f"{place} is a folder.", _ANOTHER)
    target = place.resolve()
    profile = folder / "profile"
    if profile.resolve() in target.parents:
        raise Failure(f"{place} is in the vendor profile, where only what devices need may be.", _ANOTHER)
    for path, what in _kept(folder, others):
        if target == path.resolve() or (place.exists() and path.exists() and place.samefile(path)):
            raise Failure(f"{place} is {what}, which is never written over.", _ANOTHER)


_ANOTHER = "Name another file with -o. Nothing was issued."


def _kept(folder: Path, others: Mapping[str, Path | None]) -> list[tuple[Path, str]]:
    kept = [(folder / f"{name}.key", "a key of the vendor") for name in ("root", "signer")]
    kept += [(folder / f"{name}.pem", "a certificate of the vendor") for name in ("root", "signer")]
    kept += [(path, "a certificate of the vendor") for path in folder.glob("signer-*.pem")]
    kept += [(folder / "vendor.db", "the store")]
    kept += [(path, what) for what, path in others.items() if path is not None]
    # Of SQLite's own files a journal is part of the store: without it a transaction that was cut off stays half.
    journals = [path.with_name(path.name + end) for path, what in kept if what == "the store" for end in _BESIDE]
    return kept + [(path, "the store") for path in journals]


_BESIDE = ("-journal", "-wal", "-shm")


def write(place: Place, data: bytes, hint: str) -> None:
    """The document is there, whole; what was there before is gone.

    hint: how to come by it once more
    Errors: Failure
    """
    try:
        if place is None:
            _print(data)
        elif place.exists() and not place.is_file():  # a device, a pipe: what it leads to is not to be replaced
            place.write_bytes(data)
        else:
            _replace(place.resolve(), data)  # of a symbolic link the file
    except OSError as error:
        raise Failure(f"{name(place)} cannot be written: {error.strerror}.", hint) from None


def _print(data: bytes) -> None:
    sys.stdout.flush()
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # not once more at exit
        raise


def _replace(path: Path, data: bytes) -> None:
    # Unlike durable.replace with a name that nobody else has given a file, and with the mode that the umask leaves.
    fresh = path.with_name(f".licd-vendor-{secrets.token_hex(8)}")
    try:
        with fresh.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    durable.sync_folder(path.parent)
