"""Which versions a condition covers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licd.license.versions import Versions


@pytest.mark.parametrize(
    ("versions", "covered", "not_covered"),
    [
        ("5.*", ["5", "5.0", "5.1.3", "5.1.3-rc1", "5.99.99.99"], ["4.9", "6", "50", "0.5"]),
        ("5.0.*", ["5", "5.0", "5.0.7"], ["5.1", "4"]),
        ("5.2", ["5.2", "5.2.0", "5.2.0.0-beta", "5.2+build.7", "5.2~rc1"], ["5.2.1", "5", "5.20"]),
        ("<=4.2", ["4.2", "4.2.0", "4.1.99", "1", "0"], ["4.2.0.1", "4.3", "5"]),
        ("<4.2", ["4.1.99", "4"], ["4.2", "4.2.0"]),
        (">=4", ["4", "4.0.1", "17"], ["3.99"]),
        (">4", ["4.0.1", "5"], ["4", "4.0"]),
        (">=4,<6", ["4", "5.99"], ["3", "6", "6.0"]),
        (">=4, <6", ["4", "5"], ["6"]),
        ("5.*,>=5.3", ["5.3", "5.9"], ["5.2", "6"]),
        (">1,>2,>3,>4,>5,>6,>7,>8", ["9"], ["8"]),
    ],
)
def test_versions_cover_what_their_conditions_say(versions: str, covered: list[str], not_covered: list[str]) -> None:
    found = Versions.parse(versions)
    assert str(found) == versions
    assert [each for each in covered if not found.covers(each)] == []
    assert [each for each in not_covered if found.covers(each)] == []


@pytest.mark.parametrize(
    "text", ["", "v5", "5.", ".5", "5..1", "5 ", "-1", "5.x", "1.2.3.4.5.6.7.8.9", "1234567890", "٥", "5-\n", "5_1"]
)
def test_what_is_no_version_is_covered_by_no_set(text: str) -> None:
    assert not Versions.parse(">=0").covers(text)


_numbers = st.lists(st.integers(0, 12), min_size=1, max_size=4)


@given(_numbers, _numbers)
def test_versions_compare_number_by_number_with_missing_ones_as_zero(one: list[int], other: list[int]) -> None:
    bound, version = ".".join(map(str, one)), ".".join(map(str, other))
    pairs = list(itertools.zip_longest(one, other, fillvalue=0))
    expected = [b for _, b in pairs] <= [a for a, _ in pairs]
    assert Versions.parse(f"<={bound}").covers(version) is expected
    assert Versions.parse(f">{bound}").covers(version) is not expected
