"""tools/bench/scale and tools/bench/profile, in short: what they print and count."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.needs import needs_strace

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "tools" / "bench"

_missing = [program for program in ("cc", "redis-server", "taskset") if shutil.which(program) is None]
needs_servers = pytest.mark.skipif(
    bool(_missing), reason=f"needs {', '.join(_missing)}: tools/bench/programs installs it"
)


def tool(name: str, *arguments: str, status: int = 0) -> str:
    """Its output."""
    done = subprocess.run(
        [sys.executable, BENCH / f"{name}_report.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@needs_servers
def test_scale_measures_the_items_named() -> None:
    found = json.loads(tool("scale", "replay", "space", "written", "--leases", "1000", "--seconds", "0.1", "--json"))
    assert set(found) == {"replay", "space", "written"}
    assert found["replay"]["full_s"] > found["replay"]["bare_s"] > 0
    assert min(found["space"].values()) > 0
    assert found["written"]["confirm_licd"] == 0
    assert found["written"]["confirm_redis"] > 0  # so what is written would be seen


def test_scale_knows_no_other_items() -> None:
    tool("scale", "everything", status=2)


@needs_servers
@needs_strace
@pytest.mark.parametrize(("workload", "writes"), [("pairs", True), ("confirm", False)])
def test_profile_counts_the_system_calls_of_each_request(workload: str, *, writes: bool) -> None:
    short = ("--connections", "4", "--seconds", "0.1")
    found = json.loads(tool("profile", workload, *short, "--json"))
    calls = found["calls"]
    assert 0 < calls["requests"] <= calls["counts"]["recvfrom"]
    assert ("fdatasync" in calls["counts"]) is writes
    dearest = found["functions"]
    assert [each["own_us"] for each in dearest] == sorted((each["own_us"] for each in dearest), reverse=True)
    assert any("licd/daemon/" in each["where"] for each in dearest)


def test_a_figure_without_a_goal_misses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    figure: Any = importlib.import_module("scale_parts").Figure
    assert figure("", "", 30.0, "ms").reached
    assert figure("", "", 20.0, "ms", 20).reached
    assert not figure("", "", 20.1, "ms", 20).reached
    assert figure("", "", 0.0, "bytes", 0).reached
    assert not figure("", "", 1.0, "bytes", 0).reached
