"""Measures the real process: time to READY=1, resident memory, wake-ups while idle. Medians; ratios within one run."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.clients import Pipeline
from tests.support.daemon import Daemon
from tests.support.pki import Vendor
from tests.support.process import resident_kib, wake_ups

RUNS = 9
LINES = 100
LEASES = 10_000
IN_FLIGHT = 500  # requests on one connection
IDLE_S = 30
SETTLE_S = 2  # after a start: the first STATUS=, the journal's second file
IMPORTS = "import cryptography.x509.verification, msgpack, pyudev, sdnotify"


def acquire_many(path: Path, license: str) -> None:
    """LEASES leases over one connection, pipelined."""
    with Pipeline(path) as line:
        for first in range(0, LEASES, IN_FLIGHT):
            holders = [f"pos-{n:08}" for n in range(first, first + IN_FLIGHT)]
            asked = [line.ask("seat.acquire", license=license, holder=holder, ttl=3600) for holder in holders]
            for msgid in asked:
                line.answer(msgid)


def imports_s() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.monotonic() - began


def measure(folder: Path) -> dict[str, float]:
    vendor = Vendor()
    with Daemon(folder) as daemon:
        vendor.write_profile(daemon.vendors)
        daemon.start()
        lines = [{"name": f"kso.license-{n}", "license": "counted", "seats": 1_000_000} for n in range(LINES)]
        daemon.call("license.import", document=vendor.license_file(seq=1, lines=lines))
        daemon.stop()
        daemon.start()
        time.sleep(SETTLE_S)
        idle_kib = resident_kib(daemon.pid)
        before = wake_ups(daemon.pid)
        time.sleep(IDLE_S)
        wakeups = wake_ups(daemon.pid) - before
        acquire_many(daemon.socket, "kso.license-0")
        first_kib = resident_kib(daemon.pid)
        acquire_many(daemon.socket, "kso.license-1")
        second_kib = resident_kib(daemon.pid)
        with daemon.client() as client:  # back to LEASES
            for n in range(LEASES):
                client.call("seat.release", license="kso.license-1", holder=f"pos-{n:08}")
        ready, imports = [], []
        for _ in range(RUNS):
            daemon.kill()
            daemon.start()
            ready.append(daemon.ready_s)
            imports.append(imports_s())
        assert daemon.call("server.status")["leases"] == LEASES
        daemon.stop()
    return {
        "ready_ms": statistics.median(ready) * 1000,
        "imports_ms": statistics.median(imports) * 1000,
        "ready_ratio": statistics.median(ready) / statistics.median(imports),
        "idle_mib": idle_kib / 1024,
        "lease_kib": (second_kib - first_kib) / LEASES,
        "first_leases_kib": (first_kib - idle_kib) / LEASES,
        "idle_wakeups": wakeups,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="licd-bench-") as folder:
        figures = measure(Path(folder))
    if args.json:
        print(json.dumps(figures))
        return
    rows = [
        (f"exec to READY=1, {LINES} license lines, {LEASES} leases", "ready_ms", "ms", ""),
        ("the interpreter importing the four packages", "imports_ms", "ms", ""),
        ("ratio of the two", "ready_ratio", "", "goal: 1.5 or less"),
        (f"resident memory idle, started with {LINES} license lines", "idle_mib", "MiB", "goal: 32 or less"),
        ("resident memory per lease, the second 10,000", "lease_kib", "KiB", "goal: 1 or less"),
        ("resident memory per lease, the first 10,000", "first_leases_kib", "KiB", "goal: 1 or less"),
        (f"wake-ups in {IDLE_S} idle seconds", "idle_wakeups", "", "goal: 0"),
    ]
    for text, key, unit, goal in rows:
        print(f"{text:58} {figures[key]:8.2f} {unit:4} {goal}")


if __name__ == "__main__":
    main()
