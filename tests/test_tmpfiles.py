"""systemd/licd.tmpfiles by the real systemd-tmpfiles, on DMI files as the kernel makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from licd.device.fingerprint import ABSENT, FOUND, UNREADABLE
from tests.support import machines
from tests.support.needs import needs_root, needs_systemd

TMPFILES = Path(__file__).parent.parent / "systemd" / "licd.tmpfiles"
GROUP, USER = 64123, 64124


def applied(folder: Path) -> str:
    """Root's script: there is a group licd, and the file is applied."""
    groups = folder / "group"
    groups.write_text(f"{Path('/etc/group').read_text().rstrip()}\nlicd:x:{GROUP}:\n")
    return f"mount --bind {groups} /etc/group\nsystemd-tmpfiles --create {TMPFILES}"


@needs_root
@needs_systemd
def test_the_group_reads_the_serial_numbers_and_nobody_else_does(folder: Path) -> None:
    before = machines.with_dmi_files(applied(folder))
    member = machines.see((*before, "setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={GROUP}"), Path("/"))
    other = machines.see((*before, "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"), Path("/"))
    assert [member[factor].state for factor in machines.DMI_FACTORS] == [FOUND] * 4
    assert [other[factor].state for factor in machines.DMI_FACTORS] == [UNREADABLE] * 4


@needs_root
@needs_systemd
def test_the_files_stay_roots_and_nobody_may_write_them(folder: Path) -> None:
    show = ("sh", "-c", "stat -c '%n %a %u %g' /sys/class/dmi/id/*")
    shown = subprocess.run(
        [*machines.with_dmi_files(applied(folder)), *show], capture_output=True, text=True, check=True
    ).stdout
    modes = {Path(name).name: mode for name, _, mode in (line.partition(" ") for line in shown.splitlines())}
    serials = ("product_uuid", "product_serial", "board_serial", "chassis_serial")
    assert modes == {**dict.fromkeys(serials, f"440 0 {GROUP}"), "sys_vendor": "644 0 0"}


@needs_root
@needs_systemd
def test_a_machine_without_dmi_has_nothing_to_complain_of(folder: Path) -> None:
    script = (
        f"{applied(folder)} && rm -r /sys/class/dmi /sys/devices/virtual/dmi && systemd-tmpfiles --create {TMPFILES}"
    )
    seen = machines.see(machines.with_dmi_files(script), Path("/"))  # set -e: a failure would end it
    assert [seen[factor].state for factor in machines.DMI_FACTORS] == [ABSENT] * 4
