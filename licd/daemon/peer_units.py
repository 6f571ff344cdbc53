"""The systemd unit that a peer runs in: for people, beside the seat that it holds. No right hangs on it.

/proc/PID/cgroup tells at once; but of another user's process not where ProtectProc= is set, as it is in licd.service.
cgroup.procs tells everybody the same from the other side: which processes are in a control group. So the group is
searched for, first of all among those that peers were in lately: the programs of a shop are few, and connect again.

The pid is the one that connected. If that process has ended and left the connection to a child, there is no unit; and
if the kernel has given the number to another process since, it is the unit of that one.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

MAX_KNOWN = 32  # groups looked at first; each costs some 10 us if it is not the one
# Whoever makes control groups without end, or peers that are in none, must not hold up the loop: all searches together
# may take a twentieth of the time, one of them 50 ms. Beyond that a unit stays unknown. 300 groups take about 5 ms.
SEARCH_S = 0.05
SHARE = 0.05
SAVED_S = 0.5  # unused time of before, for all the programs that connect after a start
MAX_NAME = 100  # what a record of the journal has room for


class Units:
    """`cgroups` and `proc`: where these file systems are mounted."""

    def __init__(self, cgroups: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> None:
        self._cgroups = cgroups
        self._proc = proc
        self._known: list[str] = []  # folders of groups that are units; the latest first
        self._saved_s = SAVED_S
        self._saved_at = time.monotonic()

    def unit_of(self, pid: int) -> str | None:
        """The innermost unit that the process runs in; None if it is in none, or it cannot be seen."""
        if pid <= 0:  # from outside this pid namespace
            return None
        try:
            lines = os.fsdecode((self._proc / str(pid) / "cgroup").read_bytes()).split("\n")
        except OSError:
            return self._searched(pid)
        # cgroups(7): ID:CONTROLLERS:PATH, of the unified hierarchy and of systemd's own beside those of version 1.
        paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines if line)}
        told = (unit_in(paths.get(each, "").removesuffix(" (deleted)")) for each in ("", "name=systemd"))
        return next(filter(None, told), None)

    def _searched(self, pid: int) -> str | None:
        wanted = b"\n%d\n" % pid
        for group in self._known:
            if _holds(group, wanted):
                return self._remember(group)
        began = time.monotonic()
        self._saved_s = min(SAVED_S, self._saved_s + SHARE * (began - self._saved_at))
        self._saved_at = began
        if self._saved_s <= 0:
            return None
        try:
            for group in _groups(self._tops(), began + SEARCH_S):
                if _holds(group, wanted) and unit_in(group) is not None:
                    return self._remember(group)
            return None
        finally:
            self._saved_s -= time.monotonic() - began

    def _tops(self) -> list[str]:
        """Of the hierarchies in which systemd may keep its units."""
        return [str(top) for top in (self._cgroups, self._cgroups / "unified", self._cgroups / "systemd")]

    def _remember(self, group: str) -> str | None:
        if group in self._known:
            self._known.remove(group)
        self._known.insert(0, group)
        del self._known[MAX_KNOWN:]
        return unit_in(group)


def unit_in(path: str) -> str | None:
    """The innermost unit in the path of a control group; None if there is none."""
    units = [part for part in path.split("/") if part.endswith((".service", ".scope"))]
    # systemd's own names are ASCII (systemd.unit(5)); whoever may make control groups may name them otherwise. A name
    # that the kernel might take for one of its files has "_" before it (systemd: cg_escape).
    name = units[-1].removeprefix("_") if units else ""
    return name[:MAX_NAME] if name and name.isascii() and name.isprintable() else None


def _groups(tops: list[str], until: float) -> Iterator[str]:
    """The folders of the control groups, outer ones first, as long as there is time."""
    waiting = deque(top for top in tops if os.path.exists(f"{top}/cgroup.procs"))
    while waiting and time.monotonic() < until:
        group = waiting.popleft()
        yield group
        try:
            if os.stat(group).st_nlink == 2:  # none below it
                continue
            with os.scandir(group) as entries:
                waiting.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:  # gone meanwhile, or not for us
            continue


def _holds(folder: str, wanted: bytes) -> bool:
    """A group of threads has no list of processes: they are in that of the group above it."""
    try:
        with open(f"{folder}/cgroup.procs", "rb", buffering=0) as file:
            return wanted in b"\n" + file.readall()
    except OSError:
        return False


unit_of = Units().unit_of
