"""Values that stand where an identity should and are none, because many machines show the same. Pure.

A serial number of "To be filled by O.E.M." must not count: every board of that maker has it, and a copy of the disk on
another such board would look like the same device. So what is known to be shared is no value at all. The opposite error
is cheaper, an honest odd number that is dropped takes one factor from one device: in doubt a rule is wide.

Sources of the lists, besides the specifications named below: the blacklist that the inventory GLPI ships, FreeBSD's
rc.d/hostid, cloud-init's list of MAC addresses (its pull request 6991), the defaults in QEMU's and VirtualBox' source.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

SERIAL, UUID, MAC, WWN, NAME = "serial", "uuid", "mac", "wwn", "name"  # kinds of value

LEAST_CHARACTERS = 4  # a serial number that tells a maker's machines apart is longer; "0", "N/A", "OEM" are not

# Words, blanks and punctuation left out, that makers' tools and firmware show for "nobody entered anything".
WORDS = frozenset(
    [
        "tobefilledbyoem",
        "tobefilledbyoemtobefilledbyoem",
        "tobefilled",
        "tobefilledin",
        "filledbyoem",
        "fillbyoem",
        "tobesetbyoem",
        "tobedefined",
        "tobedefinedbyoem",
        "oem",
        "oemserial",
        "oemserialnumber",
        "oemdefault",
        "oemdefaultstring",
        "oemstring",
        "defaultbyoem",
        "default",
        "defaultstring",
        "defaultvalue",
        "defaultserial",
        "defaultserialnumber",
        "string",
        "systemserialnumber",
        "systemserialnumb",
        "systemserial",
        "sysserialnumber",
        "productserialnumber",
        "baseboardserialnumber",
        "boardserialnumber",
        "boardserial",
        "motherboardserialnumber",
        "type2boardserialnumber",
        "mbserialnumber",
        "chassisserialnumber",
        "chassisserial",
        "enclosureserialnumber",
        "type3chassisserialnumber",
        "serialnumber",
        "serialnum",
        "serialno",
        "serial",
        "noserial",
        "noserialnumber",
        "invalidserialnumber",
        "unknownserialnumber",
        "assettag",
        "assettagnumber",
        "noassettag",
        "noassetinformation",
        "noassettagnumber",
        "systemassettag",
        "chassisassettag",
        "notspecified",
        "notapplicable",
        "notavailable",
        "notassigned",
        "notdefined",
        "notset",
        "notsettable",
        "notpresent",
        "notprovided",
        "notprogrammed",
        "notused",
        "notsupported",
        "notfilled",
        "notinstalled",
        "unspecified",
        "undefined",
        "unassigned",
        "unset",
        "uninitialized",
        "none",
        "null",
        "unknown",
        "unknow",
        "empty",
        "blank",
        "invalid",
        "dummy",
        "test",
        "sample",
        "example",
        "standard",
        "generic",
        "placeholder",
        "reserved",
        "eval",
        "evaluation",
        "engineering",
        "prototype",
        "iatpass",
        "tulipcomputers",
        "sn123456fvgv3i0b8o5n6n7k",
        "systemmanufacturer",
        "systemproductname",
        "systemname",
        "productname",
        "deadbeef",
        "cafebabe",
    ]
)
LABELS = (
    r"(?:0x|oem|serial(?:number|no)?|asset|sys|mb|bsn|csn|bss|psn|msn|ssn|sn|no|nb|pc)?"  # before the number itself
)

# As either byte order shows them: SMBIOS 2.6 turned the first three fields round, and not all firmware noticed.
SHARED_UUIDS = frozenset(
    """
    03000200-0400-0500-0006-000700080009 00010203-0405-0607-0809-0a0b0c0d0e0f 07090201-0103-0301-0807-060504030201
    4c4c4544-0000-2010-8020-80c04f202020 6ab5b300-538d-1014-9fb5-b0684d007b53 890e2d14-cacd-45d1-ae66-bc80e8bfeb0f
    8e275844-178f-44a8-aceb-a7d7e5178c63 dc698397-fa54-4cf2-82c8-b1b5307a6a7f 11111111-2222-3333-4444-555555555555
    12345678-1234-5678-90ab-cddeefaabbcc 12345678-1234-1234-1234-123456789abc 12345678-1234-5678-1234-567812345678
    01234567-89ab-cdef-0123-456789abcdef deadbeef-dead-beef-dead-beefdeadbeef
    """.replace("-", "").split()
)


class Class(NamedTuple):
    """One class of placeholders. `pattern` matches the whole folded value (see folded()).

    reason: completes "a placeholder: ..." and never holds the value
    """

    kind: str
    reason: str
    pattern: str


CLASSES = (
    Class(SERIAL, "it has fewer than four letters and digits", r".{0,3}"),
    Class(SERIAL, "a number that a hypervisor gives every machine", r"qm\d{5}|0xdeadbeef|vmwarenvme0+\d?"),
    # bhyve makes it of the image file's path, the same wherever the image lies in the same folder.
    Class(SERIAL, "a number made of a file's name", r"bhyve[0-9a-f]{12}"),
    Class(UUID, "it is no UUID", r"(?![0-9a-f]{32}$).*"),
    Class(UUID, "one byte all along", r"(..)\1{15}"),
    # Only the first four bytes were ever written into the flash memory, which is erased to all ones.
    Class(UUID, "most of it was never written", r".*f{24}"),
    Class(MAC, "it is no MAC address of six bytes", r"(?![0-9a-f]{12}$).*"),
    Class(MAC, "a group address, which no card has", r".[13579bdf].*"),  # IEEE 802: the lowest bit of the first byte
    Class(MAC, "one byte all along", r"(..)\1{5}"),
    Class(MAC, "an address from a manual", r"00005e0053..|0123456789..|00deadbeef..|deadbeef....|aabbccddeeff"),
    Class(
        MAC,
        "an address from a manual",
        r"001122334455|00aabbccddee|00a1b2c3d4e5|021122334455|123456789abc|0a1b2c3d4e5f",
    ),
    Class(MAC, "an address from a manual", r"000102030405|020304050607|020102030405|020000000[0-9a-f]{3}|0000000000.."),
    Class(MAC, "a virtual router's address", r"00005e000[12].."),  # RFC 5798 7.3
    # What a chip answers with before its maker's customer has written an address into it.
    Class(MAC, "the chip maker's default", r"00a0c9000000|888888888788"),  # Intel I225, I226; I219
    Class(MAC, "the chip maker's default", r"00e04c(?:6800|3600|0000)..|00e04c123456"),  # Realtek
    Class(MAC, "the chip maker's default", r"00037f(?:badbad|123456|0000..)|00037fffffff"),  # Qualcomm Atheros
    Class(MAC, "the chip maker's default", r"00904c(?:c5....|112233|000000)|001018000000"),  # Broadcom
    Class(MAC, "the chip maker's default", r"000a3500(?:0[0-9a-f]..)|044b808080..|005043000000|00a0c6000000"),  # others
    Class(
        MAC, "an address that a hypervisor gives every machine", r"5254001234..|005056c000..|0a002700....|feffffffffff"
    ),
    Class(
        MAC, "an address that a hypervisor gives every machine", r"aafc000000..|02fc000000..|000bcafe0000|028037ec0200"
    ),
    Class(WWN, "it has no number in it", r"5[0-9a-f]{6}0{9}|(?:eui\.|uuid\.)?f+"),  # an OUI and zeros: IEEE's NAA 5
    Class(
        WWN, "a number that a hypervisor gives every machine", r"eui\.525400000000[0-9a-f]{4}"
    ),  # QEMU's eui64-default
)


def placeholder(kind: str, value: str) -> str | None:
    """Why this value, normalized or raw, is no identity; None if it is one."""
    if not value.strip():
        return "empty"
    core = folded(kind, value)
    if kind in (SERIAL, NAME):
        if core in WORDS:
            return "words that stand for no value"
        number = re.sub(f"^{LABELS}", "", core)
        if _one_character(core) or (number and _one_character(number)):
            return "one character all along"
        if _counts(number) or re.fullmatch(r"123456789?0{2,}", number):
            return "digits in their order"
    elif kind == UUID and (core in SHARED_UUIDS or _turned(core) in SHARED_UUIDS):
        return "a UUID that whole series of boards share"
    elif kind == WWN and sum(digit != "0" for digit in core.rpartition(".")[2]) <= 2:
        return "it has no number in it"  # an authority's digit and zeros: 5000000000000000, eui.0100000000000000
    for each in CLASSES:
        if each.kind == kind and re.fullmatch(each.pattern, core):
            return each.reason
    return None


def folded(kind: str, value: str) -> str:
    """What is compared: lower case, and nothing but letters and digits (of a WWN also its dot)."""
    kept = "." if kind == WWN else ""
    return "".join(character for character in value.lower() if character.isalnum() or character in kept)


def _one_character(text: str) -> bool:
    return len(set(text)) == 1


def _counts(text: str) -> bool:
    """Whether each character follows the one before, or each precedes it: 0123456789, 890123, 123456789ABC, 987654."""
    if len(text) < LEAST_CHARACTERS:
        return False
    pairs = [*itertools.pairwise(text)]
    return all(_follows(*pair) for pair in pairs) or all(_follows(second, first) for first, second in pairs)


def _follows(first: str, second: str) -> bool:
    return first + second in ("90", "9a") or ord(second) - ord(first) == 1


def _turned(digits: str) -> str:
    """The 32 digits of a UUID with its first three fields in the other byte order."""

    def turned(field: str) -> str:
        return "".join(reversed([field[at : at + 2] for at in range(0, len(field), 2)]))

    return turned(digits[:8]) + turned(digits[8:12]) + turned(digits[12:16]) + digits[16:]
