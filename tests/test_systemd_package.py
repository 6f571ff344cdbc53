"""The package over its life on a machine with a real systemd: installed, upgraded in full work, removed, purged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import licd
from tests.support.deb import next_version, packages
from tests.support.needs import needs_container, needs_debhelper
from tests.support.shop import SOCKET, STATE, Load, Shop

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


def test_removed_nothing_runs_and_the_state_stays_for_the_next_installation(shop: Shop) -> None:
    lease = shop.call("seat.acquire", license="kso.scan", holder="till", ttl=600)["lease"]
    shop.run("dpkg", "--no-triggers", "--remove", "licd")
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
    shop.run("dpkg", "--no-triggers", "--purge", "licd")
    others = ("!", "-path", "/var/cache/man/*", "!", "-path", "/run/systemd/*")  # man's cache, the test's own drop-ins
    left = shop.run("find", "/etc", "/run", "/usr", "/var", "-name", "licd*", *others)
    assert left == "/etc/licd"
    assert [path.name for path in shop.path("/etc/licd").iterdir()] == ["vendor.d"]
    assert [path.name for path in shop.path("/etc/licd/vendor.d").iterdir()] == ["acme"]
    assert shop.run("id", "--name", "--user", "licd") == "licd"


def test_the_vendors_package_needs_nothing_of_the_devices(machine: Shop) -> None:
    machine.run("dpkg", "--purge", "licd")
    machine.put(packages().vendor, "/root/licd-vendor.deb")
    machine.run("dpkg", "--no-triggers", "--install", "/root/licd-vendor.deb")
    assert machine.run("licd-vendor", "--version") == f"licd-vendor {licd.__version__}"
    assert machine.systemctl("list-unit-files", "licd*", "--no-legend") == ""
    modules = "cheroot, cryptography, flask, psycopg, sqlalchemy, waitress"
    imports = f"import sys; sys.path.insert(0, '/usr/lib/licd-vendor'); import {modules}; print(psycopg.pq.__impl__)"
    assert machine.run("/usr/bin/python3", "-IS", "-c", imports) == "binary"
