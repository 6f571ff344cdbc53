"""What the manual says of the package and its units: played on a real systemd, and compared with the units."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from licd.daemon import main
from licd.rpc.client import Client
from tests.support import mdoc
from tests.support.deb import packages
from tests.support.device import vendor
from tests.support.mdoc import items, section, source, subsections, text, with_macro
from tests.support.needs import needs_container, needs_debhelper, needs_systemd
from tests.support.nspawn import Machine
from tests.support.shop import SOCKET, STATE
from tests.support.transcript import CHECKOUT

UNITS = CHECKOUT / "systemd"
INSTALLATION = section(source("licd.8"), "INSTALLATION")
PARTS = subsections(INSTALLATION)
WORDS = text(INSTALLATION)
DISPLAYS = list(mdoc.displays(INSTALLATION))


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser's manual says
    parser.read(UNITS / name)
    return parser


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
    assert (service["RestartSec"], service["WatchdogSec"]) == ("1s", "3min")
    assert "starts it again after a second" in WORDS
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
    assert "It must not be in /home, /root or /tmp," in vendors.text


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

INSTALL, FIRST, EDIT, GROUP, MEMBERS, STATUS, ELSEWHERE = DISPLAYS


class Played(Machine):
    """The package is installed, and all has been done that the page says is then to be done; said: what that printed"""

    def __enter__(self) -> Played:
        super().__enter__()
        try:
            package = packages().device
            self.put(package, f"/root/{package.name}")
            vendor().write_profile(self.path("/root"), "profile")
            self.run("useradd", "till")
            self.shell(INSTALL, timeout_s=300)
            self.before = self.systemctl("is-active", "licd.socket", "licd-renew.timer").split()
            self.said = self.shell(FIRST)
        except BaseException:
            self.end()
            raise
        return self

    def shell(self, commands: str, timeout_s: float = 60) -> str:
        return self.run("sh", "-ec", f"cd /root\n{commands}", timeout_s=timeout_s)

    def call(self, method: str, **params: Any) -> Any:
        with Client(self.path(SOCKET), timeout_s=20.0) as client:
            return client.call(method, **params)

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
    until = time.monotonic() + 20
    while time.monotonic() < until:
        said = machine.show("licd.service", "StatusText")["StatusText"]
        if re.sub(r"\d{4}-\d\d-\d\d", "DATE", said) == shown:
            return
        time.sleep(0.1)
    raise AssertionError(said)


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
def test_another_state_folder_must_be_allowed_in_the_unit(machine: Played, configuration: str) -> None:
    machine.run("install", "-d", "-o", "licd", "-g", "licd", "-m", "0700", "/srv/licd")
    machine.configured(f"{configuration}\nstate = /srv/licd\n")
    assert not machine.call("server.status")["journal"]["writable"]
    machine.edited("licd.service", ELSEWHERE)
    machine.systemctl("restart", "licd.service")
    assert machine.call("server.status")["journal"]["writable"]
    assert machine.path("/srv/licd/journal").exists()
    assert machine.path(f"{STATE}/journal").exists()
    machine.edited("licd.service", "")


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
