"""What this machine shows of itself: one reading for each factor of the fingerprint. Reads, and decides nothing.

A factor is *found*, *absent*, or *unreadable*: there, but not for this process. That is told apart because the remedy
is another: nobody can give a board a serial number, but a group can be given the right to read it.

Values are normalized, so that one part has one spelling whoever reads it, on whatever kernel:

    all             bytes that are no text and unprintable characters count as blanks
    serial numbers  upper case; blanks around dropped; blanks within, which udev writes as "_", become one "_"
    UUID, MAC       lower case. A UUID stays in the byte order that the kernel prints: SMBIOS 2.6 turned three fields
                    round, and the kernel, not we, knows by which version the firmware goes
    WWN             lower case hexadecimal digits without "naa." or "0x"; "eui." and "uuid." stay. "t10." and "nvme."
                    are no WWN: they are made of model and serial number

and a value that is a placeholder (placeholders.py) is no value. Which disks and network cards count: parts.py.
"""

from __future__ import annotations

import errno
import hmac
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from licd.device.fingerprint import ABSENT, FACTORS, FOUND, STRONG, UNREADABLE, Reading
from licd.device.parts import Candidate, disk, network_card
from licd.device.placeholders import NAME, SERIAL, UUID, WWN, placeholder
from licd.device.sysfs import DMI, read_text

if TYPE_CHECKING:
    from pyudev import Device

DMI_FILES = {
    "system_uuid": ("product_uuid", UUID),
    "board_serial": ("board_serial", SERIAL),
    "product_serial": ("product_serial", SERIAL),
    "chassis_serial": ("chassis_serial", SERIAL),
}

# licd's own, drawn once: no other program derives the same id from this machine's.
MACHINE_ID_APPLICATION = bytes.fromhex("5d0c2f4be1a94c7f9b36d8a27e415f93")


def read(root: Path = Path("/")) -> tuple[Reading, ...]:
    """One reading for each of FACTORS, in that order. Nothing that a machine can show makes it fail.

    root: what /proc and /etc are read below; /sys is the kernel's, always
    """
    return tuple(_reading(factor, root) for factor in FACTORS)


class _Nothing(Exception):
    """There is no value; the text says why."""


def _reading(factor: str, root: Path) -> Reading:
    try:
        return Reading(factor, FOUND, tuple(sorted(set(_values(factor, root)))))
    except _Nothing as nothing:
        return Reading(factor, ABSENT, note=str(nothing))
    except ImportError:
        return Reading(factor, UNREADABLE, note="libudev or pyudev is not installed")
    except OSError as error:
        return Reading(factor, UNREADABLE, note=os.strerror(error.errno) if error.errno else "it cannot be read")
    except ValueError:
        return Reading(factor, UNREADABLE, note="the kernel's answer makes no sense")


def _values(factor: str, root: Path) -> Iterator[str]:
    """At least one value.

    Errors: _Nothing; OSError, ImportError, ValueError: it cannot be read
    """
    if FACTORS[factor] in STRONG and not os.path.isdir("/sys/class"):  # not mounted here: no word about the machine
        raise FileNotFoundError(errno.ENOENT, "there is no /sys")
    if factor == "disk":
        return _of_all("block", disk, "no fixed disk shows a serial number or WWN")
    if factor == "nic":
        return _of_all("net", network_card, "no network card shows a permanent address")
    if factor == "cpu":
        return _cpu(root)
    if factor == "machine_id":
        return _machine_id(root)
    file, kind = DMI_FILES[factor]
    value = read_text(DMI / file)
    if value is None:
        raise _Nothing("the firmware gives none" if os.path.exists(DMI) else "this machine has no DMI")
    return _identities([Candidate("", kind, value)], "the firmware gives none")


def _cpu(root: Path) -> Iterator[str]:
    """The model, a weak factor: machines of a series share it.

    Source: proc_cpuinfo(5). Processors of different kinds in one machine (ARM) all take part
    """
    seen: dict[str, set[str]] = {}
    parts: set[str] = set()
    for block in (read_text(root / "proc/cpuinfo") or "").split("\n\n"):
        fields = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
            seen.setdefault(name.strip().lower(), set()).add(value.strip())
        part = [fields.get(f"cpu {name}", "") for name in ("implementer", "architecture", "variant", "part")]
        if all(part):
            parts.add("/".join(part))
    for values in (seen.get("model name"), parts, *(seen.get(name) for name in ("cpu model", "hardware", "processor"))):
        usable = sorted(value for value in values or () if placeholder(NAME, value) is None)
        if usable:
            yield " ".join("+".join(usable).split())
            return
    raise _Nothing("/proc/cpuinfo names no model")


def _machine_id(root: Path) -> Iterator[str]:
    """The machine id as this application sees it: the id itself is confidential.

    Source: machine-id(5), sd_id128_get_machine_app_specific(3)
    """
    text = (read_text(root / "etc/machine-id") or "").lower()
    try:
        machine_id = bytes.fromhex(text)
    except ValueError:
        machine_id = b""  # "uninitialized", before the first boot of an image is over
    if len(machine_id) != 16:
        raise _Nothing("/etc/machine-id holds no id")
    if placeholder(UUID, text):
        raise _Nothing("a placeholder: one byte all along")
    derived = bytearray(hmac.digest(machine_id, MACHINE_ID_APPLICATION, "sha256")[:16])
    derived[6] = derived[6] & 0x0F | 0x40  # it is made to be a random UUID, RFC 9562 5.4
    derived[8] = derived[8] & 0x3F | 0x80
    yield derived.hex()


def _of_all(subsystem: str, of_one: Callable[[Device], Iterable[Candidate]], none: str) -> Iterator[str]:
    """The identities of all devices of a subsystem.

    Errors: OSError, if none gave one and one could not be read
    """
    import pyudev  # noqa: PLC0415  # a machine without libudev has still the other factors

    found: list[Candidate] = []
    hidden: OSError | None = None
    for device in pyudev.Context().list_devices(subsystem=subsystem):
        try:
            found += of_one(device)
        except OSError as error:
            hidden = error
    try:
        yield from _identities(found, none)
    except _Nothing:
        if hidden is not None:
            raise hidden from None
        raise


def _identities(candidates: Iterable[Candidate], none: str) -> Iterator[str]:
    """The normalized values of those that are no placeholders.

    Errors: _Nothing, with the reason against the last one, or `none` where there was none at all
    """
    found = False
    for prefix, kind, raw in candidates:
        value = _normalized(kind, raw)
        why_not = None if value is None else placeholder(kind, value)
        if value is not None and why_not is None:
            found = True
            yield prefix + value
        elif why_not is not None:
            none = why_not if why_not == "empty" else f"a placeholder: {why_not}"
    if not found:
        raise _Nothing(none)


def _normalized(kind: str, raw: str) -> str | None:
    """The one spelling of a value; None if it is not of this kind after all."""
    text = " ".join(raw.replace("_", " ").split()) if kind == SERIAL else raw.strip().lower()
    if kind == SERIAL:
        return text.upper().replace(" ", "_")
    if kind == WWN:
        text = text.removeprefix("naa.").removeprefix("0x")
        digits = text.removeprefix("eui.").removeprefix("uuid.").replace("-", "")
        return text if digits and all(digit in "0123456789abcdef" for digit in digits) else None
    return text
