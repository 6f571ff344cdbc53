"""What kind of machine this is, and what software it runs: what a license request says besides the fingerprint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from licd import __version__
from licd.device.sysfs import DMI, try_text

PHYSICAL, VM, CONTAINER = "physical", "vm", "container"

# How the DMI of a hypervisor begins: sys_vendor, product_name, board_vendor, bios_vendor. Source: systemd's detect-virt
HYPERVISORS = {
    "KVM": "kvm",
    "OpenStack": "kvm",
    "KubeVirt": "kvm",
    "Amazon EC2": "amazon",
    "QEMU": "qemu",
    "VMware": "vmware",
    "VMW": "vmware",
    "innotek GmbH": "oracle",
    "VirtualBox": "oracle",
    "Xen": "xen",
    "Bochs": "bochs",
    "Parallels": "parallels",
    "BHYVE": "bhyve",
    "Hyper-V": "microsoft",
    "Apple Virtualization": "apple",
    "Google Compute Engine": "google",
}
DEVICE_TREE_HYPERVISORS = {"linux,kvm": "kvm", "xen": "xen", "vmware": "vmware"}


class Machine(NamedTuple):
    """kind: physical | vm | container; name: which, as systemd-detect-virt(1) has it, None where that is unknown."""

    kind: str
    name: str | None


def machine(root: Path = Path("/")) -> Machine:
    """Whether this is a machine at all. A container in a virtual machine is a container."""
    container = _container(root)
    if container is not None:
        return Machine(CONTAINER, container or None)
    hypervisor = _hypervisor(root)
    return Machine(PHYSICAL, None) if hypervisor is None else Machine(VM, hypervisor or None)


def _container(root: Path) -> str | None:
    """Its name, "" if it has none; None: this is no container. Source: systemd's container interface"""
    for file in ("run/host/container-manager", "run/systemd/container"):
        said = try_text(root / file)
        if said:
            return _word(said)
    for variable in (try_text(root / "proc/1/environ", keep="\0") or "").split("\0"):  # for root only
        name, _, value = variable.partition("=")
        if name == "container" and value:
            return _word(value)
    if os.path.exists(root / "run/.containerenv"):
        return "podman"
    if os.path.exists(root / ".dockerenv"):
        return "docker"
    if "microsoft" in (try_text(root / "proc/sys/kernel/osrelease") or "").lower():
        return "wsl"
    return None


def _hypervisor(root: Path) -> str | None:
    """Its name, "" if it has none; None: there is none."""
    if try_text(Path("/sys/hypervisor/type")) == "xen":
        # The first domain is the machine's owner: it sees the hardware itself.
        return None if "control_d" in (try_text(root / "proc/xen/capabilities") or "") else "xen"
    if (try_text(DMI / "product_name") or "").endswith(".metal"):  # Amazon's bare machines call themselves EC2 too
        return None
    for file in ("sys_vendor", "product_name", "board_vendor", "bios_vendor", "product_version"):
        value = try_text(DMI / file) or ""
        for begin, name in HYPERVISORS.items():
            if value.startswith(begin):
                return "kvm" if name == "qemu" and _has_kvm_clock() else name
    if try_text(DMI / "sys_vendor") == "Microsoft Corporation" and try_text(DMI / "product_name") == "Virtual Machine":
        return "microsoft"
    compatible = try_text(root / "proc/device-tree/hypervisor/compatible")
    if compatible is not None:
        return DEVICE_TREE_HYPERVISORS.get(compatible.strip(" \0"), "")
    for line in (try_text(root / "proc/cpuinfo") or "").splitlines():
        if line.startswith("flags") and " hypervisor " in f"{line} ":
            return "kvm" if _has_kvm_clock() else ""
    return None


def _has_kvm_clock() -> bool:
    clocks = try_text(Path("/sys/devices/system/clocksource/clocksource0/available_clocksource"))
    return "kvm-clock" in (clocks or "")


def software(root: Path = Path("/")) -> dict[str, str]:
    """What a license request says of the software: no names and no addresses.

    Shape:  os, os_version (of os-release(5), "" where unknown), architecture, licd: each at most 64 characters
    """
    release = {}
    text = try_text(root / "etc/os-release") or try_text(root / "usr/lib/os-release") or ""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        release[name.strip()] = _word(value.strip().strip("\"'"))
    return {
        "os": release.get("ID") or "linux",  # os-release(5): the default
        "os_version": release.get("VERSION_ID", ""),
        "architecture": _word(os.uname().machine),
        "licd": _word(__version__),
    }


def _word(text: str) -> str:
    """The text, if it is one word of a kind that can hold nothing private; else ""."""
    plain = text.isascii() and all(character.isalnum() or character in "._-+~" for character in text)
    return text if plain and len(text) <= 64 else ""
