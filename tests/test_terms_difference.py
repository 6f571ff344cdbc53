"""What a new license file changes beside the one before: added, removed, and whether anything becomes less."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from licd.license import terms
from licd.license.terms import evaluate
from tests.support.judging import NOW, any_lines, file


def change(old: list[dict[str, Any]] | None, new: list[dict[str, Any]]) -> dict[str, tuple[str, bool]]:
    before = None if old is None else file(*old)
    return {row["license"]: (row["change"], row["less"]) for row in terms.difference(before, file(*new), NOW)}


def test_the_first_file_only_adds() -> None:
    assert change(None, [{}, {"name": "kso.b", "expires": "2020-01-01"}]) == {
        "kso.b": ("added", False),
        "kso.scales": ("added", False),
    }


def test_the_same_content_is_the_same() -> None:
    assert change([{"id": "a"}], [{"id": "b"}]) == {"kso.scales": ("same", False)}


def test_what_is_gone_is_removed_and_less_unless_it_was_worth_nothing() -> None:
    assert change([{}, {"name": "kso.b"}, {"name": "kso.c", "expires": "2020-01-01"}], [{}]) == {
        "kso.scales": ("same", False),
        "kso.b": ("removed", True),
        "kso.c": ("removed", False),
    }


@pytest.mark.parametrize(
    ("old", "new", "less"),
    [
        pytest.param([{"seats": 3}], [{"seats": 2}], True, id="fewer seats"),
        pytest.param([{"seats": 3}], [{"seats": 4}], False, id="more seats"),
        pytest.param([{"seats": 3}], [{"seats": 1}, {"seats": 2}], False, id="the same seats in two lines"),
        pytest.param([{}], [{"expires": "2027-01-01"}], True, id="an end"),
        pytest.param([{"expires": "2027-01-01"}], [{"expires": "2026-12-31"}], True, id="an earlier end"),
        pytest.param([{"expires": "2027-01-01"}], [{"expires": "2027-01-02"}], False, id="a later end"),
        pytest.param([{"expires": "2026-12-31", "grace_days": 1}], [{"expires": "2026-12-31"}], True, id="less grace"),
        pytest.param([{"expires": "2026-12-31", "grace_days": 1}], [{"expires": "2027-01-01"}], False, id="longer"),
        pytest.param([{}], [{"not_before": "2026-07-01"}], True, id="a later begin"),
        pytest.param([{}], [{"not_before": "2026-06-01"}], False, id="a begin that was"),
        pytest.param(
            [{"expires": "2026-07-01"}, {"not_before": "2026-07-02", "seats": 2}],
            [{"expires": "2026-07-01"}, {"not_before": "2026-07-02", "seats": 1}],
            True,
            id="fewer seats to come",
        ),
        pytest.param([{}], [{"versions": "5.*"}], True, id="fewer versions"),
        pytest.param([{"versions": "5.*"}], [{}], False, id="any version"),
        pytest.param([{"versions": "5.*"}], [{"versions": "6.*"}], True, id="other versions"),
        pytest.param(
            [{"versions": "5.*", "seats": 2}], [{"versions": "5.*"}, {"versions": "6.*"}], True, id="fewer for one"
        ),
        pytest.param([{"versions": "5.*", "seats": 2}], [{"versions": "5.*"}, {}], False, id="some for any version"),
        pytest.param([{"license": "uncounted"}], [{"seats": 1000000}], True, id="uncounted to counted"),
        pytest.param([{"seats": 1000000}], [{"license": "uncounted"}], False, id="counted to uncounted"),
        pytest.param(
            [{"license": "uncounted"}, {"seats": 5}], [{"license": "uncounted"}], False, id="seats beside uncounted"
        ),
        pytest.param(
            [{"id": "a", "seats": 3}], [{"id": "a", "seats": 3}, {"replaces": "a", "not_before": "2027-01-01"}], True,
            id="replaced by less later",
        ),
    ],
)  # fmt: skip
def test_less_means_that_at_some_time_from_now_it_grants_less(
    old: list[dict[str, Any]], new: list[dict[str, Any]], less: bool
) -> None:
    assert change(old, new)["kso.scales"] == ("changed", less)


def test_the_difference_shows_both_sides() -> None:
    (row,) = terms.difference(file({"seats": 3, "versions": "5.*"}), file({"seats": 1, "expires": "2027-01-01"}), NOW)
    assert row["was"] == {"state": "valid", "total": 3, "not_before": None, "expires": None, "versions": ["5.*"]}
    assert row["will_be"] == {
        "state": "valid",
        "total": 1,
        "not_before": None,
        "expires": "2027-01-01",
        "versions": [None],
    }


@given(any_lines(), any_lines())
def test_less_agrees_with_a_model_that_asks_at_every_moment(
    old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> None:
    before, after = file(*old), file(*new)
    expected: set[str] = set()
    now: float | None = NOW
    while now is not None:
        was, will_be = evaluate([before], now), evaluate([after], now)
        for name, verdict in was.names.items():
            other = will_be.names.get(name)
            if (verdict.total or 0) > (0 if other is None else other.total or 0):
                expected.add(name)
        now = min((each for each in (was.next_change, will_be.next_change) if each is not None), default=None)
    assert {row["license"] for row in terms.difference(before, after, NOW) if row["less"]} == expected
