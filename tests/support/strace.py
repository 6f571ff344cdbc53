"""System calls of a running licd that fail, wait or kill it, by strace."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon


@contextlib.contextmanager
def injected(daemon: Daemon, rule: str) -> Iterator[None]:
    """strace is attached to licd and does to its system calls what the rule says."""
    call = rule.partition(":")[0]
    strace = subprocess.Popen(
        ["strace", "-f", "-p", str(daemon.pid), "-e", f"trace={call}", "-e", f"inject={rule}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None
    line = strace.stderr.readline()
    if "attached" not in line:
        strace.wait()
        pytest.skip(f"strace may not attach here: {line}")
    try:
        yield
    finally:
        strace.terminate()
        strace.communicate()
