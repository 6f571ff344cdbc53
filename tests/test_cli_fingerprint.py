"""licd-cli fingerprint: what this device is known by, whether it is still the one bound, and what it could lose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from licd.cli import answers, problems
from tests.support.cli import Run, Start
from tests.support.peer import Peer, answer, refuse

BOUND = [
    {"factor": "board_serial", "weight": 20, "state": "unreadable"},
    {"factor": "disk", "weight": 30, "state": "kept"},
    {"factor": "nic", "weight": 30, "state": "lost"},
]
TOO_LITTLE = {"weight": {"bound": 80, "kept": 39, "needed": 40}, "changes_left": 0}
NOTHING_STRONG = {"weight": {"bound": 80, "kept": 60, "needed": 40}, "changes_left": 0}
NOTHING = {
    "weight": {"bound": 80, "kept": 0, "needed": 40},
    "changes_left": 0,
    "factors": [{**row, "state": "lost"} for row in BOUND],
}


def vendor(**changes: Any) -> dict[str, Any]:
    return {
        "vendor": "acme",
        "bound": True,
        "standing": "same",
        "until": None,
        "reason": None,
        "factors": BOUND,
        "share": 50,
        "weight": {"bound": 80, "kept": 60, "needed": 40},
        "changes_left": 1,
        "breaking": [],
        **changes,
    }


def found(*vendors: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "machine": {"kind": "vm", "name": "kvm"},
        "key": True,
        "factors": [
            {
                "factor": "board_serial",
                "kind": "board",
                "strength": "strong",
                "state": "found",
                "count": 1,
                "note": None,
            },
            {"factor": "disk", "kind": "disk", "strength": "strong", "state": "found", "count": 2, "note": None},
            {"factor": "cpu", "kind": "cpu", "strength": "weak", "state": "absent", "count": 0, "note": "no model"},
        ],
        "weak": False,
        "vendors": list(vendors),
        **changes,
    }


def line(label: str, value: str) -> str:
    return rf"(?m)^{label} +{value}$"


# --- as it is ------------------------------------------------------------------------------------------------


def test_every_factor_is_a_row_with_its_strength_state_and_note(run: Run, peer: Start) -> None:
    done = run("fingerprint", "--socket", peer(answer(found())))
    assert (done.status, done.err) == (0, "")
    assert re.search(line("machine", r"vm \(kvm\)"), done.out)
    assert re.search(line("device key usable", "yes"), done.out)
    assert re.search(line("disk +disk", "strong +found +2 +-"), done.out)
    assert re.search(line("cpu +cpu", "weak +absent +0 +no model"), done.out)


def test_a_physical_machine_has_no_name(run: Run, peer: Start) -> None:
    done = run("fingerprint", "--socket", peer(answer(found(machine={"kind": "physical", "name": None}))))
    assert re.search(line("machine", "physical"), done.out)


def test_the_bound_factors_of_a_vendor_are_shown_as_kept_lost_or_unreadable_with_their_weight(
    run: Run, peer: Start
) -> None:
    done = run("fingerprint", "--socket", peer(answer(found(vendor()))))
    assert (done.status, done.err) == (0, "")
    assert re.search(line("vendor", "acme"), done.out)
    assert re.search(line("weight kept", "60 of 80; 40 are needed"), done.out)
    for row in BOUND:
        assert re.search(line(str(row["factor"]), f"{row['weight']} +{row['state']}"), done.out)


@pytest.mark.parametrize(
    ("changes", "margin"),
    [
        ({"changes_left": 0, "breaking": ["board"]}, "one more change breaks it: board"),
        ({"changes_left": 0, "breaking": ["disk", "nic"]}, "one more change breaks it: disk, nic"),
        ({"changes_left": 1, "breaking": []}, "any one change is fine; a second one may break it"),
        ({"changes_left": 2, "breaking": []}, "any 2 changes are fine; one more may break it"),
        ({"standing": "other-key", "until": "2026-06-08", "changes_left": 2}, "any 2 changes are fine; .*"),
        ({"standing": "changed", "until": "2026-06-08", **TOO_LITTLE}, "none; too much is gone"),
        ({"standing": "copy", **TOO_LITTLE}, "none; too much is gone"),
        ({"standing": "same", **TOO_LITTLE}, "none; too much is gone"),
        ({"standing": "copy", **NOTHING_STRONG}, "none; too much is gone"),
    ],
)
def test_the_margin_is_told_in_words_before_it_is_used_up(
    run: Run, peer: Start, changes: dict[str, Any], margin: str
) -> None:
    done = run("fingerprint", "--socket", peer(answer(found(vendor(**changes)))))
    assert re.search(line("margin", margin), done.out), done.out


def test_a_file_for_any_device_has_no_margin(run: Run, peer: Start) -> None:
    row = vendor(bound=False, standing="any", factors=[], weight=None, share=None, changes_left=None, breaking=None)
    done = run("fingerprint", "--socket", peer(answer(found(row))))
    assert (done.status, done.err) == (0, "")
    assert re.search(line("this device", "one of any: .*"), done.out)
    assert "margin" not in done.out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"standing": "changed", "until": "2026-06-08"}, "This device has CHANGED: .* of acme go on until 2026-06-08 "),
        ({"standing": "same", **TOO_LITTLE}, "Too much .* of acme .* only until this device starts again"),
        ({"standing": "same", **NOTHING_STRONG}, "Too much .* of acme .* only until this device starts again"),
        ({"standing": "copy"}, "This is NOT the device .* of acme .* stopped"),
        ({"standing": "other-key", "until": "2026-06-08"}, "This device has ANOTHER key .* until 2026-06-08 "),
    ],
)
def test_a_device_that_is_not_the_one_bound_is_told_loudly_with_the_way_out(
    run: Run, peer: Start, changes: dict[str, Any], says: str
) -> None:
    done = run("fingerprint", "--socket", peer(answer(found(vendor(**changes, reason="nic is lost")))))
    assert done.status == 0
    assert re.search(line("reason", "nic is lost"), done.out)
    assert re.fullmatch(rf"warning: {says}.*\nhint: .*licd-cli license-request export --vendor acme .*\n", done.err)


def test_status_has_a_column_for_the_device(run: Run, peer: Start) -> None:
    row = {"vendor": "acme", "in_force": True, "seq": 3, "issued": "x", "device": "same", "device_until": None}
    rows = [row, {**row, "vendor": "other", "device": "changed", "device_until": "2026-06-08"}]
    done = run("status", "--socket", peer(answer({"vendors": rows})))
    assert done.err == ""
    assert re.search(r"(?m)^VENDOR +IN FORCE +SEQ +ISSUED +DEVICE +PROBLEM\nacme +yes +3 +x +same +-$", done.out)
    assert re.search(r"(?m)^other +yes +3 +x +changed until 2026-06-08 +-$", done.out)


def test_unreadable_factors_are_named_with_their_remedy(run: Run, peer: Start) -> None:
    factors = [
        {"factor": "board_serial", "kind": "board", "state": "unreadable", "note": "Permission denied"},
        {"factor": "disk", "kind": "disk", "state": "found"},
    ]
    done = run("fingerprint", "--socket", peer(answer(found(factors=factors))))
    assert done.status == 0
    assert done.err == f"warning: {answers.UNREADABLE_WARNING.format(factors='board_serial')}\n" + (
        f"hint: {answers.UNREADABLE_NEXT}\n"
    )
    assert "Permission denied" in done.out


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"weak": True}, "The fingerprint is WEAK: "), ({"key": False}, "The device key cannot be used")],
)
def test_a_weak_fingerprint_and_a_key_that_cannot_be_used_are_warned_of(
    run: Run, peer: Start, changes: dict[str, Any], says: str
) -> None:
    done = run("fingerprint", "--socket", peer(answer(found(**changes))))
    assert done.status == 0
    assert done.err.startswith(f"warning: {says}")


# --- what if -------------------------------------------------------------------------------------------------


def test_what_if_asks_without_what_is_named_and_says_that_nothing_has_changed(run: Run, folder: Path) -> None:
    there = Peer(f"{folder}/s", answer(found(vendor(), without=["board", "disk"])))
    words = ["fingerprint", "what-if", "--without", "board", "--without", "disk"]
    try:
        done = run(*words, "--socket", f"{folder}/s")
        assert there.asked == [(1, "device.fingerprint", [{"without": ["board", "disk"]}])]
    finally:
        there.close()
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("What if board, disk were gone? So it WOULD be; nothing has changed.\n")
    assert re.search(line("disk +disk", "strong +gone +0 +-"), done.out)
    assert re.search(line("board_serial +board", "strong +gone +0 +-"), done.out)
    assert re.search(line("cpu +cpu", "weak +absent +0 +no model"), done.out)


@pytest.mark.parametrize(
    ("changes", "would_be"),
    [
        ({**TOO_LITTLE, "standing": "changed"}, "It would be: a CHANGED device; "),
        ({**NOTHING, "standing": "copy"}, "It would be: ANOTHER device, "),
        ({"standing": "other-key"}, "It would be: the hardware bound with ANOTHER device key"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_would_break_one_of_the_vendors_is_status_1_and_names_it(
    run: Run, peer: Start, changes: dict[str, Any], would_be: str, as_json: bool
) -> None:
    rows = [vendor(), vendor(vendor="other", reason="as it is now", **changes), vendor(standing="any", weight=None)]
    path = peer(answer(found(*rows, without=["board"])))
    done = run("fingerprint", "what-if", "--without", "board", "--socket", path, *["--json"] * as_json)
    assert done.status == problems.REFUSED
    (error,) = re.findall(r"(?m)^error: (.*)$", done.err)
    assert error.startswith("Without board this would not be the device that the license file of other is for.")
    assert would_be in error
    assert error.endswith(" (WOULD_BREAK)")
    assert "\nhint: " in done.err
    if as_json:
        assert done.value["vendors"][1]["vendor"] == "other"
    else:
        assert f"this device  {would_be.removeprefix('It would be: ')}" in done.out
        assert "as it is now" not in done.out.replace("key, as it is now", "")


# --- the wrong device ----------------------------------------------------------------------------------------


def test_a_license_file_for_another_device_is_refused_factor_by_factor(run: Run, peer: Start) -> None:
    error = {
        "code": 63,
        "name": "WRONG_DEVICE",
        "message": "This is not the device.",
        "data": {"factors": BOUND, "next": "Go on."},
    }
    done = run("license", "import", "/dev/null", "--socket", peer(refuse(error)))
    assert done == (
        problems.REFUSED,
        "",
        "error: This is not the device. (WRONG_DEVICE)\n"
        "  board_serial (weight 20): unreadable\n"
        "  disk (weight 30): kept\n"
        "  nic (weight 30): lost\n"
        "hint: Go on.\n",
    )


def test_a_license_that_goes_on_for_a_while_is_valid_with_a_warning(run: Run, peer: Start) -> None:
    valid = {"license": "kso.pos", "valid": True, "expires": None, "warnings": ["DEVICE_CHANGED"]}
    done = run("license", "check", "kso.pos", "--socket", peer(answer(valid)))
    assert done.status == 0
    assert done.err.startswith("warning: This device has changed, and the license goes on only for a while")
