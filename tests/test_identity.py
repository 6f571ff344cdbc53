"""The device key: one secret, a key a vendor, and whether it is the image of another machine."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from licd.device import identity
from licd.device.fingerprint import ABSENT, FOUND, UNREADABLE, Reading
from licd.license.install import public_key

SERVER = (
    Reading("system_uuid", FOUND, ("4c4c4544-0042-3510-8052-b4c04f4e4d32",)),
    Reading("board_serial", FOUND, ("BOARD7788",)),
    Reading("disk", FOUND, ("serial:DISK-A", "wwn:0x5000c500a1b2c3d4")),
    Reading("nic", FOUND, ("00:1b:21:aa:bb:cc",)),
    Reading("cpu", FOUND, ("AN ORDINARY CPU",)),
    Reading("machine_id", FOUND, ("0123",)),
)


def changed(**readings: tuple[str, ...] | str) -> tuple[Reading, ...]:
    """The server with other values of some factors, or with the state given in place of values."""
    return tuple(
        each
        if (now := readings.get(each.factor)) is None
        else Reading(each.factor, now)
        if isinstance(now, str)
        else Reading(each.factor, FOUND, now)
        for each in SERVER
    )


def test_the_key_of_a_vendor_is_always_the_same_and_of_no_other_vendor() -> None:
    mine = identity.make(SERVER)
    assert public_key(mine.key("acme")) == public_key(mine.key("acme"))
    assert public_key(mine.key("acme")) != public_key(mine.key("umbra"))
    assert public_key(mine.key("acme")) != public_key(identity.make(SERVER).key("acme"))


def test_what_is_saved_is_loaded_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    mine, path = identity.make(SERVER), tmp_path / "device.key"
    identity.save(path, mine)
    assert identity.load(path) == mine
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["device.key"]


def test_no_file_is_no_identity(tmp_path: Path) -> None:
    assert identity.load(tmp_path / "device.key") is None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"null", b"[]", b"\x00" * 100, b"[" * 10000, b'{"licd": 1}',
        b'{"licd":1,"type":"device-key","secret":"AAAA","salt":"AAAA","machine":{}}',
        b'{"licd":1,"type":"device-key","secret":7,"salt":"AAAA","machine":{}}',
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_damaged_and_stays_as_it_is(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "device.key"
    path.write_bytes(data)
    with pytest.raises(identity.Damaged):
        identity.load(path)
    assert path.read_bytes() == data


def test_a_fifo_in_the_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "device.key")
    with pytest.raises(OSError, match="no regular file"):
        identity.load(tmp_path / "device.key")


@pytest.mark.parametrize("member", ["licd", "type", "secret", "salt", "machine"])
def test_a_member_that_is_missing_is_damage(tmp_path: Path, member: str) -> None:
    path = tmp_path / "device.key"
    identity.save(path, identity.make(SERVER))
    value = json.loads(path.read_bytes())
    del value[member]
    path.write_text(json.dumps(value))
    with pytest.raises(identity.Damaged):
        identity.load(path)


def test_no_value_of_a_factor_stands_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    identity.save(path, identity.make(SERVER))
    text = path.read_text().lower()
    for reading in SERVER:
        for value in reading.values:
            assert value.lower() not in text
            assert value.encode().hex() not in text


# --- the image of another machine ----------------------------------------------------------------------------

OTHER = changed(
    system_uuid=("11111111-2222-3333-4444-555566667777",), board_serial=("BOARD9",), disk=("serial:B",),
    nic=("00:1b:21:00:00:01",),
)  # fmt: skip


def test_other_hardware_altogether_is_another_machine() -> None:
    assert identity.make(SERVER).is_of_another_machine(OTHER)


def test_the_same_machine_is_not() -> None:
    assert not identity.make(SERVER).is_of_another_machine(SERVER)


def test_one_strong_factor_that_is_kept_makes_it_the_same_machine() -> None:
    for kept in ("system_uuid", "board_serial", "disk", "nic"):
        mixed = tuple(was if was.factor == kept else now for was, now in zip(SERVER, OTHER, strict=True))
        assert not identity.make(SERVER).is_of_another_machine(mixed), kept


def test_weak_factors_decide_nothing() -> None:
    same_image = changed(cpu=("ANOTHER CPU",), machine_id=("4567",))
    assert not identity.make(SERVER).is_of_another_machine(same_image)
    assert identity.make(SERVER).is_of_another_machine(OTHER)  # whose CPU and machine id are those of the server


def test_what_may_not_be_read_is_no_evidence_of_another_machine() -> None:
    unread = tuple(now if now.factor != "board_serial" else Reading("board_serial", UNREADABLE) for now in OTHER)
    assert not identity.make(SERVER).is_of_another_machine(unread)


def test_a_machine_that_shows_nothing_is_no_evidence() -> None:
    nothing = tuple(Reading(each.factor, ABSENT) for each in SERVER)
    assert not identity.make(SERVER).is_of_another_machine(nothing)
    assert not identity.make(nothing).is_of_another_machine(SERVER)


def test_it_follows_a_machine_whose_parts_are_replaced_one_by_one() -> None:
    mine = identity.make(SERVER)
    machine = list(SERVER)
    for n, part in enumerate(OTHER):
        machine[n] = part
        assert not mine.is_of_another_machine(machine)
        mine = mine.seen_on(machine)
    assert mine.is_of_another_machine(SERVER)
    assert mine.secret == mine.seen_on(SERVER).secret


def test_what_may_not_be_read_for_a_while_is_not_forgotten() -> None:
    mine = identity.make(SERVER).seen_on(changed(disk=UNREADABLE))
    assert not mine.is_of_another_machine(
        tuple(was if was.factor == "disk" else now for was, now in zip(SERVER, OTHER, strict=True))
    )
