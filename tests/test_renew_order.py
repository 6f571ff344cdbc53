"""Which answer of the vendor came last its own stamps say: held back, late, lost, repeated, in the real process."""

from __future__ import annotations

import os

import pytest

from licd.license.dates import day, later, timestamp
from tests.support.clients import refusal
from tests.support.renewing import DAY_S, OPTIONAL, REQUIRED, Shop
from tests.support.site import NEEDS, Site

pytestmark = NEEDS


@pytest.fixture
def shop(site: Site) -> Shop:
    return Shop(site, renewal=OPTIONAL)


def test_an_unchanged_answer_held_back_since_before_a_refusal_lifts_nothing(shop: Shop) -> None:
    site = shop.site
    request = shop.request()
    held_back = shop.unchanged(request)
    site.elapse(DAY_S)
    shop.report(shop.refusal(request))
    site.stop()
    (site.state / "requests" / "acme.answer.licd").write_bytes(held_back)
    (site.state / "requests" / "acme.renewal.licd").write_bytes(request.text)
    site.start()
    assert shop.report(held_back)["outcome"] == "already"
    (site.state / "requests" / "acme.answer.licd").unlink()
    site.restart()
    assert refusal(site, "renewal.report", document=held_back).name == "ANOTHER_REQUEST"
    site.elapse(3 * DAY_S)
    assert (shop.plan()["why"], site.valid()) == ("refused", False)


def test_a_license_file_held_back_since_before_a_refusal_lifts_nothing(shop: Shop) -> None:
    site = shop.site
    request = shop.request()
    held_back = shop.file(request, 2)
    site.elapse(DAY_S)
    shop.report(shop.refusal(request))
    assert shop.report(held_back)["refusal"]["reason"] == "The order was suspended: not paid."
    site.restart()
    site.elapse(3 * DAY_S)
    assert (shop.plan()["seq"], shop.plan()["why"], site.valid()) == (2, "refused", False)
    assert shop.report(shop.file(shop.request(), 3))["refusal"] is None
    assert site.valid()


def test_a_request_exported_on_monday_is_answered_on_friday_whatever_was_asked_between(shop: Shop) -> None:
    site = shop.site
    exported = shop.request()
    site.on("server: disks swapped")
    assert shop.request().id != exported.id
    site.boot("server")
    shop.request()
    site.elapse(4 * DAY_S)
    answer = shop.unchanged(exported)
    assert shop.report(answer)["outcome"] == "unchanged"
    assert (shop.plan()["request"], shop.report(answer)["outcome"]) == (None, "already")


def test_an_answer_to_a_request_made_since_is_the_newest_whatever_the_vendors_clock_says(shop: Shop) -> None:
    site = shop.site
    shop.report(shop.refusal(shop.request(), issued=timestamp(site.now + 3600), stops=later(day(site.now), 2)))
    behind = shop.unchanged(shop.request())
    assert shop.report(behind)["outcome"] == "unchanged"
    assert (shop.plan()["why"], site.valid()) == ("not_due", True)


def test_a_new_request_is_made_where_the_answer_to_the_open_one_is_too_old(shop: Shop) -> None:
    site = shop.site
    shop.report(shop.unchanged(shop.request(), issued=timestamp(site.now + 3600)))
    request = shop.request()
    site.restart()
    assert shop.request().id == request.id
    assert refusal(site, "renewal.report", document=shop.unchanged(request)).name == "ANOTHER_REQUEST"
    shop.fail("ANOTHER_REQUEST")
    fresh = shop.request()
    assert fresh.id != request.id
    assert shop.report(shop.unchanged(fresh))["outcome"] == "unchanged"


def test_the_file_in_force_in_answer_to_a_renewal_that_is_due_is_a_failure(shop: Shop) -> None:
    text = shop.site.call("license.export")["document"].encode()
    assert shop.report(text)["outcome"] == "already"
    assert shop.plan()["failures"] == 0
    shop.until_due()
    assert shop.report(text)["outcome"] == "already"
    plan = shop.plan()
    assert (plan["is_due"], plan["failures"]) == (False, 1)
    assert plan["last"]["outcome"] == "the vendor sent the file in force again"


def test_a_refusal_that_cannot_be_stored_counts_all_the_same(shop: Shop) -> None:
    site = shop.site
    request = shop.request()
    (site.state / "requests" / "acme.answer.licd").mkdir()
    assert shop.report(shop.refusal(request))["outcome"] == "refused"
    site.restart()
    plan = shop.plan()
    assert plan["why"] == "refused"
    assert plan["hard_stop"][:10] == later(plan["refused"]["stops"], 1)
    site.elapse(3 * DAY_S)
    assert not site.valid()


def test_lines_that_are_over_are_no_part_of_the_plan(shop: Shop) -> None:
    site = shop.site
    trial = {
        "name": "kso.camera",
        "seats": 1,
        "expires": day(site.now + 5 * DAY_S),
        "renewal": {**REQUIRED, "every_days": 1},
    }
    shop.report(shop.file(shop.request(), 2, trial, {"name": "kso.scales", "seats": 3}, renewal=OPTIONAL))
    assert shop.plan()["hard_stop"] is not None
    site.elapse(8 * DAY_S)
    plan = shop.plan()
    assert (plan["need"], plan["hard_stop"], plan["is_due"]) == ("optional", None, False)


def test_usage_goes_on_being_told_after_a_clock_that_was_years_ahead(shop: Shop) -> None:
    site = shop.site
    today = day(site.now)
    site.set_clock(3000 * DAY_S)
    site.boot()
    request = shop.request()
    site.set_clock(0)
    shop.report(shop.unchanged(request, issued=timestamp(site.now)))
    site.call("seat.acquire", license="kso.scales", holder="till")
    usage = shop.request().usage
    assert usage.since is not None
    assert usage.since <= today
    assert os.path.exists(site.state / "requests" / "acme.renewal.licd")
