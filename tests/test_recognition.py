"""How this device compares with the one that a license file is for: what holds, what is a grace, and what gets none."""

from __future__ import annotations

from pathlib import Path

import pytest

from licd.daemon.recognition import warning
from licd.device.fingerprint import DEFAULT_SHARE, DEFAULT_WEIGHTS
from licd.license.binding import Binding
from licd.license.dates import FOREVER
from licd.license.terms import Standing
from tests.support.kiosk import (
    CLONE,
    DAY,
    GRACE,
    KIOSK,
    NEW_DISK,
    NEW_DISK_AND_OS_AND_CPU,
    NOW,
    SALT,
    Kiosk,
    Shop,
    bound,
)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    assert shop.look() == Standing("same")
    return shop


def test_the_same_device_is_the_same_in_any_boot(shop: Shop) -> None:
    assert shop.reboot(KIOSK) == Standing("same")
    assert shop.reboot({**KIOSK, "board_serial": ("NEW",), "disk": ("0", "A", "Z")}) == Standing("same")
    assert shop.reboot(NEW_DISK) == Standing("same")  # 40 of 70 are kept, 35 are needed


def test_a_changed_device_has_the_days_of_grace_and_not_one_second_more(shop: Shop) -> None:
    standing = shop.reboot(NEW_DISK_AND_OS_AND_CPU)
    assert (standing.kind, standing.until) == ("changed", NOW + GRACE)
    assert standing.reason == "30 of 70 are kept, 35 are needed (lost: disk, cpu, machine_id)"
    for days in (1, 6.9, 7, 8, 400):
        assert shop.reboot(NEW_DISK_AND_OS_AND_CPU, NOW + days * DAY).until == NOW + GRACE


def test_the_days_add_up_where_parts_go_back_and_forth(shop: Shop) -> None:
    shop.reboot(NEW_DISK_AND_OS_AND_CPU, NOW)
    assert shop.reboot(KIOSK, NOW + 3 * DAY) == Standing("same")
    assert shop.reboot(NEW_DISK_AND_OS_AND_CPU, NOW + 100 * DAY).until == NOW + 104 * DAY
    assert shop.reboot(KIOSK, NOW + 102 * DAY) == Standing("same")
    assert shop.reboot(NEW_DISK_AND_OS_AND_CPU, NOW + 200 * DAY).until == NOW + 202 * DAY
    shop.reboot(KIOSK, NOW + 300 * DAY)
    assert shop.reboot(NEW_DISK_AND_OS_AND_CPU, NOW + 400 * DAY).until < NOW + 400 * DAY


def test_another_file_begins_the_days_anew(shop: Shop) -> None:
    shop.reboot(NEW_DISK_AND_OS_AND_CPU, NOW)
    shop.file = bound(Kiosk(shop.folder), shop.folder, seq=2)
    assert shop.reboot(NEW_DISK_AND_OS_AND_CPU, NOW + 50 * DAY).until == NOW + 57 * DAY


def test_no_days_of_grace_are_none(tmp_path: Path) -> None:
    shop = Shop(tmp_path, grace_days=0)
    shop.look()
    standing = shop.reboot(NEW_DISK_AND_OS_AND_CPU)
    assert (standing.kind, standing.until) == ("changed", NOW)


def test_a_copy_has_no_grace_at_any_time_also_after_it_was_seen_before(shop: Shop) -> None:
    for _ in range(3):
        standing = shop.reboot(CLONE)
        assert (standing.kind, standing.until) == ("copy", -FOREVER)
        assert "none of the hardware" in str(standing.reason)
        assert "lost: disk, nic" in str(standing.reason)


def test_a_copy_of_a_changed_device_gets_nothing_of_its_grace(shop: Shop) -> None:
    shop.reboot(NEW_DISK_AND_OS_AND_CPU)
    assert shop.reboot(CLONE).until == -FOREVER
    assert shop.reboot(NEW_DISK_AND_OS_AND_CPU, NOW + DAY).until == NOW + GRACE


def test_weak_factors_alone_are_a_copy(shop: Shop) -> None:
    assert shop.reboot({"cpu": ("C",), "machine_id": ("M",)}).kind == "copy"


def test_what_may_not_be_read_counts_as_lost_under_its_own_name(shop: Shop) -> None:
    standing = shop.reboot(KIOSK, unreadable=("disk", "machine_id", "cpu"))
    assert (standing.kind, standing.until) == ("changed", NOW + GRACE)
    assert str(standing.reason).startswith(
        "30 of 70 are kept, 35 are needed (unreadable: disk, cpu, machine_id, which licd must be allowed to read"
    )
    assert shop.reboot(KIOSK, unreadable=("disk", "nic")).kind == "copy"


# --- a good verdict holds for the rest of its boot -----------------------------------------------------------


def test_a_good_verdict_holds_for_its_boot_and_ends_with_it(shop: Shop) -> None:
    assert shop.reboot(KIOSK, boot="boot-7") == Standing("same")
    for parts in (NEW_DISK_AND_OS_AND_CPU, CLONE, {}):
        assert shop.reboot(parts, boot="boot-7") == Standing("same")
    assert shop.reboot(CLONE, boot="boot-8").kind == "copy"


def test_a_verdict_that_was_bad_does_not_hold(shop: Shop) -> None:
    assert shop.reboot(NEW_DISK_AND_OS_AND_CPU, boot="boot-7").kind == "changed"
    assert shop.reboot(KIOSK, boot="boot-7") == Standing("same")
    assert shop.reboot(CLONE, boot="boot-9").kind == "copy"
    assert shop.reboot(KIOSK, boot="boot-9") == Standing("same")


def test_without_a_boot_id_nothing_holds(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.kiosk = Kiosk(tmp_path, KIOSK, None)
    assert shop.look() == Standing("same")
    shop.kiosk = Kiosk(tmp_path, KIOSK, None)
    shop.kiosk.show(CLONE)
    assert shop.look().kind == "copy"


def test_nothing_is_put_on_record_while_nothing_changes(shop: Shop) -> None:
    for parts in (KIOSK, NEW_DISK_AND_OS_AND_CPU):
        shop.reboot(parts, boot="boot-7")
        before = shop.records
        for hours in range(5):
            shop.look(NOW + hours * 3600)
        assert shop.records == before


# --- the key ---------------------------------------------------------------------------------------------------


def test_the_right_hardware_with_another_key_has_the_grace_and_says_why(shop: Shop) -> None:
    (shop.folder / "device.key").unlink()
    standing = shop.reboot(KIOSK)
    assert (standing.kind, standing.until) == ("other-key", NOW + GRACE)
    assert "another device key" in str(standing.reason)


def test_a_file_for_any_device_stands_anywhere_and_nothing_is_recorded_of_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.file = shop.file._replace(device=None)
    assert shop.reboot(CLONE) == Standing("any")
    assert shop.records == 0


def test_a_file_that_is_bound_to_nothing_matches_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert shop.file.device is not None
    shop.file = shop.file._replace(device=Binding(shop.file.device.key, SALT, {}, DEFAULT_WEIGHTS, DEFAULT_SHARE))
    assert shop.look().kind == "copy"


# --- words -----------------------------------------------------------------------------------------------------


def test_the_warning_says_what_happens_until_when_and_the_way_out() -> None:
    text = warning("acme", Standing("changed", NOW + GRACE, "lost: disk"), NOW)
    assert text is not None
    for part in ("acme", "WRONG_DEVICE", "changed", "lost: disk", "until 2026-06-09", "license-request export"):
        assert part in text
    stopped = warning("acme", Standing("changed", NOW, "lost: disk"), NOW)
    assert stopped is not None
    assert "have stopped" in stopped


@pytest.mark.parametrize("kind", ["any", "same"])
def test_the_right_device_is_no_warning(kind: str) -> None:
    assert warning("acme", Standing(kind), NOW) is None
