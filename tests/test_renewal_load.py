"""The simulation of tools/bench/renewals, smaller: the load stays near its mean, and would not by itself."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "tools" / "bench"
REPORT = BENCH / "renewals_report.py"


def simulate(*arguments: str, status: int) -> dict[str, Any]:
    """The figures by scenario."""
    done = subprocess.run(
        [sys.executable, REPORT, "--devices", "4000", "--json", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return {figures["scenario"]: figures for figures in json.loads(done.stdout)["scenarios"]}


def test_after_the_first_months_no_day_is_over_one_and_a_half_times_the_mean() -> None:
    figures = simulate(status=0)
    assert set(figures) == {"year", "day", "down"}
    for each in figures.values():
        assert 1 < each["ratio"] <= 1.5, each
        assert each["stopped"] == 0, each


def test_without_pacing_the_day_after_the_server_was_down_is_many_times_the_mean() -> None:
    assert simulate("down", "--without-pacing", status=1)["down"]["ratio"] > 5


def test_without_jitter_those_installed_on_one_day_all_renew_on_a_few_days() -> None:
    assert simulate("day", "--without-jitter", status=1)["day"]["first"] > 8
    assert simulate("day", "--without-jitter", "--without-pacing", status=1)["day"]["ratio"] > 10


def test_the_simulated_timer_runs_as_licd_renew_timer_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    simulated = importlib.import_module("renewals_load")
    timer = (ROOT / "systemd" / "licd-renew.timer").read_text()
    says = dict(re.findall(r"^(\w+)=(\d+(?:min|h))$", timer, re.MULTILINE))
    seconds = {name: int(value.rstrip("minh")) * (3600 if value.endswith("h") else 60) for name, value in says.items()}
    assert seconds["OnBootSec"] == simulated.BOOT_S
    assert seconds["OnUnitInactiveSec"] == simulated.EVERY_S
    assert seconds["RandomizedDelaySec"] == simulated.DELAY_S


def test_one_seed_is_one_course_of_events(tmp_path: Path) -> None:
    few = ("--devices", "300", "day")
    texts = [
        subprocess.run(
            [sys.executable, REPORT, *few, "--seed", seed, "--picture", tmp_path / f"{n}.svg"],
            capture_output=True,
            check=False,
        ).stdout
        for n, seed in enumerate(("7", "7", "8"))
    ]
    pictures = [(tmp_path / f"{n}.svg").read_text() for n in range(3)]
    assert (texts[0], pictures[0]) == (texts[1], pictures[1])
    assert (texts[0], pictures[0]) != (texts[2], pictures[2])
