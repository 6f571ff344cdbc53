"""What the processes of one test run share: each thing is made once, by whoever needs it first."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

_VARIABLE = "LICD_TESTS_SHARE"


@functools.cache
def _made() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="licd-run-")  # gone with this process


def share() -> Path:
    """Their folder: the first process makes it, and those that it starts have its name from it."""
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = _made().name
    return Path(os.environ[_VARIABLE])


def once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` has filled, in this process or in another one, which is waited for."""
    done = share() / name
    with done.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            unfinished = done.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(done)
    return done
