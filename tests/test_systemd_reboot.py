"""A machine that starts again: what comes back by itself, and what a lease is worth then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import needs_container, needs_debhelper
from tests.support.shop import SOCKET, Shop

pytestmark = [needs_container, needs_debhelper]

BOOT_ID, COPY = "/proc/sys/kernel/random/boot_id", "/etc/boot_id"


class Rebooting(Shop):
    """Each boot of the container has an id, but licd, in a /proc of its own, would see that of the machine below."""

    def install(self, package: Path) -> str:
        self.put(f"[Service]\nBindReadOnlyPaths={COPY}:{BOOT_ID}\n", "/etc/systemd/system/licd.service.d/test.conf")
        self.run("cp", BOOT_ID, COPY)
        return super().install(package)

    def reboot(self) -> None:
        super().reboot()
        self.run("cp", BOOT_ID, COPY)


@pytest.fixture
def shop() -> Iterator[Rebooting]:
    with Rebooting() as shop:
        shop.license()
        yield shop


def test_after_a_reboot_all_comes_back_and_a_kept_lease_has_two_minutes(shop: Rebooting) -> None:
    with shop.client() as licd:
        kept = licd.call("seat.acquire", license="kso.scan", holder="kept", ttl=3600, on_close="keep")["lease"]
        licd.call("seat.acquire", license="kso.scan", holder="of the connection", ttl=3600, on_close="release")
        shop.run("kill", "-KILL", shop.pid)  # the control: it starts again in the same boot
        rows = licd.call("seat.list")["leases"]
        assert {row["holder"]: row["expires_s"] > 3000 for row in rows} == {"kept": True, "of the connection": True}
    shop.reboot()
    units = ("licd.socket", "licd-renew.timer", "licd.service")
    assert shop.systemctl("is-active", *units).split() == ["active", "active", "inactive"]
    assert shop.run("stat", "--format=%U %G %a", SOCKET) == "root licd-client 660"
    (row,) = shop.call("seat.list")["leases"]
    assert (row["holder"], row["lease"]) == ("kept", kept)
    assert 60 < row["expires_s"] <= 120
    assert shop.call("server.status")["health"] == "ok"
