"""Command lines of licd-cli, carried out in this process or in one of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from licd.cli.main import main
from tests.support.peer import Peer, Script

AHEAD = (datetime.now(UTC) + timedelta(days=400)).strftime("%Y-%m-%d")
LICENSES: list[dict[str, Any]] = [
    {"name": "kso.scales", "seats": 3, "versions": "5.*", "title": "Весы", "expires": AHEAD},
    {"name": "kso.camera", "license": "uncounted"},
    {"name": "kso.old", "seats": 2, "expires": "2026-02-01"},
]

# As users have it: stdout is buffered, so that a write fails where it is flushed, at the latest when the process ends.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("PYTHONUNBUFFERED", "LICD_SOCKET")}


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]
Start = Callable[..., str]


def runner(capsys: pytest.CaptureFixture[str], *always: object) -> Run:
    """Carries out one command line, with these words before it."""

    def run(*words: object) -> Done:
        capsys.readouterr()
        status = main([str(word) for word in (*always, *words)])
        return Done(status, *capsys.readouterr())

    return run


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "licd.cli.main", *map(str, words)]


def as_other_user(*words: object, document: bytes = b"", groups: Sequence[int] = ()) -> Done:
    """One command line as uid 12345. A first run imports all that it takes before it gives root up."""
    script = (
        "import os, sys, encodings.idna, licd.online.posting;"
        "from licd.cli.main import main; main(['status', '--socket', '/nonexistent/s']);"
        f"os.setgroups({[*groups]}); os.setgid(12345); os.setuid(12345); sys.exit(main(sys.argv[1:]))"
    )
    # Unmeasured: whoever gave root up could not write the measurement beside root's.
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], input=document, capture_output=True, check=False, env=env
    )
    _, _, err = done.stderr.decode().partition("LICD_SOCKET.\n")  # behind what the first run said
    return Done(done.returncode, done.stdout.decode(), err)


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[Start]:
    """Starts a scripted peer in the folder; returns its socket's path."""
    started: list[Peer] = []

    def start(*scripts: Script) -> str:
        started.append(Peer(f"{folder}/s", *scripts))
        return f"{folder}/s"

    yield start
    for each in started:
        each.close()
