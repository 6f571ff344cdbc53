"""The player of the manual's sessions itself: whatever a session does, nothing of it is left behind."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

import pytest

from tests.support.transcript import play

HANGS = "sleep 600 & echo $! $$ >pids; wait\n"


def test_of_a_session_that_hangs_neither_the_shell_nor_what_it_started_is_left(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        play([HANGS], tmp_path / "shop", prepare=":", timeout_s=1)
    pids = (tmp_path / "shop" / "pids").read_text().split()
    assert len(pids) == 2
    assert [pid for pid in pids if not ends(int(pid))] == []


def ends(pid: int) -> bool:
    """It has ended, or does so in a moment: who waits for it is told later."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([process], [], [], 5)
    os.close(process)
    return bool(ended)
