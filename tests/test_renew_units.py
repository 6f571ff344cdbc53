"""What licd-renew.service runs, and as whom. Its other lines: test_units.py; on a real systemd: test_systemd*.py."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.needs import needs_systemd
from tests.support.units import UNITS, unit

INSTALLED = "/usr/bin/licd-cli"
HERE = Path(sys.executable).with_name("licd-cli")


@needs_systemd
def test_the_courier_is_a_user_of_its_own_in_the_couriers_group_and_not_in_licds(folder: Path) -> None:
    (folder / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={folder}", UNITS / "licd.sysusers"], capture_output=True, check=True)
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
