"""Renewal over time in the real process: due, put off, warned of, overdue for one line alone, refused and stopped."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from licd.license.dates import day, end_of, later, timestamp
from tests.support.clients import acquire, journal_bytes, refusal, wait_until, warnings
from tests.support.process import comes_to_rest
from tests.support.renewing import DAY_S, HOUR_S, NONE, OPTIONAL, REQUIRED, Shop, seconds
from tests.support.site import ACME, NEEDS, UMBRA, Site

pytestmark = NEEDS

LINES = (
    {"name": "kso.scales", "seats": 3, "renewal": REQUIRED},
    {"name": "kso.camera", "license": "uncounted", "renewal": OPTIONAL},
    {"name": "kso.printer", "seats": 1, "renewal": NONE},
    {"name": "kso.scanner", "seats": 1, "renewal": {"need": "required", "every_days": 90, "grace_days": 0}},
)


@pytest.fixture
def shop(site: Site) -> Shop:
    """With one line of each need in force."""
    shop = Shop(site)
    shop.report(shop.file(shop.request(), 2, *LINES))
    return shop


def states(shop: Shop) -> dict[str, str]:
    return {row["license"].partition(".")[2]: row["state"] for row in shop.site.call("license.list")["licenses"]}


ALL_VALID = {"scales": "valid", "camera": "valid", "printer": "valid", "scanner": "valid"}


def reasons(shop: Shop, license: str = "kso.scales") -> list[str]:
    """What license.check warns of."""
    found: list[str] = shop.site.call("license.check", license=license)["warnings"]
    return found


# --- due, warned of, overdue ---------------------------------------------------------------------------------


def test_one_line_is_overdue_alone_after_its_grace_and_a_renewal_brings_it_back(shop: Shop) -> None:
    site = shop.site
    site.elapse(29 * DAY_S)
    assert shop.plan()["is_due"] is False
    shop.until_due()
    plan = shop.plan()
    assert (plan["need"], plan["why"], plan["is_due"]) == ("required", "due", True)
    assert abs(seconds(plan["hard_stop"]) - seconds(plan["due"]) - 10 * DAY_S) < 60
    site.elapse(5 * DAY_S - HOUR_S)
    assert (warnings(site), reasons(shop)) == ("", [])
    site.elapse(2 * HOUR_S)  # half of the grace is over
    assert "acme: RENEWAL_DUE: kso.scales must be renewed, or will stop on" in warnings(site)
    assert day(seconds(plan["hard_stop"])) in warnings(site)
    assert (reasons(shop), reasons(shop, "kso.camera")) == (["RENEWAL_DUE"], [])
    assert site.call("seat.acquire", license="kso.scales", holder="till")["warnings"] == ["RENEWAL_DUE"]
    shop.fail("no route to host")
    assert "no route to host" in warnings(site)
    site.elapse(5 * DAY_S - 2 * HOUR_S)
    assert states(shop) == ALL_VALID
    site.elapse(2 * HOUR_S)
    assert states(shop) == {**ALL_VALID, "scales": "renewal_overdue"}
    refused = refusal(site, "seat.acquire", license="kso.scales", holder="till-2")
    assert refused.name == "RENEWAL_OVERDUE"
    assert day(seconds(plan["hard_stop"])) in refused.message
    assert shop.plan()["overdue"] == ["kso.scales"]
    assert "acme: RENEWAL_OVERDUE: kso.scales stopped on" in warnings(site)
    assert len(re.findall("kso.scales has stopped", site.log)) == 1
    acquire(site, "till", "kso.camera")
    acquire(site, "till", "kso.printer")
    site.restart()
    assert states(shop) == {**ALL_VALID, "scales": "renewal_overdue"}
    shop.report(shop.unchanged(shop.request()))
    assert (states(shop), warnings(site), shop.plan()["overdue"]) == (ALL_VALID, "", [])
    acquire(site, "till-2")


def test_a_shorter_grace_than_three_days_is_three_days_of_running(shop: Shop) -> None:
    site = shop.site
    site.elapse(119 * DAY_S)
    shop.report(shop.unchanged(shop.request()))
    site.elapse(85 * DAY_S)
    shop.plan()
    site.elapse(35 * DAY_S + HOUR_S)
    assert shop.plan()["overdue"] == ["kso.scales"]  # the scanner's 90 to 120 days are over, not its 72 hours
    site.boot()
    shop.site.elapse(70 * HOUR_S)
    assert shop.plan()["overdue"] == ["kso.scales"]
    shop.site.elapse(3 * HOUR_S)
    assert shop.plan()["overdue"] == ["kso.scales", "kso.scanner"]
    assert states(shop) == {**ALL_VALID, "scales": "renewal_overdue", "scanner": "renewal_overdue"}


def off(site: Site, days: float) -> None:
    """The device is switched off for so long, and on again."""
    site.stop()
    site.elapse(days * DAY_S)
    site.boot()


def test_after_months_off_it_is_due_at_once_and_has_72_hours_of_running(shop: Shop) -> None:
    site = shop.site
    off(site, 200)
    plan = shop.plan()
    assert (plan["is_due"], plan["overdue"]) == (True, [])
    assert states(shop) == ALL_VALID
    if site.call("server.status")["clock"]["state"] != "ok":  # nothing confirms it here: uptime counts for a week
        site.elapse(7 * DAY_S)
    assert abs(seconds(shop.plan()["hard_stop"]) - site.now - 72 * HOUR_S) < 60
    site.elapse(30 * HOUR_S)
    off(site, 50)  # counts for nothing
    assert abs(seconds(shop.plan()["hard_stop"]) - site.now - 42 * HOUR_S) < 60
    site.elapse(30 * HOUR_S)
    shop.plan()
    site.boot(clean=False)
    site.elapse(11 * HOUR_S)
    assert states(shop) == ALL_VALID
    assert "RENEWAL_DUE" in warnings(site)
    site.elapse(2 * HOUR_S)
    assert shop.plan()["overdue"] == ["kso.scales", "kso.scanner"]
    assert states(shop)["camera"] == states(shop)["printer"] == "valid"


def test_a_clock_that_nothing_confirms_is_asked_about_once_and_takes_nothing_away(shop: Shop) -> None:
    site = shop.site
    site.stop()
    site.set_clock(300 * DAY_S)  # wrong, by a year
    site.boot()
    if site.call("server.status")["clock"]["state"] == "ok":
        pytest.skip("the kernel says that its clock is synchronized")
    plan = shop.plan()
    assert (plan["is_due"], plan["why"], plan["overdue"]) == (True, "due", [])
    shop.fail()
    assert shop.plan()["is_due"] is False
    site.elapse(2 * HOUR_S)
    assert shop.plan()["is_due"] is True
    shop.report(shop.unchanged(shop.request()))
    assert (shop.plan()["is_due"], shop.plan()["overdue"]) == (False, [])
    site.elapse(6 * DAY_S)
    assert shop.plan()["is_due"] is False
    assert states(shop) == ALL_VALID


def test_a_date_passes_in_a_process_that_nobody_asks(shop: Shop) -> None:
    site = shop.site
    shop.until_due()
    site.elapse(10 * DAY_S - 3)
    assert shop.plan()["overdue"] == []
    assert comes_to_rest(site.pid)
    wait_until(lambda: "kso.scales has stopped" in site.log, "the stop", 8.0)  # nobody called


def test_an_attempt_becomes_due_in_a_process_that_nobody_asks(shop: Shop) -> None:
    site = shop.site
    site.elapse(seconds(shop.plan()["due"]) - site.now - 2)
    assert shop.plan()["is_due"] is False
    assert comes_to_rest(site.pid)
    before = (site.state / "journal").read_bytes()
    wait_until(lambda: (site.state / "journal").read_bytes() != before, "its record", 8.0)
    assert shop.plan()["is_due"] is True


def test_becoming_due_is_on_record_once_and_survives_a_kill(shop: Shop) -> None:
    site = shop.site
    shop.until_due()
    used = journal_bytes(site)
    for _ in range(3):
        shop.plan()
    assert journal_bytes(site) == used
    site.elapse(9 * DAY_S)
    site.restart()
    site.elapse(25 * HOUR_S)
    assert shop.plan()["overdue"] == ["kso.scales"]  # the 72 hours did not begin again


def test_what_is_optional_or_need_not_be_renewed_goes_on_for_years(site: Site) -> None:
    shop = Shop(site, renewal=OPTIONAL)
    for _ in range(4):
        site.elapse(200 * DAY_S)
        assert shop.plan()["is_due"] is True
        shop.fail()
        assert (shop.plan()["hard_stop"], shop.plan()["overdue"], warnings(site)) == (None, [], "")
    site.restart()
    assert (site.valid(), shop.plan()["failures"]) == (True, 4)


# --- put off ------------------------------------------------------------------------------------------------


def test_failures_are_tried_again_after_two_hours_at_first_and_a_day_at_last(shop: Shop) -> None:
    shop.until_due()
    waits = []
    for _ in range(8):
        waits.append((seconds(shop.fail()["next"]) - shop.site.now) / HOUR_S)
        assert shop.plan()["is_due"] is False
        shop.site.elapse(waits[-1] * HOUR_S + 60)
        assert shop.plan()["is_due"] is True
    assert abs(waits[0] - 2) < 0.1
    assert all(1.4 * one < two <= 2.8 * one for one, two in itertools.pairwise(waits[:4]))
    assert all(17.9 < wait <= 24 for wait in waits[5:])


def test_a_new_file_or_an_unchanged_answer_ends_the_failures(shop: Shop) -> None:
    shop.until_due()
    for seq in (2, 3):
        shop.fail()
        shop.fail()
        request = shop.request()
        shop.report(shop.unchanged(request) if seq == 2 else shop.file(request, seq))
        plan = shop.plan()
        assert (plan["failures"], plan["why"]) == (0, "not_due")
        assert plan["next"] == plan["due"]


# --- refused ------------------------------------------------------------------------------------------------


def test_a_refusal_stops_the_file_after_its_day_and_no_sooner(shop: Shop) -> None:
    site = shop.site
    stops = later(day(site.now), 3)
    told = shop.report(shop.refusal(shop.request(), reason="The order was ended.", stops=stops))
    assert told["refusal"] == {"reason": "The order was ended.", "stops": stops}
    assert 0.7 * DAY_S < seconds(told["next"]) - site.now <= DAY_S + 60
    assert (states(shop), shop.plan()["why"]) == (ALL_VALID, "refused")
    refused_by = "acme: RENEWAL_REFUSED: the vendor refused to renew the licenses: The order was ended; "
    assert f"{refused_by}the licenses go on until {stops}" in warnings(site)
    assert reasons(shop, "kso.printer") == ["RENEWAL_DUE"]
    site.elapse(end_of(stops) - site.now - 60)
    assert (states(shop), shop.plan()["is_due"]) == (ALL_VALID, True)
    site.elapse(120)
    assert set(states(shop).values()) == {"refused"}
    refused = refusal(site, "seat.acquire", license="kso.printer", holder="till")
    assert (refused.name, "The order was ended." in refused.message) == ("RENEWAL_REFUSED", True)
    assert f"the licenses stopped after {stops}" in warnings(site)


def test_a_later_refusal_does_not_put_off_what_an_earlier_one_stops(shop: Shop) -> None:
    site = shop.site
    first = later(day(site.now), 2)
    shop.report(shop.refusal(shop.request(), stops=first))
    site.elapse(DAY_S)
    told = shop.report(shop.refusal(shop.request(), stops=later(day(site.now), 5), reason="Still not paid."))
    assert told["refusal"] == {"reason": "Still not paid.", "stops": first}
    site.restart()  # the document names the later day
    assert shop.plan()["refused"] == told["refusal"]
    site.elapse(end_of(first) - site.now + 60)
    assert set(states(shop).values()) == {"refused"}
    shop.report(shop.refusal(shop.request(), stops=later(day(site.now), 5)))
    assert set(states(shop).values()) == {"refused"}
    sooner = shop.report(shop.unchanged(shop.request()))
    assert (sooner["refusal"], states(shop)) == (None, ALL_VALID)


@pytest.mark.parametrize("lost", ["requests/acme.answer.licd", "journal"])
def test_removing_the_refusal_or_its_record_lifts_nothing(shop: Shop, lost: str) -> None:
    site = shop.site
    unchanged = shop.unchanged(shop.request())
    shop.report(unchanged)
    shop.report(shop.refusal(shop.request()))
    site.stop()
    (site.state / lost).unlink()
    if lost != "journal":
        (site.state / lost).with_suffix(".licd").write_bytes(unchanged)  # of before
    site.boot()
    assert shop.plan()["refused"]["reason"] == "The order was suspended: not paid."
    site.elapse(3 * DAY_S)
    assert set(states(shop).values()) == {"refused"}
    site.restart()
    assert set(states(shop).values()) == {"refused"}


def test_the_same_file_imported_again_lifts_no_refusal(shop: Shop) -> None:
    site = shop.site
    file = site.state / "licenses" / "acme.licd"
    text = file.read_bytes()
    shop.report(shop.refusal(shop.request()))
    site.elapse(3 * DAY_S)
    for restart in (False, True):
        (site.state / "requests" / "acme.answer.licd").unlink(missing_ok=True)
        file.unlink()
        if restart:
            site.restart()
        assert site.call("license.import", document=text)["files"][0]["in_force"] == "new"
        assert set(states(shop).values()) == {"refused"}


def test_an_unchanged_answer_or_a_new_file_lifts_a_refusal(shop: Shop) -> None:
    site = shop.site
    for answer in (shop.unchanged, lambda request: shop.file(request, 3, *LINES)):
        shop.report(shop.refusal(shop.request()))
        site.elapse(3 * DAY_S)
        assert set(states(shop).values()) == {"refused"}
        assert shop.report(answer(shop.request()))["refusal"] is None
        assert (states(shop), warnings(site), shop.plan()["refused"]) == (ALL_VALID, "", None)
        site.restart()
        assert (states(shop), warnings(site), shop.plan()["refused"]) == (ALL_VALID, "", None)


def test_of_two_vendors_only_the_one_that_refused_stops(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start()
        acme, umbra = Shop(site), Shop(site, UMBRA)
        umbra.report(umbra.refusal(umbra.request()))
        site.elapse(3 * DAY_S)
        assert (site.valid("kso.scales"), site.valid("umb.pos")) == (True, False)
        acme.until_due()
        site.elapse(11 * DAY_S)
        assert acme.plan()["overdue"] == ["kso.camera", "kso.scales"]
        assert umbra.plan()["overdue"] == []


# --- the clock ----------------------------------------------------------------------------------------------


def test_one_vendors_answer_lowers_no_clock_that_another_vendors_licenses_are_judged_by(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start()
        acme, umbra = Shop(site), Shop(site, UMBRA)
        right = site.now
        for shop, said, then in ((umbra, 200, 0), (acme, 100, 100)):  # days ago; both: as far as both of them say
            shop.report(shop.unchanged(shop.request(), issued=timestamp(right - said * DAY_S)))
            trusted = seconds(site.call("server.status")["clock"]["trusted"])
            assert trusted == pytest.approx(right - then * DAY_S, abs=60)


def test_an_answer_to_a_request_of_this_process_corrects_a_clock_that_is_ahead(shop: Shop) -> None:
    site = shop.site
    before = shop.request()
    site.set_clock(60 * DAY_S)
    site.stop()
    site.start()
    if site.call("server.status")["clock"]["state"] == "ok":
        pytest.skip("the kernel says that its clock is synchronized")
    site.elapse(8 * DAY_S)  # the days without a confirmation are used up: the clock counts
    assert site.call("server.status")["clock"]["state"] == "ahead-spent"
    assert shop.plan()["is_due"] is True
    request = shop.request()
    assert request.id != before.id  # the answer to a request of an earlier process could not correct the clock
    assert shop.request().id == request.id
    shop.report(shop.unchanged(request))
    clock = site.call("server.status")["clock"]
    assert abs(seconds(clock["trusted"]) - site.now) < 120
    plan = shop.plan()
    assert (plan["why"], plan["overdue"]) == ("not_due", [])
    assert seconds(plan["next"]) > site.now + 29 * DAY_S


# --- what is shown ------------------------------------------------------------------------------------------


def test_the_summary_line_tells_when_the_next_renewal_is_due(site: Site) -> None:
    shop = Shop(site)
    due: dict[str, Any] = shop.plan()
    site.restart()
    wait_until(lambda: f"; renewal due {due['next'][:10]}" in site.log, "the line of the start")
    assert f"; renewal due {due['next'][:10]}" in site.wait_for("STATUS=")
