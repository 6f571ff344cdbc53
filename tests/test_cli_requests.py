"""licd-cli: the vendor's install request goes in, this device's license request comes out and is told in words."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licd.cli import problems, request_commands
from licd.device import fingerprint
from licd.license.install import sign_license_request
from tests.support.cli import Run, Start, command
from tests.support.peer import Peer, answer

TAKEN = {
    "vendor": "acme",
    "id": "ir-2",
    "issued": "2026-06-01T12:00:00Z",
    "state": "open",
    "superseded": None,
    "factors": ["disk", "nic"],
    "share": 50,
}


def license_request(**changes: Any) -> str:
    says: dict[str, Any] = {
        "id": "lr-1",
        "vendor": "acme",
        "install_request": "ir-2",
        "issued": 1780315200.0,
        "fingerprint": {"disk": ["0a1b2c", "ffee00"], "cpu": ["123456"]},
        "unreadable": ["board_serial"],
        "software": {"os": "debian", "os_version": "12", "architecture": "x86_64", "licd": "0.1.0"},
        "machine": {"kind": "vm", "name": "kvm"},
        "rehost": False,
    }
    return sign_license_request(Ed25519PrivateKey.generate(), **{**says, **changes}).text.decode()


def given_out(**changes: Any) -> dict[str, Any]:
    return {
        "vendor": "acme",
        "id": "lr-1",
        "issued": "2026-06-01T12:00:00Z",
        "install_request": "ir-2",
        "document": license_request(),
        "new": True,
        "rehost": False,
        "weak": False,
        "strong": ["board", "disk"],
        "unreadable": [],
        "absent": [],
        **changes,
    }


# --- install-request import ----------------------------------------------------------------------------------


def test_an_install_request_is_sent_whole_and_what_it_asks_for_is_told(run: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"\xff any bytes\r\n")
    there = Peer(f"{folder}/s", answer(TAKEN))
    try:
        done = run("install-request", "import", file, "--socket", f"{folder}/s")
        assert there.asked == [(1, "install.import", [{"document": b"\xff any bytes\r\n"}])]
    finally:
        there.close()
    assert (done.status, done.out) == (
        0,
        "The install request ir-2 of acme is taken in.\n"
        "It asks for: disk, nic\n"
        "Of their weight 50 percent must stay the same for this to be the same device.\n",
    )
    assert done.err == "hint: licd-cli license-request export --vendor acme -o FILE, and send FILE to the vendor.\n"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"state": "already"}, "The install request ir-2 of acme was taken in before; nothing was changed."),
        ({"superseded": "ir-1"}, "The install request ir-2 of acme is taken in, in place of ir-1."),
    ],
)
def test_an_install_request_taken_in_before_or_in_place_of_another_says_so(
    run: Run, peer: Start, changes: dict[str, Any], says: str
) -> None:
    done = run("install-request", "import", "/dev/null", "--socket", peer(answer({**TAKEN, **changes})))
    assert done.status == 0
    assert done.out.startswith(f"{says}\n")


# --- license-request export ----------------------------------------------------------------------------------


def test_a_license_request_goes_to_a_file_byte_for_byte_and_the_next_step_is_told(
    run: Run, peer: Start, tmp_path: Path
) -> None:
    given, out = given_out(), tmp_path / "out"
    done = run("license-request", "export", "--vendor", "acme", "-o", out, "--socket", peer(answer(given)))
    assert (done.status, done.out) == (0, f"The license request lr-1 for acme is written to {out}.\n")
    assert done.err == (
        f"hint: Send {out} to the vendor. The license file that comes back: licd-cli license import FILE\n"
        "hint: What it tells of this device: licd-cli license-request show --vendor acme\n"
    )
    assert out.read_bytes().decode() == given["document"]


@pytest.mark.parametrize("action", ["export", "show"])
@pytest.mark.parametrize(("words", "params"), [([], {}), (["--vendor", "acme"], {"vendor": "acme"})])
def test_the_vendor_is_asked_for_by_name_only_if_one_is_given(
    run: Run, folder: Path, action: str, words: list[str], params: dict[str, Any]
) -> None:
    there = Peer(f"{folder}/s", answer(given_out()))
    try:
        assert run("license-request", action, "--json", *words, "--socket", f"{folder}/s").status == 0
        assert there.asked == [(1, "install.request", [params])]
    finally:
        there.close()


def test_a_license_request_on_standard_output_is_the_document_and_nothing_else(peer: Start) -> None:
    given = given_out(weak=True, rehost=True, unreadable=["disk"])
    words = command("license-request", "export", "--socket", peer(answer(given)))
    done = subprocess.run(words, capture_output=True, check=True)
    assert done.stdout.decode() == given["document"]
    assert done.stderr.count(b"warning: ") == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weak": True, "strong": []}, r"The fingerprint is WEAK: .*\(found: none\)"),
        ({"weak": True, "strong": ["nic"]}, r"The fingerprint is WEAK: .*\(found: nic\)"),
        ({"rehost": True}, r"This is a RE-HOST: it asks acme "),
        ({"unreadable": ["board_serial", "nic"]}, r"do not count: board_serial, nic\nhint: .*licd\.tmpfiles"),
    ],
)
def test_a_vendor_may_refuse_what_is_warned_of_at_the_export(
    run: Run, peer: Start, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    done = run("license-request", "export", "-o", tmp_path / "f", "--socket", peer(answer(given_out(**changes))))
    assert done.status == 0
    assert done.err.count("warning: ") == 1
    assert re.search(rf"(?m)^warning: .*{says}", done.err), done.err


# --- license-request show ------------------------------------------------------------------------------------


def rows(out: str) -> dict[str, list[str]]:
    table = out.split("\n\n")[1].splitlines()
    cells = [re.split(r"  +", line) for line in table[1:]]
    return {member: rest for member, *rest in cells}


def test_each_member_that_leaves_the_device_is_shown_with_its_meaning(run: Run, peer: Start) -> None:
    given = given_out()
    done = run("license-request", "show", "--socket", peer(answer(given)))
    assert (done.status, done.err) == (0, "")
    payload = json.loads(given["document"].partition("\t")[0])
    values = {
        f"{name}.{inner}" if inner else name: each
        for name, value in payload.items()
        for inner, each in (value.items() if isinstance(value, dict) else [("", value)])
    }
    shown = rows(done.out)
    assert shown.keys() == values.keys()
    for member, value in values.items():
        text = ", ".join(value) if isinstance(value, list) else {False: "no"}.get(value, str(value))
        assert shown[member][0] == text
        assert len(shown[member][1]) > 5, f"{member} has no meaning"


def test_what_does_not_leave_the_device_is_told(run: Run, peer: Start) -> None:
    done = run("license-request", "show", "--socket", peer(answer(given_out())))
    assert "No names, no addresses, no serial numbers" in done.out


def test_for_programs_show_is_the_payload(run: Run, peer: Start) -> None:
    given = given_out()
    done = run("license-request", "show", "--json", "--socket", peer(answer(given)))
    assert done.value == json.loads(given["document"].partition("\t")[0])
    assert done.value["fingerprint"] == {"disk": ["0a1b2c", "ffee00"], "cpu": ["123456"]}


def test_what_was_changed_behind_its_signature_is_not_shown_as_what_leaves(run: Run, peer: Start) -> None:
    forged = license_request().replace('"os":"debian"', '"os":"Debian"')
    done = run("license-request", "show", "--socket", peer(answer(given_out(document=forged))))
    assert (done.status, done.out) == (problems.FAULT, "")
    assert re.search(r"no license request \(BAD_SIGNATURE: .*\(BAD_ANSWER\)\n", done.err)


def test_every_factor_and_every_member_of_a_license_request_has_its_words() -> None:
    assert request_commands.FACTORS.keys() == fingerprint.FACTORS.keys()
    payload = json.loads(license_request().partition("\t")[0])
    members = {*payload, *(f"{name}.{inner}" for name in ("software", "machine") for inner in payload[name])}
    assert request_commands.MEANINGS.keys() == members
