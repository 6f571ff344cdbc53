"""What lines are worth at a time: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given

from licd.license import terms
from licd.license.lines import Renewal
from licd.license.terms import Standing, Verdict, evaluate
from licd.rpc.errors import LICENSE_EXPIRED, LICENSE_NOT_YET_VALID, VERSION_NOT_COVERED, WRONG_DEVICE
from tests.support import pki
from tests.support.judging import NOW, any_lines, at, file

DAY = pki.DAY


def judge(*lines: Mapping[str, Any], now: float = NOW, name: str = "kso.scales") -> Verdict:
    return evaluate([file(*lines)], now).names[name]


# --- terms of one line ----------------------------------------------------------------------------------------


def states(line: Mapping[str, Any], *moments: str) -> list[str]:
    return [judge(line, now=at(moment)).state for moment in moments]


def test_expires_holds_through_the_end_of_that_day_everywhere_on_earth() -> None:
    line = {"expires": "2026-06-15"}
    assert states(line, "2026-06-15T23:59:59", "2026-06-16T11:59:59", "2026-06-16T12:00:00") == [
        "valid",
        "valid",
        "expired",
    ]


def test_grace_counts_from_the_end_and_lasts_its_days() -> None:
    line = {"expires": "2026-06-15", "grace_days": 2, "seats": 4}
    assert states(line, "2026-06-16T11:59:59", "2026-06-16T12:00:00", "2026-06-18T11:59:59", "2026-06-18T12:00:00") == [
        "valid",
        "grace",
        "grace",
        "expired",
    ]
    verdict = judge(line, now=at("2026-06-17T00:00:00"))
    assert (verdict.total, verdict.expires, verdict.grace_until) == (4, "2026-06-15", "2026-06-17")
    assert verdict.refusal(None) is None


def test_not_before_begins_when_that_day_begins_first_on_earth() -> None:
    line = {"not_before": "2026-06-15"}
    assert states(line, "2026-06-14T09:59:59", "2026-06-14T10:00:00") == ["not_yet_valid", "valid"]


def test_a_perpetual_line_is_valid_at_any_time() -> None:
    assert states({}, "2000-01-01T00:00:00", "9998-12-31T00:00:00") == ["valid", "valid"]
    assert evaluate([file({})], NOW).next_change is None


def test_the_last_date_with_the_longest_grace_has_a_day_to_show() -> None:
    line = {"expires": "9998-12-31", "grace_days": 365}
    assert judge(line, now=at("9999-06-01T00:00:00")).grace_until == "9999-12-31"


# --- lines of one name add up ---------------------------------------------------------------------------------


def test_lines_of_one_name_add_up() -> None:
    verdict = judge({"seats": 3, "versions": "5.*"}, {"seats": 4}, {"name": "kso.other", "seats": 100})
    assert (verdict.total, verdict.license, verdict.vendor) == (7, "counted", "acme")
    assert [(str(versions), seats) for versions, seats in verdict.grants] == [("5.*", 3), ("None", 4)]


def test_only_lines_that_count_now_add_up() -> None:
    lines = (
        {"seats": 1},
        {"seats": 10, "expires": "2026-06-01", "grace_days": 30},
        {"seats": 100, "expires": "2026-06-01"},
        {"seats": 1000, "not_before": "2026-07-01"},
        {"seats": 10000, "id": "old"},
        {"seats": 100000, "replaces": "old"},
    )
    verdict = judge(*lines)
    assert verdict.total == 100011
    assert [state for _, state in verdict.lines] == ["valid", "grace", "expired", "not_yet_valid", "replaced", "valid"]
    assert verdict.state == "valid"


def test_an_uncounted_line_that_counts_makes_the_pool_unlimited() -> None:
    verdict = judge({"seats": 3}, {"license": "uncounted"})
    assert (verdict.total, verdict.license) == (None, "uncounted")


def test_an_uncounted_line_in_grace_beside_a_valid_counted_one_is_unlimited_still() -> None:
    verdict = judge({"seats": 3}, {"license": "uncounted", "expires": "2026-06-10", "grace_days": 30})
    assert (verdict.total, verdict.license, verdict.state) == (None, "uncounted", "valid")


def test_an_uncounted_line_that_does_not_count_leaves_the_counted_ones() -> None:
    verdict = judge({"seats": 3}, {"license": "uncounted", "expires": "2026-01-01"})
    assert (verdict.total, verdict.license) == (3, "counted")


def test_nothing_that_counts_is_a_total_of_zero() -> None:
    assert judge({"expires": "2026-01-01"}).total == 0
    assert judge({"license": "uncounted", "expires": "2026-01-01"}).total == 0


def test_the_dates_shown_are_those_of_the_lines_that_count() -> None:
    verdict = judge(
        {"expires": "2026-12-31"}, {"expires": "2027-12-31", "not_before": "2026-01-01"}, {"expires": "2020-01-01"}
    )
    assert (verdict.expires, verdict.not_before) == ("2027-12-31", None)
    assert judge({"expires": "2026-12-31"}, {}).expires is None
    assert judge({"expires": "2020-01-01"}, {"expires": "2021-01-01"}).expires == "2021-01-01"
    assert judge({"not_before": "2027-01-01"}, {"not_before": "2026-09-01"}).not_before == "2026-09-01"


def test_files_of_several_vendors_are_judged_side_by_side() -> None:
    verdicts = evaluate([file({"seats": 1}), file({"name": "other.x", "seats": 2}, vendor="other")], NOW)
    assert {name: (each.vendor, each.total) for name, each in verdicts.names.items()} == {
        "kso.scales": ("acme", 1),
        "other.x": ("other", 2),
    }


def test_no_files_are_no_verdicts() -> None:
    assert evaluate([], NOW) == terms.Verdicts({}, None)


# --- replacing ------------------------------------------------------------------------------------------------


def test_a_replaced_line_stops_when_its_replacer_begins_and_does_not_come_back() -> None:
    lines = (
        {"id": "old", "seats": 3, "expires": "2026-12-31"},
        {"replaces": "old", "seats": 5, "not_before": "2026-06-20", "expires": "2026-07-01"},
    )
    moments = ("2026-06-19T09:59:59", "2026-06-19T10:00:00", "2026-07-02T11:59:59", "2026-07-02T12:00:00")
    assert [judge(*lines, now=at(moment)).total for moment in moments] == [3, 5, 5, 0]
    assert judge(*lines, now=at("2026-08-01T00:00:00")).state == "expired"


def test_a_line_can_replace_one_of_another_name() -> None:
    lines = ({"id": "basic", "seats": 3}, {"name": "kso.pro", "replaces": "basic", "not_before": "2026-06-20"})
    assert judge(*lines, now=at("2026-06-18T00:00:00")).total == 3
    verdict = judge(*lines, now=at("2026-06-21T00:00:00"))
    assert (verdict.state, verdict.total, verdict.expires) == ("replaced", 0, "2026-06-19")
    refusal = verdict.refusal(None)
    assert refusal is not None
    assert refusal.error is LICENSE_EXPIRED
    assert refusal.message


def test_replacing_a_line_that_is_not_in_the_file_changes_nothing() -> None:
    assert judge({"replaces": "gone", "seats": 2}).total == 2


def test_of_two_replacers_the_first_to_begin_ends_the_line() -> None:
    lines = (
        {"id": "old", "seats": 1},
        {"replaces": "old", "seats": 10, "not_before": "2026-07-01"},
        {"replaces": "old", "seats": 100, "not_before": "2026-06-01"},
    )
    assert judge(*lines).total == 100


# --- when it changes --------------------------------------------------------------------------------------------


def test_the_next_change_is_the_next_moment_at_which_any_line_changes() -> None:
    found = file(
        {"id": "a", "expires": "2026-06-20", "grace_days": 3},
        {"id": "b", "expires": "2026-06-20"},
        {"replaces": "b", "not_before": "2026-06-18"},
        {"name": "kso.other", "not_before": "2026-06-16"},
    )
    moments, now = [], 0.0
    while (change := evaluate([found], now).next_change) is not None:
        moments.append(datetime.fromtimestamp(change, UTC).strftime("%m-%d %H"))
        now = change
    assert moments == ["06-15 10", "06-17 10", "06-21 12", "06-24 12"]


@given(any_lines())
def test_between_two_changes_nothing_changes(lines: list[dict[str, Any]]) -> None:
    found = file(*lines)
    now = at("2026-05-01T00:00:00")
    for _ in range(40):
        verdicts = evaluate([found], now)
        just_before = (now + 365 * DAY if verdicts.next_change is None else verdicts.next_change) - 1
        assert evaluate([found], just_before).names == verdicts.names
        if verdicts.next_change is None:
            return
        assert evaluate([found], verdicts.next_change).names != verdicts.names
        now = verdicts.next_change
    pytest.fail("more changes than lines can make")


# --- may it be acquired ---------------------------------------------------------------------------------------


def test_an_expired_license_is_refused_with_its_last_day() -> None:
    refusal = judge({"expires": "2026-01-01"}).refusal("5.1")
    assert refusal is not None
    assert (refusal.error, refusal.data["expires"]) == (LICENSE_EXPIRED, "2026-01-01")


def test_a_license_to_come_is_refused_with_its_first_day() -> None:
    refusal = judge({"not_before": "2027-01-01"}, {"expires": "2026-01-01"}).refusal("5.1")
    assert refusal is not None
    assert (refusal.error, refusal.data["not_before"]) == (LICENSE_NOT_YET_VALID, "2027-01-01")


def test_a_version_must_be_covered_by_a_line_that_counts() -> None:
    verdict = judge({"versions": "5.*"}, {"versions": "4.2"}, {"versions": "6.*", "expires": "2026-01-01"})
    assert [verdict.refusal(version) is None for version in ("5.9", "4.2", "6.0", "4.3", None, "x")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    refusal = verdict.refusal("6.0")
    assert refusal is not None
    assert (refusal.error, refusal.data["covers"]) == (VERSION_NOT_COVERED, "5.* or 4.2")
    assert refusal.data["version"] == "6.0"


def test_no_version_is_covered_only_by_a_line_for_any_version() -> None:
    assert judge({"versions": "5.*"}, {}).refusal(None) is None
    refusal = judge({"versions": "5.*"}).refusal(None)
    assert refusal is not None
    assert refusal.error is VERSION_NOT_COVERED
    assert refusal.message  # a version that was not named has words, too
    assert "None" not in refusal.message


def test_answers_stay_right_over_more_versions_than_are_remembered() -> None:
    verdict = judge({"versions": "5.*"})
    for _ in range(2):
        for n in range(1500):
            assert verdict.refusal(f"5.{n}") is None
            assert verdict.refusal(f"6.{n}") is not None


def test_each_refusal_is_a_new_one() -> None:
    verdict = judge({"expires": "2026-01-01"})
    assert verdict.refusal(None) is not verdict.refusal(None)  # a raised exception keeps its traceback


# --- a file that is for another device ------------------------------------------------------------------------

CHANGED = Standing("changed", NOW + 2 * DAY, "lost: disk")
COPY = Standing("copy", float("-inf"), "lost: everything")
LATE = {"name": "kso.late", "not_before": "2026-07-01"}
ENDED = {"name": "kso.ended", "expires": "2026-01-01"}


def test_on_a_changed_device_a_license_counts_until_the_grace_of_the_device_ends() -> None:
    until = CHANGED.until
    for moment, state, total in ((NOW, "valid", 1), (until - 1, "valid", 1), (until, "wrong_device", 0)):
        verdict = evaluate([file({})], moment, {"acme": CHANGED}).names["kso.scales"]
        assert (verdict.state, verdict.total, verdict.counts, verdict.device) == (state, total, total == 1, CHANGED)


def test_the_end_of_the_grace_of_a_device_is_a_change() -> None:
    assert evaluate([file({})], NOW, {"acme": CHANGED}).next_change == CHANGED.until
    assert evaluate([file({})], CHANGED.until, {"acme": CHANGED}).next_change is None
    assert evaluate([file({})], NOW, {"acme": COPY}).next_change is None


def test_on_another_device_a_license_is_refused_as_such_and_says_why() -> None:
    refusal = evaluate([file({})], NOW, {"acme": COPY}).names["kso.scales"].refusal(None)
    assert refusal is not None
    assert refusal.error is WRONG_DEVICE
    assert refusal.data == {"vendor": "acme", "reason": "lost: everything"}


def test_what_would_not_count_anywhere_says_that_first() -> None:
    names = evaluate([file({}, LATE, ENDED)], NOW, {"acme": COPY}).names
    assert [names[name].state for name in ("kso.scales", "kso.late", "kso.ended")] == [
        "wrong_device", "not_yet_valid", "expired",
    ]  # fmt: skip


def test_the_file_of_another_vendor_is_not_touched_by_that() -> None:
    other = file({"name": "pos.till"}, vendor="other")
    names = evaluate([file({}), other], NOW, {"acme": COPY}).names
    assert (names["kso.scales"].total, names["pos.till"].total) == (0, 1)


# --- renewal ------------------------------------------------------------------------------------------------


def test_a_line_without_renewal_takes_the_files() -> None:
    renewal = {"need": "required", "every_days": 30, "grace_days": 10}
    found = file({}, {"renewal": {"need": "none"}}, renewal=renewal)
    assert [line.renewal.need for line in found.lines] == ["required", "none"]
    assert found.renewal == Renewal("required", 30, 10)


def test_lines_as_maps_are_plain_values() -> None:
    verdict = judge({"versions": "5.*", "seats": 2}, {"license": "uncounted", "expires": "2026-01-01"})
    one, two = verdict.lines_as_maps()
    assert (one["versions"], one["seats"], one["state"]) == ("5.*", 2, "valid")
    assert (two["versions"], two["seats"], two["state"], two["type"]) == (None, None, "expired", "uncounted")
