"""Items of tools/bench/scale: what the journal costs, at a start, under load and on the disk."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import loading
from loading import CHECK, Generator, LoadFailed, Run
from machine import disk_bytes, sync_latency
from scale_parts import (
    BUSY,
    CONFIRM,
    PAIRS,
    ROUNDS,
    Figure,
    Journal,
    Setting,
    hold,
    in_words,
    licd_with,
    load_on,
    options,
    settle,
    templates,
)
from servers import SEATS, Licd, Redis, write_bytes

KIB, MIB = 1 << 10, 1 << 20
COPIES, SPELLS = 2, 12  # compactions that are waited for, for at most so many spells of load
PROBE_US = 1000  # a client that asks so often sees every pause


def replay(setting: Setting) -> list[Figure]:
    with licd_with(setting, "replay") as licd:
        empty_s = statistics.median(_restart_s(licd, 0) for _ in range(ROUNDS))
        hold(licd, setting.leases)
        full_s = statistics.median(_restart_s(licd, setting.leases) for _ in range(ROUNDS))
        licd.daemon.kill()
        journal = licd.daemon.state / "journal"
        command = ["taskset", "-c", str(setting.where.server), sys.executable, "-c", BARE_READ, str(journal)]
        bare_s = statistics.median(
            float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(ROUNDS)
        )
    return [
        Figure("empty_s", "from exec to READY=1 without a lease", empty_s, "s"),
        Figure("full_s", f"the same with {setting.leases:,} leases to replay", full_s, "s"),
        Figure("replay_s", "the difference: replay, and the copy that a start makes", full_s - empty_s, "s", 1),
        Figure("bare_s", "reading the same file and unpacking its records, no more", bare_s, "s"),
    ]


BARE_READ = """
import pathlib, sys, time
import msgpack
from licd.seats import frames
began = time.perf_counter()
for payload in frames.scan(pathlib.Path(sys.argv[1]).read_bytes()).payloads:
    unpacker = msgpack.Unpacker()
    unpacker.feed(payload)
    for record in unpacker:
        pass
print(time.perf_counter() - began)
"""


def compaction(setting: Setting) -> list[Figure]:
    """Pairs at full speed; beside them a client that asks every millisecond, and so sees every pause."""
    spell_s = 4 * setting.seconds
    probes: list[Run] = []
    # A journal of which living leases fill a quarter is copied as soon as they fill but half of what is used
    with licd_with(setting, "compacted", journal_size=max(256 * KIB, 400 * setting.leases)) as licd:
        hold(licd, setting.leases)
        settle(licd)
        with Journal(licd) as journal:
            while journal.copies < COPIES and len(probes) < SPELLS:
                probes.append(_probe(setting, licd, spell_s))
        copies = journal.copies
    if not copies:
        raise LoadFailed(f"no compaction in {len(probes) * spell_s:g} s: try it when less is done here")
    # The control: a journal that is not half full in time
    with licd_with(setting, "uncompacted", journal_size=128 * MIB) as licd:
        hold(licd, setting.leases)
        settle(licd)
        with Journal(licd) as journal:
            controls = [_probe(setting, licd, spell_s) for _ in probes]
        if journal.copies:
            raise LoadFailed("a compaction in the control, too")
    sync = sync_latency(setting.folder, 256, setting.where.server, seconds=min(spell_s, 3.0))
    text = f"compactions in {len(probes) * spell_s:g} s, with {setting.leases:,} leases held"
    return [
        Figure("copies", text, copies, ""),
        Figure("max_ms", "the longest pause meanwhile", _worst_ms(probes), "ms", 20),
        Figure("control_max_ms", "the same load without a compaction: the longest pause", _worst_ms(controls), "ms"),
        Figure("sync_max_ms", "the longest fdatasync of a file beside it, without load", sync.max_us / 1000, "ms"),
    ]


def _probe(setting: Setting, licd: Licd, seconds: float) -> Run:
    """What a client saw that asks every millisecond, beside pairs at full speed."""
    how = options(setting, licd, seconds=seconds)
    with Generator(PAIRS, licd.socket, templates(setting), **how) as load:
        probe = load_on(setting, licd, CHECK, connections=1, seconds=seconds, interval_us=PROBE_US, first=10**6)
        load.result()
    return probe


def _worst_ms(probes: list[Run]) -> float:
    return max(probe.latency.max for probe in probes) / 1000


def written(setting: Setting) -> list[Figure]:
    """Pairs by what reached the disk; that confirms write nothing, by what the process had written.

    The latter is exact where it is 0, but otherwise the kernel counts whole folios, up to 2 MiB for one block of a file
    that was written in one go. The disk's own count knows no process: what it wrote at rest just before is taken off.
    """
    found = []
    with licd_with(setting, "written") as licd, Redis(setting.folder / "redis", setting.where) as redis:
        settle(licd)
        servers: dict[str, Licd | Redis] = {"licd": licd, "redis": redis}
        sent = {
            "licd": templates(setting),
            "redis": loading.redis_templates(setting.folder / "for-redis", redis, SEATS),
        }
        for connections in (1, BUSY):
            for name, server in servers.items():
                began, before = time.monotonic(), disk_bytes(setting.folder)
                time.sleep(setting.seconds)
                middle = disk_bytes(setting.folder)
                at_rest = (middle - before) / (time.monotonic() - began)
                began = time.monotonic()
                how = options(setting, server, connections=connections)
                run = loading.run(PAIRS, server.socket, sent[name], **how)
                bytes_ = disk_bytes(setting.folder) - middle - at_rest * (time.monotonic() - began)
                text = f"{PAIRS.title}, {in_words(connections)}: {name}"
                found.append(Figure(f"pairs_{connections}_{name}", text, max(0, bytes_) / (run.asked / 2), "bytes"))
        for name, server in servers.items():
            how = options(setting, server)
            # Once before, so that all seats are held and asking for them again writes nothing
            loading.run(CONFIRM, server.socket, sent[name], **{**how, "seconds": 0.1})
            before = write_bytes(server.pid)
            run = loading.run(CONFIRM, server.socket, sent[name], **how)
            text = f"{CONFIRM.title}, {in_words(BUSY)}: {name}"
            goal = 0 if name == "licd" else None
            found.append(Figure(f"confirm_{name}", text, (write_bytes(server.pid) - before) / run.asked, "bytes", goal))
    return found


def bounded(setting: Setting) -> list[Figure]:
    size, seconds, leases = 4 * MIB, max(setting.seconds * 12, 2.0), setting.leases // 2
    with licd_with(setting, "bounded", journal_size=size) as licd:
        with Journal(licd) as journal:
            run = load_on(setting, licd, PAIRS, connections=64, seconds=seconds)
        few, copies, requests = journal.most_bytes, journal.copies, run.asked
        if not copies:
            raise LoadFailed(f"no compaction in {seconds:g} s: try it when less is done here")
        hold(licd, leases)
        # What it takes for so many leases it has after a round of all its space
        first, second = Journal(licd), Journal(licd)
        with first:
            load_on(setting, licd, PAIRS, connections=64, seconds=seconds / 2)
        with second:
            load_on(setting, licd, PAIRS, connections=64, seconds=seconds / 2)
    return [
        Figure("requests", f"acquires and releases in {seconds:g} s", requests, ""),
        Figure("copies", "compactions meanwhile", copies, ""),
        Figure("most_mib", "both journal files together, at their largest", few / MIB, "MiB", 2 * size / MIB),
        Figure("live_mib", f"the same with {leases:,} leases held", first.most_bytes / MIB, "MiB"),
        Figure("live_bytes", "that is, for each lease", first.most_bytes / leases, "bytes"),
        Figure("live_copies", "compactions in the second half of that", second.copies, ""),
        Figure("growth", "growth in the second half", second.most_bytes / first.most_bytes, "", 1),
    ]


def _restart_s(licd: Licd, leases: int) -> float:
    licd.daemon.restart()
    if licd.call("server.status")["leases"] != leases:
        raise LoadFailed(f"not all of {leases} leases came back")
    return licd.daemon.ready_s
