"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.device import device


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
