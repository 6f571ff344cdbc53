"""What the manual says of recognizing a device: factors, placeholders, tags, the rule, its weights, what follows."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from licd.device import hardware, placeholders, sysfs
from licd.device.fingerprint import DEFAULT_SHARE, DEFAULT_WEIGHTS, FACTORS, STRONG, Match, match, tag, tag_key, without
from licd.license import terms
from licd.license.dates import FOREVER
from tests.support.kiosk import CLONE, GRACE, KIOSK, NEW_DISK_AND_OS_AND_CPU, NOW, Shop
from tests.support.mdoc import MAN, displays, section, source, subsections, text

LICENSE = subsections(section(source("licd-license.5"), "FINGERPRINT"))
LICD = section(source("licd.8"), "THE DEVICE")
LICD_PARTS = subsections(LICD)


def rows(lines: list[str]) -> list[list[str]]:
    """The tables' rows, without their headings."""
    cells = [line.removeprefix(".It ").split(" Ta ") for line in lines if line.startswith(".It ") and " Ta " in line]
    return [row for row in cells if not row[0].startswith("Em ")]


# --- factors and values -------------------------------------------------------------------------------------


def test_the_manual_lists_exactly_the_factors_with_kind_strength_and_default_weight() -> None:
    expected = [
        [factor, kind, "strong" if kind in STRONG else "weak", str(DEFAULT_WEIGHTS[factor])]
        for factor, kind in FACTORS.items()
    ]
    assert [row[:4] for row in rows(LICENSE["Factors"])] == expected


def test_the_manual_says_in_which_file_a_factor_of_the_board_is() -> None:
    found = {row[0]: row[4] for row in rows(LICENSE["Factors"]) if row[1] == "board"}
    assert found == {factor: str(sysfs.DMI / file) for factor, (file, _) in hardware.DMI_FILES.items()}


def test_the_manual_names_the_application_for_which_the_machine_id_is_derived() -> None:
    assert hardware.MACHINE_ID_APPLICATION.hex() in text(LICENSE["Factors"])


PLACEHOLDERS = rows(LICENSE["Values"])


@pytest.mark.parametrize(("kind", "reason", "example"), PLACEHOLDERS)
def test_a_placeholder_of_the_manual_is_one_for_the_reason_given(kind: str, reason: str, example: str) -> None:
    assert placeholders.placeholder(kind.lower(), example) == reason


def test_the_manual_lists_exactly_the_classes_of_placeholders() -> None:
    listed = {(kind.lower(), reason) for kind, reason, _ in PLACEHOLDERS}
    classes = {(each.kind, each.reason) for each in placeholders.CLASSES}
    by_code = set(re.findall(r'return "([^"]+)"', inspect.getsource(placeholders.placeholder))) - {"empty"}
    assert classes <= listed
    assert {reason for _, reason in listed - classes} <= by_code
    assert by_code <= {reason for _, reason in listed}


def test_a_processor_s_model_is_judged_by_the_first_three_classes_of_serial_numbers() -> None:
    kinds = [[kind, placeholders.placeholder(placeholders.NAME, example)] for kind, _, example in PLACEHOLDERS[:6]]
    reasons = [[kind, reason] for kind, reason, _ in PLACEHOLDERS[:6]]
    assert kinds[:3] == reasons[:3]
    assert [reason for _, reason in kinds[3:]] == [None] * 3


def test_the_example_of_a_tag_is_made_as_the_manual_says() -> None:
    (shown,) = displays(LICENSE["Tags"])
    said = dict(line.split(maxsplit=1) for line in shown.splitlines())
    value = hardware._normalized(placeholders.SERIAL, said["board"].strip('"'))
    assert value == said["normalized"]
    assert said["signed"] == f"board_serial={value}"
    assert said["HMAC"].startswith(said["tag"])
    assert said["tag"] == tag(tag_key(said["vendor"], bytes.fromhex(said["salt"])), "board_serial", value)
    assert len(said["tag"]) * 4 == 24
    assert f"once in {2**24 // 10**6} million" in text(LICENSE["Tags"])


# --- the rule and its weights -------------------------------------------------------------------------------

SERVER = list(FACTORS)
KIOSK_FACTORS = ["disk", "nic", "cpu", "machine_id"]


def found(
    factors: list[str], lost: list[str], weights: dict[str, int] = DEFAULT_WEIGHTS, share: int = DEFAULT_SHARE
) -> Match:
    """How a device bound with all these factors compares with itself once some of them, or kinds, are lost."""
    bound = {factor: [factor] for factor in factors}
    return match(bound, weights, share, without(bound, lost))


def verdict(found: Match) -> str:
    return terms.SAME if found.ok else terms.CHANGED if found.strong_kept else terms.COPY


def outcomes() -> list[tuple[list[str], list[str]]]:
    """Of each row of the two tables: the device's factors, and the cells."""
    body = LICENSE["Default weights"]
    split = next(number for number, line in enumerate(body) if "on a kiosk" in line)
    return [(SERVER, row) for row in rows(body[:split])] + [(KIOSK_FACTORS, row) for row in rows(body[split:])]


@pytest.mark.parametrize(("factors", "row"), outcomes())
def test_what_comes_of_a_loss_is_what_the_manual_says(factors: list[str], row: list[str]) -> None:
    lost, kept, it_is, _ = row
    now = found(factors, lost.split(", "))
    assert [str(now.kept), verdict(now)] == [kept, it_is]


def test_the_sums_of_the_two_devices_are_those_of_the_manual() -> None:
    said = re.findall(r"with (\d+) bound and (\d+) needed", text(LICENSE["Default weights"]))
    sums = [found(factors, []) for factors in (SERVER, KIOSK_FACTORS)]
    assert said == [(str(each.bound), str(each.needed)) for each in sums]


def test_a_kiosk_in_the_manual_is_one_whose_board_shows_nothing() -> None:
    assert [factor for factor, kind in FACTORS.items() if kind != "board"] == KIOSK_FACTORS


def test_neither_disk_nor_card_decides_where_it_fails_alone() -> None:
    for factors in (SERVER, KIOSK_FACTORS):
        assert found(factors, ["disk"]).ok
        assert found(factors, ["nic"]).ok


def test_the_board_has_half_of_the_weight_and_one_more_would_let_it_decide_alone() -> None:
    board = sum(weight for factor, weight in DEFAULT_WEIGHTS.items() if FACTORS[factor] == "board")
    assert f"are {board} together" in text(LICENSE["Default weights"])
    assert 2 * board == sum(DEFAULT_WEIGHTS.values())
    assert found(SERVER, ["board"]).ok
    heavier = {**DEFAULT_WEIGHTS, "system_uuid": DEFAULT_WEIGHTS["system_uuid"] + 1}
    assert not found(SERVER, ["board"], heavier).ok


def test_of_the_board_the_uuid_has_most_and_the_chassis_least() -> None:
    board = {factor: weight for factor, weight in DEFAULT_WEIGHTS.items() if FACTORS[factor] == "board"}
    assert max(board, key=board.__getitem__) == "system_uuid"
    assert min(board, key=board.__getitem__) == "chassis_serial"


def test_a_higher_share_would_make_a_new_disk_with_a_new_system_another_device() -> None:
    assert f"A share above {DEFAULT_SHARE} would" in text(LICENSE["Default weights"])
    assert found(KIOSK_FACTORS, ["disk", "machine_id"]).ok
    assert not found(KIOSK_FACTORS, ["disk", "machine_id"], share=DEFAULT_SHARE + 1).ok


def test_two_halves_of_a_server_are_both_the_same_device() -> None:
    with_its_board, with_the_rest = found(SERVER, ["disk", "nic", "cpu", "os"]), found(SERVER, ["board"])
    assert with_its_board.ok
    assert with_the_rest.ok
    assert not found(SERVER, ["disk", "nic", "cpu", "os"], share=DEFAULT_SHARE + 1).ok


# --- licd(8) THE DEVICE -------------------------------------------------------------------------------------

STANDINGS = rows(LICD)
PARTS = {
    "enough are kept": KIOSK,
    "a strong one is kept": NEW_DISK_AND_OS_AND_CPU,
    "no strong one is kept": CLONE,
}
UNTIL = {"count": FOREVER, "go on for the grace": NOW + GRACE, "stop at once": -FOREVER}


@pytest.mark.parametrize(("factors", "key", "it_is", "licenses"), STANDINGS)
def test_a_row_of_the_verdicts_is_what_a_device_makes_of_it(
    factors: str, key: str, it_is: str, licenses: str, tmp_path: Path
) -> None:
    for number, another in enumerate([False, True] if key == "any" else [key == "another"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        shop = Shop(folder)
        if another:
            (folder / "device.key").unlink()
        standing = shop.reboot(PARTS[factors])
        assert (standing.kind, standing.until) == (it_is, UNTIL[licenses.partition(":")[0]])


def test_the_manual_lists_every_verdict_but_any_device() -> None:
    assert {row[2] for row in STANDINGS} == {terms.SAME, terms.OTHER_KEY, terms.CHANGED, terms.COPY}


def test_the_manual_says_what_the_rule_for_systemd_tmpfiles_does() -> None:
    rules = [
        line.split()
        for line in (MAN.parent / "systemd" / "licd.tmpfiles").read_text("utf-8").splitlines()
        if line.startswith("z ")
    ]
    body = LICD_PARTS["Unreadable factors"]
    assert {line.removeprefix(".Pa ") for line in body if "/sys/" in line} == {rule[1] for rule in rules}
    ((mode, group),) = {(rule[2], rule[4]) for rule in rules}
    assert f"have mode {mode} and the group {group}," in text(body)
