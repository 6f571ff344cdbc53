"""Profiles licd at work: the functions that take the time, by cProfile, and the system calls, by strace."""

from __future__ import annotations

import argparse
import contextlib
import json
import marshal
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import loading
import machine
from loading import WORKLOADS, ErrorReply, LoadFailed, Run, Workload
from machine import CHECKOUT, Cores
from servers import SEATS, Licd, NoStart, make_license, set_file_limit

FUNCTIONS = 25
ATTACH_S = 10.0


class Function(NamedTuple):
    where: str
    calls: float  # for each request
    own_us: float  # for each request, without what it calls
    share: float  # of the time of all


class Calls(NamedTuple):
    """System calls by name, of so many requests. Turns that had something to sync are as many as fdatasync."""

    counts: dict[str, int]
    requests: int


class Bench(NamedTuple):
    folder: Path
    where: Cores
    workload: Workload
    connections: int
    seconds: float

    def load(self, licd: Licd) -> Run:
        templates = self.folder / "for-licd"
        return loading.run(
            self.workload,
            licd.socket,
            templates if templates.exists() else loading.licd_templates(templates),
            connections=self.connections,
            seconds=self.seconds,
            where=self.where,
            pid=licd.pid,
        )


def functions(bench: Bench) -> tuple[list[Function], Run]:
    """The dearest first, by their own time. cProfile makes short ones look dearer than they are."""
    output = bench.folder / "functions"
    runner = (sys.executable, str(Path(__file__).with_name("profile_run.py")), str(output))
    with Licd(bench.folder / "profiled", bench.folder, bench.where, wrap=runner) as licd:
        os.kill(licd.pid, signal.SIGUSR1)
        run = bench.load(licd)
        os.kill(licd.pid, signal.SIGUSR2)
        until = time.monotonic() + ATTACH_S
        while not output.exists():
            if time.monotonic() > until:
                raise LoadFailed("licd wrote no profile")
            time.sleep(0.02)
    # {(file, line, name): (primitive calls, calls, own seconds, seconds in all, by caller)}: what pstats reads
    stats = marshal.loads(output.read_bytes())
    total_s = sum(own_s for _, _, own_s, _, _ in stats.values())
    found = [
        Function(_place(*place), calls / run.asked, own_s * 1e6 / run.asked, own_s / total_s)
        for place, (_, calls, own_s, _, _) in stats.items()
    ]
    return sorted(found, key=lambda each: -each.own_us), run


def _place(file: str, line: int, name: str) -> str:
    if file == "~":  # in C
        return name.strip("<>").removeprefix("built-in method ").removeprefix("method ")
    path = Path(file)
    return f"{path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path.name}:{line} {name}"


def system_calls(bench: Bench) -> Calls:
    """Counted while strace holds licd up at each: slower, but the same calls."""
    with Licd(bench.folder / "traced", bench.folder, bench.where) as licd:
        bench.load(licd)  # what is done once is done
        output = bench.folder / "strace"
        with _strace(licd.pid, output):
            run = bench.load(licd)
    counts = {}
    for line in output.read_text().splitlines():
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if found and found[2] != "total":
            counts[found[2]] = int(found[1])
    return Calls(counts, run.asked)


@contextlib.contextmanager
def _strace(pid: int, output: Path) -> Iterator[None]:
    """strace counts what the process does."""
    strace = subprocess.Popen(
        [
            "strace",
            "-c",
            "-f",
            "-U",
            "time-percent,total-time,avg-time,calls,errors,name",
            "-o",
            output,
            "-p",
            str(pid),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None
    line = strace.stderr.readline()
    if "attached" not in line:
        strace.wait()
        raise LoadFailed(f"strace may not attach here: {line.strip()}")
    try:
        yield
    finally:
        strace.send_signal(signal.SIGINT)
        strace.communicate()


def told(bench: Bench, found: Sequence[Function], run: Run, calls: Calls) -> Iterator[str]:
    """For people."""
    title = f"{bench.workload.name}: {bench.workload.title}; connections: {bench.connections}"
    yield title
    yield ""
    syncs = calls.counts.get("fdatasync", 0)
    a_sync = _each(calls.requests, syncs)
    yield f"system calls, of {calls.requests:,} requests in {syncs:,} turns with a sync ({a_sync} a sync)"
    yield f"  {'':20} {'a request':>10} {'a sync':>10}"
    for name, count in sorted(calls.counts.items(), key=lambda each: -each[1]):
        yield f"  {name:20} {_each(count, calls.requests):>10} {_each(count, syncs):>10}"
    all_ = sum(calls.counts.values())
    yield f"  {'all':20} {_each(all_, calls.requests):>10} {_each(all_, syncs):>10}"
    yield ""
    yield f"functions by their own time, of {run.asked:,} requests under cProfile, which slows them down"
    yield f"  {'us':>7} {'share':>6} {'calls':>7}   a request"
    for each in found[:FUNCTIONS]:
        yield f"  {each.own_us:7.2f} {each.share:6.1%} {each.calls:7.2f}   {each.where}"


def _each(count: int, of: int) -> str:
    return f"{count / of:.3f}" if of else "-"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench/profile", description=__doc__)
    workloads = {workload.name: workload for workload in WORKLOADS}
    parser.add_argument("workload", nargs="?", choices=list(workloads), default="pairs", help="(pairs)")
    parser.add_argument("--connections", type=int, default=16, metavar="N", help="(16)")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each of the runs (3)")
    parser.add_argument("--seats", type=int, default=SEATS, metavar="N", help=f"of the license ({SEATS})")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the tables")
    machine.add_folder_option(parser)
    args = parser.parse_args(arguments)
    if args.connections < 1 or args.seconds <= 0:
        parser.error("connections begin at 1, seconds above 0")
    set_file_limit()
    try:
        with machine.disk_folder(args.folder) as folder:
            make_license(folder, args.seats)
            bench = Bench(folder, machine.cores(), workloads[args.workload], args.connections, args.seconds)
            calls = system_calls(bench)
            found, run = functions(bench)
    except (machine.Unfit, NoStart, ErrorReply, LoadFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        rows = [each._asdict() for each in found[:FUNCTIONS]]
        print(json.dumps({"calls": calls._asdict(), "functions": rows}))
    else:
        print("\n".join(told(bench, found, run, calls)))
    return 0


if __name__ == "__main__":
    machine.end_tidily()
    sys.exit(main())
