"""Lists of withdrawn certificates that come with a delivery, in the real process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from licd.license.dates import timestamp
from licd.rpc.client import TimedOut, Unreachable
from tests.support import pki
from tests.support.clients import refusal, warnings
from tests.support.needs import needs_strace
from tests.support.renewing import DAY_S, Shop
from tests.support.site import ACME, NEEDS, UMBRA, Asked, Site, edited
from tests.support.strace import injected

pytestmark = NEEDS

NEW = pki.Vendor(root=ACME.root, leaf={"subject": "another signer"})  # the same vendor, by another certificate
OLD_KEY = ACME.leaf.certificate


@pytest.fixture
def shop(site: Site) -> Shop:
    return Shop(site)


def renewed(shop: Shop, signer: pki.Vendor, seq: int = 2) -> bytes:
    """The answer of a new license file, signed by this certificate of the vendor's."""
    return shop.file(shop.request(), seq, signer=signer)


def reload(site: Site) -> None:
    os.kill(site.pid, signal.SIGHUP)
    site.wait_for("RELOADING=1")
    site.wait_for("READY=1")


# --- what is refused -----------------------------------------------------------------------------------------


def test_a_delivery_with_a_list_that_is_wrong_changes_nothing(shop: Shop) -> None:
    site = shop.site
    file = renewed(shop, NEW)
    good = NEW.withdrawn((OLD_KEY, False))
    wrong = {
        "changed on the way": ("BAD_SIGNATURE", edited(good, b'"seq":1', b'"seq":9')),
        "of another vendor": ("UNTRUSTED_SIGNER", UMBRA.withdrawn((OLD_KEY, True))),
        "of another vendor in its name": ("UNTRUSTED_SIGNER", UMBRA.withdrawn((OLD_KEY, True), vendor="acme")),
        "without a number": ("BAD_DOCUMENT", NEW.withdrawn((OLD_KEY, True), seq=0)),
        "twice": ("BAD_DOCUMENT", good + good),
        "that declares void who signed the file": ("SIGNER_RETIRED", NEW.withdrawn((NEW.leaf.certificate, True))),
    }
    before, plan = site.files(), shop.plan()
    for name, (error, document) in wrong.items():
        for method in ("renewal.report", "license.import"):
            assert refusal(site, method, document=file + document).name == error, name
    unchanged = shop.unchanged(shop.request())
    void = ACME.withdrawn((OLD_KEY, True))
    assert refusal(site, "renewal.report", document=unchanged + void).name == "SIGNER_RETIRED"
    assert (site.files(), shop.plan()) == (before, plan)


def test_a_list_alone_is_no_delivery(shop: Shop) -> None:
    for method in ("renewal.report", "license.import"):
        assert refusal(shop.site, method, document=NEW.withdrawn((OLD_KEY, True))).name == "WRONG_DOCUMENT"
    assert shop.site.valid()


# --- what counts ---------------------------------------------------------------------------------------------


def test_a_list_that_comes_with_a_renewal_counts_from_then_on_and_over_a_restart(shop: Shop) -> None:
    site = shop.site
    told = shop.report(renewed(shop, NEW) + NEW.withdrawn((OLD_KEY, True)))
    assert (told["outcome"], told["withdrawn"]) == ("renewed", 1)
    assert (site.valid(), warnings(site)) == (True, "")
    for _ in range(2):
        assert refusal(site, "renewal.report", document=renewed(shop, ACME, 3)).name == "SIGNER_RETIRED"
        assert refusal(site, "renewal.report", document=shop.unchanged(shop.request())).name == "SIGNER_RETIRED"
        assert refusal(site, "install.import", document=Asked().document).name == "SIGNER_RETIRED"
        assert site.valid()
        site.restart()
    again = shop.report(renewed(shop, NEW, 3) + NEW.withdrawn((OLD_KEY, False)))
    assert (again["outcome"], again["withdrawn"]) == ("renewed", None)  # no newer list: the first one counts
    assert refusal(site, "renewal.report", document=renewed(shop, ACME, 4)).name == "SIGNER_RETIRED"
    newer = shop.report(renewed(shop, NEW, 4) + NEW.withdrawn((OLD_KEY, False), seq=2))
    assert newer["withdrawn"] == 2


def test_a_file_in_force_whose_signer_is_declared_void_stops_at_once(shop: Shop) -> None:
    site = shop.site
    answer = NEW.unchanged(shop.request(), issued=timestamp(site.now))
    told = shop.report(answer + NEW.withdrawn((OLD_KEY, True)))
    assert (told["outcome"], told["withdrawn"]) == ("unchanged", 1)
    for _ in range(2):
        assert refusal(site, "seat.acquire", license="kso.scales", holder="till").name == "NO_SUCH_LICENSE"
        assert "SIGNER_RETIRED" in warnings(site)
        assert "declared it void" in site.log
        plan = shop.plan()
        assert (plan["in_force"], plan["seq"], plan["is_due"], plan["why"]) == (False, 1, True, "due")
        again = NEW.unchanged(shop.request(), issued=timestamp(site.now))
        assert refusal(site, "renewal.report", document=again).name == "NOT_IN_FORCE"
        site.restart()
    assert shop.report(renewed(shop, NEW))["outcome"] == "renewed"
    assert (site.valid(), warnings(site)) == (True, "")


def test_a_file_in_force_whose_signer_is_only_withdrawn_goes_on(shop: Shop) -> None:
    answer = NEW.unchanged(shop.request(), issued=timestamp(shop.site.now))
    assert shop.report(answer + NEW.withdrawn((OLD_KEY, False)))["withdrawn"] == 1
    shop.site.restart()
    assert (shop.site.valid(), warnings(shop.site)) == (True, "")
    assert shop.plan()["last"]["outcome"] == "unchanged"


def test_an_unchanged_answer_whose_signer_is_declared_void_no_longer_extends(shop: Shop) -> None:
    site = shop.site
    document = renewed(shop, NEW)
    shop.report(document)
    due = shop.plan()["due"]
    site.elapse(20 * DAY_S)
    shop.report(shop.unchanged(shop.request()))
    assert shop.plan()["due"] > due
    told = shop.report(document + NEW.withdrawn((OLD_KEY, True)))
    assert (told["outcome"], told["withdrawn"]) == ("already", 1)
    for _ in range(2):
        assert (shop.plan()["due"], site.valid()) == (due, True)
        site.restart()


def test_an_import_takes_a_list_too_and_a_dry_run_does_not(shop: Shop) -> None:
    site = shop.site
    document = renewed(shop, NEW) + NEW.withdrawn((OLD_KEY, True), seq=3)
    dry = site.call("license.import", document=document, dry_run=True)
    assert (dry["withdrawn"], "requests/acme.withdrawn.licd" in site.files()) == (3, False)
    assert site.call("license.import", document=document)["withdrawn"] == 3
    assert refusal(site, "license.import", document=renewed(shop, ACME, 3)).name == "SIGNER_RETIRED"
    again = site.call("license.import", document=document)
    assert (again["files"][0]["in_force"], again["withdrawn"]) == ("already", None)


def test_of_the_profiles_list_and_the_one_that_came_the_newer_counts(shop: Shop) -> None:
    site = shop.site
    profile = site.vendors / "acme" / "withdrawn.licd"
    profile.write_bytes(NEW.withdrawn((OLD_KEY, False), seq=1))
    shop.report(renewed(shop, NEW) + NEW.withdrawn((OLD_KEY, True), seq=2))
    reload(site)
    assert "declared it void" in refusal(site, "renewal.report", document=renewed(shop, ACME, 3)).message
    profile.write_bytes(NEW.withdrawn(seq=3))
    reload(site)
    assert shop.report(renewed(shop, ACME, 3))["outcome"] == "renewed"


def test_a_list_in_the_state_folder_that_does_not_verify_counts_for_nothing(shop: Shop) -> None:
    site = shop.site
    shop.report(renewed(shop, NEW) + NEW.withdrawn((OLD_KEY, False)))
    kept = site.state / "requests" / "acme.withdrawn.licd"
    good = kept.read_bytes()
    for damage in (b"", b"\xff", good[:-9], edited(good, b'"void":false', b'"void":true'), UMBRA.withdrawn(seq=9)):
        kept.write_bytes(damage)
        site.restart()
        assert site.valid()
    kept.write_bytes(good)
    reload(site)
    assert refusal(site, "renewal.report", document=renewed(shop, ACME, 3)).name == "SIGNER_RETIRED"


@needs_strace
def test_a_kill_between_the_file_and_the_list_is_made_up_for_by_the_same_delivery(shop: Shop) -> None:
    site = shop.site
    document = renewed(shop, NEW) + NEW.withdrawn((OLD_KEY, True))
    with injected(site, "rename:signal=KILL:when=3"), pytest.raises((Unreachable, TimedOut)):
        shop.report(document)
    site.start()
    assert (site.row()["seq"], "requests/acme.withdrawn.licd" in site.files()) == (2, False)
    told = shop.report(document)
    assert (told["outcome"], told["withdrawn"]) == ("already", 1)
    assert "requests/acme.withdrawn.licd" in site.files()


def test_one_vendors_list_means_nothing_to_another(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start()
        acme, umbra = Shop(site), Shop(site, UMBRA)
        acme.report(renewed(acme, NEW) + NEW.withdrawn((OLD_KEY, True), (UMBRA.leaf.certificate, True)))
        site.restart()
        assert umbra.report(umbra.unchanged(umbra.request()))["outcome"] == "unchanged"
        assert site.valid("umb.pos")
