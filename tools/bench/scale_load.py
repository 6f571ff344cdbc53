"""Items of tools/bench/scale: what leases and connections of others cost those who work."""

from __future__ import annotations

import contextlib
import time

from loading import Generator, LoadFailed, Run
from scale_parts import (
    BUSY,
    CONFIRM,
    MIX,
    PAIRS,
    ROUNDS,
    SPACING_S,
    Figure,
    Setting,
    hold,
    licd_with,
    load_on,
    options,
    settle,
    speed,
    templates,
)
from servers import Licd

from tests.support.clients import Pipeline

EXPIRED_S = 60.0  # from shortly before their deadlines on, all leases are gone within so long


def leases_held(setting: Setting) -> list[Figure]:
    few, some, many = 100, max(100, setting.leases // 10), setting.leases
    counts = sorted({few, some, many})
    runs: dict[tuple[str, int], list[Run]] = {}
    with contextlib.ExitStack() as stack:
        servers = {count: stack.enter_context(licd_with(setting, f"held-{n}")) for n, count in enumerate(counts)}
        for count, licd in servers.items():
            hold(licd, count)
            settle(licd)
        for _ in range(ROUNDS):
            for workload in (PAIRS, CONFIRM):
                for count, licd in servers.items():
                    run = load_on(setting, licd, workload)
                    runs.setdefault((workload.name, count), []).append(run)
    found = []
    for workload in (PAIRS, CONFIRM):
        costs = {count: 1e6 / speed(runs[workload.name, count]) for count in counts}
        for count in counts:
            text = f"{workload.title}, {count:,} leases held: one request"
            found.append(Figure(f"{workload.name}_us_{count}", text, costs[count], "us"))
        text = f"{workload.title}: the cost with {many:,} over that with {few:,}"
        found.append(Figure(f"{workload.name}_ratio", text, costs[many] / costs[few], "", 1.15))
    return found


def idle_connections(setting: Setting) -> list[Figure]:
    idle = 1000
    runs: dict[tuple[str, bool], list[Run]] = {}
    with (
        licd_with(setting, "alone") as alone,
        licd_with(setting, "crowded") as crowded,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(idle):
            line = stack.enter_context(Pipeline(crowded.socket))
            line.answer(line.ask("server.hello"))
        for _ in range(ROUNDS):
            for workload in (PAIRS, CONFIRM):
                for licd in (alone, crowded):
                    run = load_on(setting, licd, workload)
                    runs.setdefault((workload.name, licd is crowded), []).append(run)
    found = []
    for workload in (PAIRS, CONFIRM):
        with_, without = (1e6 / speed(runs[workload.name, many]) for many in (True, False))
        text = f"{workload.title}, {BUSY} busy connections: one request"
        found.append(Figure(f"{workload.name}_us", text, without, "us"))
        text = f"the same beside {idle:,} idle ones, over that"
        found.append(Figure(f"{workload.name}_ratio", text, with_ / without, "", 1.1))
    return found


def expiry(setting: Setting) -> list[Figure]:
    """All leases but those of the load end within one second; a client measures before and meanwhile."""
    clients, window_s, before_s = 64, 1.5, 1.0
    with licd_with(setting, "expiry") as licd:
        # As long as taking them may take (slow machines included), and the least ttl
        moment = time.monotonic() + setting.leases / 6000 + 13 + 2 * window_s
        hold(licd, setting.leases, lambda: max(10, round(moment - time.monotonic())))
        if time.monotonic() > moment - 3 * window_s - before_s:
            raise LoadFailed(f"taking {setting.leases} leases took too long on this machine")
        quiet = load_on(setting, licd, MIX, connections=clients, seconds=window_s)
        time.sleep(max(0.0, moment - 0.5 - before_s - time.monotonic()))
        held = licd.call("server.status")["leases"]
        how = options(setting, licd, connections=clients, seconds=window_s)
        how["warm_up_s"] = moment - 0.5 - time.monotonic()
        with Generator(MIX, licd.socket, templates(setting), **how) as load:
            over_s = max(0.0, _expired_s(licd, clients) - moment - 0.5)
            busy = load.result()
    if held < setting.leases:
        raise LoadFailed(f"of {setting.leases} leases only {held} were held when they should have expired together")
    return [
        Figure("quiet_p99_ms", f"{clients} clients, {MIX.name}: 99 % answered within", quiet.latency.p99 / 1000, "ms"),
        Figure("p99_ms", f"the same while {setting.leases:,} leases expire", busy.latency.p99 / 1000, "ms", 20),
        Figure("max_ms", "the longest wait meanwhile", busy.latency.max / 1000, "ms"),
        Figure("over_s", "all have expired so long after the last deadline, at most", over_s, "s"),
    ]


def _expired_s(licd: Licd, left: int) -> float:
    """When no more than `left` leases were left, on CLOCK_MONOTONIC."""
    until = time.monotonic() + EXPIRED_S
    with licd.client() as client:
        while client.call("server.status")["leases"] > left:
            if time.monotonic() > until:
                raise LoadFailed("the leases did not expire")
            time.sleep(SPACING_S)
    return time.monotonic()
