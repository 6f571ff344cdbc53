"""What the manual says of the package and its units: played on a real systemd, and compared with the units."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from licd.daemon import main
from licd.rpc.errors import STATE_NOT_WRITABLE
from tests.support import mdoc
from tests.support.device import vendor
from tests.support.mdoc import items, section, source, subsections, text, with_macro
from tests.support.needs import needs_container, needs_debhelper, needs_systemd
from tests.support.shop import SOCKET, STATE, Shop
from tests.support.units import UNITS, unit

INSTALLATION = section(source("licd.8"), "INSTALLATION")
PARTS = subsections(INSTALLATION)
WORDS = text(INSTALLATION)
DISPLAYS = list(mdoc.displays(INSTALLATION))


# --- the page against the units -----------------------------------------------------------------------------------


def test_the_manual_lists_exactly_the_units() -> None:
    listed = {item.head for item in with_macro(PARTS["Units"], "Pa")}
    assert listed == {path.name for path in UNITS.iterdir() if path.suffix in (".service", ".socket", ".timer")}


def test_the_manual_lists_exactly_the_users_and_groups_of_sysusers() -> None:
    made = re.findall(r"(?m)^[gu] (\S+)", (UNITS / "licd.sysusers").read_text())
    assert {item.head for item in with_macro(PARTS["Users and groups"], "Li")} == set(made)


def test_the_units_are_as_the_manual_says() -> None:
    service, socket = unit("licd.service")["Service"], unit("licd.socket")["Socket"]
    timer, renew = unit("licd-renew.timer")["Timer"], unit("licd-renew.service")
    units = {item.head: item.text for item in with_macro(PARTS["Units"], "Pa")}
    assert units["licd.socket"].startswith(f"The socket, {socket['ListenStream']}, mode {socket['SocketMode']}.")
    assert (timer["OnBootSec"], timer["OnUnitInactiveSec"], timer["RandomizedDelaySec"]) == ("2min", "2h", "10min")
    assert "2 to 12 minutes after boot" in units["licd-renew.timer"]
    assert "2 hours to 2 hours and 10 minutes after it has ended" in units["licd-renew.timer"]
    command = renew["Service"]["ExecStart"].removeprefix("/usr/bin/")
    assert units["licd-renew.service"].startswith(f"Runs {command}, also when the network has come up.")
    assert renew["Install"]["WantedBy"] == "network-online.target"
    assert (service["RestartSec"], service["WatchdogSec"]) == ("2s", "3min")
    assert "starts it again after two seconds" in WORDS
    assert "If for 3 minutes it does not turn" in WORDS
    assert f"which has mode {service['StateDirectoryMode']}," in WORDS
    (held,) = re.findall(r"exec sleep (\d+)", service["ExecStopPost"])
    assert f"held for {held} seconds" in WORDS


def test_the_manual_names_the_statuses_after_which_there_is_no_restart() -> None:
    no, other = unit("licd.service")["Service"]["RestartPreventExitStatus"].split()
    assert int(other) == main.BAD_CONFIG
    assert f"Only after the statuses {no} and {other}," in WORDS
    statuses = section(source("licd.8"), "EXIT STATUS")
    assert f"After {no} and {other} licd.service does not restart" in text(statuses)
    useless = {item.head for item in items(statuses) if "A restart does not help." in item.lines}
    assert useless == {no, other}


def test_folders_that_the_units_hide_are_those_that_pages_warn_of() -> None:
    hidden = {"ProtectHome": "yes", "PrivateTmp": "yes"}
    for name in ("licd.service", "licd-renew.service"):
        assert hidden.items() <= dict(unit(name)["Service"]).items()
    assert "sees nothing of /home, /root and /tmp, so" in text(source("licd-license.5"))
    (vendors,) = [item for item in with_macro(source("licd.conf.5"), "Cm") if item.head == "vendors"]
    assert "sees of the file system only /usr, /etc and the state folder;" in vendors.text
    shown = unit("licd.service")["Service"]["BindReadOnlyPaths"].split()
    assert {"/usr", "/etc"} <= set(shown)
    assert not [path for path in shown if path.startswith(("/home", "/root", "/tmp", "/srv", "/opt", "/var"))]


@needs_systemd
def test_the_manual_explains_all_that_systemd_analyze_has_against_the_service() -> None:
    rated = analyzed("--json=short")
    assert {each["name"] for each in json.loads(rated) if each["exposure"]} == set(open_points())
    (exposure,) = re.findall(r"exposure level for licd\.service: ([\d.]+)", analyzed())
    assert f"counts an exposure of {exposure}, of 10." in WORDS


def analyzed(*words: str) -> str:
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", *words, str(UNITS / "licd.service")]
    return str(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def open_points() -> list[str]:
    rows = [line for line in PARTS["What the service may do"] if line.startswith(".It ") and " Ta " in line]
    return [row.removeprefix(".It ").partition(" Ta ")[0] for row in rows[1:]]


# --- played -------------------------------------------------------------------------------------------------------

INSTALL, FIRST, EDIT, GROUP, MEMBERS, STATUS, ELSEWHERE, MOUNT = DISPLAYS


class Played(Shop):
    """All has been done that the page says is to be done; said: what that printed"""

    def install(self, package: Path) -> str:
        self.put(package, f"/root/{package.name}")
        vendor().write_profile(self.path("/root"), "profile")
        self.run("useradd", "till")
        printed = self.shell(INSTALL, timeout_s=300)
        self.before = self.systemctl("is-active", "licd.socket", "licd-renew.timer").split()
        self.said = self.shell(FIRST)
        return printed

    def shell(self, commands: str, timeout_s: float = 60) -> str:
        return self.run("sh", "-ec", f"cd /root\n{commands}", timeout_s=timeout_s)

    def may_ask(self, user: str) -> bool:
        return "protocol" in self.run("runuser", "-u", user, "--", "licd-cli", "hello", check=False)

    def edited(self, unit: str, text: str) -> None:
        """As systemctl edit leaves it."""
        self.put(text, f"/etc/systemd/system/{unit}.d/override.conf")
        self.systemctl("daemon-reload")

    def configured(self, text: str) -> None:
        self.put(text, "/etc/licd/licd.conf")
        self.systemctl("restart", "licd.service")


@pytest.fixture(scope="module")
def machine() -> Iterator[Played]:
    with Played() as machine:
        yield machine


@pytest.fixture
def configuration(machine: Played) -> Iterator[str]:
    """The text of licd.conf, which is the same again afterwards."""
    text = machine.path("/etc/licd/licd.conf").read_text()
    yield text
    machine.configured(text)


@needs_container
@needs_debhelper
def test_after_the_steps_of_the_manual_a_program_may_ask_and_another_user_may_not(machine: Played) -> None:
    assert machine.before == ["active", "active"]
    assert "health" in machine.said
    assert [row["vendor"] for row in machine.call("server.status")["vendors"]] == ["acme"]
    assert machine.may_ask("till")
    assert not machine.may_ask("nobody")


@needs_container
@needs_debhelper
def test_the_line_of_systemctl_status_is_of_the_form_shown(machine: Played) -> None:
    renewal = {"need": "optional", "every_days": 30, "grace_days": 14}
    grants: list[dict[str, Any]] = [{"name": "kso.scan", "seats": 5}, {"name": "kso.report", "license": "uncounted"}]
    machine.call("license.import", document=vendor().license_file(1, grants, header={"renewal": renewal}))
    machine.call("seat.acquire", license="kso.scan", holder="till", seats=3, ttl=600)
    shown = re.sub(r"\d{4}-\d\d-\d\d", "DATE", STATUS.strip())
    machine.wait_until(lambda: re.sub(r"\d{4}-\d\d-\d\d", "DATE", machine.status) == shown)


@needs_container
@needs_debhelper
def test_the_socket_may_belong_to_a_group_that_is_there_already(machine: Played) -> None:
    join, *others = MEMBERS.splitlines()
    assert EDIT == "systemctl edit licd.socket\n"
    machine.run("groupadd", "kso")
    machine.run("useradd", "--groups=kso", "pos")
    assert not machine.may_ask("pos")
    machine.edited("licd.socket", GROUP)
    machine.shell("\n".join(others))
    assert (machine.may_ask("pos"), machine.may_ask("till")) == (True, False)
    assert not renews(machine)
    machine.shell(join)
    assert renews(machine)
    machine.edited("licd.socket", "")
    machine.systemctl("restart", "licd.socket")
    assert (machine.may_ask("pos"), machine.may_ask("till")) == (False, True)


def renews(machine: Played) -> bool:
    machine.systemctl("start", "licd-renew.service")
    return machine.show("licd-renew.service", "Result")["Result"] == "success"


@needs_container
@needs_debhelper
def test_the_socket_s_mode_and_group_in_licd_conf_have_no_effect_there(machine: Played, configuration: str) -> None:
    machine.configured(f"{configuration}\nsocket_mode = 0600\nsocket_group = adm\n")
    assert machine.call("server.status")["health"] == "ok"
    assert machine.run("stat", "--format=%G %a", SOCKET) == "licd-client 660"


@needs_container
@needs_debhelper
def test_another_state_folder_must_be_brought_in_by_the_unit(machine: Played, configuration: str) -> None:
    machine.run("install", "-d", "-o", "licd", "-g", "licd", "-m", "0700", "/srv/licd")
    machine.configured(f"{configuration}\nstate = /srv/licd\n")
    assert machine.show("licd.service", "ExecMainStatus") == {"ExecMainStatus": str(main.BAD_CONFIG)}
    assert any("the state folder /srv/licd cannot be made" in line for line in machine.journal("licd.service"))
    machine.edited("licd.service", ELSEWHERE)
    machine.systemctl("restart", "licd.service")
    assert machine.call("server.status")["journal"]["writable"]
    assert machine.path("/srv/licd/journal").exists()
    assert machine.path(f"{STATE}/journal").exists()
    machine.edited("licd.service", "")


@needs_container
@needs_debhelper
def test_a_state_folder_on_another_disk_is_mounted_and_not_linked(machine: Played) -> None:
    disk, _ = MOUNT.split(maxsplit=1)
    machine.systemctl("stop", "licd.socket")
    machine.run("rm", "-rf", disk)
    machine.run("mv", STATE, disk)
    machine.run("ln", "-s", disk, STATE)
    machine.run("systemctl", "start", "licd.service", check=False)
    assert "238/STATE_DIRECTORY" in machine.systemctl("status", "licd.service")
    machine.systemctl("stop", "licd.socket", "licd.service")
    machine.run("rm", STATE)
    machine.put(MOUNT, "/etc/fstab")
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "licd.service")
    try:
        assert [row["vendor"] for row in machine.call("server.status")["vendors"] if row["in_force"]] == ["acme"]
        assert machine.path(f"{disk}/lock").samefile(machine.path(f"{STATE}/lock"))
    finally:
        machine.put("", "/etc/fstab")


@needs_container
@needs_debhelper
def test_the_remedy_for_a_state_folder_that_root_has_restored(machine: Played) -> None:
    (remedy,) = re.findall(r"(?m)^\.Ic (chown .*) \.$", "\n".join(section(source("licd.8"), "FILES")))
    assert f"({remedy})" in STATE_NOT_WRITABLE.next
    machine.run("chown", "root:root", f"{STATE}/journal")
    machine.systemctl("restart", "licd.service")
    assert f"hint: {STATE_NOT_WRITABLE.next}" in machine.run("licd-cli", "status")
    machine.shell(remedy)
    machine.systemctl("restart", "licd.service")
    assert machine.call("server.status")["journal"]["writable"]
    assert "hint:" not in machine.run("licd-cli", "status")


@needs_container
@needs_debhelper
def test_the_remedy_for_a_socket_that_was_removed(machine: Played) -> None:
    machine.path(SOCKET).unlink()
    said = machine.run("licd-cli", "status", check=False)
    (remedy,) = re.findall(r"systemctl restart \S+?(?=\. )", said)
    machine.shell(remedy)
    assert machine.call("server.status")["health"]


@needs_container
@needs_debhelper
def test_stopped_the_next_connect_starts_it_unless_the_socket_is_stopped_too(machine: Played) -> None:
    machine.systemctl("stop", "licd.service")
    assert machine.call("server.status")["health"] == "ok"
    machine.systemctl("stop", "licd.socket")
    assert machine.systemctl("is-active", "licd.socket", "licd.service").split() == ["inactive", "inactive"]
    assert not machine.may_ask("till")
    machine.systemctl("start", "licd.socket")
    assert machine.may_ask("till")
