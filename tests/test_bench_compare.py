"""tools/bench/compare, in short: what it prints, that it passes over no error, and that nothing of it is left."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import wait_until

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "tools" / "bench"
KEYS = {"licd", "redis", "echo", "licd_p99_us", "redis_p99_us"}

_missing = [program for program in ("cc", "redis-server", "taskset") if shutil.which(program) is None]
needs_servers = pytest.mark.skipif(
    bool(_missing), reason=f"needs {', '.join(_missing)}: tools/bench/programs installs it"
)


def start(folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, BENCH / "compare_report.py", "--folder", folder, "--quiet", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def servers(folder: Path) -> list[int]:
    """The processes that have this folder in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if f"{folder}/".encode() in words and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that stays as empty as it was, however the tool ended."""
    path = Path("/var/tmp") / f"licd-test-{os.getpid()}"
    path.mkdir(mode=0o755)
    try:
        yield path
        assert list(path.iterdir()) == []
        assert servers(path) == []
    finally:
        shutil.rmtree(path)


@needs_servers
def test_a_run_prints_the_medians_and_draws_them_and_leaves_nothing_behind(disk: Path, tmp_path: Path) -> None:
    plot, raw = tmp_path / "it.svg", tmp_path / "raw.json"
    short = ("--seconds", "0.05", "--rounds", "1", "--connections", "4")
    tool = start(disk, *short, "--json", "--plot", plot, "--raw", raw)
    out, err = tool.communicate()
    assert tool.returncode == 0, err
    figures = json.loads(out)
    assert set(figures) == {"pairs", "confirm", "mix"}
    for rows in figures.values():
        assert set(rows) == {"4"}
        assert set(rows["4"]) == KEYS
        assert all(isinstance(value, float) and value > 0 for value in rows["4"].values())
    assert len(json.loads(raw.read_text())["runs"]) == 9  # of three servers, three workloads
    svg = ET.parse(plot).getroot()
    texts = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"pairs", "confirm", "mix", "4", "licd", "Redis, appendfsync always", "bare echo server"} <= set(texts)


@needs_servers
def test_an_error_reply_is_named_and_ends_the_tool_with_status_1(disk: Path) -> None:
    tool = start(disk, "pairs", "--seats", "1", "--connections", "4", "--seconds", "0.1", "--json")
    out, err = tool.communicate()
    assert (tool.returncode, out) == (1, "")
    assert "acquire: NO_SEAT_FREE" in err


@needs_servers
def test_a_tool_that_is_ended_ends_its_servers(disk: Path) -> None:
    tool = start(disk, "--seconds", "60")
    wait_until(lambda: any("load" in _command(pid) for pid in servers(disk)), "the load runs", timeout_s=15)
    time.sleep(0.1)
    tool.send_signal(signal.SIGTERM)
    assert tool.wait(10) == 128 + signal.SIGTERM
    tool.communicate()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]
    except OSError:
        return ""


def test_a_folder_in_memory_is_refused(tmp_path: Path) -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("needs /dev/shm")
    tool = start(Path("/dev/shm"))
    _, err = tool.communicate()
    assert tool.returncode == 1
    assert err.startswith("error: /dev/shm is tmpfs, in memory")


@pytest.fixture
def figures_module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("compare_figures")


def test_each_goal_is_reached_or_missed_by_a_part_of_it(figures_module: Any) -> None:
    row = {"licd": 2400.0, "redis": 2000.0, "echo": 6000.0, "licd_p99_us": 300.0, "redis_p99_us": 200.0}
    measured = {workload: {"16": row} for workload in ("pairs", "confirm", "mix")}
    sync = figures_module.Sync(2.0, 80.0, 100.0, 200.0)
    acquire = figures_module.Acquire(acquire_us=110.0, echo_us=20.0, sync=sync, frame_bytes=142)
    verdicts = {goal.text: (goal.reached, round(goal.missed_by, 3)) for goal in figures_module.goals(measured, acquire)}
    assert verdicts == {
        "pairs at 16: licd over redis": (True, 0),
        "pairs at 16: p99 of licd over redis": (False, 0.5),
        "confirm at 16: licd over redis": (False, 0.4),
        "confirm at 16: licd over echo": (False, 0.2),
        "mix at 16: licd over redis": (False, 0.2),
        "acquire at 1: over one echo + one fdatasync": (True, 0),
    }


def test_the_goals_cover_every_number_of_connections(figures_module: Any) -> None:
    assert all(set(bounds) == set(figures_module.CONNECTIONS) for bounds in figures_module.GOALS.values())
