"""The lock on a state folder, against real other processes and a real read-only file system."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from licd.seats import lock
from tests.support.mounts import fill_up, small_disk

HOLD = """
import sys
from pathlib import Path
from licd.seats import lock
print(lock.acquire(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""
NOBODY = 65534


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock on tmp_path until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    yield process
    process.stdin.close()
    process.wait()
    process.stdout.close()


def test_a_folder_locked_by_another_process_says_by_which(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(lock.Locked) as caught:
        lock.acquire(tmp_path)
    assert caught.value.holder == f"pid {holder.pid}"


def test_a_refused_lock_leaves_no_descriptor_and_not_a_byte(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    before = os.listdir("/proc/self/fd"), (tmp_path / "lock").read_bytes()
    for _ in range(3):
        with pytest.raises(lock.Locked):
            lock.acquire(tmp_path)
    assert (os.listdir("/proc/self/fd"), (tmp_path / "lock").read_bytes()) == before


def test_a_process_that_is_killed_leaves_the_lock_to_the_next_one(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    (tmp_path / "lock").write_text("pid 4194304 of a longer name\n")
    fd = lock.acquire(tmp_path)
    assert fd is not None
    assert (tmp_path / "lock").read_text() == f"pid {os.getpid()}\n"
    os.close(fd)


def test_the_lock_is_held_until_its_descriptor_is_closed_and_its_file_is_never_another(tmp_path: Path) -> None:
    first = lock.acquire(tmp_path)
    assert first is not None
    inode = (tmp_path / "lock").stat().st_ino
    with pytest.raises(lock.Locked):
        lock.acquire(tmp_path)
    os.close(first)
    second = lock.acquire(tmp_path)
    assert second is not None
    assert (tmp_path / "lock").stat().st_ino == inode
    os.close(second)


def test_the_lock_does_not_pass_to_programs_that_are_started(tmp_path: Path) -> None:
    fd = lock.acquire(tmp_path)
    assert fd is not None
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize("label", [b"", b"\n", b"\xff\xfe\x00 no text"])
def test_a_lock_without_a_proper_label_is_a_lock_all_the_same(tmp_path: Path, label: bytes) -> None:
    fd = lock.acquire(tmp_path)
    assert fd is not None
    (tmp_path / "lock").write_bytes(label)
    with pytest.raises(lock.Locked) as caught:
        lock.acquire(tmp_path)
    assert caught.value.holder
    os.close(fd)


def test_a_read_only_file_system_has_nothing_to_lock(tmp_path: Path) -> None:
    with small_disk(tmp_path, "256k", read_only=True):
        assert lock.acquire(tmp_path) is None


def test_a_folder_of_another_user_has_nothing_to_lock() -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: cannot be another user")
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders let no other user in
        folder = Path(name)
        folder.chmod(0o755)
        assert as_nobody(folder) == "None"
        assert list(folder.iterdir()) == []


def as_nobody(folder: Path) -> str:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(write, repr(lock.acquire(folder)).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    answer = os.read(read, 100).decode()
    os.close(read)
    return answer


def test_a_full_disk_is_locked_though_there_is_no_space_for_a_label(tmp_path: Path) -> None:
    with small_disk(tmp_path, "64k"):
        (tmp_path / "lock").touch()
        fill_up(tmp_path)
        fd = lock.acquire(tmp_path)
        assert fd is not None
        with pytest.raises(lock.Locked):
            lock.acquire(tmp_path)
        os.close(fd)


@pytest.mark.parametrize("kind", ["folder", "loop", "dangling link"])
def test_what_cannot_be_opened_in_the_place_of_the_lock_is_nothing_to_lock(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock"
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("lock" if kind == "loop" else "missing/lock")
    assert lock.acquire(tmp_path) is None


def test_a_folder_that_is_not_there_is_an_error_and_no_lock(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lock.acquire(tmp_path / "missing")
