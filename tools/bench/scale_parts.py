"""What the items of tools/bench/scale have in common."""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import loading
from loading import WORKLOADS, LoadFailed, Run, Workload
from machine import Cores
from servers import LICENSE, SEATS, Licd, Redis, make_license

from tests.support.clients import Pipeline

IN_FLIGHT = 500  # requests on one connection
HELD_TTL_S = 3600
ROUNDS = 3
PAIRS, CONFIRM, MIX = WORKLOADS
BUSY = 16  # connections of the load
SPACING_S = 0.02  # between two looks at the journal's files, or at the leases left


class Figure(NamedTuple):
    """One line of the report. goal: the figure is to be at most that; None: only to compare with."""

    key: str
    text: str
    value: float
    unit: str
    goal: float | None = None

    @property
    def reached(self) -> bool:
        return self.goal is None or self.value <= self.goal


class Setting(NamedTuple):
    """What all items need. `leases` is what stands for very many of them, `seconds` how long a run takes."""

    folder: Path
    where: Cores
    leases: int
    seconds: float


def licd_with(setting: Setting, name: str, **settings: Any) -> Licd:
    if not (setting.folder / "profile").exists():
        make_license(setting.folder, 2 * SEATS)
    return Licd(setting.folder / name, setting.folder, setting.where, **settings)


def templates(setting: Setting) -> Path:
    folder = setting.folder / "for-licd"
    return folder if folder.exists() else loading.licd_templates(folder)


def options(setting: Setting, server: Licd | Redis, **changes: Any) -> dict[str, Any]:
    standard = {"connections": BUSY, "seconds": setting.seconds, "where": setting.where, "pid": server.pid}
    return {**standard, **changes}


def load_on(setting: Setting, licd: Licd, workload: Workload, **changes: Any) -> Run:
    return loading.run(workload, licd.socket, templates(setting), **options(setting, licd, **changes))


def speed(runs: list[Run]) -> float:
    return statistics.median(run.ops_per_s for run in runs)


def in_words(count: int) -> str:
    return f"{count} connection{'s' if count > 1 else ''}"


def hold(licd: Licd, leases: int, ttl_s: Callable[[], int] = lambda: HELD_TTL_S) -> None:
    """So many leases are held, by one connection that is gone."""
    with Pipeline(licd.socket) as line:
        for first in range(0, leases, IN_FLIGHT):
            holders = range(first, min(first + IN_FLIGHT, leases))
            asked = [line.ask("seat.acquire", license=LICENSE, holder=f"held-{n:06}", ttl=ttl_s()) for n in holders]
            for msgid in asked:
                line.answer(msgid)
            line.answers.clear()


def settle(licd: Licd) -> None:
    """The journal's second file is there in full."""
    journal, spare = licd.daemon.state / "journal", licd.daemon.state / "journal.next"
    until = time.monotonic() + 30
    while not (spare.exists() and spare.stat().st_size >= journal.stat().st_size):
        if time.monotonic() > until:
            raise LoadFailed("the journal's second file never came")
        time.sleep(0.05)


class Journal:
    """Looks at the journal's files from time to time: how large they are, how often one took the other's place."""

    def __init__(self, licd: Licd) -> None:
        self._folder = licd.daemon.state
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most_bytes = 0
        self.copies = 0

    def __enter__(self) -> Journal:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        inode = self._inode()
        while not self._over.wait(SPACING_S):
            sizes = dict(self._sizes())
            self.most_bytes = max(self.most_bytes, sum(sizes.values()))
            before, inode = inode, self._inode()
            self.copies += inode != before

    def _inode(self) -> int:
        return (self._folder / "journal").stat().st_ino

    def _sizes(self) -> Iterator[tuple[int, int]]:
        """Each file once, whatever names it has at the moment."""
        for path in self._folder.glob("journal*"):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(path)
                yield status.st_ino, status.st_size
