"""Watches the real service, with a client connected and a seat held, and prints what it did."""

from __future__ import annotations

import re
import sys
import time

from tests.support.needs import why_no_packages
from tests.support.nspawn import why_not
from tests.support.shop import Shop

SETTLE_S = 3  # after a start: the last STATUS=, the journal's second file
# Calls and bytes of write(2), to whatever file: of the container's memory none reaches a disk, as write_bytes counts.
COUNTED = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches", "syscw", "wchar")


def counters(shop: Shop, pid: int) -> dict[str, int]:
    text = shop.run("cat", f"/proc/{pid}/status", f"/proc/{pid}/io")
    return {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+)$", text, re.MULTILINE) if name in COUNTED}


def main() -> int:
    seconds = int(sys.argv[1]) if sys.argv[1:] else 60
    reason = why_not() or why_no_packages()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    with Shop() as shop:
        shop.license()
        with shop.client() as client:
            client.call("seat.acquire", license="kso.scan", holder="till", ttl=3600)
            pid = shop.pid
            time.sleep(SETTLE_S)
            before, cpu = counters(shop, pid), shop.show("licd.service", "CPUUsageNSec")
            time.sleep(seconds)
            after, cpu_after = counters(shop, pid), shop.show("licd.service", "CPUUsageNSec")
    print(f"in {seconds} s, idle, with a client connected and a seat held:")
    for name in COUNTED:
        print(f"  {name:30} {after[name] - before[name]:6}")
    print(f"  {'CPU, microseconds':30} {(int(cpu_after['CPUUsageNSec']) - int(cpu['CPUUsageNSec'])) // 1000:6}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
