"""A licd in a folder that other users can reach, and a vendor whose license file is in force."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from licd.license.store import Store
from tests.support import pki
from tests.support.clocks import LIBFAKETIME
from tests.support.daemon import Daemon

LINES: Sequence[Mapping[str, Any]] = (
    {"name": "kso.scan", "seats": 3},
    {"name": "kso.pos", "license": "uncounted"},
)


@functools.cache
def vendor() -> pki.Vendor:
    return pki.Vendor()


def started(folder: Path, lines: Sequence[Mapping[str, Any]], **settings: object) -> Daemon:
    """licd on this folder, for everybody, with these licenses imported as seq 1."""
    licd = Daemon(folder, settings={"socket_mode": "0666", **settings})
    vendor().write_profile(licd.vendors)
    licd.start()
    grant(licd, lines)
    return licd


def grant(licd: Daemon, lines: Sequence[Mapping[str, Any]], seq: int = 1) -> None:
    licd.call("license.import", document=vendor().license_file(seq, lines))


@contextlib.contextmanager
def device(
    *, start: bool = True, lines: Sequence[Mapping[str, Any]] = LINES, owner: int | None = None, **options: Any
) -> Iterator[Daemon]:
    """options: of Daemon. owner: the user whose state folder it is, else that of the tests."""
    with tempfile.TemporaryDirectory(prefix="licd-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        licd = Daemon(folder, **options)
        vendor().write_profile(licd.vendors)
        licd.state.mkdir()
        Store(licd.state / "licenses").replace("acme", vendor().license_file(lines=lines))
        if owner is not None:
            for path in (licd.state, *licd.state.rglob("*")):
                os.chown(path, owner, owner)
        with licd:
            yield licd.start() if start else licd


def as_user(uid: int) -> tuple[str, ...]:
    """Before a command: it runs as this user, in its own group only.

    It may read everything, or the interpreter in root's home would not start.
    """
    keep = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *keep)


def hurried(times: int) -> dict[str, str]:
    """The environment of a process for which all clocks run so many times as fast. Needs libfaketime.

    Not the command faketime: that is a process of its own, which gets the signals meant for its child.
    """
    return {"LD_PRELOAD": str(LIBFAKETIME), "FAKETIME": f"+0 x{times}"}
