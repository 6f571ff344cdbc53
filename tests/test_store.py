"""The state folder's license files, on a real folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from licd.license.document import MAX_DOCUMENT_BYTES
from licd.license.store import Store
from tests.support.needs import needs_root
from tests.support.raw import user

NOBODY = 65534


def previous(folder: Path) -> bytes:
    return (folder / "acme.licd.previous").read_bytes()


def test_nothing_stored_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.load("acme") is None


def test_what_is_replaced_is_the_previous(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for data in (b"one", b"two", b"three"):
        store.replace("acme", data)
    store.replace("other", b"x")
    assert (store.load("acme"), previous(tmp_path)) == (b"three", b"two")
    assert store.load("other") == b"x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acme.licd", "acme.licd.previous", "other.licd"]


def test_files_are_readable_by_owner_and_group_only_whatever_the_umask_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = os.umask(0o077)
    try:
        store.replace("acme", b"one")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "acme.licd").stat().st_mode) == 0o640


def test_too_large_a_file_is_read_no_further_than_to_see_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "acme.licd").write_bytes(bytes(3 * MAX_DOCUMENT_BYTES))
    data = Store(tmp_path).load("acme")
    assert data is not None
    assert len(data) == MAX_DOCUMENT_BYTES + 1


# The process that dies at its n-th change of the folder, as a power cut would have it.
_DYING = """
import os, sys
from pathlib import Path
from licd.license.store import Store

left = int(sys.argv[2])
def dying(call):
    def wrapper(*arguments, **options):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return call(*arguments, **options)
    return wrapper

for name in ("open", "write", "fsync", "link", "rename", "unlink", "fchmod"):
    setattr(os, name, dying(getattr(os, name)))
Store(Path(sys.argv[1])).replace("acme", b"new")
"""


def test_a_process_that_dies_at_any_step_leaves_one_whole_file_and_the_next_replace_works(tmp_path: Path) -> None:
    found = set()
    for step in range(30):
        folder = tmp_path / str(step)
        folder.mkdir()
        store = Store(folder)
        store.replace("acme", b"older")
        store.replace("acme", b"old")
        done = subprocess.run([sys.executable, "-c", _DYING, str(folder), str(step)], check=False).returncode
        assert store.load("acme") in (b"old", b"new")
        assert previous(folder) in (b"older", b"old")
        found.add((store.load("acme"), previous(folder)))
        for data in (b"next", b"last"):
            store.replace("acme", data)
        assert (store.load("acme"), previous(folder)) == (b"last", b"next")
        assert len(list(folder.iterdir())) == 2
        if done == 0:
            break
    else:
        pytest.fail("it never came to an end")
    # The cut fell before, between and after the two renames.
    assert found == {(b"old", b"older"), (b"old", b"old"), (b"new", b"old")}


def test_a_folder_that_cannot_be_written_is_an_oserror_and_nothing_has_changed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.replace("acme", b"one")
    (tmp_path / "acme.licd.previous").mkdir()  # rename(2) of a file over a folder fails, also for root
    with pytest.raises(IsADirectoryError):
        store.replace("acme", b"two")
    assert store.load("acme") == b"one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acme.licd", "acme.licd.previous"]


@needs_root
def test_a_file_of_roots_is_replaced_and_kept_though_no_link_to_it_can_be_made() -> None:
    if Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("fs.protected_hardlinks is off")
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders let no other user in
        folder = Path(name)
        os.chown(folder, NOBODY, NOBODY)
        (folder / "acme.licd").write_bytes(b"one")
        (folder / "acme.licd").chmod(0o644)
        with user(NOBODY):
            Store(folder).replace("acme", b"two")
        assert (Store(folder).load("acme"), previous(folder)) == (b"two", b"one")


def test_a_missing_folder_is_made_but_not_its_parents(tmp_path: Path) -> None:
    store = Store(tmp_path / "licenses")
    assert store.load("acme") is None
    store.replace("acme", b"one")
    assert store.load("acme") == b"one"
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "gone" / "licenses").replace("acme", b"one")


def test_a_fifo_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "acme.licd")
    with pytest.raises(OSError, match="no regular file"):
        Store(tmp_path).load("acme")
