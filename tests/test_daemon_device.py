"""Recognition in the real process: what boots, repairs, copies and lost keys do to licenses bound to a device."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from licd.device import clock
from licd.license.dates import DAY_S, day
from tests.support import machines
from tests.support.clients import acquire, refusal, wait_until, warnings
from tests.support.site import ACME, NEEDS, UMBRA, Asked, Site

pytestmark = NEEDS

CHANGED, COPY = "server: board and disks swapped", "server: disks cloned to another machine"


@pytest.fixture
def site(site: Site) -> Site:
    """Installed on the server."""
    site.install()
    return site


def fingerprint(site: Site, vendor: str = "acme", **params: Any) -> dict[str, Any]:
    """This vendor's row of device.fingerprint."""
    rows = site.call("device.fingerprint", **params)["vendors"]
    found: dict[str, Any] = next(row for row in rows if row["vendor"] == vendor)
    return found


def gone(row: dict[str, Any]) -> list[str]:
    return [each["factor"] for each in row["factors"] if each["state"] != "kept"]


# --- the change of each machine, in a new boot ---------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in machines.NAMES if machines.described(name)["changes"]])
def test_each_change_has_its_verdict_in_the_next_boot(folder: Path, name: str) -> None:
    described = machines.described(name)
    with Site(folder, name) as site:
        site.start().install()
        assert site.standing() == "same"
        for change, expected in described["changes"].items():
            site.boot(f"{name}: {change}")
            row = fingerprint(site)
            assert (row["standing"], gone(row)) == (expected["verdict"], expected["lost"]), change
            assert site.standing() == expected["verdict"]
            assert site.valid() is (expected["verdict"] != "copy")
            assert (site.row()["device_until"] is not None) is (expected["verdict"] == "changed")
        site.boot(name)
        assert (site.standing(), gone(fingerprint(site)), warnings(site)) == ("same", [], "")


def test_in_the_same_boot_a_good_verdict_holds_whatever_is_lost(site: Site) -> None:
    for machine in (CHANGED, COPY):
        site.on(machine)
        assert (site.standing(), site.valid(), warnings(site)) == ("same", True, "")
        row = fingerprint(site)
        assert row["reason"] == "it was the same earlier in this boot; that holds until the next"
        assert row["weight"]["kept"] < row["weight"]["needed"]
    site.boot(COPY)
    assert (site.standing(), site.valid()) == ("copy", False)


# --- a changed device ----------------------------------------------------------------------------------------


def test_a_changed_device_goes_on_for_its_grace_and_stops_whatever_restarts_come_between(site: Site) -> None:
    lease, camera = acquire(site, "till", ttl=3600), acquire(site, "till", "kso.camera", ttl=3600)
    site.boot(CHANGED)
    until = day(site.now + 7 * DAY_S)
    for _ in range(2):
        assert (site.row()["device"], site.row()["device_until"]) == ("changed", until)
        assert site.call("license.check", license="kso.scales")["warnings"] == ["DEVICE_CHANGED"]
        for license in ("kso.scales", "kso.camera"):
            granted = site.call("seat.acquire", license=license, holder="till", ttl=3600)
            assert granted["warnings"] == ["DEVICE_CHANGED"]
        assert "WRONG_DEVICE: this device has changed" in warnings(site)
        assert "license-request export" in warnings(site)
        assert site.call("device.fingerprint")["vendors"][0]["until"] == until
        site.elapse(3 * DAY_S)
        site.call("server.hello")
        site.restart()
        site.boot(clean=False)  # which may take ten minutes, but gives none
    assert site.row()["device_until"] in (until, day(site.now + DAY_S))
    site.elapse(DAY_S - 1500)
    assert site.valid()
    site.elapse(1600)
    for restart in (lambda: None, site.restart, site.boot):
        restart()
        assert site.standing() == "changed"
        for license in ("kso.scales", "kso.camera"):
            assert refusal(site, "seat.acquire", license=license, holder="other").name == "WRONG_DEVICE"
            assert site.call("license.check", license=license)["reason"]["name"] == "WRONG_DEVICE"
        assert "the licenses have stopped" in warnings(site)
        totals = {row["license"]: row["total"] for row in site.call("license.list")["licenses"]}
        assert totals == {"kso.scales": 0, "kso.camera": 0}
    for each in (lease, camera):
        assert refusal(site, "seat.confirm", lease=each).name == "SEATS_WITHDRAWN"
    site.boot("server")
    assert (site.standing(), site.valid()) == ("same", True)


def test_the_days_of_grace_add_up_over_changes_there_and_back(site: Site) -> None:
    for left in (7, 4, 1):
        site.boot(CHANGED)
        assert site.row()["device_until"] == day(site.now + left * DAY_S)
        assert site.valid()
        site.elapse(3 * DAY_S)
        if left > 1:
            site.boot("server")
            assert (site.standing(), site.valid()) == ("same", True)
            site.elapse(5 * DAY_S)  # which cost nothing
    assert not site.valid()
    site.boot("server").boot(CHANGED)
    assert (site.standing(), site.valid()) == ("changed", False)


@pytest.mark.skipif(clock.ntp_synchronized() is True, reason="the kernel says that any clock is right")
def test_a_clock_that_was_far_ahead_when_the_device_changed_gives_no_years_of_grace(site: Site) -> None:
    site.stop()
    site.set_clock(9 * 365 * DAY_S)
    site.boot()
    assert site.call("server.status")["clock"]["state"] == "ahead"
    site.elapse(8 * DAY_S)
    assert site.call("server.status")["clock"]["state"] == "ahead-spent"
    site.boot(CHANGED)
    assert site.row()["device_until"] == day(site.now + (9 * 365 + 7) * DAY_S)
    site.set_clock(0)
    assert site.call("server.status")["clock"]["state"] == "ok"
    site.elapse(5)  # by when it looks again
    assert site.valid()
    assert site.row()["device_until"] == day(site.now + 7 * DAY_S)
    site.elapse(8 * DAY_S)
    assert not site.valid()


@pytest.mark.skipif(clock.ntp_synchronized() is True, reason="the kernel says that any clock is right")
def test_a_clock_that_is_set_back_again_and_again_gives_no_more_grace(site: Site) -> None:
    site.stop()
    site.set_clock(9 * 365 * DAY_S)
    site.boot()
    site.elapse(8 * DAY_S)
    site.boot(CHANGED)
    assert site.call("server.status")["clock"]["state"] == "ahead-spent"
    for day_of_grace in (0, 3, 6):
        assert site.valid(), day_of_grace
        site.elapse(3 * DAY_S)
        site.set_clock(site.ahead_s - 4 * DAY_S)
        site.call("server.hello")
    assert (site.standing(), site.valid()) == ("changed", False)
    site.set_clock(site.ahead_s - 40 * DAY_S)
    assert not site.valid()  # also before it looks at the hardware again
    site.restart()
    assert (site.standing(), site.valid()) == ("changed", False)


def test_a_vendor_that_gives_no_grace_gets_none_taken(folder: Path) -> None:
    with Site(folder) as site:
        site.start().install(device_grace_days=0)
        site.boot(CHANGED)
        assert (site.standing(), site.valid()) == ("changed", False)
        site.boot("server: disks swapped")
        assert (site.standing(), site.valid()) == ("same", True)


def test_the_answer_to_a_re_host_ends_the_trouble(site: Site) -> None:
    for seq, machine in enumerate((CHANGED, "two-disks"), 2):
        site.boot(machine)
        answer = site.call("install.request")
        assert (answer["rehost"], answer["new"]) == (True, True)
        request = site.request()
        assert request.rehost is True
        assert site.call("install.request")["new"] is False
        asked = Asked()
        site.ask(asked)
        request = site.request()
        site.call("license.import", document=asked.file(request, seq))
        assert (site.standing(), site.valid(), warnings(site)) == ("same", True, "")
        assert site.request().rehost is False
        site.boot()
        assert (site.standing(), site.valid()) == ("same", True)
    site.boot("server")  # from where it was moved away
    assert not site.valid()


def test_parts_that_come_back_while_it_runs_are_found_without_anybody_asking(folder: Path) -> None:
    with Site(folder) as site:
        site.start().install(device_grace_days=0)
        site.boot(CHANGED)
        assert not site.valid()
        plug_in(site, "server")
        began = time.monotonic()
        wait_until(site.valid, "the second look", 8)
        assert time.monotonic() - began > 1  # not by our own asking
        assert (site.standing(), warnings(site)) == ("same", "")


def plug_in(site: Site, machine: str) -> None:
    """What licd sees of /sys, from now on, are the parts of this machine."""
    environment = Path(f"/proc/{site.pid}/environ").read_bytes().split(b"\0")
    (seen,) = (each.partition(b"=")[2].decode() for each in environment if each.startswith(b"UMOCKDEV_DIR="))
    copy = f'copy=$UMOCKDEV_DIR; unset LD_PRELOAD; cp -aT --remove-destination "$copy/sys" {seen}/sys'
    subprocess.run([*machines.wrap(machine), "sh", "-c", copy], check=True)


@pytest.mark.parametrize("method", ["install.request", "device.fingerprint"])
def test_whoever_has_a_look_at_parts_that_came_back_ends_the_trouble_at_once(folder: Path, method: str) -> None:
    with Site(folder) as site:
        site.start().install(device_grace_days=0)
        site.boot(CHANGED)
        assert not site.valid()
        plug_in(site, "server")
        site.call(method)
        assert (site.standing(), site.valid()) == ("same", True)
        assert acquire(site, "till")


# root may read whatever there is, but no folder.
NO_DMI = (
    'dmi=$sys/devices/virtual/dmi/id; for each in "$dmi"/product_uuid "$dmi"/*_serial; do rm $each; mkdir $each; done'
)
DMI = ["system_uuid", "board_serial", "product_serial", "chassis_serial"]


def test_what_may_not_be_read_counts_as_lost_from_the_next_boot_on_and_has_its_own_name(site: Site) -> None:
    site.inside = NO_DMI
    site.on("server: disks swapped")
    assert (site.standing(), site.valid()) == ("same", True)
    row = fingerprint(site)
    assert [each["factor"] for each in row["factors"] if each["state"] == "unreadable"] == DMI
    site.boot()
    assert (site.standing(), site.valid()) == ("changed", True)
    assert f"lost: disk; unreadable: {', '.join(DMI)}" in warnings(site)
    answer = site.call("install.request")
    assert (answer["unreadable"], answer["rehost"]) == (DMI, True)
    site.inside = ""
    site.boot()  # somebody gave the permission
    assert (site.standing(), warnings(site)) == ("same", "")


def test_an_open_request_is_made_anew_when_more_may_be_read_than_before(folder: Path) -> None:
    with Site(folder) as site:
        site.inside = NO_DMI
        site.start().ask(Asked())
        answer = site.call("install.request")
        assert (answer["unreadable"], answer["strong"], answer["weak"]) == (DMI, ["disk", "nic"], False)
        site.inside = ""
        site.boot()
        answer = site.call("install.request")
        assert (answer["new"], answer["unreadable"], answer["strong"]) == (True, [], ["board", "disk", "nic"])
        site.inside = NO_DMI
        site.boot()
        assert site.call("install.request")["new"] is False  # what was told stays true


def test_a_file_put_into_the_state_folder_by_hand_is_recognized_like_any_other(folder: Path) -> None:
    with Site(folder) as site:
        asked = site.start().ask(Asked())
        request = site.request()
        tags = {factor: ["000000"] for factor in request.fingerprint}
        elsewhere = asked.file(request, device={"fingerprint": tags})
        (site.state / "licenses").mkdir()
        (site.state / "licenses" / "acme.licd").write_bytes(elsewhere)
        os.kill(site.pid, signal.SIGHUP)
        site.wait_for("RELOADING=1")
        site.wait_for("READY=1")
        assert site.row()["in_force"]
        assert (site.standing(), site.valid()) == ("copy", False)
        assert "acme: WRONG_DEVICE: this is not the device" in site.log
        site.boot()
        assert (site.standing(), site.valid()) == ("copy", False)


# --- a copy --------------------------------------------------------------------------------------------------


def test_a_copy_gets_nothing_at_its_first_start_nor_at_any_other(site: Site, tmp_path: Path) -> None:
    acquire(site, "till")
    site.stop()
    shutil.copytree(site.state, tmp_path / "image")
    for machine in (COPY, "server: another machine"):
        for restart in (site.boot, site.restart, site.boot):
            restart(machine) if restart == site.boot else restart()
            assert (site.standing(), site.valid(), site.valid("kso.camera")) == ("copy", False, False)
            assert site.row()["device_until"] is None
            assert refusal(site, "seat.acquire", license="kso.camera", holder="till").name == "WRONG_DEVICE"
            assert "none of the hardware that it is bound to is found here" in warnings(site)
            assert (site.call("server.status")["seats"]["total"], fingerprint(site)["until"]) == (0, None)
    assert "new device key" not in site.log
    site.stop()
    shutil.copytree(tmp_path / "image", site.state, dirs_exist_ok=True)
    site.boot("server")
    assert (site.standing(), site.valid()) == ("same", True)


def test_on_a_copy_the_file_in_force_cannot_be_imported_again_and_on_a_changed_device_it_can(site: Site) -> None:
    file = site.call("license.export")["document"]
    site.boot(CHANGED)
    assert site.call("license.import", document=file)["files"][0]["in_force"] == "already"
    site.boot(COPY)
    refused = refusal(site, "license.import", document=file)
    assert refused.name == "WRONG_DEVICE"
    assert {each["state"] for each in refused.data["factors"] if each["factor"] in ("disk", "nic")} == {"lost"}
    site.boot("server")
    site.on("container")  # a good verdict holds for its boot
    assert site.call("license.import", document=file)["files"][0]["in_force"] == "already"


def test_a_copy_of_a_changed_device_inherits_no_grace(site: Site) -> None:
    site.boot(CHANGED)
    assert site.valid()
    site.boot("server: another machine")  # whose parts are none that are bound
    assert (site.standing(), site.valid()) == ("copy", False)


def test_where_nothing_strong_is_found_any_more_it_is_a_copy_though_nothing_was_copied(folder: Path) -> None:
    with Site(folder) as site:
        site.start().install()
        site.boot("container")
        assert (site.standing(), site.valid()) == ("copy", False)


# --- two vendors ---------------------------------------------------------------------------------------------


def test_each_vendors_binding_is_judged_by_its_own_rule(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start().install()
        strict = site.ask(Asked(UMBRA, weights={"disk": 10, "nic": 1}, share=80))
        site.call("license.import", document=strict.file(site.request("umbra")))
        site.boot("server: disks swapped")
        assert (site.standing("acme"), site.standing("umbra")) == ("same", "changed")
        assert site.call("license.check", license="kso.scales")["warnings"] == []
        assert site.call("license.check", license="umb.pos")["warnings"] == ["DEVICE_CHANGED"]
        assert (site.request("umbra").rehost, site.row("acme")["device_until"]) == (True, None)


def test_two_vendors_that_agree_on_a_salt_see_no_tag_in_common(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start()
        salt = "AAECAwQFBgcICQoLDA0ODw"
        tags = []
        for vendor in (ACME, UMBRA):
            site.ask(Asked(vendor, salt=salt))
            tags.append({tag for each in site.request(vendor.vendor).fingerprint.values() for tag in each})
        assert len(tags[0]) == len(tags[1]) > 5
        assert tags[0].isdisjoint(tags[1])


# --- what if -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("without", "machine"),
    [
        (["disk"], "server: disks swapped"),
        (["nic"], "server: network cards swapped"),
        (["board"], "server: board swapped"),
        (["disk", "nic"], "server: disks and network cards swapped"),
        (["board", "disk"], CHANGED),
        (["board", "disk", "nic"], COPY),
        (["board", "disk", "nic", "cpu", "os"], "server: another machine"),
    ],
)
def test_what_if_tells_what_then_happens(site: Site, without: list[str], machine: str) -> None:
    told = fingerprint(site, without=without)
    assert site.standing() == "same"  # asking changes nothing
    answer = site.call("device.fingerprint", without=without)
    assert answer["without"] == without
    happened = fingerprint(site.boot(machine))
    for number in ("weight", "changes_left", "breaking", "factors", "share"):
        assert told[number] == happened[number], number
    assert told["standing"] == happened["standing"]


def test_the_margin_is_told_before_it_is_used_up(site: Site) -> None:
    row = fingerprint(site)
    assert (row["changes_left"], row["breaking"]) == (1, [])
    row = fingerprint(site.boot("server: board swapped"))
    assert (row["changes_left"], row["breaking"]) == (0, ["disk", "nic", "cpu", "os"])
    assert site.standing() == "same"


def test_what_if_with_an_unknown_name_is_refused_by_name_with_those_known(site: Site) -> None:
    refused = refusal(site, "device.fingerprint", without=["screen"])
    assert refused.name == "BAD_PARAMS"
    known = "board, disk, nic, cpu, os, system_uuid, board_serial, product_serial, chassis_serial, machine_id"
    assert refused.message == f"without names screen; known are {known}."
