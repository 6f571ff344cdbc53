"""The container of tests/support/nspawn.py: whatever ends the tests, it leaves nothing behind."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.needs import needs_container
from tests.support.nspawn import Machine

pytestmark = needs_container

TESTS = """
import time
from tests.support.nspawn import Machine
with Machine() as machine:
    print(machine.name, flush=True)
    time.sleep(60)
"""


def left_of(name: str) -> list[str]:
    """Processes that stem from the container of this name or are in one of its control groups, and those groups."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if name in (process / "cgroup").read_text() or name in (process / "cmdline").read_text():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found + [str(path) for path in Path("/sys/fs/cgroup").rglob(name)]


def in_the_end_left_of(name: str) -> list[str]:
    """The same, after a while: the last of them may still be waiting for its parent to take note."""
    until = time.monotonic() + 10
    while (left := left_of(name)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def test_after_a_test_that_fails_nothing_is_left() -> None:
    machine = Machine()
    with contextlib.suppress(ZeroDivisionError), machine:
        assert left_of(machine.name)
        assert machine.run("cat", "/proc/1/comm") == "systemd"
        raise ZeroDivisionError
    assert in_the_end_left_of(machine.name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_after_the_tests_are_interrupted_or_killed_nothing_is_left(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TESTS],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        name = tests.stdout.readline().strip()
        assert left_of(name)
        tests.send_signal(number)
    assert in_the_end_left_of(name) == []
