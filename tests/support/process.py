"""A process by the kernel's word: its memory, its work, whether it rests."""

from __future__ import annotations

import os
import time
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def resident_kib(pid: int, what: str = "VmRSS") -> int:
    return int(_status(pid)[what].split()[0])


def wake_ups(pid: int) -> int:
    return int(_status(pid)["voluntary_ctxt_switches"])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def comes_to_rest(pid: int, within_s: float = 5.0, for_s: float = 0.03) -> bool:
    """Whether the process soon neither wakes nor computes: what a busy loop never does."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        before = wake_ups(pid), cpu_s(pid)
        time.sleep(for_s)
        if (wake_ups(pid), cpu_s(pid)) == before:
            return True
    return False
