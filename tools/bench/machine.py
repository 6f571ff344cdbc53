"""The machine that is measured on: its processors, the file system under a folder, what one fdatasync takes there."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from licd.seats.framefile import FrameFile

IN_MEMORY = {"tmpfs", "ramfs"}
CHECKOUT = Path(__file__).resolve().parent.parent.parent
ALLOCATED_BYTES = 4 << 20  # as one of licd's journal files
SYNCS = 400


class Unfit(Exception):
    """This machine or folder cannot be measured on; the message says what to do."""


def end_tidily() -> None:
    """SIGTERM and ^C end this process by an exception, so that what it has started and made is gone, too."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))


class Cores(NamedTuple):
    """What the server and the load run on; the same where there is one only."""

    server: int
    load: int

    @property
    def apart(self) -> bool:
        return self.server != self.load


def cores() -> Cores:
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[1 % len(allowed)])


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """This process runs on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def file_system(folder: Path) -> str:
    """The type of the file system that the folder is on, as mount(8) names it."""
    found, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind_here, *_ = line.split()
        point = point.replace("\\040", " ")
        if folder.resolve().is_relative_to(point) and len(point) >= len(found):
            found, kind = point, kind_here
    return kind


def disk_bytes(folder: Path) -> int:
    """What has been written to the disk under this folder, by anybody: the kernel's block/stat.

    Errors: Unfit
    """
    device = os.stat(folder).st_dev
    path = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    try:
        return int(path.read_text().split()[6]) * 512
    except FileNotFoundError:
        raise Unfit(
            f"{folder} is on no disk whose writes the kernel counts. Name another folder: --folder DIR"
        ) from None


def add_folder_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="the servers' files go into a new folder in DIR, which must be on a disk (default: /var/tmp)",
    )


@contextmanager
def disk_folder(parent: Path | None) -> Iterator[Path]:
    """A new folder on a disk, gone afterwards.

    Errors: Unfit
    """
    parent = parent or Path("/var/tmp")
    try:
        kind = file_system(parent)
        if kind in IN_MEMORY:
            raise Unfit(
                f"{parent} is {kind}, in memory: a sync costs nothing there. Name a folder on a disk: --folder DIR"
            )
        # Short, for the 108 bytes of sun_path; open, for the sockets in it
        with tempfile.TemporaryDirectory(prefix="licd-bench-", dir=parent) as name:
            yield Path(name)
    except OSError as error:
        if error.filename and Path(error.filename).parent == parent:
            raise Unfit(f"cannot write to {parent}: {error.strerror}. Name another folder: --folder DIR") from None
        raise


class Sync(NamedTuple):
    """What it takes to write some bytes into a file that is allocated in full, and to fdatasync it."""

    write_us: float
    sync_us: float  # the median
    p99_us: float
    max_us: float


def sync_latency(folder: Path, size: int, core: int, *, seconds: float | None = None) -> Sync:
    """Of SYNCS writes, or for so long."""
    path = folder / "probe"
    data = os.urandom(size)
    writes: list[float] = []
    syncs: list[float] = []
    file = FrameFile(path)
    file.allocate(ALLOCATED_BYTES)
    file.close()
    fd = os.open(path, os.O_RDWR)
    try:
        with pinned(core):
            at, until = 0, time.monotonic() + (seconds or 0)
            while (time.monotonic() < until) if seconds is not None else (len(syncs) < SYNCS):
                began = time.perf_counter()
                os.pwrite(fd, data, at)
                written = time.perf_counter()
                os.fdatasync(fd)
                syncs.append((time.perf_counter() - written) * 1e6)
                writes.append((written - began) * 1e6)
                at = (at + size) % (ALLOCATED_BYTES - size)
    finally:
        os.close(fd)
        path.unlink()
    syncs.sort()
    return Sync(statistics.median(writes), statistics.median(syncs), syncs[int(len(syncs) * 0.99)], syncs[-1])


class Others:
    """What other processes, and the host, take of the processors from now on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before_s = _busy_s() - _own_s()

    def told(self) -> list[str]:
        """For people, once the servers have ended: a line, if it was enough to blur the figures."""
        cores = (_busy_s() - _own_s() - self._before_s) / (time.monotonic() - self._began)
        return [f"other processes took {cores:.1f} cores meanwhile: figures are rough"] if cores > 0.05 else []


def _busy_s() -> float:
    """All processors, all processes, and what a host took from this virtual machine: proc(5), stat."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def described(folder: Path, where: Cores) -> list[str]:
    """For people: what was measured on, a line each."""
    pinning = (
        f"server on core {where.server}, load on core {where.load}"
        if where.apart
        else "one core only, for the server and the load: they take time from each other"
    )
    return [
        f"{_processor()}, {os.cpu_count()} cores ({pinning})",
        f"{platform.system()} {platform.release()}, files on {file_system(folder)}",
        f"Python {platform.python_version()}, Redis {redis_version()}",
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def redis_version() -> str:
    try:
        text = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        return "not installed"
    return next((word[2:] for word in text.split() if word.startswith("v=")), "unknown")
