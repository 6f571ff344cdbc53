"""Installation by file in the real process on a disk that is full, read-only or damaged, and over kills."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from licd.license.install import verify_license_request
from licd.rpc.client import TimedOut, Unreachable
from tests.support.clients import acquire, refusal, wait_until, warnings
from tests.support.mounts import fill_up, remount_read_only, small_disk
from tests.support.needs import needs_strace
from tests.support.site import ACME, NEEDS, UMBRA, Asked, Site, edited
from tests.support.strace import injected

pytestmark = NEEDS


# --- a state folder that is full, read-only or damaged -------------------------------------------------------


def test_a_full_disk_refuses_requests_by_name_and_goes_on_with_what_is_in_force(folder: Path) -> None:
    (folder / "state").mkdir()
    with small_disk(folder / "state", "1m"), Site(folder) as site:
        asked = site.start().install()
        wait_until(lambda: (site.state / "journal.next").stat().st_size == 256 * 1024, "the spare file")
        before = site.files()
        fill_up(site.state)
        assert refusal(site, "install.import", document=Asked().document).name == "STORAGE_FULL"
        assert refusal(site, "install.request").name == "STORAGE_FULL"
        answered = verify_license_request(before["requests/acme.request.licd"])
        refused = refusal(site, "license.import", document=asked.file(answered, 2))
        assert refused.name == "STORAGE_FULL"
        lease = acquire(site, "till")
        (site.state / "filling").unlink()
        assert site.files() == before
        fill_up(site.state)
        site.boot("server: disks swapped")  # recognized anew, which goes on record without new space
        assert (site.standing(), site.valid()) == ("same", True)
        assert site.call("seat.confirm", lease=lease)["lease"] == lease
        (site.state / "filling").unlink()
        site.ask(Asked())
        assert site.call("install.request")["new"] is True


def test_a_read_only_state_folder_refuses_requests_and_serves_what_is_in_force(folder: Path) -> None:
    (folder / "state").mkdir()
    with small_disk(folder / "state", "2m"), Site(folder) as site:
        asked = site.start().install()
        site.stop()
        before = site.files()
        remount_read_only(site.state)
        site.boot()
        assert (site.standing(), site.valid()) == ("same", True)
        assert refusal(site, "install.import", document=Asked().document).name == "STATE_NOT_WRITABLE"
        assert refusal(site, "install.request").name == "STATE_NOT_WRITABLE"
        again = site.call("install.import", document=asked.document)  # needs nothing written
        assert again["state"] == "already"
        assert site.files() == before


def test_requests_edited_or_damaged_on_the_disk_count_for_nothing(site: Site) -> None:
    site.ask(Asked())
    request = site.request()
    kept = site.state / "requests" / "acme.request.licd"
    text = kept.read_bytes()
    for damage in (b"", b"\xff" * 100, text[:-30], edited(text, b'"rehost":false', b'"rehost":true'), text + text):
        kept.write_bytes(damage)
        assert site.call("install.request")["new"] is True
        assert site.request().id != request.id
    install = site.state / "requests" / "acme.install.licd"
    text = install.read_bytes()
    for damage in (b"", b"\xff" * 100, text[:-30], edited(text, b'"share":50', b'"share":10')):
        install.write_bytes(damage)
        assert refusal(site, "install.request").name == "NO_INSTALL_REQUEST"
    install.write_bytes(text)
    assert site.call("install.request")["new"] is False


def test_requests_that_cannot_be_read_stop_no_import_and_others_take_their_place(site: Site) -> None:
    asked = site.install()
    answered = site.request()
    kept = site.state / "requests" / "acme.request.licd"
    kept.unlink()
    kept.symlink_to(kept)  # root reads any file
    renewed = asked.file(answered, 2, request=None)
    assert site.call("license.import", document=renewed)["files"][0]["in_force"] == "new"
    assert site.call("install.request")["new"] is True
    assert site.call("install.request")["new"] is False
    install = site.state / "requests" / "acme.install.licd"
    install.unlink()
    install.symlink_to(install)
    assert refusal(site, "install.request").name == "NO_INSTALL_REQUEST"
    assert site.call("install.import", document=asked.document)["state"] == "open"
    assert site.call("install.request")["new"] is False


def test_one_vendors_request_in_the_place_of_another_counts_for_nothing(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start().ask(Asked())
        site.ask(Asked(UMBRA))
        request = site.request("umbra")
        requests = site.state / "requests"
        for kind in ("request", "install"):
            site.request("acme")
            (requests / f"umbra.{kind}.licd").write_bytes((requests / f"acme.{kind}.licd").read_bytes())
            if kind == "request":
                assert site.request("umbra").device == request.device
            else:
                assert refusal(site, "install.request", vendor="umbra").name == "NO_INSTALL_REQUEST"


DAMAGED_KEYS: tuple[Callable[[bytes], bytes], ...] = (
    lambda text: b"",
    lambda text: bytes(range(256)),
    lambda text: b"[" * 60000,
    lambda text: json.dumps({**json.loads(text), "machine": []}).encode(),
    lambda text: text[: len(text) // 2],
)


def test_a_damaged_device_key_is_kept_and_said_and_the_shop_goes_on(site: Site) -> None:
    site.install()
    key = site.state / "device.key"
    good = key.read_bytes()
    for damage in DAMAGED_KEYS:
        site.stop()
        key.write_bytes(damage(good))
        site.start()
        assert site.valid()
        assert f"{key} is not a device key" in site.log
        assert site.call("device.fingerprint")["key"] is False
        refused = refusal(site, "install.request")
        assert refused.name == "NO_DEVICE_KEY"
        assert "is not a device key" in refused.message
        assert key.read_bytes() == damage(good)
    site.boot()
    assert (site.standing(), site.valid()) == ("other-key", True)  # for the grace
    assert "is not a device key" in warnings(site)
    site.stop()
    key.write_bytes(good)
    site.boot()
    assert (site.standing(), site.call("device.fingerprint")["key"]) == ("same", True)


# --- the process dies between two steps ----------------------------------------------------------------------


def test_what_an_install_request_tells_of_the_time_is_not_forgotten_by_a_kill(site: Site) -> None:
    site.ask(Asked(issued=time.time() + 20 * 3600))
    before = site.call("server.status")["clock"]["trusted"]
    site.restart()
    assert site.call("server.status")["clock"]["trusted"] >= before


def test_after_a_kill_behind_each_step_nothing_is_lost(site: Site) -> None:
    asked = site.ask(Asked())
    site.restart()
    answer = site.call("install.request")
    site.restart()
    assert site.call("install.request") == {**answer, "new": False}
    site.call("license.import", document=asked.file(site.request()))
    site.restart()
    assert (site.row()["seq"], site.standing(), site.valid()) == (1, "same", True)
    site.boot(clean=False)
    assert (site.row()["seq"], site.standing(), site.valid()) == (1, "same", True)


STEPS = {
    "install.import": "requests/acme.install.licd",
    "license.import": "licenses/acme.licd",
}


@needs_strace
@pytest.mark.parametrize(
    ("method", "rule"),
    [
        ("install.import", "fsync:signal=KILL:when=1"),
        ("install.import", "rename:signal=KILL:when=1"),
        ("install.import", "rename:signal=KILL:when=2"),
        ("license.import", "rename:signal=KILL:when=1"),
        ("license.import", "rename:signal=KILL:when=2"),
        ("license.import", "fdatasync:signal=KILL:when=1"),
    ],
)
def test_a_kill_in_the_middle_of_a_step_leaves_the_old_or_the_new_whole(site: Site, method: str, rule: str) -> None:
    asked = site.install()
    old = site.files()
    document = Asked().document if method == "install.import" else asked.file(site.request(), 2)
    before = site.files()
    with injected(site, rule), pytest.raises((Unreachable, TimedOut)):
        site.call(method, document=document)
    site.start()
    after = site.files()[STEPS[method]]
    assert after in (before[STEPS[method]], document)
    assert after == document or "rename" in rule or "fsync" in rule
    assert (site.standing(), site.valid()) == ("same", True)
    assert site.row()["seq"] == (2 if after == document and method == "license.import" else 1)
    site.call(method, document=document)  # again: now it is done, and nothing is left of the first time
    done = site.files()
    assert done[STEPS[method]] == document
    assert done.keys() - {f"{STEPS[method]}.previous"} == old.keys() | before.keys()
