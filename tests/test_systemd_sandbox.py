"""What the unit of licd keeps licd from, and what it must not: each beside a control that shows the difference.

The container is the machine "server" of tests/vectors/machines. A probe runs in the unit's own sandbox, in one with a
directive more that would blind it, and under the same user without any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from licd.device.fingerprint import FACTORS, FOUND, UNREADABLE
from tests.support import sysfs
from tests.support.needs import needs_container, needs_debhelper
from tests.support.shop import SOCKET, STATE, Shop

pytestmark = [needs_container, needs_debhelper]

PROBE = """
import ctypes, json, os, socket, sys, time
sys.path.insert(0, "/usr/lib/licd")
from licd.device import clock, hardware

def outcome(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return os.strerror(error.errno)
    return "done"

def write(folder):
    path = folder + "/probe"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    os.unlink(path)

libc = ctypes.CDLL(None, use_errno=True)

def new_namespace():
    if libc.unshare(0x10000000):  # CLONE_NEWUSER
        raise OSError(ctypes.get_errno(), "")

others = [pid for pid in os.listdir("/proc") if pid.isdecimal() and os.stat("/proc/" + pid).st_uid != os.getuid()]
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print("PROBE" + json.dumps({
    "readings": {each.factor: [each.state, each.values] for each in hardware.read()},
    "boot_id": clock.boot_id() is not None,
    "ntp": clock.ntp_synchronized() is not None,
    "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"].strip(),
    "writes": [folder for folder in FOLDERS if outcome(write, folder) == "done"],
    "internet": outcome(socket.socket, socket.AF_INET, socket.SOCK_DGRAM),
    "netlink": outcome(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW),
    "set the clock": outcome(time.clock_settime, time.CLOCK_REALTIME, time.time()),
    "namespace": outcome(new_namespace),
    "homes": outcome(os.listdir, "/home"),
    "root": os.listdir("/"),
    "processes of others": others,
}))
"""
FOLDERS = [
    STATE,
    "/dev/shm",
    "/etc",
    "/etc/licd",
    "/open",
    "/run",
    "/run/licd",
    "/usr/lib/licd",
    "/var/lib",
    "/var/open",
]


class Prober:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        shop.put(PROBE.replace("FOLDERS", repr(FOLDERS)), "/usr/lib/licd/probe.py")
        for folder in ("/open", "/var/open"):  # every user may write there
            shop.run("mkdir", "--mode=1777", folder)

    def probe(self, *directives: str, sandbox: bool = True) -> dict[str, Any]:
        """What the probe sees in the unit's sandbox and with these directives more; or under its user without one."""
        unit = self.shop.path("/lib/systemd/system/licd.service").read_text()
        kept = [
            line
            for line in unit.partition("# --- what there is for it")[2].partition("[Install]")[0].splitlines()
            if sandbox
        ]
        command = ["Type=oneshot", "ExecStart=/usr/bin/python3 -IS /usr/lib/licd/probe.py", "User=licd", "Group=licd"]
        lines = ["[Service]", *command, *kept, f"Environment={sysfs.ENVIRONMENT}", *directives]
        self.shop.put("\n".join(lines), "/run/systemd/system/probe.service")
        self.shop.systemctl("daemon-reload")
        self.shop.systemctl("start", "probe.service")
        for line in reversed(self.shop.journal("probe.service")):
            if line.startswith("6 PROBE"):
                seen: dict[str, Any] = json.loads(line.removeprefix("6 PROBE"))
                return seen
        raise AssertionError(self.shop.run("journalctl", "--unit=probe.service", "--no-pager"))


@pytest.fixture(scope="module")
def prober() -> Iterator[Prober]:
    with Shop() as shop:
        sysfs.put_on(shop, "server")
        shop.run("systemd-tmpfiles", "--create", "licd.conf")
        yield Prober(shop)


@pytest.fixture(scope="module")
def inside(prober: Prober) -> dict[str, Any]:
    return prober.probe()


@pytest.fixture(scope="module")
def outside(prober: Prober) -> dict[str, Any]:
    return prober.probe(sandbox=False)


# --- not blind ---------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_the_same_inside_and_outside(inside: dict[str, Any], outside: dict[str, Any]) -> None:
    assert inside["readings"] == outside["readings"]
    states = {factor: state for factor, (state, _) in inside["readings"].items()}
    assert states == dict.fromkeys(FACTORS, FOUND)
    assert len(inside["readings"]["disk"][1]) > 2
    assert len(inside["readings"]["nic"][1]) > 1


def test_where_disks_and_network_cards_are_hidden_the_fingerprint_shows_it(prober: Prober) -> None:
    readings = prober.probe("InaccessiblePaths=+/sys/class/net +/sys/class/block")["readings"]
    assert readings["disk"][0] != FOUND
    assert readings["nic"][0] != FOUND


def test_serial_numbers_of_the_board_come_by_tmpfiles_and_without_they_are_unreadable(prober: Prober) -> None:
    serials = [f"/sys/devices/virtual/dmi/id/{file}" for file in sysfs.FOR_ROOT]
    assert prober.shop.run("stat", "--format=%a %U %G", *serials).splitlines() == ["440 root licd"] * 4
    prober.shop.run("chmod", "0400", *serials)
    readings = prober.probe()["readings"]
    prober.shop.run("systemd-tmpfiles", "--create", "licd.conf")
    board = ("system_uuid", "board_serial", "product_serial", "chassis_serial")
    assert [readings[factor][0] for factor in board] == [UNREADABLE] * 4


def test_the_boot_id_is_seen_and_a_proc_of_processes_only_would_hide_it(inside: dict[str, Any], prober: Prober) -> None:
    assert inside["boot_id"]
    assert not prober.probe("ProcSubset=pid")["boot_id"]


def test_whether_the_clock_is_synchronized_may_be_asked_and_protect_clock_would_refuse_it(
    inside: dict[str, Any], prober: Prober
) -> None:
    assert inside["ntp"]
    assert not prober.probe("ProtectClock=yes")["ntp"]


@pytest.fixture
def licensed(prober: Prober) -> Iterator[Shop]:
    if not prober.shop.call("license.list")["licenses"]:
        prober.shop.license()
    yield prober.shop
    prober.shop.drop_in("licd.service", "")
    prober.shop.systemctl("stop", "licd.service")


def acquired_by_a_till(shop: Shop, *how: str) -> dict[str, Any]:
    """The lease that the user till takes, of the clients' group, in the unit till.service; as seat.list shows it.

    how: what goes before the command, if it is not to be a service of its own
    """
    shop.run("useradd", "--system", "--groups=licd-client", "till", check=False)
    service = ("--unit=till", "--wait", "--pipe", "--uid=till")
    shop.run("systemd-run", "--collect", *(how or service), "licd-cli", "acquire", "kso.scan", "till")
    (lease,) = shop.call("seat.list")["leases"]
    shop.call("seat.release", lease=lease["lease"], reason="the test is over")
    return dict(lease)


def test_peers_are_known_by_uid_and_unit(licensed: Shop) -> None:
    lease = acquired_by_a_till(licensed)
    assert (lease["uid"], lease["unit"]) == (int(licensed.run("id", "--user", "till")), "till.service")


def test_a_peer_in_a_session_of_a_user_is_known_by_the_scope(licensed: Shop) -> None:
    session = ("--scope", "--slice=user-1000.slice", "--unit=session-7", "runuser", "-u", "till", "--")
    assert acquired_by_a_till(licensed, *session)["unit"] == "session-7.scope"


def test_a_peer_is_known_among_hundreds_of_units(licensed: Shop) -> None:
    groups = "/sys/fs/cgroup/system.slice/many.service"
    licensed.run("sh", "-c", f"mkdir {groups} && cd {groups} && seq -f other-%g.service 400 | xargs mkdir")
    licensed.systemctl("restart", "licd.service")
    try:
        assert acquired_by_a_till(licensed)["unit"] == "till.service"
    finally:
        licensed.run("find", groups, "-depth", "-type", "d", "-delete")


@pytest.mark.parametrize(
    ("directives", "unit"),
    [
        ("ProtectProc=default", "till.service"),  # by /proc then
        ("InaccessiblePaths=+/sys/fs/cgroup", None),
        ("ProtectProc=default\nInaccessiblePaths=+/sys/fs/cgroup", "till.service"),
    ],
)
def test_the_unit_is_seen_by_proc_or_by_the_control_groups(licensed: Shop, directives: str, unit: str | None) -> None:
    licensed.drop_in("licd.service", f"[Service]\n{directives}\n")
    licensed.systemctl("restart", "licd.service")
    assert acquired_by_a_till(licensed)["unit"] == unit


def test_with_private_users_all_peers_would_be_one(licensed: Shop) -> None:
    licensed.drop_in("licd.service", "[Service]\nPrivateUsers=yes\n")
    licensed.systemctl("restart", "licd.service")
    output = licensed.run(
        "systemd-run", "--wait", "--pipe", "--collect", "--uid=till", "licd-cli", "hello", check=False
    )
    assert re.search(r"uid 65534\b", output)


def test_a_group_made_while_it_runs_is_there_for_the_next_reload(licensed: Shop) -> None:
    configuration = licensed.path("/etc/licd/licd.conf")
    before = configuration.read_text()
    licensed.call("server.status")
    licensed.run("groupadd", "--system", "chiefs")  # puts a new file in place of /etc/group
    licensed.run("usermod", "--append", "--groups=chiefs", "till")
    ask = ("systemd-run", "--wait", "--pipe", "--collect", "--uid=till", "licd-cli", "hello")
    try:
        configuration.write_text(f"{before}\nadmin_group = chiefs\n")
        licensed.reload()
        assert "admin" in licensed.run(*ask)
    finally:
        configuration.write_text(before)
        licensed.reload()
    assert "admin" not in licensed.run(*ask)


def test_on_a_read_only_usr_it_starts_for_in_its_root_is_all_to_mount_into(licensed: Shop) -> None:
    folder = licensed.path("/usr/lib/licd/root/var/tmp")
    licensed.systemctl("stop", "licd.service")
    licensed.run("mount", "--bind", "/usr", "/usr")
    try:
        folder.rmdir()
        licensed.run("mount", "-o", "remount,bind,ro", "/usr")
        licensed.run("systemctl", "start", "licd.service", check=False)
        assert "226/NAMESPACE" in licensed.systemctl("status", "licd.service")
        licensed.run("mount", "-o", "remount,bind,rw", "/usr")
        folder.mkdir()
        licensed.run("mount", "-o", "remount,bind,ro", "/usr")
        assert "Read-only" in licensed.run("touch", "/usr/probe", check=False)
        assert licensed.call("server.status")["health"] == "ok"
    finally:
        licensed.run("umount", "--lazy", "/usr")
        folder.mkdir(exist_ok=True)


def test_systemd_makes_no_folder_in_its_root_that_is_not_of_the_package(licensed: Shop) -> None:
    licensed.systemctl("restart", "licd.service")
    listed = licensed.run("dpkg", "--listfiles", "licd").splitlines()
    root = "/usr/lib/licd/root"
    assert set(licensed.run("find", root).splitlines()) == {
        path for path in listed if f"{path}/".startswith(f"{root}/")
    }


def test_who_is_not_in_the_group_may_not_connect(licensed: Shop) -> None:
    ask = ("systemd-run", "--wait", "--pipe", "--collect", "licd-cli", "--socket", SOCKET, "hello")
    assert "denied" in licensed.run(*ask[:4], "--uid=nobody", *ask[4:], check=False).lower()
    assert "server" in licensed.run(*ask[:4], "--uid=till", *ask[4:])


def test_the_courier_reaches_the_plan_and_takes_no_seats(licensed: Shop) -> None:
    ask = ("systemd-run", "--wait", "--pipe", "--collect", "--uid=licd-renew", "licd-cli")
    assert "courier" in licensed.run(*ask, "hello")
    assert "NOT_PERMITTED" in licensed.run(*ask, "--json", "acquire", "kso.scan", "x", check=False)


# --- confined ----------------------------------------------------------------------------------------------------


def test_it_has_no_capability_and_gets_none(inside: dict[str, Any], outside: dict[str, Any]) -> None:
    assert inside["capabilities"] == ["0" * 16] * 4
    assert inside["no_new_privs"] == "1"
    assert outside["capabilities"] != inside["capabilities"]
    assert outside["no_new_privs"] == "0"


def test_of_the_file_system_it_sees_only_what_the_unit_lists(inside: dict[str, Any], outside: dict[str, Any]) -> None:
    assert set(inside["root"]) <= {
        *("bin", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr", "var"),
        "root",  # of ProtectHome=, empty and closed
    }
    assert {"home", "open", "srv"} <= set(outside["root"])


def test_it_sees_no_process_of_another_user(inside: dict[str, Any], outside: dict[str, Any]) -> None:
    assert inside["processes of others"] == []
    assert "1" in outside["processes of others"]


def test_it_writes_into_its_state_folder_and_nowhere_else(inside: dict[str, Any], outside: dict[str, Any]) -> None:
    assert inside["writes"] == [STATE]
    assert set(outside["writes"]) == {STATE, "/dev/shm", "/open", "/var/open"}


@pytest.mark.parametrize(
    ("what", "without"), [("internet", "done"), ("netlink", "done"), ("namespace", "done"), ("homes", "done")]
)
def test_what_it_does_not_need_is_refused(
    what: str, without: str, inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    assert inside[what] != "done"
    assert outside[what] == without


def test_it_cannot_set_the_clock(inside: dict[str, Any]) -> None:
    assert inside["set the clock"] == "Operation not permitted"
