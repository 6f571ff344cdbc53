"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.books import Books
from tests.support.cli import Run, Start, peers, runner
from tests.support.daemon import Daemon
from tests.support.device import device
from tests.support.once import share
from tests.support.site import Site


def pytest_configure() -> None:
    share()
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as of what a shell starts in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # or no child of a test could be interrupted


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, for the 108 bytes of sun_path (pytest's own are long), and open to every user."""
    with tempfile.TemporaryDirectory(prefix="licd-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def licd() -> Iterator[Daemon]:
    with device() as licd:
        yield licd


@pytest.fixture
def stopped() -> Iterator[Daemon]:
    """Not started yet."""
    with device(start=False) as licd:
        yield licd


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """licd-cli in this process."""
    return runner(capsys)


@pytest.fixture
def licd_cli(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> Run:
    """licd-cli in this process, asking the daemon that the test module has."""
    return runner(capsys, "--socket", daemon.socket)


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    """A device in the field, the server of tests/vectors/machines, started. Needs site.NEEDS."""
    with Site(folder) as site:
        yield site.start()


@pytest.fixture
def peer(folder: Path) -> Iterator[Start]:
    """What licd-cli talks to in the place of licd: it says what a script says."""
    with peers(folder) as start:
        yield start


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """A vendor's, with no order yet."""
    return Books(tmp_path)
