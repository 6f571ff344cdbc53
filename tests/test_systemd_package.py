"""The package over its life on a machine with a real systemd: installed, upgraded in full work, removed, purged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import licd
from tests.support.deb import next_version, packages
from tests.support.device import vendor
from tests.support.needs import needs_container, needs_debhelper
from tests.support.shop import SEATS, SOCKET, STATE, Load, Shop

pytestmark = [needs_container, needs_debhelper]


@pytest.fixture(scope="module")
def machine() -> Iterator[Shop]:
    with Shop() as shop:
        yield shop


@pytest.fixture
def shop(machine: Shop) -> Shop:
    """Installed in this version, serves, with a license in force."""
    if licd.__version__ != machine.run("licd-cli", "--version", check=False).removeprefix("licd-cli "):
        machine.run("dpkg", "--purge", "licd", check=False)
        machine.install(packages().device)
    if not machine.call("license.list")["licenses"]:
        machine.license()
    return machine


def test_installed_the_socket_and_the_timer_are_there_for_good_and_licd_waits_for_a_client(machine: Shop) -> None:
    units = ("licd.socket", "licd.service", "licd-renew.timer")
    assert machine.systemctl("is-enabled", *units).split() == ["enabled", "disabled", "enabled"]
    assert machine.systemctl("is-active", *units).split() == ["active", "inactive", "active"]
    assert machine.systemctl("is-failed", "licd-renew.service") == "inactive"


def test_verify_has_nothing_to_say_of_the_units_installed(shop: Shop) -> None:
    units = ("licd.socket", "licd.service", "licd-renew.service", "licd-renew.timer")
    assert shop.run("systemd-analyze", "verify", *units) == ""


def test_foreign_modules_are_not_taken_for_ours(shop: Shop) -> None:
    wrong = "raise SystemExit('a foreign module')\n"
    places = ["/root", "/usr/lib/python3/dist-packages", "/usr/local/lib/python3.11/dist-packages", "/evil"]
    places.append("/root/.local/lib/python3.11/site-packages")
    for place in places:
        for module in ("licd", "msgpack", "cryptography", "sitecustomize", "usercustomize"):
            shop.put(wrong, f"{place}/{module}.py")
        shop.put("import sitecustomize\n", f"{place}/wrong.pth")
    try:
        assert shop.run("env", "PYTHONPATH=/evil", "licd", "--version") == f"licd {licd.__version__}"
        shown = shop.run("env", "PYTHONPATH=/evil", "licd-cli", "licenses")
        assert "kso.scan" in shown
        control = shop.run("env", "PYTHONPATH=/evil", "python3", "-c", "import msgpack", check=False)
        assert control.endswith("a foreign module")
    finally:
        shop.run("sh", "-c", f"for d in {' '.join(places)}; do cd $d && rm *customize.py wrong.pth licd.py; done")


def test_the_courier_runs_and_finds_nothing_to_do(shop: Shop) -> None:
    shop.systemctl("start", "licd-renew.service")
    assert shop.show("licd-renew.service", "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert shop.journal("licd-renew.service") == []


def test_the_network_that_comes_up_starts_the_courier_and_so_licd(shop: Shop) -> None:
    shop.systemctl("stop", "licd.service", "network-online.target")
    shop.systemctl("start", "network-online.target")
    shop.wait_until(lambda: shop.systemctl("is-active", "licd.service") == "active")
    shop.wait_until(lambda: shop.systemctl("is-active", "licd-renew.service") == "inactive")
    assert shop.show("licd-renew.service", "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}


def test_without_a_network_a_renewal_that_is_due_is_a_warning_and_no_failed_unit(shop: Shop) -> None:
    profile = shop.path("/etc/licd/vendor.d/acme/vendor.conf")
    before = profile.read_text()
    profile.write_text(f"{before}url = https://licenses.example/\n")
    shop.reload()
    renewal = {"need": "optional", "every_days": 30, "grace_days": 14}
    grants = [{"name": "kso.scan", "seats": SEATS}]
    shop.call("license.import", document=vendor().license_file(2, grants, header={"renewal": renewal}))
    shop.systemctl("start", "licd-renew.service")
    log = shop.journal("licd-renew.service")
    profile.write_text(before)
    shop.reload()
    assert [line[:7] for line in log] == ["4 acme:"], log
    assert shop.systemctl("list-units", "--state=failed", "--no-legend", "licd*") == ""


def test_in_its_sandbox_the_courier_is_known_as_one(shop: Shop) -> None:
    shop.drop_in("licd-renew.service", "[Service]\nExecStart=\nExecStart=/usr/bin/licd-cli hello\n")
    shop.systemctl("start", "licd-renew.service")
    log = shop.journal("licd-renew.service")
    shop.drop_in("licd-renew.service", "")
    assert any("roles" in line and "courier" in line and "client" not in line for line in log), log


def test_an_upgrade_in_full_work_costs_no_lease_and_no_client_more_than_a_reconnect(shop: Shop) -> None:
    shop.put(shop.path("/etc/licd/licd.conf").read_text() + "max_ttl = 1800\n", "/etc/licd/licd.conf")
    inode, pid = shop.path(SOCKET).stat().st_ino, shop.pid
    with Load(shop) as load:
        shop.install(next_version())
        load.goes_on()
    assert not load.errors
    assert load.granted.items() <= shop.leases().items()
    assert shop.call("server.status")["version"] == f"99.{licd.__version__}"
    assert (shop.path(SOCKET).stat().st_ino, shop.pid != pid) == (inode, True)
    assert "max_ttl = 1800" in shop.path("/etc/licd/licd.conf").read_text()


def test_an_upgrade_that_stops_before_it_configures_leaves_a_licd_that_starts(shop: Shop) -> None:
    lease = shop.call("seat.acquire", license="kso.scan", holder="till", ttl=600)["lease"]
    shop.systemctl("stop", "licd.service")
    shop.run("rm", "-r", "/usr/lib/licd/root")  # as before the version that brought it
    shop.put(next_version(), "/root/licd.deb")
    shop.run("dpkg", "--no-triggers", "--unpack", "/root/licd.deb")
    shop.systemctl("daemon-reload")
    assert shop.leases()["till"] == lease
    shop.run("kill", "-KILL", shop.pid)
    assert shop.leases()["till"] == lease
    shop.run("dpkg", "--no-triggers", "--configure", "licd")
    assert shop.leases()["till"] == lease


def test_removed_nothing_runs_and_the_state_stays_for_the_next_installation(shop: Shop) -> None:
    lease = shop.call("seat.acquire", license="kso.scan", holder="till", ttl=600)["lease"]
    shop.drop_in("licd-renew.service", "[Service]\nExecStart=\nExecStart=/bin/sleep 600\n")  # a slow network
    shop.systemctl("start", "--no-block", "licd-renew.service")
    shop.run("dpkg", "--no-triggers", "--remove", "licd")
    shop.drop_in("licd-renew.service", "")
    assert not shop.path(SOCKET).exists()
    assert shop.run("pgrep", "--full", "/usr/bin/licd", check=False) == ""
    running = ("--state=active,activating,deactivating,failed", "--no-legend", "licd*")
    assert shop.systemctl("list-units", *running) == ""
    assert not shop.path("/usr/lib/licd").exists()
    assert shop.path(f"{STATE}/journal").exists()
    shop.install(packages().device)
    assert shop.leases()["till"] == lease
    assert shop.call("license.list")["licenses"]


def test_purged_nothing_is_left_but_the_users_and_the_vendors_profiles(shop: Shop) -> None:
    shop.put("of a drop-in", "/opt/file")
    shop.drop_in("licd.service", "[Service]\nBindReadOnlyPaths=/srv /opt/file\n")
    shop.systemctl("restart", "licd.service")
    assert shop.path("/usr/lib/licd/root/opt/file").exists()
    shop.drop_in("licd.service", "")
    shop.run("dpkg", "--no-triggers", "--purge", "licd")
    # man's cache, the test's own drop-ins, what others have in /var/tmp of the machine below
    others = [word for path in ("/var/cache/man", "/run/systemd", "/var/tmp") for word in ("!", "-path", f"{path}/*")]
    left = shop.run("find", "/etc", "/run", "/usr", "/var", "-name", "licd*", *others)
    assert left == "/etc/licd"
    assert [path.name for path in shop.path("/etc/licd").iterdir()] == ["vendor.d"]
    assert [path.name for path in shop.path("/etc/licd/vendor.d").iterdir()] == ["acme"]
    assert shop.run("id", "--name", "--user", "licd") == "licd"


def test_a_state_folder_that_is_a_mount_point_is_purged_too(shop: Shop) -> None:
    shop.systemctl("stop", "licd.socket", "licd-renew.timer")
    shop.run("mount", "-t", "tmpfs", "tmpfs", STATE)
    shop.put("a license", f"{STATE}/licenses/acme.licd")
    try:
        shop.run("dpkg", "--no-triggers", "--purge", "licd")
        assert list(shop.path(STATE).iterdir()) == []
    finally:
        shop.run("umount", STATE)


def test_purging_another_system_leaves_this_one_alone(shop: Shop) -> None:
    for root in ("", "/other"):
        shop.put("a license", f"{root}{STATE}/licenses/acme.licd")
    script = "/var/lib/dpkg/info/licd.postrm"
    shop.run("env", "DPKG_ROOT=/other", "sh", script, "purge")  # as by dpkg --root= --force-script-chrootless
    assert not shop.path(f"/other{STATE}").exists()
    assert shop.path(f"{STATE}/licenses/acme.licd").exists()
    shop.run("sh", script, "purge")
    assert not shop.path(STATE).exists()


def test_the_vendors_package_needs_nothing_of_the_devices(machine: Shop) -> None:
    machine.run("dpkg", "--purge", "licd")
    machine.put(packages().vendor, "/root/licd-vendor.deb")
    machine.run("dpkg", "--no-triggers", "--install", "/root/licd-vendor.deb")
    assert machine.run("licd-vendor", "--version") == f"licd-vendor {licd.__version__}"
    assert machine.systemctl("list-unit-files", "licd*", "--no-legend") == ""
    modules = "cheroot, cryptography, flask, psycopg, sqlalchemy, waitress"
    imports = f"import sys; sys.path.insert(0, '/usr/lib/licd-vendor'); import {modules}; print(psycopg.pq.__impl__)"
    assert machine.run("/usr/bin/python3", "-IS", "-c", imports) == "binary"
