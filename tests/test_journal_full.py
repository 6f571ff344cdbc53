"""The journal on a disk that is full, or read-only: a real one, of a MiB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from licd.rpc.errors import STORAGE_FULL, Refused
from licd.seats.events import RELEASE
from licd.seats.framefile import GROW_BYTES
from licd.seats.journal import MIN_BYTES
from tests.support.desk import NOTHING, Shop, on_record, recorded
from tests.support.mounts import fill_up, remount_read_only, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, "1m"):
        yield tmp_path


def acquire_until_refused(shop: Shop, tag: str = "") -> int:
    """How many leases there was space for. The refusal is STORAGE_FULL and changes nothing."""
    count = 0
    while not is_full(shop, f"till-{tag}{count}"):
        shop.commit()
        count += 1
    before = recorded(shop.ledger)
    assert is_full(shop, "one more")
    assert recorded(shop.ledger) == before
    return count


def is_full(shop: Shop, holder: str) -> bool:
    try:
        shop.acquire(holder)
    except Refused as refused:
        return refused.error is STORAGE_FULL
    return False


def full_shop(folder: Path) -> Shop:
    """Both files allocated, the disk full, and as many leases as there is space for."""
    shop = Shop(folder)
    shop.tend()
    fill_up(folder)
    assert acquire_until_refused(shop) > 300
    return shop


def test_a_full_disk_refuses_new_seats_by_name_and_goes_on_confirming_and_releasing(disk: Path) -> None:
    shop = full_shop(disk)
    sizes = {path.name: path.stat().st_size for path in disk.iterdir()}
    for lease in list(shop.ledger.leases.values()):
        shop.desk.confirm(shop.session, lease.id)
        shop.release(lease.id)
        shop.commit()
    assert on_record(disk) == NOTHING
    assert {path.name: path.stat().st_size for path in disk.iterdir()} == sizes


def test_what_is_staged_in_one_turn_counts_as_written(disk: Path) -> None:
    shop = Shop(disk)
    shop.tend()
    fill_up(disk)
    while not is_full(shop, f"till-{len(shop.ledger.leases)}" + "x" * 400):
        pass
    shop.commit()
    for id in list(shop.ledger.leases):
        shop.release(id)
        shop.commit()
    assert on_record(disk) == NOTHING


def test_on_a_full_disk_leases_also_expire_and_end_with_their_connections(disk: Path) -> None:
    shop = Shop(disk)
    shop.tend()
    shop.acquire("bound", on_close=RELEASE)
    shop.commit()
    fill_up(disk)
    acquire_until_refused(shop)
    shop.desk.goodbye(shop.session)
    shop.commit()
    shop.desk.now += 61
    while shop.ledger.leases:
        shop.desk.expire(most=1)
        shop.commit(mark=True)
    assert on_record(disk) == NOTHING


def test_on_a_full_disk_what_was_released_makes_space_for_new_seats(disk: Path) -> None:
    shop = full_shop(disk)
    ids = list(shop.ledger.leases)
    for id in ids[: len(ids) * 2 // 3]:
        shop.release(id)
        shop.commit()
    assert acquire_until_refused(shop, "again") > len(ids) // 3
    assert on_record(disk) == recorded(shop.ledger)


@pytest.mark.parametrize("tended", [True, False])
def test_on_a_full_disk_leases_come_and_go_for_ever(disk: Path, tended: bool) -> None:
    shop = Shop(disk)
    shop.tend()
    fill_up(disk)
    shop.acquire("stays")
    for n in range(6000):
        shop.release(shop.acquire("till").id)
        if n % 5 == 0:
            shop.commit()
            if tended:
                shop.journal.tend()
    shop.commit()
    assert on_record(disk) == recorded(shop.ledger)


def test_on_a_full_disk_a_lease_changes_for_ever_however_many_others_live(disk: Path) -> None:
    """Most of the file is living leases; the little that is past is enough to go on with."""
    shop = full_shop(disk)
    for lease in list(shop.ledger.leases.values())[:400]:
        shop.release(lease.id)
    shop.commit()
    first = next(iter(shop.ledger.leases.values()))
    for n in range(5000):
        shop.acquire(first.holder, ttl=60 + n % 1000)
        if n % 20 == 0:
            shop.commit()
    shop.commit()
    assert on_record(disk) == recorded(shop.ledger)


def test_a_start_on_a_full_disk_needs_no_new_space(disk: Path) -> None:
    shop = full_shop(disk)
    before = recorded(shop.ledger)
    for _ in range(3):
        shop.journal.close()
        shop = Shop(disk)
        shop.tend()
        assert recorded(shop.ledger) == before == on_record(disk)
    for id in list(shop.ledger.leases):
        shop.release(id)
        shop.commit()
    assert on_record(disk) == NOTHING


def test_a_start_on_a_full_disk_needs_no_new_space_after_a_crash_in_an_exchange(disk: Path) -> None:
    shop = full_shop(disk)
    shop.journal.close()
    (disk / "journal.next").rename(disk / "journal.old")
    assert recorded(Shop(disk).ledger) == recorded(shop.ledger)


def test_a_start_on_a_full_disk_needs_no_new_space_after_the_journal_has_grown(tmp_path: Path) -> None:
    """The disk has space for one larger file, not for two: so neither becomes larger."""
    with small_disk(tmp_path, "2m"):
        shop = Shop(tmp_path)
        shop.tend()
        acquire_until_refused(shop)
        before = recorded(shop.ledger)
        shop.journal.close()
        assert recorded(Shop(tmp_path).ledger) == before


def test_space_that_comes_back_is_used_by_both_files_alike(tmp_path: Path) -> None:
    """There is space for three steps: the third is of no use, because a start could not copy what it made possible."""
    with small_disk(tmp_path, "4m"):
        shop = full_shop(tmp_path)
        (tmp_path / "filling").unlink()
        assert acquire_until_refused(shop, "more") > 3000
        for _ in range(3):
            assert shop.journal.bytes_used < MIN_BYTES + GROW_BYTES
            before = recorded(shop.ledger)
            shop.journal.close()
            shop = Shop(tmp_path)
            assert recorded(shop.ledger) == before
            assert acquire_until_refused(shop, "yet more") < 300


def test_a_first_start_on_a_full_disk_says_so_and_leaves_nothing_in_the_way(disk: Path) -> None:
    fill_up(disk)
    with pytest.raises(OSError, match="No space left"):
        Shop(disk)
    (disk / "filling").unlink()
    shop = Shop(disk)
    assert shop.found.problem is None
    shop.acquire("till-1")
    shop.commit()
    assert on_record(disk) == recorded(shop.ledger)


def test_a_start_that_cannot_write_leaves_the_journal_as_it_was(disk: Path) -> None:
    shop = Shop(disk)
    shop.tend()
    shop.acquire("till-1")
    shop.commit()
    shop.journal.close()
    before = {path.name: path.read_bytes() for path in disk.iterdir()}
    remount_read_only(disk)
    with pytest.raises(OSError, match="Read-only"):
        Shop(disk)
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == before
    assert on_record(disk) == recorded(shop.ledger)


def test_a_disk_with_space_for_one_file_only_serves_with_that(tmp_path: Path) -> None:
    with small_disk(tmp_path, "300k"):
        shop = Shop(tmp_path)
        shop.tend()
        assert acquire_until_refused(shop) > 300
        for id in list(shop.ledger.leases):
            shop.release(id)
            shop.commit()
        assert on_record(tmp_path) == NOTHING


def test_space_for_the_second_file_is_asked_for_at_each_mark_of_the_clock_and_not_in_every_turn(disk: Path) -> None:
    (disk / "filling").write_bytes(bytes(600 * 1024))
    shop = Shop(disk)
    shop.tend()
    (disk / "filling").unlink()
    shop.acquire("till-1")
    shop.commit()
    assert not shop.journal.tend()
    assert (disk / "journal.next").stat().st_size < MIN_BYTES
    shop.commit(mark=True)
    shop.tend()
    assert (disk / "journal.next").stat().st_size == MIN_BYTES
