"""The units of systemd/ by systemd's own judgement. How they behave: test_systemd*.py, on a real systemd."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from licd.daemon import main
from tests.support.needs import needs_systemd
from tests.support.units import UNITS, unit

NAMES = ("licd.service", "licd.socket", "licd-renew.service", "licd-renew.timer")
SERVICES = ("licd.service", "licd-renew.service")

# What systemd-analyze has against each service. None of it can go without taking away what the service is for: the unit
# says for each what it would break, and test_systemd_sandbox.py shows it.
EXPOSURE = {"licd.service": 11, "licd-renew.service": 11}  # tenths
ARGUED = {
    "licd.service": {
        "PrivateNetwork=",
        "PrivateUsers=",
        "ProcSubset=",
        "ProtectClock=",
        "RestrictAddressFamilies=~AF_UNIX",
        "SystemCallFilter=~@clock",
        "SystemCallFilter=~@privileged",
    },
    "licd-renew.service": {
        "DeviceAllow=",  # ProtectClock= lets the hardware clock be read
        "IPAddressDeny=",
        "PrivateNetwork=",
        "RestrictAddressFamilies=~AF_(INET|INET6)",
        "RestrictAddressFamilies=~AF_UNIX",
        "RootDirectory=/RootImage=",
    },
}

pytestmark = needs_systemd


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


def test_verify_has_nothing_to_say(tmp_path: Path) -> None:
    for name in NAMES:  # the programs need not be installed here
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", (UNITS / name).read_text(), flags=re.MULTILINE)
        (tmp_path / name).write_text(text)
    done = analyze("verify", "--man=no", *(tmp_path / name for name in NAMES))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_verify_would_say_something(tmp_path: Path) -> None:
    (tmp_path / "licd.service").write_text("[Service]\nExecStart=/bin/true\nProtectSystm=strict\n")
    assert "ProtectSystm" in analyze("verify", tmp_path / "licd.service").stderr


@pytest.mark.parametrize("name", SERVICES)
def test_what_speaks_against_a_service_is_what_it_is_for(name: str) -> None:
    done = analyze("security", "--offline=true", "--json=short", UNITS / name)
    rated = json.loads(done.stdout)
    assert {each["name"] for each in rated if each["exposure"]} == ARGUED[name]


@pytest.mark.parametrize("name", SERVICES)
def test_the_exposure_of_a_service_is_as_low_as_that(name: str) -> None:
    assert analyze("security", "--offline=true", f"--threshold={EXPOSURE[name]}", UNITS / name).returncode == 0
    assert analyze("security", "--offline=true", f"--threshold={EXPOSURE[name] - 1}", UNITS / name).returncode != 0


def test_what_would_blind_the_daemon_is_not_set() -> None:
    service = unit("licd.service")["Service"]
    blinding = ("PrivateUsers", "ProtectClock", "ProcSubset", "PrivateNetwork", "PrivatePIDs")
    assert not [name for name in blinding if name in service]


def test_a_restart_is_prevented_only_where_it_does_not_help() -> None:
    service = unit("licd.service")["Service"]
    assert service["Restart"] == "on-failure"
    prevented = {int(status) for status in service["RestartPreventExitStatus"].split()}
    assert prevented == {2, main.BAD_CONFIG}  # 2: argparse's
    held = re.search(r"in ([\d|]+)\)", service["ExecStopPost"])
    assert held is not None
    assert {int(status) for status in held[1].split("|")} == prevented


def test_nothing_limits_how_often_it_is_started() -> None:
    assert unit("licd.service")["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit("licd.socket")["Socket"]["TriggerLimitIntervalSec"] == "0"


def test_users_and_groups_that_the_units_name_are_made(tmp_path: Path) -> None:
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("needs systemd-sysusers")
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", UNITS / "licd.sysusers"], check=True, capture_output=True)
    users = {line.split(":")[0] for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    groups = {line.split(":")[0]: line.split(":")[3] for line in (tmp_path / "etc/group").read_text().splitlines()}
    for name in SERVICES:
        assert unit(name)["Service"]["User"] in users
    assert unit("licd.socket")["Socket"]["SocketGroup"] in groups
    assert groups["licd-client"] == groups["licd-courier"] == "licd-renew"
    assert groups["licd"] == ""  # who reads the serial numbers of the board
