"""renewal.* of the real process: what is due, the request, each answer; bad input first, and each answer once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from licd.license.dates import day, timestamp
from licd.license.install import verify_license_request
from tests.support import pki
from tests.support.clients import acquire, refusal, warnings
from tests.support.renewing import DAY_S, NONE, OPTIONAL, Shop, seconds
from tests.support.site import ACME, NEEDS, UMBRA, Asked, Site, edited

pytestmark = NEEDS

STRANGER = pki.Vendor("umbra", ("umb.*",), root={"subject": "another root"})
OTHER_KEY = "A" * 42 + "E"
LESS = ({"name": "kso.scales", "seats": 2}, {"name": "kso.camera", "license": "uncounted"})


@pytest.fixture
def shop(site: Site) -> Shop:
    return Shop(site)


# --- what is refused -----------------------------------------------------------------------------------------

WRONG_CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a request of nobody": ("renewal.request", {"vendor": "nobody"}, "NOT_IN_FORCE"),
    "a report of nothing": ("renewal.report", {}, "BAD_PARAMS"),
    "a report of a vendor only": ("renewal.report", {"vendor": "acme"}, "BAD_PARAMS"),
    "a report of both": ("renewal.report", {"vendor": "acme", "document": b"{}", "failure": "x"}, "BAD_PARAMS"),
    "a failure of no vendor": ("renewal.report", {"failure": "x"}, "BAD_PARAMS"),
    "a failure of nobody": ("renewal.report", {"vendor": "nobody", "failure": "x"}, "NOT_IN_FORCE"),
    "a failure of two lines": ("renewal.report", {"vendor": "acme", "failure": "a\nb"}, "BAD_PARAMS"),
    "a document put off": ("renewal.report", {"document": b"{}", "retry_after": 5}, "BAD_PARAMS"),
    "an empty document": ("renewal.report", {"document": b""}, "DAMAGED_DOCUMENT"),
    "a portal's page": ("renewal.report", {"document": b"<html>Please log in</html>"}, "DAMAGED_DOCUMENT"),
    "a document too large": ("renewal.report", {"document": b"#" * (2**20 + 1)}, "DOCUMENT_TOO_LARGE"),
}  # fmt: skip


def test_wrong_calls_are_refused_by_name_and_change_nothing(shop: Shop) -> None:
    shop.request()
    before, plan = shop.site.files(), shop.plan()
    for name, (method, params, error) in WRONG_CALLS.items():
        assert refusal(shop.site, method, **params).name == error, name
    assert (shop.site.files(), shop.plan()) == (before, plan)


def _answers(shop: Shop) -> dict[str, tuple[str, Callable[[], bytes]]]:
    request = shop.request()
    spent = shop.unchanged(request, issued=timestamp(shop.site.now - 60))
    shop.report(spent)
    before = request
    request = shop.request()
    good = shop.unchanged(request)
    later = timestamp(shop.site.now + 2 * DAY_S)
    unbound = ACME.license_file(2, issued=shop.site.now, header={"request": "another"})
    return {
        "older than what came in": (
            "ANOTHER_REQUEST", lambda: shop.refusal(before, issued=timestamp(shop.site.now - 3600)),
        ),
        "that answers a request of no signature": (
            "ANOTHER_REQUEST", lambda: shop.unchanged(request._replace(id=request.id[:16] + "0" * 16)),
        ),
        "that answers another request": ("ANOTHER_REQUEST", lambda: shop.unchanged(request._replace(id="another"))),
        "of another device": ("ANOTHER_REQUEST", lambda: shop.unchanged(request, device=OTHER_KEY)),
        "about another file": ("ANOTHER_REQUEST", lambda: shop.unchanged(request, file="file-2")),
        "about another seq": ("ANOTHER_REQUEST", lambda: shop.unchanged(request, seq=2)),
        "of a stranger": ("UNTRUSTED_SIGNER", lambda: STRANGER.unchanged(request, vendor="umbra")),
        "of a stranger in the vendor's name": ("UNTRUSTED_SIGNER", lambda: STRANGER.unchanged(request, vendor="acme")),
        "changed on the way": ("BAD_SIGNATURE", lambda: edited(good, b'"seq":1', b'"seq":2')),
        "that refuses from today": (
            "BAD_DOCUMENT", lambda: shop.refusal(request, stops=day(shop.site.now)),
        ),
        "that refuses without a reason": ("BAD_DOCUMENT", lambda: shop.refusal(request, reason="")),
        "issued the day after tomorrow": ("ISSUED_IN_FUTURE", lambda: shop.unchanged(request, issued=later)),
        "and a second one": ("BAD_DOCUMENT", lambda: good + shop.refusal(request)),
        "and a license file": ("BAD_DOCUMENT", lambda: good + shop.file(request)),
        "behind a license file": ("WRONG_DOCUMENT", lambda: shop.file(request) + good),
        "that is an install request": ("WRONG_DOCUMENT", lambda: shop.asked.document),
        "that is the request itself": ("WRONG_DOCUMENT", lambda: request.text),
        "that is a withdrawn list only": ("WRONG_DOCUMENT", ACME.withdrawn),
        "with a file for another device": (
            "WRONG_DEVICE", lambda: shop.asked.file(request, 2, device={"key": OTHER_KEY}),
        ),
        "with a file for other hardware": (
            "WRONG_DEVICE", lambda: shop.asked.file(request, 2, device={"fingerprint": {"disk": ["ffffff"]}}),
        ),
        "with another file of the same seq": ("SEQ_CONFLICT", lambda: shop.file(request, 1)),
        "with a file for any device that it did not ask for": ("ANOTHER_REQUEST", lambda: unbound),
        "with a file for any device that answers nothing": (
            "ANOTHER_REQUEST", lambda: ACME.license_file(2, issued=shop.site.now),
        ),
        "with a line of another vendor's names": (
            "FOREIGN_NAME", lambda: shop.file(request, 2, {"name": "umb.pos", "seats": 1}),
        ),
    }  # fmt: skip


def test_answers_that_are_not_to_the_open_request_are_refused_and_change_nothing(shop: Shop) -> None:
    answers = _answers(shop)
    before, plan = shop.site.files(), shop.plan()
    for name, (error, make) in answers.items():
        assert refusal(shop.site, "renewal.report", document=make()).name == error, name
    assert (shop.site.files(), shop.plan()) == (before, plan)
    request = shop.request()
    assert request.text == before["requests/acme.renewal.licd"]  # it is still open
    assert shop.report(shop.unchanged(request))["outcome"] == "unchanged"


def test_a_courier_cannot_install_licenses_where_none_are_in_force(site: Site) -> None:
    asked = site.ask(Asked())
    document = asked.file(site.request())
    assert refusal(site, "renewal.report", document=document).name == "NOT_IN_FORCE"
    unbound = ACME.license_file(1, issued=site.now)
    assert refusal(site, "renewal.report", document=unbound).name == "NOT_IN_FORCE"
    assert site.call("license.list")["licenses"] == []


def test_an_answer_named_for_another_vendor_is_refused(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start()
        acme, umbra = Shop(site), Shop(site, UMBRA)
        answer = umbra.unchanged(umbra.request())
        assert refusal(site, "renewal.report", document=answer, vendor="acme").name == "UNTRUSTED_SIGNER"
        assert refusal(site, "renewal.request").name == "BAD_PARAMS"  # there are two
        assert umbra.report(answer, vendor="umbra")["outcome"] == "unchanged"
        assert acme.plan()["last"] is None
        assert acme.report(acme.refusal(acme.request()))["outcome"] == "refused"
        assert (acme.plan()["why"], umbra.plan()["why"]) == ("refused", "not_due")
        site.restart()
        assert (acme.plan()["why"], umbra.plan()["why"]) == ("refused", "not_due")
        assert umbra.plan()["last"]["outcome"] == "unchanged"


# --- the plan ------------------------------------------------------------------------------------------------


def test_the_plan_says_of_each_profile_what_is_due_and_why(folder: Path) -> None:
    with Site(folder, vendors=()) as site:
        ACME.write_profile(site.vendors, url="https://licenses.acme.example", ca=Path("/etc/acme.pem"))
        UMBRA.write_profile(site.vendors)
        shop = Shop(site.start())
        issued = seconds(shop.plan()["issued"])
        acme, umbra = site.call("renewal.plan")["vendors"]
        due = seconds(acme["due"])
        assert issued + 30 * DAY_S <= due <= issued + 40 * DAY_S
        assert acme == {
            "vendor": "acme",
            "url": "https://licenses.acme.example",
            "ca": "/etc/acme.pem",
            "in_force": True,
            "seq": 1,
            "need": "required",
            "issued": timestamp(issued),
            "due": timestamp(due),
            "next": timestamp(due),
            "is_due": False,
            "why": "not_due",
            "failures": 0,
            "last": None,
            "hard_stop": timestamp(due + 10 * DAY_S),
            "overdue": [],
            "refused": None,
            "request": None,
        }
        nothing = {"need": "none", "why": "never", "is_due": False, "in_force": False, "failures": 0, "overdue": []}
        assert umbra == dict.fromkeys(acme) | {"vendor": "umbra"} | nothing
        assert shop.request().id == shop.plan()["request"]
        for row in site.call("server.status")["vendors"]:
            assert row["ca"] == {"acme": "/etc/acme.pem", "umbra": None}[row["vendor"]]


@pytest.mark.parametrize(("renewal", "why"), [(NONE, "never"), (OPTIONAL, "not_due")])
def test_what_need_not_be_renewed_has_no_hard_stop(site: Site, renewal: dict[str, Any], why: str) -> None:
    plan = Shop(site, renewal=renewal).plan()
    assert (plan["need"], plan["why"], plan["hard_stop"]) == (renewal["need"], why, None)
    assert (plan["due"] is None) == (why == "never")


# --- the request ---------------------------------------------------------------------------------------------


def test_the_request_holds_the_file_in_force_and_this_device(shop: Shop) -> None:
    file = shop.site.files()["licenses/acme.licd"]
    request = shop.request()
    license_request = verify_license_request(shop.site.files()["requests/acme.request.licd"])
    assert request.license_file == file
    assert (request.vendor, request.file, request.seq) == ("acme", "file-1", 1)
    assert (request.device, request.fingerprint) == (license_request.device, license_request.fingerprint)
    assert abs(request.issued - shop.site.now) < 60
    assert request.text == shop.site.files()["requests/acme.renewal.licd"]


def test_the_largest_license_file_travels_whole_in_a_request_and_back(shop: Shop) -> None:
    lines = [{"name": f"kso.n{n}", "title": "x" * 40} for n in range(1850)]
    document = shop.file(shop.request(), 2, *lines)
    assert 900_000 < len(document) < 2**20
    assert shop.report(document)["outcome"] == "renewed"
    request = shop.request()
    assert request.license_file == document
    assert shop.report(shop.unchanged(request))["outcome"] == "unchanged"


def test_the_request_of_a_file_for_any_device_tells_nothing_of_the_hardware(site: Site) -> None:
    site.call("license.import", document=ACME.license_file(1, issued=site.now, header={"renewal": OPTIONAL}))
    answer = site.call("renewal.request")
    assert b'"fingerprint":{},"unreadable":[]' in answer["document"].encode()
    shop = Shop(site, asked=Asked())
    request = shop.request()
    renewed = ACME.license_file(2, issued=site.now, header={"request": request.id, "renewal": OPTIONAL})
    assert shop.report(renewed)["outcome"] == "renewed"


def test_the_request_is_the_same_until_it_is_answered_or_no_longer_true(shop: Shop) -> None:
    site = shop.site
    first = site.call("renewal.request")
    assert first["new"] is True
    assert site.call("renewal.request") == {**first, "new": False}
    site.restart()
    assert site.call("renewal.request") == {**first, "new": False}
    site.boot("server: disks swapped")  # other disks: another fingerprint
    second = site.call("renewal.request")
    assert (second["new"], second["id"] != first["id"]) == (True, True)
    shop.report(shop.unchanged(shop.request()))
    third = site.call("renewal.request")
    assert third["new"] is True
    site.call("license.import", document=shop.file(shop.request(), 2, request=None))
    fourth = site.call("renewal.request")
    assert (fourth["new"], fourth["seq"]) == (True, 2)


def test_a_changed_device_and_a_copy_may_ask_and_the_vendor_decides(shop: Shop) -> None:
    shop.site.boot("kiosk")  # nothing of it is the same
    assert shop.site.standing() == "copy"
    request = shop.request()
    assert shop.report(shop.file(request))["outcome"] == "renewed"
    assert (shop.site.standing(), shop.site.valid()) == ("same", True)


def test_the_request_tells_the_peaks_of_the_vendors_licenses_since_the_one_answered_last(folder: Path) -> None:
    with Site(folder, vendors=(ACME, UMBRA)) as site:
        site.start()
        shop, umbra = Shop(site), Shop(site, UMBRA)
        acquire(site, "till", seats=2)
        lease = acquire(site, "till", "umb.pos")
        today = day(site.now)
        request = shop.request()
        assert (request.usage.since, request.usage.peaks) == (today, {"kso.scales": [2]})
        assert umbra.request().usage.peaks == {"umb.pos": [1]}
        shop.report(shop.unchanged(request))
        site.call("seat.release", lease=lease)
        site.elapse(2 * DAY_S)
        acquire(site, "till", seats=3)
        site.restart()
        request = shop.request()
        assert (request.usage.since, request.usage.peaks) == (today, {"kso.scales": [2, 0, 3]})
        shop.report(shop.file(request))
        acquire(site, "till", seats=3)
        request = shop.request()
        assert (request.usage.since, request.usage.peaks) == (day(site.now), {"kso.scales": [3]})


# --- the answers ---------------------------------------------------------------------------------------------


def test_unchanged_puts_the_next_attempt_off_from_when_it_was_signed_and_once(shop: Shop) -> None:
    due = seconds(shop.plan()["due"])
    shop.site.elapse(20 * DAY_S)
    answer = shop.unchanged(shop.request())
    told = shop.report(answer)
    assert (told["vendor"], told["outcome"], told["files"]) == ("acme", "unchanged", [])
    assert abs(seconds(told["next"]) - due - 20 * DAY_S) < 60
    plan = shop.plan()
    assert (plan["why"], plan["last"]["outcome"], plan["next"]) == ("not_due", "unchanged", told["next"])
    shop.site.elapse(5 * DAY_S)
    assert shop.report(answer) == {**told, "outcome": "already"}
    shop.site.restart()
    assert shop.report(answer) == {**told, "outcome": "already"}
    assert shop.plan()["next"] == told["next"]
    (shop.site.state / "requests" / "acme.answer.licd").unlink()
    shop.site.restart()
    assert abs(seconds(shop.plan()["due"]) - due) < 60  # only the signed document extends
    assert shop.report(answer) == told  # and it can come in again
    assert shop.plan()["next"] == told["next"]


def test_a_new_file_comes_in_as_by_an_import_and_once(shop: Shop) -> None:
    shop.fail()
    document = shop.file(shop.request())
    told = shop.report(document)
    assert (told["outcome"], told["others"], told["refusal"], told["withdrawn"]) == ("renewed", 0, None, None)
    (file,) = told["files"]
    assert (file["vendor"], file["seq"], file["in_force"]) == ("acme", 2, "new")
    assert [(change["license"], change["change"]) for change in file["changes"]] == [
        ("kso.camera", "same"),
        ("kso.scales", "same"),
    ]
    plan = shop.plan()
    assert (plan["seq"], plan["failures"], plan["request"]) == (2, 0, None)
    assert plan["last"]["outcome"] == "renewed"
    again = shop.report(document)
    assert (again["outcome"], again["files"][0]["in_force"]) == ("already", "already")
    assert warnings(shop.site) == ""


def test_the_newest_file_of_this_device_is_taken_whichever_request_it_answered(shop: Shop) -> None:
    lost = shop.file(shop.request(), 2)  # the answer that never arrived
    shop.site.boot("server: disks swapped")
    request = shop.request()
    assert request.id.encode() not in lost
    assert shop.report(lost)["outcome"] == "renewed"
    older = shop.file(request, 1)
    assert refusal(shop.site, "renewal.report", document=older).name == "OLDER_FILE"


def test_an_administrator_may_import_the_file_that_answers_a_renewal_request(shop: Shop) -> None:
    acquire(shop.site, "till")
    request = shop.request()
    answer = shop.site.call("license.import", document=shop.file(request))
    assert answer["files"][0]["in_force"] == "new"
    assert shop.plan()["last"]["outcome"] == "renewed"
    assert not (shop.site.state / "requests" / "acme.renewal.licd").exists()
    document = shop.unchanged(shop.request())
    assert refusal(shop.site, "license.import", document=document).name == "WRONG_DOCUMENT"


def test_a_renewal_that_grants_less_is_loud_for_two_weeks(shop: Shop) -> None:
    told = shop.report(shop.file(shop.request(), 2, *LESS))
    assert [change["license"] for change in told["files"][0]["changes"] if change["less"]] == ["kso.scales"]
    assert "the renewal of acme grants less than before: kso.scales" in shop.site.log
    assert "grants less than before: kso.scales" in warnings(shop.site)
    shop.fail()
    shop.site.restart()
    shop.site.elapse(13 * DAY_S)
    assert "grants less than before: kso.scales" in warnings(shop.site)
    shop.site.elapse(2 * DAY_S)
    assert warnings(shop.site) == ""


def test_a_failure_moves_the_next_attempt_only(shop: Shop) -> None:
    shop.until_due()
    now = shop.site.now
    assert (shop.plan()["why"], shop.plan()["is_due"]) == ("due", True)
    told = shop.fail("the vendor's server answers 500")
    assert (told["outcome"], told["files"]) == ("noted", [])
    assert abs(seconds(told["next"]) - now - 2 * 3600) < 120
    plan = shop.plan()
    assert (plan["why"], plan["is_due"], plan["failures"]) == ("failed", False, 1)
    assert plan["last"] == {"at": plan["last"]["at"], "outcome": "the vendor's server answers 500"}
    shop.site.restart()
    assert shop.plan() == plan
    assert seconds(shop.fail()["next"]) > seconds(told["next"]) + 3600
    assert abs(seconds(shop.fail(retry_after=3 * 86400)["next"]) - now - 3 * DAY_S) < 300
    assert seconds(shop.fail(retry_after=2**31)["next"]) < seconds(shop.plan()["hard_stop"])
    assert shop.site.valid()
