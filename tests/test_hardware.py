"""What licd reads of whole machines, by the real code through the real libudev on a mock /sys."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from licd.device import hardware, machine, parts
from licd.device.fingerprint import ABSENT, DEFAULT_SHARE, DEFAULT_WEIGHTS, FACTORS, FOUND, STRONG, UNREADABLE
from tests.support import machines
from tests.support.needs import needs_root, needs_systemd, needs_umockdev

NOBODY = 65534
CHANGES = [change for name in machines.NAMES for change in machines.changes(name)]
OTHER_LISTS = [
    change
    for change in CHANGES
    if re.search("other order|exchanged|unplugged|gone|fails over|dissolved|older kernel|switched off", change)
]


@needs_umockdev
@pytest.mark.parametrize("name", machines.NAMES)
def test_a_machine_shows_exactly_the_factors_that_are_written_beside_it(name: str) -> None:
    seen, expected = machines.seen(name), machines.described(name)
    shown = {
        reading.factor: list(reading.values) if reading.state == FOUND else f"{reading.state}: {reading.note}"
        for reading in seen.readings
    }
    assert shown == expected["readings"]
    assert list(seen.machine) == expected["machine"]
    assert [reading.factor for reading in seen.readings] == list(FACTORS)


@needs_umockdev
@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_the_verdict_is_the_one_written_beside_it(change: str) -> None:
    name, _, what = change.partition(": ")
    expected = machines.described(name)["changes"][what]
    verdict, lost = machines.verdict(machines.seen(name), machines.seen(change), DEFAULT_WEIGHTS, DEFAULT_SHARE)
    assert (verdict, lost) == (expected["verdict"], expected["lost"])


@needs_umockdev
@pytest.mark.parametrize("change", OTHER_LISTS)
def test_order_of_discovery_and_what_is_plugged_in_leave_the_readings_as_they_are(change: str) -> None:
    assert machines.seen(change).readings == machines.seen(change.partition(": ")[0]).readings


@needs_umockdev
@pytest.mark.parametrize("first", ["server", "kiosk", "two-disks", "network", "vm", "arm-board"])
def test_no_machine_takes_another_for_itself(first: str) -> None:
    others = [name for name in machines.NAMES if name != first]
    for other in others:
        verdict, _ = machines.verdict(machines.seen(first), machines.seen(other), DEFAULT_WEIGHTS, DEFAULT_SHARE)
        assert verdict == "copy", other


@needs_umockdev
@pytest.mark.parametrize("name", machines.NAMES)
def test_a_note_and_the_software_facts_never_hold_a_value(name: str) -> None:
    """Notes are shown and logged, and software facts leave the device."""
    files = [machines.folder(name) / "machine.umockdev", *(machines.folder(name) / "root").rglob("*")]
    text = "\n".join(path.read_text("utf-8", "replace") for path in files if path.is_file())
    raw = {
        value.strip().lower()
        for value in re.findall(r"^[AE]: \w*(?:serial|uuid|address|wwid|cid)\w*=(.*?)(?:\\n)?$", text, re.M | re.I)
    }
    raw |= {path.read_text().strip() for path in files if path.name == "machine-id"}
    seen = machines.seen(name)
    said = json.dumps([[reading.note for reading in seen.readings], seen.software, seen.machine]).lower()
    assert not [value for value in raw if len(value) > 3 and value in said]


@needs_umockdev
def test_software_facts_are_single_words_whatever_os_release_says() -> None:
    assert machines.seen("odd").software["os"] == "linux"
    assert machines.seen("odd").software["os_version"] == ""
    assert machines.seen("kiosk").software["os_version"] == "24.04"
    assert machines.seen("container").software["os"] == "alpine"
    assert set(machines.seen("odd").software) == {"os", "os_version", "architecture", "licd"}


# --- which machine -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("run/host/container-manager", "podman\n", "podman"),
        ("run/systemd/container", "lxc\n", "lxc"),
        ("run/systemd/container", "my host: secret\n", None),
        ("proc/1/environ", "PATH=/bin\0container=systemd-nspawn\0HOME=/\0", "systemd-nspawn"),
        ("run/.containerenv", "", "podman"),
        (".dockerenv", "", "docker"),
        ("proc/sys/kernel/osrelease", "5.15.153.1-microsoft-standard-WSL2\n", "wsl"),
    ],
)
def test_a_container_is_known_by_what_its_manager_leaves_in_it(
    tmp_path: Path, file: str, text: str, name: str | None
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert machine.machine(tmp_path) == ("container", name)


@needs_umockdev
@pytest.mark.parametrize(
    ("dmi", "machine"),
    [
        ({"sys_vendor": "VMware, Inc.", "product_name": "VMware7,1"}, ["vm", "vmware"]),
        ({"sys_vendor": "innotek GmbH", "product_name": "VirtualBox"}, ["vm", "oracle"]),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, ["vm", "microsoft"]),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Surface Pro 7"}, ["physical", None]),
        ({"sys_vendor": "Amazon EC2", "product_name": "t3.micro"}, ["vm", "amazon"]),
        ({"sys_vendor": "Amazon EC2", "product_name": "m5.metal"}, ["physical", None]),
        ({"sys_vendor": "QEMU", "product_name": "Standard PC"}, ["vm", "qemu"]),
        ({"sys_vendor": "Oracle Corporation", "product_name": "ORACLE SERVER X8-2"}, ["physical", None]),
    ],
)
def test_a_virtual_machine_is_known_by_its_firmware(tmp_path: Path, dmi: dict[str, str], machine: list[object]) -> None:
    device = tmp_path / "machine.umockdev"
    lines = [
        "P: /devices/virtual/dmi/id",
        "E: SUBSYSTEM=dmi",
        *(f"A: {name}={value}\\n" for name, value in dmi.items()),
    ]
    device.write_text("\n".join(lines) + "\n")
    assert list(machines.see((*machines.UMOCKDEV_RUN, "--device", str(device), "--"), tmp_path).machine) == machine


# --- this machine ------------------------------------------------------------------------------------------------


@needs_systemd
def test_the_machine_id_is_derived_as_systemd_derives_it(tmp_path: Path) -> None:
    application = hardware.MACHINE_ID_APPLICATION.hex()
    by_systemd = subprocess.run(
        ["systemd-id128", "machine-id", f"--app-specific={application}"], capture_output=True, text=True, check=True
    )
    reading = next(reading for reading in hardware.read() if reading.factor == "machine_id")
    assert reading.values == (by_systemd.stdout.strip(),)


@needs_systemd
def test_this_machine_is_what_systemd_detects() -> None:
    by_systemd = subprocess.run(["systemd-detect-virt"], capture_output=True, text=True, check=False).stdout.strip()
    kind, name = machine.machine()
    if by_systemd == "none":
        assert (kind, name) == ("physical", None)
    elif name is not None:
        assert name == by_systemd
    else:
        assert kind != "physical"


def test_the_kernel_itself_says_which_address_a_card_was_made_with() -> None:
    """The one thing that umockdev cannot mock: an ioctl on a socket, on this machine's own cards."""
    cards = [path for path in Path("/sys/class/net").glob("*") if (path / "device").exists()]
    cards = [path for path in cards if (path / "addr_assign_type").read_text().strip() == parts.NET_ADDR_PERM]
    if not cards:
        pytest.skip("needs a network card with its own address")
    for path in cards:
        index = (path / "ifindex").read_text().strip()
        assert parts._permanent_address(path.name, index) == (path / "address").read_text().strip()
        assert parts._permanent_address(path.name, str(int(index) + 1)) is None  # another interface of that name
    assert parts._permanent_address("lo", (Path("/sys/class/net/lo/ifindex")).read_text().strip()) is None
    assert parts._permanent_address("no-such-card", "1") is None


@needs_root
@pytest.mark.parametrize(
    "broken",
    [
        # No ldconfig and no compiler: Python finds no library, and pyudev raises ImportError.
        "mount --bind /bin/false /sbin/ldconfig; export PATH=/nonexistent",
        # A library that is none.
        'for library in /lib/*/libudev.so.1 /usr/lib/*/libudev.so.1; do mount --bind /dev/null "$library"; done',
    ],
)
def test_without_libudev_disks_and_cards_are_unreadable_and_the_rest_is_read(broken: str) -> None:
    before = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{broken}\nexec "$@"', "sh"]
    seen = machines.see(before, Path("/"))
    assert [seen[factor].state for factor in ("disk", "nic")] == [UNREADABLE, UNREADABLE]
    assert seen["disk"].note
    assert seen["cpu"].state == FOUND


@needs_root
def test_without_sys_and_proc_nothing_is_found_and_nothing_fails(tmp_path: Path) -> None:
    before = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'umount --recursive /sys\nexec "$@"', "sh"]
    seen = machines.see(before, tmp_path)
    strong = [factor for factor, kind in FACTORS.items() if kind in STRONG]
    assert [reading.factor for reading in seen.readings if reading.state == UNREADABLE] == strong
    assert {reading.state for reading in seen.readings} == {ABSENT, UNREADABLE}
    assert all(reading.note for reading in seen.readings)


@needs_root
def test_serial_numbers_that_only_root_may_read_are_unreadable_not_absent() -> None:
    by_root = machines.see(machines.with_dmi_files(), Path("/"))
    assert by_root["system_uuid"].values == ("5d3c0b9a-8e17-4f26-a1d4-7b60c2e9f358",)
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    by_nobody = machines.see((*machines.with_dmi_files(), *drop), Path("/"))
    for factor in machines.DMI_FACTORS:
        assert by_root[factor].state == FOUND
        assert (by_nobody[factor].state, by_nobody[factor].values) == (UNREADABLE, ())
        assert by_nobody[factor].note == "Permission denied"
    assert by_nobody["machine_id"] == by_root["machine_id"]


DISKS_FOR_ROOT_ONLY = """
chmod -R a+rX "$UMOCKDEV_DIR"
cd "$UMOCKDEV_DIR/sys/devices"
find . -path '*/ata1/*' \\( -name vpd_pg80 -o -name wwid \\) -exec chmod 400 {} +
find . -path '*/mmc2/*' -name serial -exec chmod 400 {} +
sed -i '/^ID_/d' pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda/uevent || true
exec "$@"
"""


@needs_root
@needs_umockdev
def test_a_disk_that_may_not_be_read_is_unreadable_unless_another_one_shows_itself() -> None:
    hide = (
        "sh",
        "-c",
        DISKS_FOR_ROOT_ONLY,
        "sh",
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
    )
    board = machines.see((*machines.wrap("arm-board"), *hide), machines.folder("arm-board") / "root")
    assert (board["disk"].state, board["disk"].note) == (UNREADABLE, "Permission denied")
    server = machines.see((*machines.wrap("server"), *hide), machines.folder("server") / "root")
    assert server["disk"].values == ("serial:S4EVNX0M512345", "wwn:eui.0025385b01407d3a")


@needs_root
def test_a_machine_id_that_may_not_be_read_is_unreadable(folder: Path) -> None:
    (folder / "etc").mkdir()
    (folder / "etc/machine-id").write_text("0f1e2d3c4b5a69788796a5b4c3d2e1f0\n")
    (folder / "etc/machine-id").chmod(0o600)
    seen = machines.see(("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"), folder)
    assert seen["machine_id"].state == UNREADABLE
