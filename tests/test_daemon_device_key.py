"""The device key in the real process: lost, unreadable, or brought by the image of another machine."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from licd.license.dates import DAY_S, day
from tests.support.clients import refusal, warnings
from tests.support.mounts import remount_read_only, small_disk
from tests.support.site import ACME, NEEDS, UMBRA, Asked, Site

pytestmark = NEEDS

CHANGED, COPY = "server: board and disks swapped", "server: disks cloned to another machine"


@pytest.fixture
def site(site: Site) -> Site:
    """Installed on the server."""
    site.install()
    return site


# --- the device key ------------------------------------------------------------------------------------------


def test_a_deleted_device_key_is_another_key_and_goes_on_for_the_grace(site: Site) -> None:
    site.stop()
    (site.state / "device.key").unlink()
    site.start()
    assert site.standing() == "same"  # for the rest of this boot
    site.boot()
    assert (site.standing(), site.valid()) == ("other-key", True)
    assert site.row()["device_until"] == day(time.time() + 7 * DAY_S)
    assert "this device has another key" in warnings(site)
    assert site.call("license.check", license="kso.scales")["warnings"] == ["DEVICE_CHANGED"]
    asked = site.ask(Asked())
    request = site.request()
    assert request.rehost is True
    site.call("license.import", document=asked.file(request, 2))
    assert (site.standing(), warnings(site)) == ("same", "")


def test_a_device_key_that_may_not_be_read_stops_nothing_at_once(site: Site) -> None:
    site.stop()
    key = site.state / "device.key"
    text = key.read_bytes()
    key.unlink()
    key.mkdir()  # root reads any file
    site.boot()
    assert (site.standing(), site.valid(), site.call("device.fingerprint")["key"]) == ("other-key", True, False)
    assert f"{key} cannot be read: Is a directory" in warnings(site)
    assert refusal(site, "install.request").name == "NO_DEVICE_KEY"
    site.stop()
    key.rmdir()
    key.write_bytes(text)
    site.boot()
    assert (site.standing(), warnings(site)) == ("same", "")


def test_a_state_folder_emptied_on_the_same_hardware_makes_a_new_key_and_matches_all_the_same(site: Site) -> None:
    asked = site.ask(Asked())
    before = site.request()
    site.stop()
    shutil.rmtree(site.state)
    site.boot()
    assert "device key" not in site.log  # no image of anything: nothing to tell
    site.ask(asked)
    after = site.request()
    assert (after.fingerprint, after.rehost) == (before.fingerprint, False)
    assert after.device != before.device
    site.call("license.import", document=asked.file(after, 2))
    assert site.valid()


# --- golden images -------------------------------------------------------------------------------------------


def test_a_golden_image_that_nothing_is_bound_to_makes_a_key_of_its_own_on_other_hardware(folder: Path) -> None:
    with Site(folder) as site:
        site.start().ask(Asked())
        master = site.request()
        site.boot(CHANGED)  # a part is kept: still this machine
        assert site.request().device == master.device
        assert "new device key" not in site.log
        site.boot("two-disks")
        told = "this is the image of another machine, and no license is bound to it: new device key"
        assert site.log.count(told) == 1
        clone = site.request()
        assert clone.device != master.device
        assert clone.rehost is False
        site.boot()
        assert site.request() == clone
        assert site.log.count("new device key") == 1


def test_an_image_with_a_file_for_any_device_is_bound_to_nothing(folder: Path) -> None:
    with Site(folder) as site:
        site.start()
        site.ask(Asked())
        master = site.request()
        site.call("license.import", document=ACME.license_file(1, issued=time.time()))
        site.boot(COPY)
        assert site.request().device != master.device
        assert (site.standing(), site.valid(), site.row()["device_until"]) == ("any", True, None)


def test_an_image_bound_by_one_vendor_keeps_its_key_for_all(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start().install(UMBRA)
        site.ask(Asked())
        master = site.request("acme")
        site.boot(COPY)
        assert site.request("acme").device == master.device
        assert (site.standing("umbra"), site.valid("umb.pos")) == ("copy", False)
        assert "new device key" not in site.log


@pytest.mark.parametrize("lost", ["damaged", "unreadable", "without a profile"])
def test_a_key_is_kept_while_the_file_that_may_be_bound_to_it_is_not_in_force(site: Site, lost: str) -> None:
    site.stop()
    profile, file = site.vendors / "acme", site.state / "licenses" / "acme.licd"
    text = file.read_bytes()
    if lost == "without a profile":
        profile.rename(site.folder / "elsewhere")
    else:
        file.unlink()
        file.write_bytes(b"") if lost == "damaged" else file.mkdir()
    site.boot(COPY)
    assert "new device key" not in site.log
    site.stop()
    if lost == "without a profile":
        (site.folder / "elsewhere").rename(profile)
    else:
        file.unlink() if lost == "damaged" else file.rmdir()
        file.write_bytes(text)
    site.boot("server")
    assert (site.standing(), site.valid()) == ("same", True)


def test_a_read_only_state_folder_never_says_that_a_key_it_has_is_missing(folder: Path) -> None:
    (folder / "state").mkdir()
    with small_disk(folder / "state", "2m"), Site(folder) as site:
        site.start().ask(Asked())
        request = site.request()
        site.stop()
        remount_read_only(site.state)
        site.boot("server: disks swapped")  # which the key cannot be told to follow
        assert site.call("device.fingerprint")["key"] is True
        assert site.request() == request
        assert "no device key" not in site.log


def test_a_damaged_key_that_nothing_is_bound_to_is_told_by_status_too(folder: Path) -> None:
    with Site(folder) as site:
        site.start().stop()
        (site.state / "device.key").write_bytes(b"damaged")
        site.start()
        assert "is not a device key" in warnings(site)
