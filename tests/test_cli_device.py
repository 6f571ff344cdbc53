"""licd-cli and the real licd on a whole machine: from the install request to a changed device and a copy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from licd.cli import problems
from licd.device.fingerprint import DEFAULT_SHARE, DEFAULT_WEIGHTS
from licd.license.document import b64url
from licd.license.install import LicenseRequest, verify_license_request
from tests.support import machines
from tests.support.cli import Run
from tests.support.daemon import Daemon
from tests.support.device import vendor
from tests.support.needs import needs_umockdev

pytestmark = needs_umockdev

SALT = b64url(bytes(range(16))).decode()


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    with Daemon(folder, wrap=machines.wrap("server")) as daemon:
        vendor().write_profile(daemon.vendors)
        yield daemon.start()


@pytest.fixture
def asked(licd_cli: Run, tmp_path: Path) -> Path:
    """An install request that was taken in."""
    file = tmp_path / "install-request"
    file.write_bytes(vendor().install_request(salt=SALT, weights=DEFAULT_WEIGHTS, share=DEFAULT_SHARE))
    assert licd_cli("install-request", "import", file).status == 0
    return file


def exported(licd_cli: Run, file: Path) -> LicenseRequest:
    assert licd_cli("license-request", "export", "-o", file).status == 0
    return verify_license_request(file.read_bytes())


def issued(request: LicenseRequest, seq: int = 1, **changes: Any) -> bytes:
    """The vendor's answer."""
    binding = {
        "key": request.device,
        "salt": SALT,
        "fingerprint": request.fingerprint,
        "weights": DEFAULT_WEIGHTS,
        "share": DEFAULT_SHARE,
        **changes,
    }
    header = {"device": binding, "request": request.id}
    return vendor().license_file(seq, [{"name": "kso.scales", "seats": 3}], header=header)


@pytest.fixture
def bound(licd_cli: Run, asked: Path, tmp_path: Path) -> Path:
    """A license file for this machine alone, in force."""
    file = tmp_path / "licenses"
    file.write_bytes(issued(exported(licd_cli, tmp_path / "request")))
    assert licd_cli("license", "import", file).status == 0
    return file


def moved(daemon: Daemon, machine: str) -> None:
    """The state folder is found on another machine, and nothing is remembered of how it was recognized before."""
    daemon.stop()
    for path in daemon.state.glob("journal*"):
        path.unlink()
    daemon.wrap = tuple(machines.wrap(machine))
    daemon.start()


# --- requests ------------------------------------------------------------------------------------------------


def test_the_same_install_request_again_changes_nothing(licd_cli: Run, asked: Path) -> None:
    again = licd_cli("install-request", "import", asked)
    assert (again.status, again.out.splitlines()[0]) == (
        0,
        "The install request install-1 of acme was taken in before; nothing was changed.",
    )
    assert licd_cli("install-request", "import", asked, "--json").value["factors"] == list(DEFAULT_WEIGHTS)


def test_without_an_install_request_there_is_no_license_request(licd_cli: Run, tmp_path: Path) -> None:
    for words in (["export"], ["export", "-o", tmp_path / "f"], ["show"], ["show", "--vendor", "acme"]):
        done = licd_cli("license-request", *words)
        assert (done.status, done.out) == (problems.REFUSED, "")
        assert re.fullmatch(
            r"error: .*\(NO_INSTALL_REQUEST\)\nhint: .*licd-cli install-request import FILE.*\n", done.err
        )
    assert not (tmp_path / "f").exists()


def test_each_kind_of_document_is_refused_by_the_command_for_another(
    licd_cli: Run, asked: Path, tmp_path: Path
) -> None:
    request, licenses = tmp_path / "request", tmp_path / "licenses"
    exported(licd_cli, request)
    licenses.write_bytes(vendor().license_file())
    for command, file in (("install-request", request), ("install-request", licenses), ("license", asked)):
        done = licd_cli(command, "import", file)
        assert (done.status, done.out) == (problems.REFUSED, "")
        assert re.search(r"\(WRONG_DOCUMENT\)\nhint: ", done.err), done.err


def test_what_show_tells_is_what_export_writes(licd_cli: Run, asked: Path, tmp_path: Path) -> None:
    shown = licd_cli("license-request", "show", "--json")
    assert shown.status == 0
    request = exported(licd_cli, tmp_path / "request")
    assert shown.value == json.loads(request.text.partition(b"\t")[0])
    told = licd_cli("license-request", "show").out
    tags = [tag for tags in request.fingerprint.values() for tag in tags]
    assert len(tags) > 5
    for value in (request.id, request.device, *tags, *request.software.values()):
        assert value in told


# --- the device ----------------------------------------------------------------------------------------------


def test_a_license_file_for_this_machine_is_in_force_and_its_margin_is_told(licd_cli: Run, bound: Path) -> None:
    done = licd_cli("fingerprint")
    assert (done.status, done.err) == (0, "")
    assert re.search(r"(?m)^this device +the device that the license file is for$", done.out)
    assert re.search(r"(?m)^weight kept +(\d+) of \1; \d+ are needed$", done.out)
    assert re.search(r"(?m)^margin +any one change is fine; a second one may break it$", done.out)
    assert re.search(r"(?m)^disk +30 +kept$", done.out)
    assert re.search(r"(?m)^acme +yes +1 +\S+ +same +-$", licd_cli("status").out)


@pytest.mark.parametrize(
    ("gone", "status", "would_be"),
    [
        (["disk"], 0, "still the device"),
        (["board"], 0, "still the device"),
        (["board", "disk"], 1, "a CHANGED device"),
        (["board", "disk", "nic"], 1, "ANOTHER device"),
    ],
)
def test_what_if_answers_before_the_repair_and_changes_nothing(
    licd_cli: Run, bound: Path, gone: list[str], status: int, would_be: str
) -> None:
    words = [word for name in gone for word in ("--without", name)]
    done = licd_cli("fingerprint", "what-if", *words)
    assert done.status == status
    assert re.search(rf"(?m)^this device +{would_be}", done.out), done.out
    assert re.search(r"(?m)^disk +disk +strong +gone +0 +-$", done.out) or "disk" not in gone
    assert re.search(r"(?m)^acme +yes +1 +\S+ +same +-$", licd_cli("status").out)


def test_a_name_that_is_no_factor_is_refused_with_those_that_are(licd_cli: Run) -> None:
    done = licd_cli("fingerprint", "what-if", "--without", "dsik")
    assert (done.status, done.out) == (problems.REFUSED, "")
    assert re.search(r"^error: .*dsik.*board.*board_serial.* \(BAD_PARAMS\)\n", done.err)


def test_a_changed_device_is_told_loudly_everywhere_until_its_grace_ends_and_asks_for_a_re_host(
    licd_cli: Run, daemon: Daemon, bound: Path, tmp_path: Path
) -> None:
    moved(daemon, "server: board and disks swapped")
    done = licd_cli("fingerprint")
    assert done.status == 0
    warned = re.search(
        r"(?m)^warning: This device has CHANGED: .* acme go on until (\S+) .*\nhint: .* export", done.err
    )
    assert warned, done.err
    until = warned[1]
    assert re.search(rf"(?m)^this device +CHANGED; licenses go on until {until}$", done.out)
    assert re.search(r"(?m)^board_serial +20 +lost$", done.out)
    assert re.search(r"(?m)^nic +30 +kept$", done.out)

    status = licd_cli("status").out
    assert re.search(rf"(?m)^acme +yes +1 +\S+ +changed until {until} +-$", status)
    assert re.search(r"(?m)^warning +acme: WRONG_DEVICE: .*license-request export", status)
    for words in (["license", "check", "kso.scales"], ["acquire", "kso.scales", "till"]):
        done = licd_cli(*words)
        assert done.status == 0
        assert done.err.startswith("warning: This device has changed, and the license goes on only for a while")

    file = tmp_path / "again"
    assert licd_cli("license-request", "export", "-o", file).err.startswith("warning: This is a RE-HOST: ")
    assert re.search(r"(?m)^rehost +yes ", licd_cli("license-request", "show").out)
    file.write_bytes(issued(verify_license_request(file.read_bytes()), seq=2))
    assert licd_cli("license", "import", file).status == 0
    assert re.search(r"(?m)^acme +yes +2 +\S+ +same +-$", licd_cli("status").out)


def test_a_copy_is_refused_by_name_with_the_way_out(licd_cli: Run, daemon: Daemon, bound: Path) -> None:
    moved(daemon, "server: another machine")
    for words in (["license", "check", "kso.scales"], ["acquire", "kso.scales", "till"]):
        done = licd_cli(*words)
        assert done.status == problems.REFUSED
        assert re.search(r"^error: .*\(WRONG_DEVICE\)\n(  .*\n)*hint: .*licd-cli license-request export", done.err)
    done = licd_cli("fingerprint")
    assert re.search(r"(?m)^this device +ANOTHER device", done.out)
    assert re.search(r"(?m)^warning: This is NOT the device .*\nhint: .*license-request export", done.err)


def test_a_device_that_is_the_same_only_until_it_starts_again_is_warned_of(
    licd_cli: Run, daemon: Daemon, bound: Path
) -> None:
    daemon.stop()
    daemon.wrap = tuple(machines.wrap("server: board and disks swapped"))  # a good verdict holds for its boot
    daemon.start()
    done = licd_cli("fingerprint")
    assert re.search(r"(?m)^margin +none; too much is gone$", done.out)
    assert re.search(r"(?m)^warning: Too much .* only until this device starts again\.\nhint: ", done.err)


def test_a_license_file_for_other_hardware_is_refused_factor_by_factor(
    licd_cli: Run, asked: Path, tmp_path: Path
) -> None:
    request, file = exported(licd_cli, tmp_path / "request"), tmp_path / "licenses"
    other = {**request.fingerprint, "disk": ["000000"], "nic": ["000000"], "board_serial": ["000000"]}
    file.write_bytes(issued(request, fingerprint={**other, "system_uuid": ["000000"]}))
    done = licd_cli("license", "import", file)
    assert (done.status, done.out) == (problems.REFUSED, "")
    assert re.search(r"^error: .*\(WRONG_DEVICE\)\n", done.err)
    assert "  disk (weight 30): lost\n" in done.err
    assert "  product_serial (weight 15): kept\n" in done.err
    assert done.err.splitlines()[-1].startswith("hint: ")
    assert "No license is installed" in licd_cli("licenses").out
