"""A real PostgreSQL for tests: made anew, on a Unix socket only, gone with the test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _user() -> str | None:
    """Who may run it: anybody but root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    return next((each.pw_name for each in pwd.getpwall() if each.pw_name in ("postgres", "nobody")), None)


_BINARIES = _binaries()
needs_postgres = pytest.mark.skipif(_BINARIES is None or _user() is None, reason="needs the Debian package postgresql")


class Postgres:
    """A server with an empty database. `address` is for SQLAlchemy."""

    def __init__(self, folder: Path) -> None:
        user = _user()
        assert user is not None
        self._folder = folder
        self._user = user
        self.address = f"postgresql://licd@/postgres?host={folder}"
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data = folder / "data"
        self._run("initdb", "-D", data, "-U", "licd", "-A", "trust", "--no-sync", "--no-instructions", "-E", "UTF8")

    def start(self) -> None:
        options = f"-k {self._folder} -c listen_addresses= -c fsync=off"
        self._run("pg_ctl", "-D", self._folder / "data", "-w", "-l", self._folder / "log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._folder / "data", "-w", "-m", "immediate", "stop")

    def _run(self, *command: str | Path) -> None:
        assert _BINARIES is not None
        # Its own output goes away: pg_ctl's server would hold a pipe open.
        subprocess.run(
            [_BINARIES / command[0], *command[1:]],
            check=True,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user if os.geteuid() == 0 else None,
        )


@contextmanager
def restartable() -> Iterator[Postgres]:
    """One that runs; when it is over, it must run again."""
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        found = Postgres(Path(name))
        found.start()
        try:
            yield found
        finally:
            found.stop()


@contextmanager
def server() -> Iterator[str]:
    """The address of an empty database, for SQLAlchemy."""
    with restartable() as found:
        yield found.address
