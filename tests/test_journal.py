"""The journal on a real folder: when records are on the medium, and what space they take.

What a start reads: tests/test_journal_start.py. The power cut at every step: tests/test_journal_crash.py. A full disk:
tests/test_journal_full.py.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from licd.license.dates import later
from licd.rpc.errors import STATE_NOT_WRITABLE, Refused
from licd.seats import frames
from licd.seats.events import MAX_WORDS, Acquired, Expired, Released, Renewing, Started, Used
from licd.seats.framefile import GROW_BYTES
from licd.seats.journal import MIN_BYTES, RELEASE_BYTES, RESERVE_BYTES, JournalFailed, NoJournal
from licd.seats.replay import Clock, replay
from licd.seats.usage import MAX_BYTES
from tests.support.desk import NOTHING, TILLS, Shop, generation, on_record, recorded, sizes


@pytest.fixture
def fast_folder() -> Iterator[Path]:
    """For thousands of commits: in memory, where there is such a place, because each of them waits for the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name)


# --- order -----------------------------------------------------------------------------------------------------


def test_nothing_is_on_the_medium_before_commit_and_all_of_the_turn_after_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    before = (tmp_path / "journal").read_bytes()
    lease = shop.acquire("till-1")
    shop.acquire("till-2")
    shop.release(lease.id)
    assert (tmp_path / "journal").read_bytes() == before
    shop.commit()
    assert on_record(tmp_path) == recorded(shop.ledger)
    assert [lease.holder for lease in shop.ledger.leases.values()] == ["till-2"]


def test_what_one_turn_writes_is_one_frame_with_the_clocks_in_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    before = len(frames.scan((tmp_path / "journal").read_bytes()).payloads)
    for n in range(5):
        shop.acquire(f"till-{n}")
    shop.commit()
    assert len(frames.scan((tmp_path / "journal").read_bytes()).payloads) == before + 1
    assert replay(tmp_path).clock == (1.0, 0.0, 0.0, 0.0, 1.0)


def test_a_turn_that_only_confirms_writes_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    lease = shop.acquire("till-1")
    shop.commit()
    before = (tmp_path / "journal").read_bytes()
    shop.desk.confirm(shop.session, lease.id)
    shop.acquire("till-1")
    shop.commit()
    assert (tmp_path / "journal").read_bytes() == before


def test_an_expiry_waits_for_the_next_frame_and_stands_there_before_the_acquire_that_uses_its_seat(
    tmp_path: Path,
) -> None:
    shop = Shop(tmp_path, tills=1)
    lease = shop.acquire("till-1")
    shop.commit()
    before = (tmp_path / "journal").read_bytes()
    shop.desk.now += 61
    shop.desk.expire()
    shop.commit()
    assert (tmp_path / "journal").read_bytes() == before
    successor = shop.acquire("till-2")
    shop.commit()
    *_, expired, acquired = replay(tmp_path).events
    assert (expired, acquired) == (Expired(lease.id), successor.as_event())


def test_a_mark_of_the_clock_takes_waiting_expiries_along(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.acquire("till-1")
    shop.commit()
    shop.desk.now += 61
    shop.desk.expire()
    shop.commit(mark=True)
    assert replay(tmp_path).clock == (2.0, 0.0, 0.0, 0.0, 2.0)
    assert on_record(tmp_path) == recorded(shop.ledger) == NOTHING


def test_a_mark_is_written_though_there_is_nothing_else_to_write(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.commit()
    assert replay(tmp_path).clock == (0.0, 0.0, 0.0, 0.0, 0.0)
    shop.commit(mark=True)
    assert replay(tmp_path).clock == (2.0, 0.0, 0.0, 0.0, 2.0)


# --- failure ---------------------------------------------------------------------------------------------------


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses writes behind this size, with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_is_no_commit_and_neither_is_any_later_one(tmp_path: Path) -> None:
    """Asking again proves nothing: the process has to stop."""
    shop = Shop(tmp_path)
    shop.acquire("till-1")
    with no_file_larger_than(1), pytest.raises(JournalFailed, match="File too large"):
        shop.commit()
    assert on_record(tmp_path) == NOTHING
    shop.acquire("till-2")
    for _ in range(2):
        with pytest.raises(JournalFailed):
            shop.commit()
    assert on_record(tmp_path) == NOTHING


FAILING_SYNC = """
import sys
from pathlib import Path
from licd.seats.journal import JournalFailed
from tests.support.desk import Shop
shop = Shop(Path(sys.argv[1]))
shop.acquire("till-1")
shop.commit()
shop.acquire("till-2")
try:
    shop.commit()
except JournalFailed as error:
    print("first:", error)
try:
    shop.commit(mark=True)
except JournalFailed as error:
    print("again:", error)
"""


def test_a_sync_that_fails_is_no_commit_and_neither_is_the_next_one_that_would_succeed(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is missing")
    # The third fdatasync: after the new file's at the start, and the first commit's.
    strace = "strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:error=EIO:when=3"
    done = subprocess.run(
        [*strace.split(), sys.executable, "-c", FAILING_SYNC, str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    path = tmp_path / "journal"
    assert done.stdout.splitlines() == [
        f"first: cannot write {path}: Input/output error",
        f"again: cannot write {path}: Input/output error",
    ], done.stderr


# --- space -----------------------------------------------------------------------------------------------------


def churn(shop: Shop, record_bytes: int) -> None:
    """Leases come and go until so many bytes of records were written; between the turns goes the housekeeping."""
    written = 0
    while written < record_bytes:
        for n in range(50):
            before = shop.ledger.leases.get(f"till-{n}")
            lease = shop.acquire(f"till-{n}" + "x" * 200)
            shop.release(lease.id)
            written += 250
            assert before is None
        shop.commit()
        shop.journal.tend()


def test_both_files_are_allocated_in_full_and_no_commit_changes_their_size_or_blocks(tmp_path: Path) -> None:
    shop = Shop(tmp_path, size=2 * MIN_BYTES)
    shop.tend()
    before = {path.name: (path.stat().st_size, path.stat().st_blocks) for path in tmp_path.iterdir()}
    assert {name: size for name, (size, _) in before.items()} == {
        "journal": 2 * MIN_BYTES,
        "journal.next": 2 * MIN_BYTES,
    }
    assert all(blocks * 512 >= size for size, blocks in before.values())
    for n in range(100):
        shop.acquire(f"till-{n}")
        shop.commit()
    assert {path.name: (path.stat().st_size, path.stat().st_blocks) for path in tmp_path.iterdir()} == before


def test_the_spare_file_is_allocated_in_slices_between_turns(tmp_path: Path) -> None:
    shop = Shop(tmp_path, size=3 * GROW_BYTES)
    grown = [sizes(tmp_path).get("journal.next", 0)]
    while shop.journal.tend():
        grown.append(sizes(tmp_path)["journal.next"])
    assert grown == [0, GROW_BYTES, 2 * GROW_BYTES, 3 * GROW_BYTES]


def test_the_journal_keeps_its_size_for_ever_while_leases_come_and_go(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.acquire("stays")
    shop.commit()
    shop.tend()
    files = {path.stat().st_ino for path in tmp_path.iterdir()}
    generations = set()
    for _ in range(8):
        churn(shop, MIN_BYTES // 2)
        generations.add(generation(tmp_path))
    assert len(generations) > 4
    assert sizes(tmp_path) == {"journal": MIN_BYTES, "journal.next": MIN_BYTES}
    assert {path.stat().st_ino for path in tmp_path.iterdir()} == files
    assert on_record(tmp_path) == recorded(shop.ledger)


def test_the_journal_keeps_its_size_for_ever_under_marks_of_the_clock_alone(fast_folder: Path) -> None:
    shop = Shop(fast_folder)
    shop.tend()
    for _ in range(8000):  # eight weeks of ten minutes, 74 bytes each
        shop.commit(mark=True)
        shop.journal.tend()
    assert sizes(fast_folder) == {"journal": MIN_BYTES, "journal.next": MIN_BYTES}


def living(shop: Shop, share: float) -> None:
    """Leases that take so much of a file of a MiB."""
    for n in range(int(GROW_BYTES * share) // 270):
        shop.acquire(f"till-{n}" + "x" * 200)
    shop.commit()


def test_a_file_of_living_leases_only_is_not_copied_again_and_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path, size=GROW_BYTES)
    shop.tend()
    living(shop, 0.58)
    generations = {generation(tmp_path)}
    for _ in range(50):
        shop.journal.tend()
        shop.commit(mark=True)
        generations.add(generation(tmp_path))
    assert len(generations) <= 2


def test_a_file_is_copied_once_most_of_what_the_last_copy_took_has_ended(tmp_path: Path) -> None:
    shop = Shop(tmp_path, size=GROW_BYTES)
    living(shop, 0.58)
    shop.journal.close()
    shop = Shop(tmp_path, size=GROW_BYTES)
    shop.tend()
    before = generation(tmp_path)
    for lease in list(shop.ledger.leases.values())[10:]:
        shop.release(lease.id)
    shop.commit()
    shop.tend()
    assert generation(tmp_path) != before
    assert shop.journal.bytes_used < 5000
    assert on_record(tmp_path) == recorded(shop.ledger)


def test_many_living_leases_make_both_files_larger_and_a_start_needs_no_third(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for n in range(2500):
        shop.acquire(f"till-{n}")
    shop.commit()
    assert sizes(tmp_path) == {"journal": MIN_BYTES + GROW_BYTES, "journal.next": MIN_BYTES + GROW_BYTES}
    before = recorded(shop.ledger)
    files = {path.stat().st_ino for path in tmp_path.iterdir()}
    shop.journal.close()
    assert recorded(Shop(tmp_path).ledger) == before
    assert {path.stat().st_ino for path in tmp_path.iterdir()} == files


def test_what_is_kept_free_for_each_lease_is_enough_for_its_end(tmp_path: Path) -> None:
    stamp = Clock(1.8e9, 1.8e9, 0.5, 1e6, 1e8)
    for end in (Expired("0" * 24), Released("0" * 24, "its connection ended"), Released("0" * 24, None)):
        shop = Shop(tmp_path)
        shop.desk.record(end)
        before = shop.journal.bytes_used
        shop.journal.commit(stamp, mark=True)
        assert shop.journal.bytes_used - before <= RELEASE_BYTES
        shop.journal.close()


def remember_much(shop: Shop) -> None:
    """As much of usage as is ever kept, and of the renewals of four vendors."""
    for n in range(30):
        names = [f"kso.{name}".ljust(64, "x") for name in range(n % 3, 40)]
        shop.desk.record(Used(later("2027-01-15", n), dict.fromkeys(names, 2**32 - 1)))
        shop.commit(mark=True)
        shop.tend()
    for vendor in ("a" * 64, "b" * 64, "c" * 64, "d" * 64):
        words = "\U0001f9fe" * MAX_WORDS
        due = {3650 - n: 1e9 + n for n in range(16)}
        shop.desk.record(Renewing(vendor, "0" * 64, due, 1000, 2e9, 2e9, words, "2027-01-15", words, "2027-01-15"))
    shop.commit()


def test_what_is_remembered_besides_the_leases_takes_at_most_a_part_of_the_smallest_journal(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    remember_much(shop)
    shop.journal.close()
    again = Shop(tmp_path)
    assert recorded(again.ledger) == recorded(shop.ledger)
    assert MAX_BYTES < again.journal.bytes_used < MAX_BYTES + 4 * 2500
    assert again.journal.bytes_used < (MIN_BYTES - RESERVE_BYTES) // 2


def test_with_all_that_may_be_remembered_the_smallest_journal_serves_on_a_full_disk_for_ever(
    fast_folder: Path,
) -> None:
    Shop(fast_folder).journal.close()
    shop = Shop(fast_folder)
    remember_much(shop)
    shop.tend()
    with no_file_larger_than(MIN_BYTES):
        for n in range(200):
            shop.acquire(f"till-{n}")
        shop.commit()
        generations = set()
        for n in range(5000):
            lease = shop.acquire("comes and goes")
            shop.commit()
            shop.release(lease.id)
            shop.commit(mark=n % 10 == 0)
            shop.journal.tend()
            generations.add(generation(fast_folder))
        assert 5 < len(generations) < 50  # it is copied when it is full, and not again and again
        with pytest.raises(Refused, match="STORAGE_FULL"):
            fill(shop)
        for id in list(shop.ledger.leases):
            shop.release(id)
            shop.commit()
        for _ in range(6 * 24 * 7):
            shop.commit(mark=True)
        assert on_record(fast_folder) == recorded(shop.ledger)
        shop.journal.close()
        assert recorded(Shop(fast_folder).ledger) == recorded(shop.ledger)
    assert sizes(fast_folder) == {"journal": MIN_BYTES, "journal.next": MIN_BYTES}


def test_what_the_end_of_leases_does_not_free_is_not_copied_for_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    remember_much(shop)
    for n in range(300):
        shop.acquire(f"till-{n}")
    shop.commit()
    shop.journal.close()
    shop = Shop(tmp_path)
    shop.tend()
    for id in list(shop.ledger.leases):
        shop.release(id)
    shop.commit()
    shop.tend()
    generations = {generation(tmp_path)}
    for _ in range(100):
        shop.commit(mark=True)
        shop.tend()
        generations.add(generation(tmp_path))
    assert len(generations) == 1


def fill(shop: Shop) -> None:
    for n in range(10_000):
        shop.acquire(f"till-{n}")
        shop.commit()


def test_every_living_lease_can_end_in_a_frame_of_its_own_without_a_byte_more(fast_folder: Path) -> None:
    """With the file as full as reserve() lets it become."""
    shop = Shop(fast_folder)
    with no_file_larger_than(MIN_BYTES):
        with pytest.raises(Refused, match="STORAGE_FULL"):
            fill(shop)
        assert shop.journal.bytes_used > MIN_BYTES // 3
        for id in list(shop.ledger.leases):
            shop.release(id)
            shop.commit()
        for _ in range(500):
            shop.commit(mark=True)
    assert on_record(fast_folder) == NOTHING


def test_a_hundred_thousand_leases_are_recorded_compacted_and_read_back(tmp_path: Path) -> None:
    shop = Shop(tmp_path, size=16 * GROW_BYTES)
    event = Acquired("", TILLS, 1000, "", 1, 60, "keep", None, 0, 1800000000, 10, None)
    for n in range(100_000):
        shop.desk.record(event._replace(lease=f"{n:024x}", holder=f"till-{n}", rank=n))
    shop.commit()
    events = list(replay(tmp_path).events)
    assert len(events) == 100_001
    shop.journal.close()
    again = Shop(tmp_path, size=16 * GROW_BYTES)
    assert list(again.ledger.leases) == [f"{n:024x}" for n in range(100_000)]
    assert list(replay(tmp_path).events) == [Started("boot-1"), *(lease.as_event() for lease in
                                             again.ledger.leases.values())]  # fmt: skip


@pytest.mark.parametrize("how", [os.link, shutil.copy])
def test_a_name_that_stands_in_the_way_of_an_exchange_is_removed(
    tmp_path: Path, how: Callable[[Path, Path], object]
) -> None:
    shop = Shop(tmp_path)
    shop.tend()
    how(tmp_path / "journal", tmp_path / "journal.old")
    shop.acquire("stays")
    churn(shop, MIN_BYTES)
    assert sizes(tmp_path) == {"journal": MIN_BYTES, "journal.next": MIN_BYTES}
    assert on_record(tmp_path) == recorded(shop.ledger)


# --- without a journal -----------------------------------------------------------------------------------------


def test_without_a_journal_nothing_new_is_granted_and_everything_else_goes_on_in_memory() -> None:
    journal = NoJournal("Read-only file system")
    assert not journal.writable
    with pytest.raises(Refused) as caught:
        journal.reserve(1)
    assert caught.value.error is STATE_NOT_WRITABLE
    assert "Read-only file system" in caught.value.message
    journal.stage(Released("lease-0", None))
    journal.commit(Clock(1.0, 0.0, 0.0, 0.0), mark=True)
    assert not journal.tend()
    journal.close()


def test_the_space_kept_free_besides_holds_days_of_marks() -> None:
    assert RESERVE_BYTES > 6 * 24 * 7 * 74  # a week of ten minutes
