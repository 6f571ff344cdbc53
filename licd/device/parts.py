"""Which of the parts in this machine can be told from others of their make, and by what.

Which disks count: what is screwed or soldered in. Not what is virtual, removable, on USB, FireWire or a Thunderbolt
cable, an SD card, optical, on the network (iSCSI, Fibre Channel, NVMe over fabrics), or part of another disk. Each
gives its serial number and its WWN, as two values.

Which network cards count: Ethernet and Wi-Fi, neither virtual nor on such a cable, nor a virtual function of another
card; and only by the address that the kernel calls permanent. Who sets or randomizes the address changes nothing.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from licd.device.placeholders import MAC, SERIAL, WWN
from licd.device.sysfs import printable, read_bytes, read_text

if TYPE_CHECKING:
    from pyudev import Device


class Candidate(NamedTuple):
    """What may be an identity, once it is normalized and known to be no placeholder. `prefix` goes before the value."""

    prefix: str
    kind: str
    raw: str


# --- disks -----------------------------------------------------------------------------------------------------

SCSI_DISKS = ("0", "14", "20")  # peripheral device types of SPC-5: disk, simplified disk, zoned disk


def disk(device: Device) -> Iterator[Candidate]:
    """By what this block device can be told, if it is a fixed disk.

    Errors: OSError, if it shows nothing and something could not be read
    """
    if not _is_fixed_disk(device):
        return
    path = Path(device.sys_path)
    properties = device.properties
    # Every source that answers, not the first: sources come and go with kernels and with udev's database, and a value
    # that was bound and is still among those shown keeps the disk.
    sources: tuple[tuple[str, Callable[[], str | None]], ...] = (
        (SERIAL, lambda: read_text(path / "serial")),  # virtio
        (SERIAL, lambda: read_text(path / "device/serial")),  # NVMe, eMMC
        (SERIAL, lambda: _unit_serial(path / "device/vpd_pg80")),  # SCSI and SATA
        # Of a SAS disk the short serial number is the WWN once more.
        (SERIAL, lambda: properties.get("ID_SCSI_SERIAL") or properties.get("ID_SERIAL_SHORT")),
        (WWN, lambda: read_text(path / "wwid")),
        (WWN, lambda: read_text(path / "device/wwid")),
        (WWN, lambda: properties.get("ID_WWN_WITH_EXTENSION") or properties.get("ID_WWN")),
    )
    shown = False
    hidden: OSError | None = None
    for kind, source in sources:
        try:
            value = source()
        except OSError as error:
            hidden = error
            continue
        if value:
            shown = True
            yield Candidate(f"{kind}:", kind, printable(value))
    if hidden is not None and not shown:
        raise hidden


def _is_fixed_disk(device: Device) -> bool:
    path = Path(device.sys_path)
    parent = device.parent
    if parent is None or parent.subsystem == "block":  # partitions, and the boot areas of an eMMC
        return False
    if read_text(path / "removable") == "1":
        return False
    if "/session" in device.sys_path or "/rport-" in device.sys_path:  # iSCSI, Fibre Channel
        return False
    if device.sys_path.startswith("/sys/devices/virtual/nvme-subsystem/"):
        # The one disk for all paths to an NVMe namespace. The paths show the same numbers, so they may count or not.
        return any(link.is_symlink() and "nvme-fabrics" not in os.readlink(link) for link in path.parent.glob("nvme*"))
    if device.sys_path.startswith("/sys/devices/virtual/") or _on_a_cable(device):
        return False
    if parent.subsystem == "mmc":
        return read_text(path / "device/type") == "MMC"  # soldered; "SD" is a card
    if parent.subsystem == "scsi":
        return read_text(path / "device/type") in SCSI_DISKS
    return True


def _on_a_cable(device: Device) -> bool:
    """Behind USB or FireWire, or what the firmware calls an external port (Thunderbolt)."""
    return any(
        ancestor.subsystem in ("usb", "firewire")
        or (ancestor.subsystem == "pci" and read_text(Path(ancestor.sys_path) / "removable") == "removable")
        for ancestor in device.ancestors
    )


def _unit_serial(path: Path) -> str | None:
    """The unit serial number out of a SCSI vital product data page (SPC-5 7.7.17)."""
    page = read_bytes(path)
    if page is None or len(page) < 4 or page[1] != 0x80:
        return None
    return page[4 : 4 + int.from_bytes(page[2:4], "big")].decode("utf-8", "surrogateescape").strip(" \0")


# --- network cards ---------------------------------------------------------------------------------------------

ARPHRD_ETHER = "1"  # <linux/if_arp.h>: Ethernet, and Wi-Fi
NET_ADDR_PERM = "0"  # <linux/netdevice.h>: the address is the card's own
SIOCGIFINDEX, SIOCETHTOOL = 0x8933, 0x8946  # <linux/sockios.h>
ETHTOOL_GPERMADDR = 0x20  # <linux/ethtool.h>
MAC_BYTES = 6


def network_card(device: Device) -> Iterator[Candidate]:
    """By what this network interface can be told, if it is a card."""
    path = Path(device.sys_path)
    if (
        device.sys_path.startswith("/sys/devices/virtual/")
        or os.path.exists(path / "device/physfn")  # a virtual function: made by software, and unmade
        or read_text(path / "type") != ARPHRD_ETHER
        or _on_a_cable(device)
    ):
        return
    address = _permanent_address(device.sys_name, read_text(path / "ifindex"))
    address = address or read_text(path / "bonding_slave/perm_hwaddr")
    if not address and read_text(path / "addr_assign_type") == NET_ADDR_PERM:
        address = read_text(path / "address")
    if address:
        yield Candidate("", MAC, address)


def _permanent_address(name: str, index: str | None) -> str | None:
    """What the kernel says the card was made with; None if it does not say.

    index: of the interface in /sys. In another network namespace the same name can be another interface
    Source: ETHTOOL_GPERMADDR, which any user may ask, on any socket
    """
    answer = ctypes.create_string_buffer(struct.pack("=II32x", ETHTOOL_GPERMADDR, 32))
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asked:
            found = fcntl.ioctl(asked, SIOCGIFINDEX, struct.pack("16s24x", os.fsencode(name)))
            if str(struct.unpack_from("=i", found, 16)[0]) != index:
                return None
            fcntl.ioctl(asked, SIOCETHTOOL, struct.pack("16sP16x", os.fsencode(name), ctypes.addressof(answer)))
    except OSError:
        return None
    size = struct.unpack_from("=I", answer.raw, 4)[0]
    address = answer.raw[8 : 8 + MAC_BYTES]
    return address.hex(":") if size == MAC_BYTES and any(address) else None
