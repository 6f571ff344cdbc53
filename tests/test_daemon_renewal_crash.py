"""Renewal in the real process that is killed between two steps, on disks that are full, read-only or damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from licd.license.dates import day, timestamp
from licd.license.renewal import RenewalRequest, verify_renewal_request
from licd.rpc.client import TimedOut, Unreachable
from tests.support.clients import acquire, refusal, wait_until
from tests.support.mounts import fill_up, remount_read_only, small_disk
from tests.support.needs import needs_strace
from tests.support.renewing import DAY_S, REQUIRED, Shop
from tests.support.site import ACME, NEEDS, UMBRA, Site
from tests.support.strace import injected

pytestmark = NEEDS

ANSWERS: dict[str, Callable[[Shop, RenewalRequest], bytes]] = {
    "unchanged": Shop.unchanged,
    "refused": Shop.refusal,
    "renewed": Shop.file,
}


def outcome(shop: Shop, answer: bytes) -> str:
    told: str = shop.report(answer)["outcome"]
    return told


# The system calls of taking an answer in, in order; it is killed when it comes to one.
DOCUMENT = ["fsync:signal=KILL:when=1", "rename:signal=KILL:when=1", "fsync:signal=KILL:when=2"]
FRAME, CLOSE = "fdatasync:signal=KILL:when=1", "unlink:signal=KILL:when=5"


@needs_strace
@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        *(("unchanged", rule) for rule in (*DOCUMENT, FRAME, CLOSE)),
        *(("refused", rule) for rule in (FRAME, CLOSE)),
        *(("renewed", rule) for rule in ("rename:signal=KILL:when=2", FRAME, CLOSE)),
    ],
)
def test_after_a_kill_at_any_step_the_same_answer_ends_the_same(site: Site, kind: str, rule: str) -> None:
    shop = Shop(site)
    acquire(site, "till", seats=2)
    shop.until_due()
    shop.fail()
    request = shop.request()
    answer = ANSWERS[kind](shop, request)
    with injected(site, rule), pytest.raises((Unreachable, TimedOut)):
        shop.report(answer)
    site.start()
    plan = shop.plan()
    assert site.valid()
    if plan["last"]["outcome"] == kind:  # it had come in: what was cut off is completed
        assert outcome(shop, answer) == "already"
        assert not (site.state / "requests" / "acme.renewal.licd").exists()
    else:
        assert plan["last"]["outcome"] == "the network is down"
        assert shop.request().id == request.id
        assert outcome(shop, answer) == kind
    plan = shop.plan()
    assert (plan["last"]["outcome"], plan["failures"], plan["request"]) == (kind, 0, None)
    assert (plan["why"], plan["seq"]) == ("refused" if kind == "refused" else "not_due", 1 + (kind == "renewed"))
    again = shop.request()
    assert again.id != request.id
    assert again.usage.since == day(request.issued)  # nothing of the usage counts twice
    site.restart()
    assert {**shop.plan(), "request": None} == plan
    assert outcome(shop, answer) == "already"


@pytest.mark.parametrize("kind", ANSWERS)
def test_what_the_journal_lost_of_an_answer_is_made_up_for_at_the_next_start(site: Site, kind: str) -> None:
    # As a power cut leaves it after the document and before the frame: the files of after, the journal of before.
    shop = Shop(site)
    if kind == "unchanged":
        shop.report(shop.refusal(shop.request()))  # which it lifts
    shop.until_due()
    shop.fail()
    request = shop.request()
    site.stop()
    before = {name: (site.state / name).read_bytes() for name in ("journal", "requests/acme.renewal.licd")}
    site.start()
    answer = ANSWERS[kind](shop, request)
    assert outcome(shop, answer) == kind
    after = shop.plan()
    site.kill()
    for name, data in before.items():
        (site.state / name).write_bytes(data)
    site.start()
    plan = shop.plan()
    for ran in (plan, after):
        ran["last"].pop("at")  # by the clock of the journal
    ignored = {"next": None} if kind == "refused" else {}
    assert {**plan, **ignored} == {**after, **ignored}
    assert (plan["refused"] is not None) == (kind == "refused")
    assert not (site.state / "requests" / "acme.renewal.licd").exists()
    assert outcome(shop, answer) == "already"


def test_an_answer_of_before_does_not_undo_a_refusal_with_its_request(site: Site) -> None:
    shop = Shop(site)
    request = shop.request()
    kept = shutil.copytree(site.state / "requests", site.folder / "kept")
    unchanged = shop.unchanged(request)
    shop.report(unchanged)
    shutil.copy(site.state / "requests" / "acme.answer.licd", kept)
    site.elapse(DAY_S)
    shop.report(shop.refusal(shop.request()))
    site.stop()
    shutil.copytree(kept, site.state / "requests", dirs_exist_ok=True)
    site.start()
    assert shop.plan()["why"] == "refused"
    site.elapse(3 * DAY_S)
    assert not site.valid()


def test_a_request_that_could_not_be_closed_is_answered_once_all_the_same(site: Site) -> None:
    shop = Shop(site)
    request = shop.request()
    kept = site.state / "requests" / "acme.renewal.licd"
    held_back = shop.unchanged(request, issued=timestamp(site.now - 60))
    shop.report(shop.refusal(request))
    kept.write_bytes(request.text)
    assert refusal(site, "renewal.report", document=held_back).name == "ANOTHER_REQUEST"
    assert shop.plan()["request"] is None
    assert shop.request().id != request.id
    kept.write_bytes(request.text)
    site.restart()  # now it can
    assert not kept.exists()
    assert shop.plan()["why"] == "refused"


def test_an_answer_to_another_device_or_about_another_file_counts_for_nothing_in_the_state_folder(site: Site) -> None:
    document = ACME.license_file(1, issued=site.now, header={"renewal": REQUIRED})  # for any device
    site.call("license.import", document=document)
    request = verify_renewal_request(site.call("renewal.request")["document"].encode())
    (row,) = site.call("renewal.plan")["vendors"]
    site.elapse(20 * DAY_S)
    issued = timestamp(site.now)
    answers = {
        "of another device": ACME.unchanged(request, issued=issued, device="A" * 42 + "E"),
        "about another file": ACME.unchanged(request, issued=issued, file="file-2"),
        "about another seq": ACME.unchanged(request, issued=issued, seq=2),
        "of another vendor": UMBRA.unchanged(request, issued=issued, vendor="umbra"),
    }
    for name, answer in answers.items():
        (site.state / "requests" / "acme.answer.licd").write_bytes(answer)
        site.restart()
        (now,) = site.call("renewal.plan")["vendors"]
        assert now["due"] == row["due"], name


# --- disks ---------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_by_name_changes_nothing_and_the_licenses_go_on(folder: Path) -> None:
    (folder / "state").mkdir()
    with small_disk(folder / "state", "1m"), Site(folder) as site:
        shop = Shop(site.start())
        wait_until(lambda: (site.state / "journal.next").stat().st_size == 256 * 1024, "the spare file")
        request = shop.request()
        before, plan = site.files(), shop.plan()
        fill_up(site.state)
        for answer in (shop.unchanged(request), shop.file(request)):
            assert refusal(site, "renewal.report", document=answer).name == "STORAGE_FULL"
        assert shop.request().id == request.id  # what is there needs no space
        (site.state / "filling").unlink()
        assert (site.files(), shop.plan()) == (before, plan)
        fill_up(site.state)
        assert outcome(shop, shop.refusal(request)) == "refused"  # by the journal's record
        (site.state / "filling").unlink()
        assert "cannot be kept" in site.log
        site.restart()
        assert shop.plan()["why"] == "refused"
        assert outcome(shop, shop.unchanged(shop.request())) == "unchanged"
        fill_up(site.state)
        assert refusal(site, "renewal.request").name == "STORAGE_FULL"
        shop.until_due()  # goes on record without new space
        assert (shop.plan()["is_due"], site.valid()) == (True, True)
        assert shop.fail()["outcome"] == "noted"


def test_a_read_only_state_folder_takes_no_answer_and_goes_on_with_what_is_known(folder: Path) -> None:
    (folder / "state").mkdir()
    with small_disk(folder / "state", "2m"), Site(folder) as site:
        shop = Shop(site.start())
        request = shop.request()
        site.stop()
        before = site.files()
        remount_read_only(site.state)
        site.start()
        assert shop.request().id == request.id
        assert refusal(site, "renewal.report", document=shop.unchanged(request)).name == "STATE_NOT_WRITABLE"
        assert refusal(site, "renewal.report", vendor="acme", failure="x").name == "STATE_NOT_WRITABLE"
        assert shop.plan()["why"] == "not_due"
        shop.until_due()
        assert shop.plan()["is_due"] is True
        site.elapse(11 * DAY_S)
        assert shop.plan()["overdue"] == ["kso.camera", "kso.scales"]
        assert site.files() == before


def test_requests_and_answers_damaged_on_the_disk_count_for_nothing(site: Site) -> None:
    shop = Shop(site)
    due = shop.plan()["due"]
    site.elapse(20 * DAY_S)
    request = shop.request()
    kept = site.state / "requests" / "acme.renewal.licd"
    for damage in (
        b"",
        b"\xff" * 100,
        kept.read_bytes()[:-30],
        kept.read_bytes() * 2,
        site.files()["licenses/acme.licd"],
    ):
        kept.write_bytes(damage)
        assert shop.plan()["request"] is None
    again = shop.request()
    assert again.id != request.id
    shop.report(shop.unchanged(again))
    answer = site.state / "requests" / "acme.answer.licd"
    good = answer.read_bytes()
    for damage in (b"", b"\xff" * 100, good[:-30], good.replace(b"2026", b"2027"), good.replace(b"2027", b"2028")):
        answer.write_bytes(damage if damage != good else b"#")
        site.restart()
        assert shop.plan()["due"] == due
    answer.write_bytes(good)
    site.restart()
    assert shop.plan()["due"] != due


def test_a_device_without_its_key_cannot_ask(site: Site) -> None:
    shop = Shop(site)
    site.elapse(20 * DAY_S)
    shop.report(shop.unchanged(shop.request()))
    due = shop.plan()["due"]
    site.stop()
    (site.state / "device.key").write_bytes(b"damaged")
    site.boot()
    refused = refusal(site, "renewal.request")
    assert (refused.name, "is not a device key" in refused.message) == ("NO_DEVICE_KEY", True)
    assert shop.plan()["due"] == due  # the answer was to the key that the file is bound to
    assert shop.fail("NO_DEVICE_KEY")["outcome"] == "noted"
