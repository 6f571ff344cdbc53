"""Installation by file in the real process: what is asked again, deliveries, and two vendors."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licd.license.install import public_key
from tests.support.clients import acquire, refusal
from tests.support.site import ACME, NEEDS, UMBRA, Asked, Site

pytestmark = NEEDS

OTHER_KEY = public_key(Ed25519PrivateKey.from_private_bytes(bytes(32)))


# --- asked again ---------------------------------------------------------------------------------------------


def test_asking_again_gives_the_same_bytes_over_restarts_reboots_and_kills(site: Site) -> None:
    site.ask(Asked())
    answer = site.call("install.request")
    assert answer["new"] is True
    for again in (lambda: None, site.stop, site.kill):
        again()
        site.start() if site.poll() is not None else None
        assert site.call("install.request") == {**answer, "new": False}
    site.boot()
    assert site.call("install.request") == {**answer, "new": False}


def test_the_same_install_request_again_is_no_other(site: Site) -> None:
    asked = Asked()
    first = site.call("install.import", document=asked.document)
    assert (first["state"], first["superseded"]) == ("open", None)
    request = site.request()
    again = site.call("install.import", document=b"# by mail\n\n" + asked.document.replace(b"\n", b"\r\n"))
    assert again == {**first, "state": "already"}
    assert site.request() == request


def test_a_newer_install_request_supersedes_and_is_answered_anew(site: Site) -> None:
    older = site.ask(Asked(issued=time.time() - 5, weights={"disk": 1}))
    before = site.request()
    newer = Asked(weights={"disk": 1, "nic": 2})
    answer = site.call("install.import", document=newer.document)
    assert answer["superseded"] == older.members["id"]
    assert answer["factors"] == ["disk", "nic"]
    after = site.request()
    assert after.install_request == newer.members["id"]
    assert [*before.fingerprint, *after.fingerprint] == ["disk", "disk", "nic"]
    assert set(before.fingerprint["disk"]).isdisjoint(after.fingerprint["disk"])  # another salt
    assert refusal(site, "install.import", document=older.document).name == "OLDER_INSTALL_REQUEST"


def test_a_request_that_was_answered_is_asked_anew(site: Site) -> None:
    asked = site.ask(Asked())
    request = site.request()
    site.call("license.import", document=asked.file(request))
    after = site.request()
    assert after.id != request.id
    assert after.fingerprint == request.fingerprint
    assert after.rehost is False


@pytest.mark.parametrize(
    ("was", "now", "new"),
    [
        ("server", "server: disks swapped", False),  # still the same device by the install request's own rule
        ("server", "server: board and disks swapped", True),
        ("server: disks swapped", "server", False),
        ("two-disks: both disks removed", "two-disks", True),  # more is found than before
        ("two-disks", "two-disks: both disks removed", False),
        ("container", "container", False),
    ],
)
def test_an_open_request_is_made_anew_when_it_is_no_longer_true(folder: Path, was: str, now: str, new: bool) -> None:
    with Site(folder, was) as site:
        site.start().ask(Asked())
        request = site.request()
        answer = site.boot(now).call("install.request")
        assert answer["new"] is new
        assert (site.request() == request) is not new


def test_another_key_makes_a_new_request(site: Site) -> None:
    site.ask(Asked())
    request = site.request()
    site.stop()
    (site.state / "device.key").unlink()
    site.start()
    assert site.request().device != request.device


def test_an_open_install_request_never_touches_licenses_in_force(site: Site) -> None:
    site.install()
    lease = acquire(site, "till")
    in_force = {name: data for name, data in site.files().items() if name.startswith("licenses/")}
    site.ask(Asked(share=100, weights={"a_factor_of_a_later_licd": 1}))
    site.request()
    for restart in (lambda: None, site.restart, site.boot):
        restart()
        assert site.standing() == "same"
        assert site.call("seat.confirm", lease=lease)["lease"] == lease
        assert in_force.items() <= site.files().items()


# --- deliveries ----------------------------------------------------------------------------------------------


def test_of_a_delivery_for_many_devices_each_takes_its_own_and_counts_the_others(site: Site) -> None:
    asked = site.ask(Asked())
    request = site.request()
    others = [asked.file(request, seq, device={"key": OTHER_KEY}) for seq in (1, 2, 9)]
    mine = asked.file(request, 3, [{"name": "kso.scales", "seats": 7}])
    delivery = b"".join([*others[:2], mine, others[2]])
    for dry_run in (True, False):
        answer = site.call("license.import", document=delivery, dry_run=dry_run)
        assert answer["others"] == 3
        assert [(file["seq"], file["in_force"]) for file in answer["files"]] == [(3, "new")]
    assert site.row()["seq"] == 3
    answer = site.call("license.import", document=delivery)
    assert answer["files"][0]["in_force"] == "already"


# --- two vendors ---------------------------------------------------------------------------------------------


def of(site: Site, vendor: str) -> dict[str, bytes]:
    return {name: data for name, data in site.files().items() if vendor in name}


def test_two_vendors_never_touch_each_others_files(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start().install()
        acme, acme_files = site.row("acme"), of(site, "acme")
        asked = site.ask(Asked(UMBRA))
        assert refusal(site, "install.request").name == "BAD_PARAMS"  # whose?
        request = site.request("umbra")
        assert request.device != site.request("acme").device
        acme_files = of(site, "acme")
        # Each of umbra's, refused or not, leaves what is acme's as it was.
        foreign = asked.file(request, 1, [{"name": "kso.scales"}])
        assert refusal(site, "license.import", document=foreign).name == "FOREIGN_NAME"
        site.call("license.import", document=asked.file(request, 1))
        assert (site.valid("umb.pos"), site.valid("kso.scales")) == (True, True)
        site.call("license.import", document=asked.file(site.request("umbra"), 5, []))
        assert (site.row("acme"), of(site, "acme")) == (acme, acme_files)
        # One of the files is lost: the other vendor's licenses go on.
        site.stop()
        (site.state / "licenses" / "umbra.licd").write_bytes(b"damaged\n")
        site.start()
        assert site.row("umbra")["problem"] is not None
        assert site.valid("kso.scales")
        site.stop()
        (site.state / "licenses" / "acme.licd").unlink()
        (site.state / "licenses" / "umbra.licd").write_bytes(asked.file(request, 6))
        site.start()
        assert (site.valid("umb.pos"), site.row("acme")["in_force"]) == (True, False)


def test_an_answer_to_one_vendor_is_no_answer_to_another(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start()
        mine, theirs = site.ask(Asked()), site.ask(Asked(UMBRA))
        acme, umbra = site.request("acme"), site.request("umbra")
        assert refusal(site, "license.import", document=theirs.file(acme)).name == "WRONG_DEVICE"  # acme's key
        wrong = theirs.file(umbra, request=acme.id)
        assert refusal(site, "license.import", document=wrong).name == "ANOTHER_REQUEST"
        both = mine.file(acme) + theirs.file(umbra)
        assert refusal(site, "license.import", document=both).name == "BAD_DOCUMENT"
        assert not any(name.startswith("licenses/") for name in site.files())
