"""A real file system of a few KiB, to be full or read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str, *, read_only: bool = False) -> Iterator[None]:
    """A tmpfs of this size on the folder. The test is skipped where none can be mounted."""
    options = f"size={size}" + ",ro" * read_only
    if os.geteuid() != 0:
        pytest.skip("not root: cannot mount a tmpfs")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "licd-test", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def fill_up(folder: Path) -> None:
    """Not a byte is left on its file system."""
    with (folder / "filling").open("ab", buffering=0) as file:
        for size in (64 * 1024, 4096, 512, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
