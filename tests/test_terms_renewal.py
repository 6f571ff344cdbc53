"""What a renewal that did not come, or was refused, does to the licenses of a file: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licd.license.dates import DAY_S, FOREVER
from licd.license.lines import LicenseFile, Renewal
from licd.license.terms import RenewalState, Standing, Verdict, Verdicts, evaluate
from licd.rpc.errors import RENEWAL_OVERDUE, RENEWAL_REFUSED, VERSION_NOT_COVERED
from tests.support.judging import NOW, at, file

_MUST = {"need": "required", "every_days": 30, "grace_days": 14}
MUST = Renewal(**_MUST)  # type: ignore[arg-type]  # a plain map of both kinds of values
SOONER = Renewal("required", 10, 5)
MAY = Renewal("optional", 30, 14)
WARNS, STOPS = NOW + 2 * DAY_S, NOW + 9 * DAY_S
LATE = RenewalState(stops={MUST: (WARNS, STOPS)})
NO = RenewalState(refused_from=STOPS, reason="not paid")

A_LINE = {"name": "kso.scales", "seats": 3, "renewal": _MUST}
ANOTHER = {"name": "kso.scales", "seats": 5}


def judge(
    *lines: Mapping[str, Any], state: RenewalState = LATE, now: float = NOW, standing: Standing | None = None
) -> Verdict:
    standings = {} if standing is None else {"acme": standing}
    return evaluate([file(*lines)], now, standings, {"acme": state}).names["kso.scales"]


# --- overdue ----------------------------------------------------------------------------------------------------


def test_a_license_that_was_to_be_renewed_stops_at_its_moment_by_name() -> None:
    before, then = judge(A_LINE, now=STOPS - 1), judge(A_LINE, now=STOPS)
    assert (before.state, before.total, before.counts, before.refusal(None)) == ("valid", 3, True, None)
    assert (then.state, then.total, then.counts) == ("renewal_overdue", 0, False)
    refusal = then.refusal(None)
    assert refusal is not None
    assert (refusal.error, refusal.data) == (RENEWAL_OVERDUE, {"license": "kso.scales", "since": "2026-06-24"})
    assert refusal.message


def test_it_is_warned_of_from_its_moment_on() -> None:
    assert [judge(A_LINE, now=moment).renewal_stops for moment in (WARNS - 1, WARNS, STOPS - 1, STOPS, STOPS + 99)] == [
        None,
        *[STOPS] * 4,
    ]


@pytest.mark.parametrize("need", ["none", "optional"])
def test_what_need_not_be_renewed_is_never_overdue(need: str) -> None:
    renewal = {"need": "none"} if need == "none" else {"need": "optional", "every_days": 30, "grace_days": 14}
    found = judge(A_LINE | {"renewal": renewal}, now=STOPS + 1000 * DAY_S)
    assert (found.state, found.total, found.renewal_stops, found.refused) == ("valid", 3, None, None)


def test_only_the_line_that_was_to_be_renewed_stops() -> None:
    lines = (A_LINE, ANOTHER, {"name": "kso.other", "seats": 7})
    verdicts = evaluate([file(*lines)], STOPS, {}, {"acme": LATE}).names
    scales = verdicts["kso.scales"]
    assert (scales.state, scales.total, scales.refusal(None), scales.renewal_stops) == ("valid", 5, None, STOPS)
    assert [state for _, state in scales.lines] == ["renewal_overdue", "valid"]
    assert [each["state"] for each in scales.lines_as_maps()] == ["renewal_overdue", "valid"]
    assert (verdicts["kso.other"].total, verdicts["kso.other"].renewal_stops) == (7, None)


def test_a_version_that_only_an_overdue_line_covers_is_not_covered() -> None:
    found = judge(A_LINE, ANOTHER | {"versions": "4.*"}, now=STOPS)
    refusal = found.refusal("5.1")
    assert refusal is not None
    assert refusal.error is VERSION_NOT_COVERED
    assert found.refusal("4.1") is None


def test_an_uncounted_license_that_is_overdue_is_worth_nothing() -> None:
    line = {"name": "kso.scales", "license": "uncounted", "renewal": _MUST}
    assert (judge(line).total, judge(line, now=STOPS).total) == (None, 0)


def test_the_renewal_that_a_line_inherits_from_the_header_is_its_own() -> None:
    found = evaluate([file(ANOTHER, renewal=_MUST)], STOPS, {}, {"acme": LATE}).names["kso.scales"]
    assert found.state == "renewal_overdue"


def test_of_two_intervals_the_first_stop_is_warned_of_and_the_last_is_since_when_it_stopped() -> None:
    state = RenewalState(stops={MUST: (WARNS, STOPS), SOONER: (WARNS, STOPS - DAY_S)})
    lines = (A_LINE, ANOTHER | {"renewal": SOONER._asdict()})
    found = [judge(*lines, state=state, now=moment) for moment in (WARNS, STOPS - DAY_S, STOPS)]
    assert [(each.total, each.renewal_stops) for each in found] == [(8, STOPS - DAY_S), (3, STOPS - DAY_S), (0, STOPS)]


def test_another_vendors_trouble_is_its_own() -> None:
    files = [file(A_LINE), file(A_LINE | {"name": "other.x"}, vendor="other")]
    names = evaluate(files, STOPS, {}, {"other": LATE}).names
    assert {name: each.state for name, each in names.items()} == {"kso.scales": "valid", "other.x": "renewal_overdue"}


def test_a_line_in_its_own_grace_can_be_overdue_and_one_that_ends_sooner_is_not_warned_of() -> None:
    line = A_LINE | {"expires": "2026-06-10", "grace_days": 30}
    assert [judge(line, now=moment).state for moment in (NOW, STOPS, at("2026-07-11T12:00:00"))] == [
        "grace",
        "renewal_overdue",
        "expired",
    ]
    assert judge(line, now=WARNS).renewal_stops == STOPS
    ends = A_LINE | {"expires": "2026-06-20"}
    assert judge(ends, now=WARNS).renewal_stops is None
    assert judge(ends, now=STOPS).state == "expired"


def test_a_replaced_line_is_replaced_and_not_overdue() -> None:
    lines = ({"id": "old", **A_LINE}, {"replaces": "old", "not_before": "2026-06-18", "seats": 9})
    assert judge(*lines, now=WARNS).renewal_stops is None
    found = judge(*lines, now=STOPS)
    assert [state for _, state in found.lines] == ["replaced", "valid"]


# --- refused ----------------------------------------------------------------------------------------------------


def test_a_refusal_stops_all_licenses_of_the_file_whether_they_need_renewal_or_not() -> None:
    lines = (A_LINE, ANOTHER, {"name": "kso.other", "license": "uncounted"})
    for name, was in (("kso.scales", 8), ("kso.other", None)):
        before = evaluate([file(*lines)], STOPS - 1, {}, {"acme": NO}).names[name]
        assert (before.state, before.total, before.refusal(None)) == ("valid", was, None)
        then = evaluate([file(*lines)], STOPS, {}, {"acme": NO}).names[name]
        assert (then.state, then.total) == ("refused", 0)
        refusal = then.refusal(None)
        assert refusal is not None
        assert (refusal.error, refusal.data) == (RENEWAL_REFUSED, {"license": name, "reason": "not paid"})
        assert refusal.message


def test_a_refusal_is_warned_of_at_once_with_the_vendors_reason() -> None:
    for now in (NOW - 100 * DAY_S, NOW, STOPS):
        found = judge(ANOTHER, state=NO, now=now)
        assert (found.renewal_stops, found.refused) == (STOPS, "not paid")
    for stops in (STOPS - DAY_S, STOPS, STOPS + DAY_S):
        found = judge(A_LINE, state=NO._replace(stops={MUST: (WARNS, stops)}), now=WARNS - 1)
        assert found.renewal_stops == min(stops, STOPS)


def test_what_is_refused_is_refused_though_it_is_overdue_too() -> None:
    for stops in (STOPS - DAY_S, STOPS, STOPS + DAY_S):
        found = judge(A_LINE, state=NO._replace(stops={MUST: (WARNS, stops)}), now=STOPS + 2 * DAY_S)
        assert (found.state, found.refused) == ("refused", "not paid")
    overdue = judge(A_LINE, state=NO._replace(stops={MUST: (WARNS, STOPS - DAY_S)}), now=STOPS - DAY_S)
    assert (overdue.state, overdue.refused, overdue.renewal_stops) == ("renewal_overdue", "not paid", STOPS - DAY_S)


def test_a_license_that_has_ended_of_itself_has_ended_and_was_not_refused() -> None:
    ended, late = A_LINE | {"expires": "2026-01-01"}, A_LINE | {"not_before": "2027-01-01"}
    for state in (NO, LATE):
        assert [judge(each, state=state, now=STOPS).state for each in (ended, late)] == ["expired", "not_yet_valid"]
        assert [judge(each, state=state, now=STOPS).renewal_stops for each in (ended, late)] == [None, None]


def test_on_another_device_it_is_that_and_neither_overdue_nor_refused() -> None:
    elsewhere = Standing("copy", -FOREVER, "lost: all")
    for state in (NO, LATE):
        assert judge(A_LINE, state=state, now=STOPS, standing=elsewhere).state == "wrong_device"


def test_the_state_of_a_name_is_its_lines_best() -> None:
    ended = {"name": "kso.scales", "expires": "2026-01-01"}
    assert judge(A_LINE, ended, now=STOPS).state == "renewal_overdue"
    assert judge(A_LINE, ended, state=NO, now=STOPS).state == "refused"
    assert judge(A_LINE, {"name": "kso.scales", "not_before": "2027-01-01"}, now=STOPS).state == "renewal_overdue"


# --- when it changes --------------------------------------------------------------------------------------------


def _moments(found: LicenseFile, state: RenewalState) -> list[float]:
    moments, now = [], NOW
    while (change := evaluate([found], now, {}, {"acme": state}).next_change) is not None:
        assert change > now
        moments.append(change)
        now = change
    return moments


def test_the_moments_of_warning_and_stopping_are_changes() -> None:
    assert _moments(file(A_LINE), LATE) == [WARNS, STOPS]
    assert _moments(file(ANOTHER), LATE) == []
    assert _moments(file(ANOTHER), NO) == [STOPS]
    assert _moments(file(A_LINE), NO._replace(stops={MUST: (WARNS, STOPS + 1)})) == [WARNS, STOPS, STOPS + 1]


_DAYS = st.integers(-5, 40).map(lambda days: NOW + days * DAY_S)
_stops = st.tuples(_DAYS, _DAYS).map(lambda two: (min(two), max(two)))
_states = st.builds(
    lambda refused_from, stops: RenewalState(refused_from, None if refused_from == FOREVER else "not paid", stops),
    _DAYS | st.just(FOREVER),
    st.dictionaries(st.sampled_from([MUST, SOONER]), _stops),
)
_line = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["kso.a", "kso.b"]),
        "seats": st.integers(1, 9),
        "expires": st.none() | st.sampled_from(["2026-06-12", "2026-06-20", "2026-07-05"]),
        "grace_days": st.integers(0, 5),
        "renewal": st.sampled_from([MUST._asdict(), SOONER._asdict(), MAY._asdict(), {"need": "none"}]),
    }
)


@given(st.lists(_line, min_size=1, max_size=4), _states, st.none() | _DAYS)
def test_between_two_changes_nothing_changes(
    lines: list[dict[str, Any]], state: RenewalState, until: float | None
) -> None:
    found = file(*lines)
    standings = {} if until is None else {"acme": Standing("changed", until, "lost: disk")}

    def judged(now: float) -> Verdicts:
        return evaluate([found], now, standings, {"acme": state})

    now = NOW - 30 * DAY_S
    for _ in range(40):
        verdicts = judged(now)
        just_before = (now + 365 * DAY_S if verdicts.next_change is None else verdicts.next_change) - 1
        assert judged(just_before).names == verdicts.names
        if verdicts.next_change is None:
            return
        now = verdicts.next_change
    pytest.fail("more changes than lines can make")


@given(st.lists(_line, min_size=1, max_size=4), _states, _DAYS)
def test_renewal_only_ever_takes_away_and_what_it_takes_it_names(
    lines: list[dict[str, Any]], state: RenewalState, now: float
) -> None:
    found = file(*lines)
    plain, judged = evaluate([found], now).names, evaluate([found], now, {}, {"acme": state}).names
    for name, verdict in judged.items():
        kept = [
            (line, was)
            for line, was in plain[name].lines
            if was not in ("valid", "grace")
            or now < min(state.refused_from, state.stops.get(line.renewal, (0, FOREVER))[1])
        ]
        assert [each for each in verdict.lines if each[1] not in ("renewal_overdue", "refused")] == kept
        assert verdict.total == sum(line.seats for line, was in kept if was in ("valid", "grace"))
        refusal = verdict.refusal(None)
        if refusal is not None:
            assert refusal.message
        if len(kept) == len(verdict.lines) and verdict.renewal_stops is None:
            assert verdict._replace(refused=None) == plain[name]


def test_what_the_file_of_no_known_renewal_grants_is_what_it_granted_before() -> None:
    assert evaluate([file(A_LINE)], STOPS, {}, {"other": NO}) == evaluate([file(A_LINE)], STOPS)
    assert evaluate([file(A_LINE)], STOPS, {}, {"acme": RenewalState()}) == evaluate([file(A_LINE)], STOPS)
