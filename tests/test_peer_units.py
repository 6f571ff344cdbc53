"""licd.daemon.peer_units: the systemd unit of a process, by /proc and by the control groups."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from licd.daemon import peer_units
from licd.daemon.peer_units import Units, unit_in

NOWHERE = Path("/nowhere")  # as far as another user's process goes, what ProtectProc=invisible leaves of /proc


@contextlib.contextmanager
def in_cgroup(*names: str) -> Iterator[int]:
    """The pid of a process in a control group of these nested names."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    tops = [Path(fields[1]) for fields in mounts if fields[2] == "cgroup2" and os.access(fields[1], os.W_OK)]
    if not tops:
        pytest.skip("no cgroup2 file system that may be written")
    folders = [tops[0].joinpath(*names[: depth + 1]) for depth in range(len(names))]
    process = subprocess.Popen(["sleep", "60"])
    try:
        try:
            for folder in folders:
                folder.mkdir()
            (folders[-1] / "cgroup.procs").write_text(str(process.pid))
        except OSError as error:
            pytest.skip(f"no control group can be made: {error.strerror}")
        yield process.pid
    finally:
        process.kill()
        process.wait()
        for folder in reversed(folders):
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()


@pytest.mark.parametrize(
    ("names", "unit"),
    [
        (("_licd-test.service",), "licd-test.service"),
        (("licd-test-manager.service",), "licd-test-manager.service"),
        (("licd-test.slice", "till@1.service"), "till@1.service"),
        (("licd-test.slice", "user@1000.service", "app.slice", "till-1.scope"), "till-1.scope"),
        (("licd-test.slice", "manager.service", "payload"), "manager.service"),
        (("licd-test.slice",), None),
        (("licd-test-" + "x" * 150 + ".service",), "licd-test-" + "x" * 90),
        (("licd-test-\x1b[2J.service",), None),
        (("licd-test-касса.service",), None),
    ],
)
def test_the_unit_of_a_process_is_the_innermost_of_its_control_group(names: tuple[str, ...], unit: str | None) -> None:
    with in_cgroup(*names) as pid:
        assert peer_units.unit_of(pid) == unit
        assert Units(proc=NOWHERE).unit_of(pid) == unit


def test_a_process_that_is_gone_is_in_no_unit() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert peer_units.unit_of(process.pid) is None
    assert Units(proc=NOWHERE).unit_of(process.pid) is None


# --- odd paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("", None),
        ("/", None),
        ("/../../system.slice/x.service", "x.service"),  # from outside this cgroup namespace
        ("/system.slice/.service.d", None),
        ("/system.slice/x.service/y.slice", "x.service"),
        ("/x.service/\udcff.scope", None),
        ("/x.service/\x7f.scope", None),
        ("/_.service", ".service"),
        ("/_", None),
    ],
)
def test_of_an_odd_path_there_is_a_printable_name_or_none(path: str, unit: str | None) -> None:
    assert unit_in(path) == unit


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        (b"", None),
        (b"0::/\n", None),
        (b"0::/system.slice/till.service\n", "till.service"),
        (b"0::/system.slice/till.service (deleted)\n", "till.service"),
        (b"0::/a:b/till.service\n", "till.service"),
        (b"12:pids:/pids.service\n1:name=systemd:/system.slice/till.service\n", "till.service"),
        (b"1:name=systemd:/system.slice/till.service\n0::/\n", "till.service"),
        (b"1:name=systemd:/system.slice/till.service\n0::/system.slice/till.service\n", "till.service"),
        (b"1:name=systemd:/\n0::/system.slice/till.service\n", "till.service"),
        (b"0::/\xff\xfe.service\n", None),
    ],
)
def test_proc_is_read_in_every_hierarchy_of_control_groups(folder: Path, text: bytes, unit: str | None) -> None:
    (folder / str(os.getpid())).mkdir()
    (folder / str(os.getpid()) / "cgroup").write_bytes(text)
    assert Units(NOWHERE, folder).unit_of(os.getpid()) == unit


# --- the search ----------------------------------------------------------------------------------------------


def group(folder: Path, *pids: int) -> Path:
    """A control group with these processes, as far as the search can tell."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return folder


def searched(cgroups: Path) -> str | None:
    return Units(cgroups, NOWHERE).unit_of(os.getpid())


def test_without_control_groups_there_is_no_unit(folder: Path) -> None:
    assert searched(NOWHERE) is None
    assert searched(folder) is None


@pytest.mark.parametrize("top", [".", "systemd", "unified"])
def test_the_group_is_found_in_every_hierarchy_that_systemd_uses(folder: Path, top: str) -> None:
    group(folder / top)
    group(folder / top / "system.slice/till.service", os.getpid())
    assert searched(folder) == "till.service"


def test_other_hierarchies_of_version_1_are_not_asked(folder: Path) -> None:
    group(folder / "systemd")
    group(folder / "pids/till.service", os.getpid())
    assert searched(folder) is None


def test_a_number_within_another_is_not_taken_for_it(folder: Path) -> None:
    pid = os.getpid()
    group(folder)
    group(folder / "other.service", int(f"1{pid}"), int(f"{pid}1"))
    assert searched(folder) is None
    group(folder / "till.service", 1, pid, int(f"{pid}1"))
    assert searched(folder) == "till.service"


def test_groups_that_cannot_be_read_are_passed_over(folder: Path) -> None:
    group(folder)
    (folder / "threads.service/cgroup.procs").mkdir(parents=True)  # any OSError will do
    (folder / "empty.service").mkdir()
    (folder / "loop").symlink_to(folder)
    group(folder / "till.service", os.getpid())
    assert searched(folder) == "till.service"


def test_a_process_outside_this_pid_namespace_is_in_no_unit(folder: Path) -> None:
    group(folder)
    group(folder / "till.service", 0)
    assert Units(folder, NOWHERE).unit_of(0) is None


def test_who_has_moved_is_found_where_it_is_now(folder: Path) -> None:
    group(folder)
    group(folder / "a.service", os.getpid())
    units = Units(folder, NOWHERE)
    assert units.unit_of(os.getpid()) == "a.service"
    group(folder / "a.service")
    group(folder / "b.service", os.getpid())
    assert units.unit_of(os.getpid()) == "b.service"


def thousands(folder: Path) -> None:
    group(folder)
    for n in range(1000):
        group(folder / f"x{n % 10}.slice" / f"x{n}.service")


def test_thousands_of_groups_hold_up_nobody_for_long(folder: Path) -> None:
    thousands(folder)
    units = Units(folder, NOWHERE)
    began = time.monotonic()
    for _ in range(200):
        units.unit_of(os.getpid())
    # what may be saved, one search more, a twentieth of the time that passes, and a slow machine
    assert time.monotonic() - began < 2 * (peer_units.SAVED_S + peer_units.SEARCH_S)


def test_a_unit_known_is_found_also_when_there_is_no_time_left_to_search(folder: Path) -> None:
    group(folder)
    group(folder / "till.service", os.getpid())
    units = Units(folder, NOWHERE)
    assert units.unit_of(os.getpid()) == "till.service"
    thousands(folder)
    process = subprocess.Popen(["sleep", "60"])  # in none of them
    try:
        for _ in range(100):
            units.unit_of(process.pid)
        group(folder / "till.service", os.getpid(), process.pid)
        assert units.unit_of(process.pid) == "till.service"
    finally:
        process.kill()
        process.wait()
