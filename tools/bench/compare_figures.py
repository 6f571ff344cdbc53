"""Measures licd, Redis and the echo server in turn, and holds the medians against licd's goals."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import loading
from loading import WORKLOADS, Run, Workload
from machine import Cores, Sync, sync_latency
from servers import LICENSE, SEATS, Echo, Licd, Redis, make_license

SERVERS = ("licd", "redis", "echo")
CONNECTIONS = (1, 16, 64, 256)
LEAST_ROUNDS = 3  # of fewer, a median says nothing

# At so many connections, licd is to do so many times what the other does.
GOALS: dict[tuple[str, str], dict[int, float]] = {
    ("pairs", "redis"): {1: 1.1, 16: 1.1, 64: 1.1, 256: 1.1},
    ("confirm", "redis"): {1: 1.25, 16: 2, 64: 2, 256: 1.5},
    ("confirm", "echo"): {1: 0.5, 16: 0.5, 64: 0.5, 256: 0.5},
    ("mix", "redis"): {1: 1.5, 16: 1.5, 64: 1.5, 256: 1.5},
}
ACQUIRE_GOAL = 1.3  # times one echo and one fdatasync

Runs = dict[tuple[str, int, str], list[Run]]  # by workload, connections and server


class Acquire(NamedTuple):
    """One acquire at one connection beside what it is made of, in microseconds: an echo and an fdatasync.

    frame_bytes: what the acquire adds to licd's journal, which is what the fdatasync was measured with
    """

    acquire_us: float
    echo_us: float
    sync: Sync
    frame_bytes: int

    @property
    def ratio(self) -> float:
        return self.acquire_us / (self.echo_us + self.sync.sync_us)


class Goal(NamedTuple):
    text: str
    figure: float
    bound: float
    at_least: bool  # or at most

    @property
    def reached(self) -> bool:
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    @property
    def missed_by(self) -> float:
        """A part of the bound; 0 where it is reached."""
        return 0.0 if self.reached else abs(self.figure / self.bound - 1)


class Bench:
    """The three servers, side by side; an idle one does nothing."""

    def __init__(self, folder: Path, where: Cores, *, seats: int = SEATS, echo: bool = True) -> None:
        self.folder = folder
        self.where = where
        self._seats = seats
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, Licd | Redis | Echo] = {}
        self._templates: dict[str, Path] = {}

    def __enter__(self) -> Bench:
        with contextlib.ExitStack() as stack:
            make_license(self.folder, self._seats)
            licd = stack.enter_context(Licd(self.folder / "licd", self.folder, self.where))
            redis = stack.enter_context(Redis(self.folder / "redis", self.where))
            echo = stack.enter_context(Echo(self.folder / "echo", self.where))
            self._servers = {"licd": licd, "redis": redis, "echo": echo}
            templates = loading.licd_templates(self.folder / "for-licd")
            self._templates = {
                "licd": templates,
                "redis": loading.redis_templates(self.folder / "for-redis", redis, self._seats),
                "echo": templates,
            }
            self._licd = licd
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, server: str, workload: Workload, connections: int, seconds: float) -> Run:
        """Errors: ErrorReply, LoadFailed"""
        return loading.run(
            workload,
            self._servers[server].socket,
            self._templates[server],
            connections=connections,
            seconds=seconds,
            where=self.where,
            pid=self._servers[server].pid,
            echo=server == "echo",
        )

    def frame_bytes(self) -> int:
        """What one acquire adds to the journal."""
        with self._licd.client() as client:
            before = client.call("server.status")["journal"]["bytes"]
            client.call("seat.acquire", license=LICENSE, holder="pos-00000000", ttl=loading.TTL_S)
            after = client.call("server.status")["journal"]["bytes"]
            client.call("seat.release", license=LICENSE, holder="pos-00000000")
        return int(after - before)


def measure(
    bench: Bench,
    *,
    workloads: Sequence[Workload] = WORKLOADS,
    connections: Sequence[int] = CONNECTIONS,
    seconds: float,
    rounds: int,
    tell: Callable[[str], None],
) -> tuple[Runs, Acquire]:
    """Errors: ErrorReply, LoadFailed"""
    runs: Runs = {}
    acquires: list[Run] = []
    echoes: list[Run] = []
    syncs: list[Sync] = []
    frame_bytes = bench.frame_bytes()
    pairs = WORKLOADS[0]
    for n in range(1, rounds + 1):
        for workload in workloads:
            for count in connections:
                tell(f"round {n} of {rounds}: {workload.title}; connections: {count}")
                for server in SERVERS:
                    runs.setdefault((workload.name, count, server), []).append(
                        bench.run(server, workload, count, seconds)
                    )
        tell(f"round {n} of {rounds}: one acquire beside one echo and one fdatasync")
        for server, into in (("licd", acquires), ("echo", echoes)):
            into.append(bench.run(server, pairs, 1, seconds))
            syncs.append(sync_latency(bench.folder, frame_bytes, bench.where.server))
    acquire = Acquire(
        statistics.median(run.of["acquire"].p50 for run in acquires),
        statistics.median(run.of["acquire"].p50 for run in echoes),
        Sync(*(statistics.median(values) for values in zip(*syncs, strict=True))),
        frame_bytes,
    )
    return runs, acquire


def medians(runs: Runs) -> dict[str, dict[str, dict[str, float]]]:
    """By workload and connections: operations a second of each server, and the p99 of licd and Redis."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (workload, connections, server), each in runs.items():
        row = found.setdefault(workload, {}).setdefault(str(connections), {})
        row[server] = round(statistics.median(run.ops_per_s for run in each), 1)
    for (workload, connections, server), each in runs.items():
        if server != "echo":
            p99 = statistics.median(run.latency.p99 for run in each)
            found[workload][str(connections)][f"{server}_p99_us"] = round(p99, 1)
    return found


def goals(figures: dict[str, dict[str, dict[str, float]]], acquire: Acquire) -> Iterator[Goal]:
    """Those of what was measured."""
    for workload in WORKLOADS:
        for connections, row in figures.get(workload.name, {}).items():
            at = f"{workload.name} at {connections}"
            for other in ("redis", "echo"):
                bound = GOALS.get((workload.name, other), {}).get(int(connections))
                if bound is not None:
                    yield Goal(f"{at}: licd over {other}", row["licd"] / row[other], bound, at_least=True)
            if workload.name == "pairs":
                yield Goal(f"{at}: p99 of licd over redis", row["licd_p99_us"] / row["redis_p99_us"], 1, at_least=False)
    yield Goal("acquire at 1: over one echo + one fdatasync", acquire.ratio, ACQUIRE_GOAL, at_least=False)


def busier_load(runs: Runs) -> list[str]:
    """Where the load generator needed more of its core than the server of its own: the server could do more."""
    found = []
    for (workload, connections, server), each in runs.items():
        load = statistics.median(run.load_cpu for run in each)
        own = statistics.median(run.server_cpu for run in each)
        if load > own:
            found.append(f"{workload} at {connections}, {server}: load {load:.0%} of its core, server {own:.0%}")
    return found


def raw(runs: Runs) -> list[dict[str, Any]]:
    """Every run, for a program."""
    return [
        {"workload": workload, "connections": connections, "server": server, "round": n, **_flat(run)}
        for (workload, connections, server), each in runs.items()
        for n, run in enumerate(each, 1)
    ]


def _flat(run: Run) -> dict[str, Any]:
    return {
        **run._asdict(),
        "latency": run.latency._asdict(),
        "of": {name: latency._asdict() for name, latency in run.of.items()},
    }
