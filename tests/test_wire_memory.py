"""licd.rpc.wire: how much memory a hostile peer may cost, as the kernel counts it (tracemalloc does not see C)."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIMIT = 64 * 1024

_MEASURE = """
import sys
from licd.rpc import wire

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

head = b"\\x94\\x00\\x01\\xa1m" + b"\\xdc\\x00\\x80" * 4
hostile = {
    "maps": head + (b"\\xdc\\x00\\x80" + b"\\x80" * 128) * 480,
    "arrays": head + (b"\\xdc\\x00\\x80" + b"\\x90" * 128) * 480,
    "numbers": head + (b"\\xdc\\x00\\x80" + b"\\xcd\\x7f\\xff" * 128) * 165,
    "nesting": b"\\x94\\x00\\x01\\xa1m" + b"\\xdc\\x00\\x80" * 1000,
    "text": b"\\x94\\x00\\x01\\xa1m\\xdb\\x00\\x00\\xfb\\x00" + b"x" * 64000,
}[sys.argv[1]]
decoders = [wire.Decoder(65536) for _ in range(64)]
before = resident()
for decoder in decoders:
    decoder.feed(hostile)
    assert list(decoder) == [], "whole"
print((resident() - before) // len(decoders))
"""


@pytest.mark.parametrize("kind", ["maps", "arrays", "numbers", "nesting", "text"])
def test_half_a_hostile_message_costs_little_more_than_its_bytes(kind: str) -> None:
    done = subprocess.run([sys.executable, "-c", _MEASURE, kind], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 * LIMIT


_FLOOD = """
import resource, sys
from licd.rpc import wire

claims = [b"\\xdd\\xff\\xff\\xff\\xff", b"\\x91" * 10_000, b"\\xdc\\x00\\x80" * 20_000, b"\\xc1" * 60_000]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for n in range(1000):
    decoder = wire.Decoder(65536)
    decoder.feed(b"\\x94\\x00\\x01\\xa1m" + claims[n % len(claims)])
    try:
        list(decoder)
    except wire.Violation:
        continue
    raise SystemExit("not refused")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
"""


def test_a_thousand_hostile_peers_one_after_another_leave_no_memory_behind() -> None:
    done = subprocess.run([sys.executable, "-c", _FLOOD], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 * 1024  # KiB
