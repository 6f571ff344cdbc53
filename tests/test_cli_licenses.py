"""licd-cli and the real licd: who answers, how it is, and its licenses."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import licd
from licd.cli import problems
from tests.support.cli import AHEAD, LICENSES, Run, command
from tests.support.daemon import Daemon
from tests.support.device import vendor


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    with Daemon(folder) as daemon:
        vendor().write_profile(daemon.vendors)
        yield daemon.start()


@pytest.fixture
def delivered(licd_cli: Run, tmp_path: Path) -> Path:
    """A license file that is in force."""
    file = tmp_path / "delivery.licd"
    file.write_bytes(vendor().license_file(seq=1, lines=LICENSES))
    assert licd_cli("license", "import", file).status == 0
    return file


def test_hello_says_who_answers_and_what_one_may_do(licd_cli: Run) -> None:
    done = licd_cli("hello")
    assert done.status == 0
    assert re.search(rf"^server +licd {licd.__version__}$", done.out, re.MULTILINE)
    assert re.search(rf"^you are +uid {os.getuid()}, pid {os.getpid()}$", done.out, re.MULTILINE)
    assert "  seat.acquire\n" in done.out
    assert "admin" in licd_cli("hello", "--json").value["roles"]


def test_status_shows_health_counts_and_vendors(licd_cli: Run, delivered: Path, daemon: Daemon) -> None:
    done = licd_cli("status")
    assert (done.status, done.err) == (0, "")
    assert re.search(r"^licenses valid +2 of 3$", done.out, re.MULTILINE)
    assert re.search(r"^seats held +0 of 3$", done.out, re.MULTILINE)
    assert re.search(r"^health +warning$", done.out, re.MULTILINE)
    assert re.search(r"^warning +kso\.old ended on 2026-02-01$", done.out, re.MULTILINE)
    assert re.search(r"^acme +yes +1 +2026-06-01T12:00:00Z +any +-$", done.out, re.MULTILINE)
    assert licd_cli("status", "--json").value["pid"] == daemon.pid


def test_a_dry_run_shows_the_change_and_changes_nothing(licd_cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(vendor().license_file(seq=1, lines=LICENSES))
    done = licd_cli("license", "import", "--dry-run", file)
    assert (done.status, done.err) == (0, "")
    assert "would come into force; nothing was changed." in done.out
    assert re.search(rf"^kso\.scales +added +nothing +valid, seats: 3, expires: {AHEAD}, versions: 5\.\*$", done.out,
                     re.MULTILINE)  # fmt: skip
    assert "No license is installed" in licd_cli("licenses").out


def test_an_import_puts_the_file_in_force_and_the_same_again_is_a_success(licd_cli: Run, delivered: Path) -> None:
    assert [row["license"] for row in licd_cli("licenses", "--json").value["licenses"]] == [
        "kso.camera",
        "kso.old",
        "kso.scales",
    ]
    done = licd_cli("license", "import", delivered)
    assert (done.status, done.err) == (0, "")
    assert done.out == "The license file 1 of acme is in force already; nothing was changed.\n"


def test_a_file_that_grants_less_is_announced_loudly(licd_cli: Run, delivered: Path, tmp_path: Path) -> None:
    file = tmp_path / "less"
    file.write_bytes(vendor().license_file(seq=2, lines=[{**LICENSES[0], "seats": 2}, LICENSES[2]]))
    for words in (["--dry-run"], []):
        done = licd_cli("license", "import", file, *words)
        assert done.status == 0
        assert re.search(r"^kso\.scales +changed .* LESS$", done.out, re.MULTILINE)
        warnings = done.err.splitlines()
        assert len(warnings) == 2
        assert warnings[0].startswith("warning: kso.camera is granted LESS than before: valid, seats: no limit")
        assert warnings[0].endswith(" -> nothing")
        assert warnings[1].startswith("warning: kso.scales is granted LESS than before: valid, seats: 3,")
        assert " -> valid, seats: 2," in warnings[1]


def test_a_tampered_file_is_refused_by_name_with_a_hint(licd_cli: Run, delivered: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad"
    file.write_bytes(delivered.read_bytes().replace(b'"seats":3', b'"seats":9'))
    done = licd_cli("license", "import", file)
    assert (done.status, done.out) == (problems.REFUSED, "")
    assert re.fullmatch(r"error: .*line 2.* \(BAD_SIGNATURE\)\nhint: .*\n", done.err)
    as_json = licd_cli("license", "import", file, "--json")
    assert (as_json.status, as_json.value["error"]["code"]) == (problems.REFUSED, 33)


def test_an_import_reads_standard_input(daemon: Daemon) -> None:
    done = subprocess.run(
        command("license", "import", "-", "--socket", daemon.socket),
        input=vendor().license_file(seq=1, lines=LICENSES),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"is in force now" in done.stdout


def test_an_exported_file_is_the_one_imported(licd_cli: Run, delivered: Path, daemon: Daemon, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = licd_cli("license", "export", "--vendor", "acme", "-o", out)
    assert (done.status, done.out) == (0, f"The license file 1 of acme is written to {out}.\n")
    assert out.read_bytes() == delivered.read_bytes()
    piped = subprocess.run(command("license", "export", "--socket", daemon.socket), capture_output=True, check=True)
    assert piped.stdout == delivered.read_bytes()
    assert licd_cli("license", "export", "--json").value["document"].encode() == delivered.read_bytes()


def test_an_export_that_cannot_be_written_is_status_2(licd_cli: Run, delivered: Path) -> None:
    done = licd_cli("license", "export", "-o", "/nonexistent/file")
    assert done.status == problems.USAGE
    assert "error: /nonexistent/file cannot be written: No such file or directory. (CANNOT_WRITE)\nhint: " in done.err


def test_an_export_of_nothing_is_refused(licd_cli: Run) -> None:
    done = licd_cli("license", "export")
    assert (done.status, done.out) == (problems.REFUSED, "")
    assert "(NOT_IN_FORCE)\nhint: " in done.err


def test_licenses_are_a_table(licd_cli: Run, delivered: Path) -> None:
    lines = licd_cli("licenses").out.splitlines()
    assert lines[0].split() == ["LICENSE", "STATE", "HELD", "SEATS", "EXPIRES", "VERSIONS", "TITLE"]
    assert re.fullmatch(r"kso\.camera +valid +0 +no limit +never +any", lines[1])
    assert re.fullmatch(r"kso\.old +expired +0 +0 +2026-02-01 +-", lines[2])
    assert re.fullmatch(rf"kso\.scales +valid +0 +3 +{AHEAD} +5\.\* +Весы", lines[3])


def test_a_license_is_shown_with_its_lines(licd_cli: Run, delivered: Path) -> None:
    done = licd_cli("license", "show", "kso.scales")
    assert done.status == 0
    assert re.search(r"^title +Весы$", done.out, re.MULTILINE)
    assert re.search(rf"valid +counted +3 +\S+ +{AHEAD} +\d+ +5\.\* +-$", done.out, re.MULTILINE)
    assert licd_cli("license", "show", "kso.scales", "--json").value["license"] == "kso.scales"


def test_an_unknown_license_is_refused_by_name(licd_cli: Run, delivered: Path) -> None:
    for words in (["license", "show", "kso.none"], ["license", "check", "kso.none"], ["acquire", "kso.none", "till"]):
        done = licd_cli(*words)
        assert done.status == problems.REFUSED
        assert "error: No license kso.none is installed. (NO_SUCH_LICENSE)\nhint: " in done.err


def test_check_tells_valid_from_expired_and_uncovered_by_status_and_name(licd_cli: Run, delivered: Path) -> None:
    assert licd_cli("license", "check", "kso.camera") == (0, "kso.camera is valid, without an end.\n", "")
    covered = licd_cli("license", "check", "kso.scales", "--version", "5.2")
    assert covered == (0, f"kso.scales is valid until {AHEAD}.\n", "")
    uncovered = licd_cli("license", "check", "kso.scales", "--version", "6.0")
    assert (uncovered.status, uncovered.out) == (problems.REFUSED, "kso.scales is not valid.\n")
    assert "(VERSION_NOT_COVERED)\nhint: " in uncovered.err
    expired = licd_cli("license", "check", "kso.old", "--json")
    assert expired.status == problems.REFUSED
    assert (expired.value["valid"], expired.value["reason"]["name"]) == (False, "LICENSE_EXPIRED")


def test_a_license_in_its_grace_is_granted_with_a_warning_in_words(licd_cli: Run, tmp_path: Path) -> None:
    ended = (datetime.now(UTC) - timedelta(days=10)).strftime("%Y-%m-%d")
    file = tmp_path / "f"
    lines: list[dict[str, Any]] = [
        {"name": "kso.late", "expires": ended, "grace_days": 90},
        {"name": "kso.new", "not_before": AHEAD},
    ]
    file.write_bytes(vendor().license_file(seq=1, lines=lines))
    imported = licd_cli("license", "import", file)
    assert re.search(rf"^kso\.new +added +nothing +not_yet_valid, from: {AHEAD}, ", imported.out, re.MULTILINE)
    for words in (["license", "check", "kso.late"], ["acquire", "kso.late", "till"]):
        done = licd_cli(*words)
        assert (done.status, done.err) == (
            0,
            "warning: The license has ended and its grace is running; renew it before that ends too.\n",
        )
