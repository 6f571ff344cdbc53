"""The load: what clients ask of each server, as template files, and the load generator load.c, compiled and run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgpack
from machine import CHECKOUT, Cores
from servers import LICENSE, Redis, command

from licd.rpc import wire

CACHE = CHECKOUT / "build" / "bench"
SOURCE = Path(__file__).with_name("load.c")
HOLDER = "pos-########"  # load.c puts the number of the connection there
CLOCK = "@" * 10  # and there its clock, in milliseconds
TTL_S = 60
ERROR_STATUS = 3
WARM_UP_S = 0.3


class ErrorReply(Exception):
    """A server answered with an error, or not what it should have."""


class LoadFailed(Exception):
    """The load generator could not be made or did not come to its end."""


class Workload(NamedTuple):
    """What each connection does: once before, over and over, and once after. Only the middle is timed.

    cycle: requests by name and how often in a row
    spread: each connection begins at another place of the cycle
    """

    name: str
    title: str
    before: tuple[str, ...]
    cycle: tuple[tuple[str, int], ...]
    spread: bool = False


WORKLOADS = (
    Workload("pairs", "acquire + release", (), (("acquire", 1), ("release", 1))),
    Workload("confirm", "confirm a held lease", ("acquire",), (("confirm", 1),)),
    Workload(
        "mix",
        "1 acquire, 20 confirms, 2 license checks, 1 release",
        ("acquire",),
        (("acquire", 1), ("confirm", 10), ("check", 1), ("confirm", 10), ("check", 1), ("release", 1)),
        spread=True,
    ),
)
CHECK = Workload("check", "license check", (), (("check", 1),))


class Latency(NamedTuple):
    """In microseconds."""

    samples: int
    p50: float
    p99: float
    max: float


class Run(NamedTuple):
    """What one run of the load generator saw.

    asked: all requests, those outside the timed part too
    load_cpu, server_cpu: processor seconds a second
    """

    ops_per_s: float
    asked: int
    load_cpu: float
    server_cpu: float
    latency: Latency
    of: dict[str, Latency]  # by request


# --- templates ----------------------------------------------------------------------------------------------------


def licd_templates(folder: Path, ttl_s: int = TTL_S) -> Path:
    """The requests to licd: seats by license and holder, as a template cannot know a lease's id."""
    who = {"license": LICENSE, "holder": HOLDER}
    return _write(
        folder,
        acquire=(wire.encode_request(1, "seat.acquire", {**who, "ttl": ttl_s}), msgpack.packb("lease")),
        confirm=(wire.encode_request(1, "seat.confirm", who), msgpack.packb("deadline")),
        release=(wire.encode_request(1, "seat.release", who), msgpack.packb("released") + msgpack.packb(True)),
        check=(
            wire.encode_request(1, "license.check", {"license": LICENSE}),
            msgpack.packb("valid") + msgpack.packb(True),
        ),
    )


def redis_templates(folder: Path, redis: Redis, seats: int) -> Path:
    """The same work: acquire and confirm by seat.lua, release is ZREM, the check of a license the GET of a key."""
    digest = redis.load_script()
    redis.ask("SET", f"license:{LICENSE}", "valid")
    seat = command("EVALSHA", digest, "1", f"pool:{LICENSE}", str(seats), CLOCK, str(TTL_S * 1000), HOLDER)
    return _write(
        folder,
        acquire=(seat, b":1"),
        confirm=(seat, b":1"),
        release=(command("ZREM", f"pool:{LICENSE}", HOLDER), b":1"),
        check=(command("GET", f"license:{LICENSE}"), b"valid"),
    )


def _write(folder: Path, **requests: tuple[bytes, bytes]) -> Path:
    folder.mkdir()
    for name, (request, expect) in requests.items():
        (folder / name).write_bytes(request)
        (folder / f"{name}.expect").write_bytes(expect)
    return folder


# --- the generator ------------------------------------------------------------------------------------------------


def generator() -> Path:
    """load.c, compiled: once for each version of it.

    Errors: LoadFailed
    """
    program = CACHE / f"load-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = program.with_suffix(f".{os.getpid()}")
        try:
            done = subprocess.run(["cc", "-O2", "-o", made, SOURCE], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise LoadFailed("there is no C compiler: apt-get install gcc libc6-dev") from None
        if done.returncode:
            raise LoadFailed(f"cannot compile {SOURCE}: {done.stderr}")
        made.rename(program)
    return program


class Generator:
    """The load generator under way. As a context: it does not outlive it."""

    def __init__(
        self,
        workload: Workload,
        path: Path,
        templates: Path,
        *,
        connections: int,
        seconds: float,
        where: Cores,
        pid: int = 0,
        echo: bool = False,
        warm_up_s: float | None = None,
        interval_us: int = 0,
        first: int = 0,
    ) -> None:
        def file(name: str) -> str:
            return f"{'=' if echo else ''}{templates / name}"

        if warm_up_s is None:
            warm_up_s = min(WARM_UP_S, seconds)
        options = ["-w", str(max(0.0, warm_up_s)), "-i", str(interval_us), "-n", str(first), "-p", str(pid)]
        options += ["-s"] if workload.spread else []
        options += [word for name in workload.before for word in ("-b", file(name))]
        cycle = [f"{file(name)}*{times}" for name, times in workload.cycle]
        command = ["taskset", "-c", str(where.load), str(generator()), *options]
        command += [str(path), str(connections), str(seconds), *cycle]
        self._what = f"{workload.name}, {connections} connections"
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def result(self) -> Run:
        """When it has ended.

        Errors: ErrorReply, LoadFailed
        """
        out, err = self._process.communicate()
        if self._process.returncode == ERROR_STATUS:
            error = json.loads(out)["error"]
            raise ErrorReply(f"{self._what}: {Path(error['template']).name}: {told(bytes.fromhex(error['reply']))}")
        if self._process.returncode:
            raise LoadFailed(f"{self._what}: {err.strip()}")
        return _run(json.loads(out))


def run(*arguments: Any, **options: Any) -> Run:
    """Errors: ErrorReply, LoadFailed"""
    with Generator(*arguments, **options) as generator:
        return generator.result()


def _run(said: dict[str, Any]) -> Run:
    def latency(of: dict[str, Any]) -> Latency:
        return Latency(of["count"], of.get("p50", 0.0), of.get("p99", 0.0), of.get("max", 0.0))

    return Run(
        ops_per_s=said["ops_per_s"],
        asked=said["asked"],
        load_cpu=said["load_cpu"],
        server_cpu=said["server_cpu"],
        latency=latency(said),
        of={name: latency(each) for name, each in said["templates"].items()},
    )


def told(reply: bytes) -> str:
    """An error reply in words."""
    try:
        message = msgpack.unpackb(reply)
        if message[0] == wire.RESPONSE and isinstance(message[2], dict):
            return f"{message[2]['name']}: {message[2]['message']}"
        return f"answered {message[2:]!r}"
    except (ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException):
        return f"answered {reply!r}"
