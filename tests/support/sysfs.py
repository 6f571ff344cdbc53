"""A machine of tests/vectors/machines as files, for a service of a real systemd: no umockdev gets into that.

What libudev and licd read of /sys, as folders, files and links; what udev knows, as its database; and the serial
numbers of the board for root only, as the kernel has them. libudev takes it for /sys with ENVIRONMENT set.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.support import machines
from tests.support.nspawn import Machine

ENVIRONMENT = "SYSTEMD_DEVICE_VERIFY_SYSFS=0"
FOR_ROOT = ("product_uuid", "product_serial", "board_serial", "chassis_serial")


def put_on(machine: Machine, name: str) -> None:
    """The container is the machine of this name, for services started from now on."""
    root = machine.path("/root/sys")
    for part in ("devices", "class", "block", "bus"):
        (root / part).mkdir(parents=True)
    for device in (machines.folder(name) / "machine.umockdev").read_text("utf-8").strip().split("\n\n"):
        _add(root, machine.path("/run/udev/data"), device.splitlines())
    for part in ("devices", "class", "block", "bus"):
        machine.run("mount", "--bind", f"/root/sys/{part}", f"/sys/{part}")


def _add(root: Path, database: Path, lines: list[str]) -> None:
    path = lines[0].removeprefix("P: ")
    folder = root / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = {}
    for line in lines[1:]:
        kind, value = line[0], line[3:]
        name, _, content = value.partition("=")
        target = folder / name
        if kind == "E":
            known[name] = content
        elif kind == "A":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content.replace("\\n", "\n"), "utf-8")
            target.chmod(0o400 if name in FOR_ROOT else 0o444)
        elif kind == "H":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bytes.fromhex(content))
        elif kind == "L":
            os.symlink(content, target)
    subsystem = known.pop("SUBSYSTEM")
    own = {key: value for key, value in known.items() if key in ("MAJOR", "MINOR", "DEVTYPE", "DRIVER", "INTERFACE")}
    (folder / "uevent").write_text("".join(f"{key}={value}\n" for key, value in own.items()))
    up = "../" * (len(folder.relative_to(root).parts))
    base = f"class/{subsystem}" if subsystem in ("block", "net", "dmi", "nvme", "virtio-ports") else f"bus/{subsystem}"
    os.symlink(f"{up}{base}", folder / "subsystem")
    place = root / base if base.startswith("class/") else root / base / "devices"
    place.mkdir(parents=True, exist_ok=True)
    back = "../" * len(place.relative_to(root).parts)
    os.symlink(f"{back}{folder.relative_to(root)}", place / folder.name)
    if subsystem == "block":
        database.mkdir(parents=True, exist_ok=True)
        entries = "".join(f"E:{key}={value}\n" for key, value in known.items() if key not in own)
        (database / f"b{known['MAJOR']}:{known['MINOR']}").write_text(f"I:1\n{entries}")
