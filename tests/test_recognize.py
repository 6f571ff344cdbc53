"""Which known device a license request comes from: what can happen to a device, and the vendor's verdict."""

from __future__ import annotations

import pytest

from licd.device.fingerprint import DEFAULT_SHARE, DEFAULT_WEIGHTS
from licd_vendor.recognize import CHANGED, REIMAGED, SAME, UNKNOWN, Seen, lost, recognize
from licd_vendor.tables import Device

HARDWARE = {
    "system_uuid": ["000001"],
    "board_serial": ["000002"],
    "disk": ["000003"],
    "nic": ["000004", "000005"],
    "cpu": ["000006"],
    "machine_id": ["000007"],
}
OTHER = {factor: [f"{n:x}ffff0" for n, _ in enumerate(tags, 1)] for factor, tags in HARDWARE.items()}


def device(id: int = 1, key: str = "key", fingerprint: dict[str, list[str]] = HARDWARE) -> Device:
    return Device(id=id, key=key, fingerprint=fingerprint, weights=DEFAULT_WEIGHTS, share=DEFAULT_SHARE)


def seen(key: str = "key", **changes: list[str]) -> Seen:
    return Seen(key, HARDWARE | changes, (), DEFAULT_WEIGHTS.keys())


def others(*factors: str) -> dict[str, list[str]]:
    return {factor: OTHER[factor] for factor in factors}


@pytest.mark.parametrize(
    ("change", "same_key", "other_key"),
    [
        pytest.param((), SAME, REIMAGED, id="nothing"),
        pytest.param(("disk",), SAME, REIMAGED, id="disk"),
        pytest.param(("nic",), SAME, REIMAGED, id="network card"),
        pytest.param(("machine_id", "cpu"), SAME, REIMAGED, id="system and processor"),
        pytest.param(("system_uuid", "board_serial"), SAME, REIMAGED, id="board"),
        pytest.param(("disk", "nic"), SAME, REIMAGED, id="disk and network card"),
        pytest.param(("disk", "nic", "cpu"), CHANGED, UNKNOWN, id="disk, network card and processor"),
        pytest.param(("system_uuid", "board_serial", "disk"), CHANGED, UNKNOWN, id="board and disk"),
        pytest.param(tuple(HARDWARE), CHANGED, UNKNOWN, id="everything"),
    ],
)
def test_a_change_of_hardware_with_the_same_key_and_with_another(
    change: tuple[str, ...], same_key: str, other_key: str
) -> None:
    known = [device()]
    assert recognize(seen("key", **others(*change)), known).how == same_key
    assert recognize(seen("another", **others(*change)), known).how == other_key


def test_without_any_known_device_it_is_unknown() -> None:
    assert recognize(seen(), []) == (UNKNOWN, None, None)


def test_the_key_decides_before_the_hardware() -> None:
    known = [device(1, "another", HARDWARE), device(2, "key", OTHER)]
    found = recognize(seen(), known)
    assert (found.how, found.device) == (CHANGED, known[1])


def test_of_several_devices_that_fit_it_is_the_one_of_which_most_is_kept() -> None:
    known = [device(1, "a", HARDWARE | others("disk")), device(2, "b"), device(3, "c", HARDWARE | others("nic"))]
    assert recognize(seen("d"), known).device is known[1]


def test_of_several_devices_that_fit_alike_it_is_the_first() -> None:
    known = [device(2, "b"), device(1, "a")]
    assert recognize(seen("d"), known).device is known[1]


def test_weak_factors_alone_never_make_another_key_a_known_device() -> None:
    weak = {factor: HARDWARE[factor] for factor in ("cpu", "machine_id")}
    assert recognize(Seen("d", weak, (), DEFAULT_WEIGHTS.keys()), [device(1, "a", weak)]).how == UNKNOWN


def test_a_factor_that_is_not_asked_for_any_more_is_not_lost() -> None:
    asked = ("disk", "cpu")
    now = Seen("key", {factor: HARDWARE[factor] for factor in asked}, (), asked)
    found = recognize(now, [device()])
    assert found.match is not None
    assert (found.how, found.match.kept, found.match.bound) == (SAME, 35, 35)


def test_a_device_of_which_nothing_is_asked_for_is_not_recognized() -> None:
    assert (
        recognize(Seen("key", {"disk": ["000003"]}, (), ["disk"]), [device(fingerprint={"cpu": ["0"]})]).how == CHANGED
    )


def test_what_is_missing_is_said_in_words() -> None:
    now = Seen("key", HARDWARE | others("disk"), ["nic"], DEFAULT_WEIGHTS.keys())
    found = now._replace(fingerprint={k: v for k, v in now.fingerprint.items() if k != "nic"}).compared(device())
    assert lost(found) == "weight 60 of 120 is kept, 60 is needed; not kept: disk (lost), nic (unreadable)"
