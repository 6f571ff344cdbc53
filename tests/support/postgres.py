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


@contextmanager
def server() -> Iterator[str]:
    """The address of an empty database, for SQLAlchemy."""
    user = _user()
    assert _BINARIES is not None
    assert user is not None
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)

        def run(*command: str | Path) -> None:
            # Its own output goes away: pg_ctl's server would hold a pipe open.
            as_user = {"user": user} if os.geteuid() == 0 else {}
            subprocess.run(
                [_BINARIES / command[0], *command[1:]],
                check=True,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **as_user,  # type: ignore[call-overload]
            )

        data = folder / "data"
        run("initdb", "-D", data, "-U", "licd", "-A", "trust", "--no-sync", "--no-instructions", "-E", "UTF8")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        run("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql://licd@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
