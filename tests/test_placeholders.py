"""Which values are no identity. The lists are of values that were seen on many machines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licd.device.placeholders import CLASSES, MAC, NAME, SERIAL, SHARED_UUIDS, UUID, WORDS, WWN, folded, placeholder

SHARED = {
    SERIAL: [
        *("To be filled by O.E.M.", "To Be Filled By O.E.M", "TO_BE_FILLED_BY_O.E.M.", "To Be Filled", "Fill By OEM"),
        *("Default string", "Default_string", "DEFAULT STRING", "System Serial Number", "SystemSerialNumb"),
        *("Base Board Serial Number", "Type2 - Board Serial Number", "Chassis Serial Number", "Serial Number"),
        *("Not Specified", "Not Applicable", "Not Available", "None", "N/A", "NULL", "Unknown", "Unknow", "INVALID"),
        *("empty", "Empty", "OEM", "OEM_Serial", "No Asset Tag", "EVAL", "IATPASS", "Tulip Computers", "SKU", "."),
        *("0", "00000000", "0000000000000000", "1111111", "FFFFFFFFFF", "XXXXXXX", "xxxxxxxxxxx", "NNNNNNN", "-----"),
        *("0123456789", "123456789", "1234567890", "12345", "01234567890123456789", "12345678901234567", "9876543210"),
        *("0123456789ABCDEF", "ABCDEFGH", "123456789000", "MB-1234567890", "BSN12345678901234567", "SYS-9876543210"),
        *("SN-12345", "SN-1234567890", "Serial Number xxxxxx", "0x00000000", "0xffffffff", "0x12345678", "0xdeadbeef"),
        *("QM00001", "QM00013", "VMware NVME_0000", "BHYVE-1A2B-3C4D-5E6F", "deadbeef", "", "   ", "\t", "AB1"),
    ],
    UUID: [
        *("00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "Not Settable", "Not", "2"),
        *("03000200-0400-0500-0006-000700080009", "00020003-0004-0005-0006-000700080009", "Not Present", ""),
        *("01010101-0101-0101-0101-010101010101", "58585858-5858-5858-5858-585858585858"),
        *("fefefefe-fefe-fefe-fefe-fefefefefefe", "20202020-2020-2020-2020-202020202020"),
        *("6AB5B300-538D-1014-9FB5-B0684D007B53", "00b3b56a-8d53-1410-9fb5-b0684d007b53"),
        *("4c4c4544-0000-2010-8020-80c04f202020", "44454C4C-0000-1020-8020-80C04F202020"),
        *("00010203-0405-0607-0809-0a0b0c0d0e0f", "03020100-0504-0706-0809-0a0b0c0d0e0f"),
        *("12345678-1234-5678-90AB-CDDEEFAABBCC", "87cfbc92-ffff-ffff-ffff-ffffffffffff"),
    ],
    MAC: [
        *("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb", "33:33:00:00:00:01", "11:22:33:44:55:66"),
        *("00:00:5e:00:53:2a", "00:00:5e:00:01:0a", "00:11:22:33:44:55", "12:34:56:78:9a:bc", "de:ad:be:ef:00:01"),
        *("00:a0:c9:00:00:00", "88:88:88:88:87:88", "00:e0:4c:68:00:01", "00:03:7f:ba:db:ad", "00:90:4c:c5:12:38"),
        *("52:54:00:12:34:56", "52:54:00:12:34:58", "02:fc:00:00:00:01", "00:50:56:c0:00:08", "fe:ff:ff:ff:ff:ff"),
        *(
            "02:00:00:00:00:00",
            "00:00:00:00:00:01",
            "0a:00:27:00:00:00",
            "",
            "zz:zz",
            "00:11:22",
            "f4:52:14:03:00:7b:cb",
        ),
    ],
    WWN: [
        *("5000000000000000", "0000000000000000", "ffffffffffffffff", "5000000000000001", "5000c50000000000"),
        *("eui.0000000000000000", "eui.0100000000000000", "eui.00000000000000000000000000000000"),
        *("uuid.00000000-0000-0000-0000-000000000000", "eui.ffffffffffffffff", "eui.5254000000000001"),
    ],
    NAME: ["unknown", "0", "00/00"],
}

OWN = {
    SERIAL: [
        *(
            "F5R4M12",
            ".F5R4M12.CNPE1000AB00C7.",
            "CZC1234567",
            "S4EVNX0M512345",
            "PF0X1234",
            "WD-WCC4N1234567",
            "R9-0N3SH",
        ),
        *("VMware-56 4d 8a 1c 44 0e 9b 21-7c 3f d5 aa 10 62 e8 90", "VB0f3d6a51-9c27e4b8", "MT70C9K00107836", "1S20BU"),
        *(
            "0x4b1f93d7",
            "GoogleCloud-8D3E4F5A6B7C8D9E0F1A2B3C4D5E6F70",
            "0000-0008-1627-4417-4501-3904-72",
            "vol0a1b2c3d4e5f",
        ),
        *("NONE4711", "UNKNOWN-77A", "DEFAULT01", "123456A", "112233", "1234568", "SN12346", "QM000A1", "ABCDEFGI"),
    ],
    UUID: [
        *("4c4c4544-0046-3510-8052-b4c04f4d3132", "03d40274-0435-05dc-8506-010700080009"),
        *("76006b9c-c49c-0000-0000-000000000000", "564d8a1c-440e-9b21-7c3f-d5aa1062e890"),
    ],
    MAC: [
        *("3c:ec:ef:5a:10:c2", "00:e0:4c:9d:31:7b", "52:54:00:8d:3c:e1", "52:54:00:12:44:56", "00:50:56:9a:00:08"),
        *("ca:7d:31:0e:92:5b", "b8:27:eb:00:00:01", "00:a0:c9:00:00:01", "00:03:7f:11:20:53", "00:00:0c:12:34:57"),
    ],
    WWN: [
        *("50014ee2b5c7a1d0", "5000c500a1b2c3d4", "600508b1001c9d8e7f6a5b4c3d2e1f0a", "eui.0025385b01407d3a"),
        *("eui.01000000010000005cd2e4a1b2c35151", "uuid.0f0e0d0c-1b2a-4c3d-9e8f-a1b2c3d4e5f6", "5000c50000000001"),
    ],
    NAME: ["AMD EPYC", "QEMU Virtual CPU version 2.5+", "0x41/8/0x0/0xd03", "ARMv7 Processor rev 4 (v7l)"],
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in SHARED.items() for value in values])
def test_a_value_that_many_machines_share_is_a_placeholder(kind: str, value: str) -> None:
    assert placeholder(kind, value)


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in OWN.items() for value in values])
def test_a_value_of_one_machine_is_none(kind: str, value: str) -> None:
    assert placeholder(kind, value) is None


@pytest.mark.parametrize("kind", [SERIAL, UUID, MAC, WWN])
def test_every_class_of_placeholders_has_an_example_here(kind: str) -> None:
    """So that no rule stands that nothing needs, and none can be lost unnoticed."""
    reasons = {placeholder(kind, value) for value in SHARED[kind]}
    assert {each.reason for each in CLASSES if each.kind == kind} <= reasons


def test_the_lists_are_written_as_they_are_compared() -> None:
    assert all(folded(SERIAL, word) == word and word.isascii() for word in WORDS)
    assert all(len(uuid) == 32 and folded(UUID, uuid) == uuid for uuid in SHARED_UUIDS)


def test_reasons_never_hold_the_value() -> None:
    for values in SHARED.values():
        for kind in (SERIAL, UUID, MAC, WWN):
            for value in values:
                if len(value) > 5 and value != "empty":
                    assert value.lower() not in (placeholder(kind, value) or "")


@given(st.sampled_from([SERIAL, UUID, MAC, WWN, NAME]), st.text(max_size=80))
def test_no_text_at_all_makes_it_fail(kind: str, value: str) -> None:
    reason = placeholder(kind, value)
    assert reason is None or reason


@given(st.integers(0, 2**128 - 1))
def test_a_random_uuid_is_nobodys_placeholder(number: int) -> None:
    text = f"{number:032x}"
    uuid = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    if len(set(text)) > 4 and not text.endswith("f" * 24):
        assert placeholder(UUID, uuid) is None or text in SHARED_UUIDS


@given(st.text("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", min_size=10, max_size=20), st.sampled_from(["", " ", "-", "."]))
def test_blanks_dashes_and_case_make_no_difference(serial: str, between: str) -> None:
    spelled = between.join(serial).lower()
    assert placeholder(SERIAL, spelled) == placeholder(SERIAL, serial)
