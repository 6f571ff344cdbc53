"""Whether it is still the same device: the rule, and that its explanations agree with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licd.device.fingerprint import (
    ABSENT,
    DEFAULT_SHARE,
    DEFAULT_WEIGHTS,
    FACTORS,
    FOUND,
    KEPT,
    LEAST_STRONG,
    LOST,
    STRONG,
    UNREADABLE,
    Match,
    Reading,
    fingerprint,
    match,
    strong_kinds,
    tag,
    tag_key,
    unreadable,
    without,
)

SALT = bytes(range(16))
KINDS = sorted(set(FACTORS.values()))

tags = st.lists(st.sampled_from([f"{number:06x}" for number in range(6)]), min_size=1, max_size=3, unique=True)
devices = st.dictionaries(st.sampled_from([*FACTORS, "of-a-newer-vendor"]), tags)
weights = st.dictionaries(st.sampled_from([*FACTORS, "of-a-newer-vendor"]), st.integers(1, 1000), min_size=1)
shares = st.integers(1, 100)


def standing(result: Match) -> str:
    return "same" if result.ok else "changed" if result.strong_kept else "copy"


# --- tags ----------------------------------------------------------------------------------------------------------


def test_a_tag_is_the_documented_hmac_cut_to_24_bits() -> None:
    digest = hmac.new(SALT, b"disk=serial:S4EVNX0M512345", hashlib.sha256).hexdigest()
    assert tag(SALT, "disk", "serial:S4EVNX0M512345") == digest[:6]


def test_the_key_of_tags_is_the_salt_with_the_vendor_s_id_behind_it() -> None:
    assert tag_key("acme", SALT) == SALT + b"acme"


def test_one_serial_number_in_two_factors_or_under_two_salts_shows_different_tags() -> None:
    assert tag(SALT, "board_serial", "F5R4M12") != tag(SALT, "product_serial", "F5R4M12")
    assert tag(SALT, "board_serial", "F5R4M12") != tag(bytes(16), "board_serial", "F5R4M12")


def test_only_what_is_found_and_asked_for_is_in_a_fingerprint() -> None:
    readings = (
        Reading("system_uuid", FOUND, ("u",)),
        Reading("board_serial", UNREADABLE, note="Permission denied"),
        Reading("product_serial", ABSENT, note="the firmware gives none"),
        Reading("disk", FOUND, ("serial:A", "serial:B")),
        Reading("nic", FOUND, ("m",)),
    )
    asked = {"system_uuid", "board_serial", "product_serial", "disk"}
    assert sorted(fingerprint(readings, SALT, asked)) == ["disk", "system_uuid"]
    assert unreadable(readings, asked) == ["board_serial"]
    assert unreadable(readings, {"disk"}) == []


@given(st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_the_order_of_values_never_shows(values: list[str]) -> None:
    forward = fingerprint([Reading("disk", FOUND, tuple(values))], SALT, FACTORS)
    assert forward == fingerprint([Reading("disk", FOUND, tuple(reversed(values)))], SALT, FACTORS)


@given(st.text(min_size=1, max_size=40))
def test_a_tag_never_holds_the_value(value: str) -> None:
    shown = tag(SALT, "disk", value)
    assert len(shown) == 6
    if len(value.encode()) > 3:
        encodings = (value, value.encode().hex(), base64.b64encode(value.encode()).decode())
        assert not any(encoded in shown for encoded in encodings)


# --- the rule ------------------------------------------------------------------------------------------------------


@given(devices, weights, shares)
def test_a_device_matches_itself_if_anything_of_weight_is_bound(
    device: dict[str, list[str]], weights: dict[str, int], share: int
) -> None:
    result = match(device, weights, share, device)
    assert result.ok == any(factor in weights for factor in device)
    assert result.kept == result.bound


@given(devices, devices, devices, weights, shares)
def test_what_is_added_never_breaks_a_match(
    bound: dict[str, list[str]],
    now: dict[str, list[str]],
    added: dict[str, list[str]],
    weights: dict[str, int],
    share: int,
) -> None:
    more = {factor: [*now.get(factor, []), *added.get(factor, [])] for factor in {*now, *added}}
    before, after = match(bound, weights, share, now), match(bound, weights, share, more)
    assert after.kept >= before.kept
    assert after.bound == before.bound
    assert after.ok or not before.ok
    assert set(before.strong_kept) <= set(after.strong_kept)


@given(devices, devices, weights, shares)
def test_order_never_matters(
    bound: dict[str, list[str]], now: dict[str, list[str]], weights: dict[str, int], share: int
) -> None:
    def turned(device: dict[str, list[str]]) -> dict[str, list[str]]:
        return {factor: list(reversed(device[factor])) for factor in reversed(device)}

    one = match(bound, weights, share, now)
    other = match(turned(bound), dict(reversed(weights.items())), share, turned(now))
    assert sorted(one.factors) == sorted(other.factors)
    assert (one.ok, one.kept, one.needed, one.changes_left) == (other.ok, other.kept, other.needed, other.changes_left)
    assert set(one.breaking) == set(other.breaking)


@given(devices, devices, weights, shares, st.sets(st.sampled_from([*FACTORS])))
def test_unreadable_counts_as_lost_and_has_its_own_name(
    bound: dict[str, list[str]], now: dict[str, list[str]], weights: dict[str, int], share: int, hidden: set[str]
) -> None:
    left = {factor: each for factor, each in now.items() if factor not in hidden}
    as_lost, as_unreadable = match(bound, weights, share, left), match(bound, weights, share, left, hidden)
    assert (as_lost.kept, as_lost.ok) == (as_unreadable.kept, as_unreadable.ok)
    for before, after in zip(as_lost.factors, as_unreadable.factors, strict=True):
        expected = UNREADABLE if before.state == LOST and before.factor in hidden else before.state
        assert after.state == expected


@given(devices, devices, weights, shares)
def test_the_verdict_is_the_documented_inequality(
    bound: dict[str, list[str]], now: dict[str, list[str]], weights: dict[str, int], share: int
) -> None:
    result = match(bound, weights, share, now)
    whole = sum(weights.get(factor, 0) for factor in bound)
    kept = sum(weights.get(factor, 0) for factor in bound if set(bound[factor]) & set(now.get(factor, [])))
    assert (result.bound, result.kept) == (whole, kept)
    enough = whole > 0 and 100 * kept >= share * whole
    assert enough == (whole > 0 and kept >= result.needed)
    assert result.ok == (enough and (bool(result.strong_kept) or not strong_kinds(bound)))


def test_where_something_strong_is_bound_the_weak_factors_of_an_image_are_not_enough() -> None:
    bound = {"chassis_serial": ["aaaaaa"], "cpu": ["bbbbbb"], "machine_id": ["cccccc"]}
    image = {"cpu": ["bbbbbb"], "machine_id": ["cccccc"]}
    weights = {"chassis_serial": 5, "cpu": 5, "machine_id": 5}
    copy = match(bound, weights, 50, image)
    assert (copy.kept, copy.needed, copy.ok, copy.strong_kept) == (10, 8, False, ())
    here = match(bound, weights, 50, bound)
    assert (here.ok, here.breaking, here.changes_left) == (True, ("board",), 0)
    assert match(image, weights, 50, image).ok  # nothing strong is bound: licd-vendor wants --weak for that


@given(devices, devices, weights, shares)
def test_the_margin_agrees_with_trying_every_loss(
    bound: dict[str, list[str]], now: dict[str, list[str]], weights: dict[str, int], share: int
) -> None:
    """`breaking` and `changes_left` against the rule itself, with the tags of whole kinds taken away."""
    result = match(bound, weights, share, now)
    kinds = {FACTORS.get(each.factor, each.factor) for each in result.factors if each.state == KEPT}

    def survives(gone: tuple[str, ...]) -> bool:
        known = [kind for kind in gone if kind in KINDS]
        left = without({factor: each for factor, each in now.items() if factor not in gone}, known)
        return match(bound, weights, share, left).ok

    if not result.ok:
        assert (result.breaking, result.changes_left) == ((), 0)
        return
    assert set(result.breaking) == {kind for kind in kinds if not survives((kind,))}
    most = max(
        number
        for number in range(len(kinds) + 1)
        if all(survives(gone) for gone in combinations(sorted(kinds), number))
    )
    assert result.changes_left == most


@given(devices, devices, weights, shares)
def test_a_copy_is_what_has_no_bound_strong_factor(
    bound: dict[str, list[str]], now: dict[str, list[str]], weights: dict[str, int], share: int
) -> None:
    result = match(bound, weights, share, now)
    strong = [
        factor
        for factor, each in bound.items()
        if FACTORS.get(factor) in STRONG and set(each) & set(now.get(factor, []))
    ]
    assert sorted(result.strong_kept) == sorted(strong)


def test_nothing_bound_recognizes_nothing() -> None:
    assert not match({}, DEFAULT_WEIGHTS, DEFAULT_SHARE, {"disk": ["000001"]}).ok
    assert not match({"disk": []}, DEFAULT_WEIGHTS, DEFAULT_SHARE, {"disk": []}).ok
    assert not match({"of-a-newer-vendor": ["000001"]}, DEFAULT_WEIGHTS, 1, {"of-a-newer-vendor": ["000001"]}).ok


def test_without_takes_factors_and_whole_kinds_and_knows_no_other_names() -> None:
    device = {factor: ["000001"] for factor in FACTORS}
    assert sorted(without(device, ["board"])) == ["cpu", "disk", "machine_id", "nic"]
    assert sorted(without(device, ["system_uuid", "disk"])) == sorted(set(FACTORS) - {"system_uuid", "disk"})
    assert without(device, []) == device
    with pytest.raises(KeyError):
        without(device, ["disks"])


# --- the defaults --------------------------------------------------------------------------------------------------

WHOLE = {factor: ["000001"] for factor in FACTORS}


def test_the_defaults_ask_for_every_factor_and_weak_ones_alone_never_match() -> None:
    assert list(DEFAULT_WEIGHTS) == list(FACTORS)
    weak = {factor: each for factor, each in WHOLE.items() if FACTORS[factor] not in STRONG}
    for strong in range(1, 5):
        for factors in combinations([factor for factor in FACTORS if FACTORS[factor] in STRONG], strong):
            if len(strong_kinds(factors)) >= LEAST_STRONG:  # any other binding is refused as weak
                bound = {**{factor: ["000001"] for factor in factors}, **weak}
                assert standing(match(bound, DEFAULT_WEIGHTS, DEFAULT_SHARE, weak)) == "copy", factors


@pytest.mark.parametrize("kind", KINDS)
def test_under_the_defaults_one_repair_of_a_machine_with_everything_is_the_same_device(kind: str) -> None:
    assert match(WHOLE, DEFAULT_WEIGHTS, DEFAULT_SHARE, without(WHOLE, [kind])).ok


@pytest.mark.parametrize("kind", STRONG)
def test_under_the_defaults_the_board_and_another_strong_part_are_another_device(kind: str) -> None:
    result = match(WHOLE, DEFAULT_WEIGHTS, DEFAULT_SHARE, without(WHOLE, ["board", kind]))
    assert result.ok == (kind == "board")


def test_strong_kinds_counts_kinds_not_factors() -> None:
    assert strong_kinds(["system_uuid", "board_serial", "cpu", "machine_id"]) == ["board"]
    assert strong_kinds(["nic", "disk", "system_uuid"]) == ["board", "disk", "nic"]
    assert strong_kinds(["of-a-newer-vendor"]) == []
