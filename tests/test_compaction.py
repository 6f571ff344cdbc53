"""A copy of many leases: in slices, however much comes meanwhile, and of bounded size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from licd.seats.compaction import COPY_LEASES, COPY_SYNC_BYTES, FEW_LEASES
from licd.seats.framefile import GROW_BYTES, FrameFile
from licd.seats.journal import RELEASE_BYTES, RESERVE_BYTES
from tests.support.desk import Shop, generation, on_record, recorded, sizes

LEASES = 20_000
LEASE_BYTES = 128  # of one record here, at most


@pytest.fixture
def fast_folder() -> Iterator[Path]:
    """For thousands of commits: in memory, where there is such a place, because each of them waits for the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of every frame, as it is written."""
    frames: list[int] = []
    append = FrameFile.append

    def watched(self: FrameFile, payload: bytes) -> None:
        frames.append(len(payload))
        append(self, payload)

    monkeypatch.setattr(FrameFile, "append", watched)
    return frames


class Busy:
    """A shop with many leases, in which some go and as many come in every turn."""

    def __init__(self, folder: Path, leases: int) -> None:
        self.folder = folder
        self.shop = Shop(folder)
        for n in range(leases):
            self.shop.acquire(f"stays-{n}", ttl=10**6)
            if n % 1000 == 999:
                self.shop.commit()
                self.shop.tend()
        self.comes = 0

    def turn(self, count: int) -> None:
        for _ in range(count):
            self.shop.release(self.shop.acquire(f"comes-{self.comes}", ttl=10**6).id)
            self.comes += 1
        self.shop.commit()
        self.shop.journal.tend()  # once, as the daemon does

    def until_copied(self, count: int) -> int:
        """Turns until the journal is another file; how many."""
        before, turns = generation(self.folder), 0
        while generation(self.folder) == before:
            self.turn(count)
            turns += 1
            assert turns < 5000
        return turns


@pytest.mark.parametrize("count", [20, 200, 2000], ids=["quiet", "busy", "as-busy-as-can-be"])
def test_no_turn_copies_more_than_a_slice_and_as_much_again_as_it_was_asked(
    fast_folder: Path, written: list[int], count: int
) -> None:
    busy = Busy(fast_folder, LEASES)
    own = count * (LEASE_BYTES + 64)  # acquired and released
    most = 0
    before = generation(fast_folder)
    while generation(fast_folder) == before:
        written.clear()
        busy.turn(count)
        most = max(most, sum(written))
    assert most < 3 * own + 3 * COPY_LEASES * LEASE_BYTES  # in the journal, in the copy, and a slice as large
    assert on_record(fast_folder) == recorded(busy.shop.ledger)


@pytest.mark.parametrize("count", [200, 2000], ids=["busy", "as-busy-as-can-be"])
def test_the_files_stay_within_what_the_living_leases_need_however_many_come_and_go(
    fast_folder: Path, count: int
) -> None:
    busy = Busy(fast_folder, LEASES)
    turns = 0
    for _ in range(4):
        turns += busy.until_copied(count)
        living = LEASES * (LEASE_BYTES + RELEASE_BYTES) + RESERVE_BYTES
        # Half of the file may be past before a copy begins; as much again comes while it is made.
        assert max(sizes(fast_folder).values()) < 2 * living + 2 * LEASES * LEASE_BYTES + GROW_BYTES
    assert turns > 4
    assert on_record(fast_folder) == recorded(busy.shop.ledger)
    busy.shop.journal.close()
    assert recorded(Shop(fast_folder).ledger) == recorded(busy.shop.ledger)


def test_a_copy_in_slices_is_synced_as_it_grows_and_that_of_a_start_once(
    fast_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Busy(fast_folder, LEASES)
    unsynced: dict[FrameFile, int] = {}
    synced: list[int] = []
    append, sync = FrameFile.append, FrameFile.sync

    def appended(self: FrameFile, payload: bytes) -> None:
        append(self, payload)
        unsynced[self] = unsynced.get(self, 0) + len(payload)

    def syncs(self: FrameFile) -> None:
        sync(self)
        synced.append(unsynced.pop(self, 0))

    monkeypatch.setattr(FrameFile, "append", appended)
    monkeypatch.setattr(FrameFile, "sync", syncs)
    busy.until_copied(20)
    assert COPY_SYNC_BYTES <= max(synced) < 2 * COPY_SYNC_BYTES
    busy.shop.journal.close()
    synced.clear()
    Shop(fast_folder)
    assert max(synced) > LEASES * 32
    assert len(synced) == 1


def test_where_a_turn_needs_the_space_of_a_long_copy_the_files_grow_instead_of_waiting_for_it(
    fast_folder: Path, written: list[int]
) -> None:
    busy = Busy(fast_folder, LEASES)
    shop, before = busy.shop, sizes(fast_folder)["journal"]
    written.clear()
    while sizes(fast_folder)["journal"] == before:
        shop.release(shop.acquire("comes").id)  # never between turns
    assert sum(written) < LEASES * 64  # the leases were not copied
    assert sizes(fast_folder) == {"journal": before + GROW_BYTES, "journal.next": before + GROW_BYTES}
    shop.commit()
    shop.tend()
    assert on_record(fast_folder) == recorded(shop.ledger)


def test_a_short_copy_is_made_in_the_middle_of_a_turn_and_nothing_grows(fast_folder: Path) -> None:
    shop = Busy(fast_folder, FEW_LEASES // 10).shop
    shop.tend()
    before, old = sizes(fast_folder), generation(fast_folder)
    while generation(fast_folder) == old:
        shop.release(shop.acquire("comes").id)
        shop.commit()
    assert sizes(fast_folder) == before
    assert on_record(fast_folder) == recorded(shop.ledger)
