"""Whole machines as data, in tests/vectors/machines/NAME/, and the real licd reading them through umockdev.

machine.umockdev   /sys as umockdev-record(1) writes it, devices at least; see umockdev's README for the letters
root/              what of /proc, /etc and /run is read, as hardware.read(root) wants it
machine.json       {"about", "machine": [kind, name], "readings": READINGS, "changes": {NAME: CHANGE}}

READINGS: by factor, the values where it is found, else the note with "absent: " or "unreadable: " before it.

A CHANGE is an edit of these files: "replace" [[old, new], ...] in all of them (each must occur), "remove" [path, ...]
(devices of /sys with all below them, or files of root/), "add" (more devices), "reverse" true (the devices are listed,
and so found, in the opposite order). Its "verdict" says what a license bound to the unchanged machine makes of it under
the default weights: same | changed | copy, and "lost" which factors are gone. A machine after a change is named
"NAME: CHANGE".
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from licd.daemon.recognition import kind_of
from licd.device.fingerprint import FACTORS, FOUND, Reading, fingerprint, match

MACHINES = Path(__file__).parent.parent / "vectors" / "machines"
NAMES = sorted(path.parent.name for path in MACHINES.glob("*/machine.json"))

_scratch = tempfile.TemporaryDirectory(prefix="licd-machines-")
Path(_scratch.name).chmod(0o755)


@functools.cache
def described(name: str) -> dict[str, Any]:
    described: dict[str, Any] = json.loads((MACHINES / name / "machine.json").read_text("utf-8"))
    return described


def changes(name: str) -> list[str]:
    """The names of this machine after each of its changes."""
    return [f"{name}: {change}" for change in described(name)["changes"]]


@functools.cache
def folder(name: str) -> Path:
    """Where the machine of this name stands as files; for "NAME: CHANGE" made on the spot."""
    base, _, change_name = name.partition(": ")
    if not change_name:
        return MACHINES / base
    change = described(base)["changes"][change_name]
    made = Path(tempfile.mkdtemp(dir=_scratch.name))
    made.chmod(0o755)
    shutil.copytree(MACHINES / base, made, dirs_exist_ok=True)
    for path in change.get("remove", ()):
        if not path.startswith("/devices/"):
            (made / "root" / path).unlink()
    files = [made / "machine.umockdev", *(path for path in (made / "root").rglob("*") if path.is_file())]
    texts = {path: path.read_text("utf-8") for path in files if path.exists()}
    for old, new in change.get("replace", ()):
        assert any(old in text for text in texts.values()), f"{name}: nothing to replace: {old}"
        texts = {path: text.replace(old, new) for path, text in texts.items()}
    devices = texts[made / "machine.umockdev"].strip().split("\n\n")
    for path in change.get("remove", ()):
        if path.startswith("/devices/"):
            left = [device for device in devices if not f"{device.partition(chr(10))[0]}/".startswith(f"P: {path}/")]
            assert left != devices, f"{name}: nothing to remove: {path}"
            devices = left
    if "add" in change:
        devices += (MACHINES / base / change["add"]).read_text("utf-8").strip().split("\n\n")
    if change.get("reverse"):
        devices.reverse()
    texts[made / "machine.umockdev"] = "\n\n".join(devices) + "\n"
    for path, text in texts.items():
        path.write_text(text, "utf-8")
    return made


# umockdev-run before 0.17.17 adds this variable while a thread of its own reads the environment, and so dies of SIGSEGV
# once in a very long while (its issue 206). Where the variable is there already, the environment does not move.
UMOCKDEV_RUN = ("env", "UMOCKDEV_DIR=", "umockdev-run")


def wrap(name: str) -> Sequence[str]:
    """What goes before a command for it to see the /sys of this machine: Daemon(wrap=wrap("server")).

    /proc and /etc stay those of the real machine: cpu and machine_id do not change from one name to another.
    """
    return (*UMOCKDEV_RUN, "--device", str(folder(name) / "machine.umockdev"), "--")


# A tmpfs where the kernel has the DMI of the machine, in a mount namespace of its own, for there the files can have
# owners and modes: umockdev's have not. Network cards stay; disks and the rest of /sys/class are those of the machine.
DMI_FILES = """
set -e
kept=$(mktemp -d)
cp -a /sys/class/net /sys/class/block "$kept"
mount -t tmpfs tmpfs /sys/devices/virtual
mount -t tmpfs tmpfs /sys/class
chmod 755 /sys/devices/virtual /sys/class
cp -a "$kept"/* /sys/class
rm -r "$kept"
mkdir -p /sys/devices/virtual/dmi/id /sys/class/dmi
ln -s ../../devices/virtual/dmi/id /sys/class/dmi/id
cd /sys/devices/virtual/dmi/id
printf 'Fenwick' > sys_vendor
umask 377
for file in product_uuid product_serial board_serial chassis_serial; do
    case $file in
        product_uuid) echo 5D3C0B9A-8E17-4F26-A1D4-7B60C2E9F358 ;;
        *) echo "FW-$file-81723" ;;
    esac > $file
done
cd /
"""
DMI_FACTORS = [factor for factor, kind in FACTORS.items() if kind == "board"]


def with_dmi_files(script: str = "") -> Sequence[str]:
    """What goes before a command for it to see DMI files as the kernel makes them: serial numbers for root only.

    script: what root does first, in shell
    """
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", f'{DMI_FILES}\n{script}\nexec "$@"', "sh")


READ = """
import json, sys
from pathlib import Path
from licd.device import hardware, machine
root = Path(sys.argv[1])
print(json.dumps([hardware.read(root), machine.machine(root), machine.software(root)]))
"""


class Seen:
    """What licd.device.hardware made of a machine."""

    def __init__(self, output: str) -> None:
        readings, machine, software = json.loads(output)
        self.readings = tuple(Reading(factor, state, tuple(values), note) for factor, state, values, note in readings)
        self.machine: tuple[str, str | None] = tuple(machine)
        self.software: dict[str, str] = software

    def __getitem__(self, factor: str) -> Reading:
        return next(reading for reading in self.readings if reading.factor == factor)

    def tags(self, salt: bytes) -> dict[str, list[str]]:
        return fingerprint(self.readings, salt, FACTORS)

    @property
    def found(self) -> list[str]:
        return [reading.factor for reading in self.readings if reading.state == FOUND]


@functools.cache
def seen(name: str) -> Seen:
    """This machine, read by the real code in a process of its own."""
    return see(wrap(name), folder(name) / "root")


def see(before: Sequence[str], root: Path) -> Seen:
    """What hardware.py sees when run behind this command."""
    done = subprocess.run(
        [*before, sys.executable, "-c", READ, str(root)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONFAULTHANDLER": "1", "PYTHONPATH": str(MACHINES.parent.parent.parent)},
    )
    assert done.returncode == 0, f"exit status {done.returncode}:\n{done.stderr}"
    return Seen(done.stdout)


def verdict(
    bound: Seen, now: Seen, weights: dict[str, int], share: int, salt: bytes = b"salt"
) -> tuple[str, list[str]]:
    """same | changed | copy, and which bound factors are lost."""
    tags = {factor: each for factor, each in bound.tags(salt).items() if factor in weights}
    result = match(tags, weights, share, now.tags(salt))
    lost = [each.factor for each in result.factors if each.state != "kept"]
    return kind_of(result, own_key=True), lost
