"""A machine of tests/vectors/machines as files, for a service of a real systemd: no umockdev gets into that.

What libudev and licd read of /sys, as folders, files and links; what udev knows, as its database; and the serial
numbers of the board for root only, as the kernel has them. libudev takes it for /sys with ENVIRONMENT set.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.support import machines
from tests.support.nspawn import Machine

PARTS = ("devices", "class", "block", "bus")  # of /sys
ENVIRONMENT = "SYSTEMD_DEVICE_VERIFY_SYSFS=0"
CLASSES = ("block", "net", "dmi", "nvme", "virtio-ports")  # the other subsystems of these machines are buses
FOR_ROOT = ("product_uuid", "product_serial", "board_serial", "chassis_serial")


def put_on(machine: Machine, name: str) -> None:
    """The container is the machine of this name, for services started from now on."""
    root = machine.path("/root/sys")
    for part in PARTS:
        (root / part).mkdir(parents=True)
    for device in (machines.folder(name) / "machine.umockdev").read_text("utf-8").strip().split("\n\n"):
        _add(root, machine.path("/run/udev/data"), device.splitlines())
    for part in PARTS:
        machine.run("mount", "--bind", f"/root/sys/{part}", f"/sys/{part}")


def _add(root: Path, database: Path, lines: list[str]) -> None:
    """One device, by the letters of umockdev-record(1)."""
    path = lines[0].removeprefix("P: ")
    folder = root / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = {}
    for line in lines[1:]:
        kind, value = line[0], line[3:]
        name, _, content = value.partition("=")
        target = folder / name
        if kind == "E":  # property
            known[name] = content
        elif kind == "A":  # attribute
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content.replace("\\n", "\n"), "utf-8")
            target.chmod(0o400 if name in FOR_ROOT else 0o444)
        elif kind == "H":  # attribute, in hexadecimal
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bytes.fromhex(content))
        elif kind == "L":  # link
            os.symlink(content, target)
    subsystem = known.pop("SUBSYSTEM")
    own = {key: value for key, value in known.items() if key in ("MAJOR", "MINOR", "DEVTYPE", "DRIVER", "INTERFACE")}
    (folder / "uevent").write_text("".join(f"{key}={value}\n" for key, value in own.items()))
    if subsystem in CLASSES:
        base, place = root / "class" / subsystem, root / "class" / subsystem
    else:
        base, place = root / "bus" / subsystem, root / "bus" / subsystem / "devices"
    place.mkdir(parents=True, exist_ok=True)
    os.symlink(os.path.relpath(base, folder), folder / "subsystem")
    os.symlink(os.path.relpath(folder, place), place / folder.name)
    if subsystem == "block":
        database.mkdir(parents=True, exist_ok=True)
        entries = "".join(f"E:{key}={value}\n" for key, value in known.items() if key not in own)
        (database / f"b{known['MAJOR']}:{known['MINOR']}").write_text(f"I:1\n{entries}")
