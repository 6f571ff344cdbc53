"""systemd/licd-renew.service and licd-renew.timer, read by the real systemd-analyze and systemd-sysusers."""

from __future__ import annotations

import configparser
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.needs import needs_systemd

SYSTEMD = Path(__file__).parent.parent / "systemd"
UNITS = ("licd-renew.service", "licd-renew.timer")
INSTALLED = "/usr/bin/licd-cli"
HERE = Path(sys.executable).with_name("licd-cli")


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)  # keys may stand twice
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # as its documentation says to keep case
    parser.read(SYSTEMD / name)
    return parser


@pytest.fixture
def installed(folder: Path) -> Path:
    """The units as a package has them, but for the command, which is this checkout's."""
    for name in UNITS:
        text = (SYSTEMD / name).read_text()
        (folder / name).write_text(text.replace(INSTALLED, str(HERE)))
    return folder


def verify(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(folder / name for name in UNITS)],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
        check=False,
    )


@needs_systemd
def test_systemd_has_nothing_to_say_about_the_units(installed: Path) -> None:
    verified = verify(installed)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("licd-renew.timer", "OnBootSec=2min", "OnBotSec=2min"),
        ("licd-renew.timer", "OnUnitInactiveSec=2h", "OnUnitInactiveSec=2 moons"),
        ("licd-renew.service", "Type=oneshot", "Type=once"),
        ("licd-renew.service", str(HERE), f"{HERE}-nowhere"),
    ],
)
def test_a_mistake_in_a_unit_would_be_told(installed: Path, name: str, right: str, wrong: str) -> None:
    text = (installed / name).read_text()
    assert right in text
    (installed / name).write_text(text.replace(right, wrong))
    assert verify(installed).stderr != ""


@needs_systemd
def test_the_courier_is_a_user_of_its_own_in_the_couriers_group_and_not_in_licds(folder: Path) -> None:
    (folder / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={folder}", SYSTEMD / "licd.sysusers"], capture_output=True, check=True)
    groups = {
        name: (int(gid), members.split(",") if members else [])
        for name, _, gid, members in (line.split(":") for line in (folder / "etc/group").read_text().splitlines())
    }
    users = {
        name: (int(uid), int(gid), shell)
        for name, _, uid, gid, _, _, shell in (
            line.split(":") for line in (folder / "etc/passwd").read_text().splitlines()
        )
    }
    courier = unit("licd-renew.service")["Service"]["User"]
    uid, gid, shell = users[courier]
    assert "licd-renew" in groups["licd-courier"][1]
    assert courier not in groups["licd"][1]  # which reads the serial numbers of the board
    assert gid == groups[courier][0] != groups["licd"][0]
    assert uid != 0
    assert shell.endswith("nologin")


def test_the_command_of_the_timer_says_nothing_where_nothing_is_due(licd: Daemon) -> None:
    command, *arguments = shlex.split(unit("licd-renew.service")["Service"]["ExecStart"])
    assert command == INSTALLED
    done = subprocess.run(
        [HERE, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "LICD_SOCKET": str(licd.socket)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
