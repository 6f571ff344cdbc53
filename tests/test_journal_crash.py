"""The process is killed, or the power cut, at every step of the journal's work: what was acknowledged is there.

Every call by which a journal changes its folder is watched. After each one, the test works out what the medium may
hold if everything ended there, and reads it back: with the last sync nothing newer is certain; names may be those of
any moment since the folder's last sync; of unsynced writes any 512-byte sectors may have arrived.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from licd.seats.compaction import COPY_LEASES
from licd.seats.events import KEEP, RELEASE, Accepted, Renewing, Used
from licd.seats.journal import MIN_BYTES
from licd.seats.replay import replay
from tests.support.desk import Shop, recorded, replayed

SECTOR = 512
NAMING = ("link", "rename", "unlink")
CALLS = ("pwrite", "ftruncate", "fdatasync", "fsync", *NAMING)

Files = dict[str, bytes]


class Medium:
    """What the disk may hold of a folder, at each moment."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.watching = True
        self.on_call: Callable[[str], None] = lambda call: None
        self.synced: dict[int, bytes] = {}  # by inode: its content at its last sync
        self.names: list[dict[str, int]] = [self.names_now()]  # at the folder's last sync, and each change since

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            monkeypatch.setattr(os, name, self.watched(name, getattr(os, name)))

    def watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            if self.watching:
                self.note(name, args)
                journals = {names.get("journal") for names in self.names}
                if name in NAMING or None in journals or os.fstat(args[0]).st_ino in journals:
                    self.on_call(name)  # what happens to the spare file shows once it has the name
            return result

        return wrapper

    def note(self, call: str, args: tuple[Any, ...]) -> None:
        names = self.names_now()
        if names != self.names[-1]:
            self.names.append(names)
        if call in ("fsync", "fdatasync"):
            inode = os.fstat(args[0]).st_ino
            if inode == self.folder.stat().st_ino:
                self.names = [names]
            else:
                self.synced[inode] = os.pread(args[0], 1 << 30, 0)

    def names_now(self) -> dict[str, int]:
        return {entry.name: entry.inode() for entry in os.scandir(self.folder)}

    def content(self) -> dict[int, bytes]:
        return {inode: (self.folder / name).read_bytes() for name, inode in self.names_now().items()}

    def after_crash(self) -> Iterator[Files]:
        """The process killed; the power cut with nothing unsynced arrived; the same with some of it arrived."""
        content = self.content()
        yield {name: content[inode] for name, inode in self.names_now().items()}
        for names in self.names:
            yield {name: self.synced.get(inode, b"") for name, inode in names.items()}
            yield {name: self.torn(self.synced.get(inode, b""), content[inode]) for name, inode in names.items()}

    def torn(self, before: bytes, now: bytes) -> bytes:
        """Some sectors of what was written since the sync have arrived."""
        if before == now:
            return now
        found = bytearray(before.ljust(len(now), b"\0"))
        for at in range(0, len(now), SECTOR):
            if found[at : at + SECTOR] != now[at : at + SECTOR] and self.chance.random() < 0.5:
                found[at : at + SECTOR] = now[at : at + SECTOR]
        return bytes(found)


class Witness:
    """Reads back every state the medium may be in, and knows which states are allowed there."""

    def __init__(self, shop: Shop, medium: Medium, scratch: Path) -> None:
        self.shop = shop
        self.medium = medium
        self.scratch = scratch
        self.allowed = [recorded(shop.ledger)]  # acknowledged last, then as each event of the turn changed it
        self.acknowledged = shop.stamp
        self.seen: set[bytes] = set()  # journals read already since `allowed` changed
        self.checks = 0
        stage = shop.desk.on_record
        self.synced_events = False

        def on_record(event: Any, sync: bool) -> None:
            stage(event, sync)
            self.synced_events = self.synced_events or sync
            self.allowed.append(recorded(shop.ledger))
            self.seen.clear()

        shop.desk.on_record = on_record
        medium.on_call = self.check

    def commit(self, *, mark: bool = False) -> None:
        self.shop.commit(mark=mark)
        if self.synced_events or mark:  # from here on a reply may have left
            self.synced_events = False
            self.allowed = [recorded(self.shop.ledger)]
            self.acknowledged = self.shop.stamp
            self.seen.clear()
        self.check("commit")

    def check(self, call: str) -> None:
        self.medium.watching = False
        try:
            for files in self.medium.after_crash():
                self.read_back(files, call)
        finally:
            self.medium.watching = True

    def read_back(self, files: Files, call: str) -> None:
        if files["journal"] in self.seen and call not in NAMING:
            return
        self.seen.add(files["journal"])
        self.checks += 1
        for path in self.scratch.iterdir():
            path.unlink()
        for name, content in files.items():
            (self.scratch / name).write_bytes(content)
        found = replay(self.scratch)
        assert found.problem is None
        assert found.clock is not None
        assert found.clock[0] >= self.acknowledged
        state = recorded(replayed(list(found.events)))
        assert state in self.allowed
        if call in NAMING:  # a start finds its way from any of the names
            again = Shop(self.scratch)
            assert recorded(again.ledger) == state == recorded(replayed(list(replay(self.scratch).events)))
            again.acquire("after the crash")
            again.commit()
            assert recorded(replayed(list(replay(self.scratch).events))) == recorded(again.ledger)
            again.tend()
            again.journal.close()
            assert sorted(path.name for path in self.scratch.iterdir()) == ["journal", "journal.next"]


def turn(shop: Shop, chance: random.Random, session_holders: int) -> None:
    """What a turn of a busy shop does: acquires, changes, releases, expiries, now and then a new license file."""
    desk = shop.desk
    desk.now += chance.choice((0, 0, 1, 30))
    for _ in range(chance.randint(0, 9)):
        holder = f"till-{chance.randrange(session_holders)}".ljust(500, "x")
        leases = list(shop.ledger.leases)
        what = chance.random()
        if what < 0.6 or not leases:
            on_close = chance.choice((KEEP, RELEASE))
            shop.acquire(holder, seats=chance.randint(1, 3), ttl=chance.choice((60, 600)), on_close=on_close)
        elif what < 0.95:
            shop.release(chance.choice(leases))
        elif what < 0.97:
            number = chance.randrange(1, 30)
            desk.record(Renewing("v", "digest", {30: float(number)}, number, outcome="x" * 100))
            desk.record(Used(f"2027-01-{number:02}", {f"kso.{number}": chance.randint(1, 9)}), sync=False)
        else:
            seq = desk.ledger.accepted["v"].seq + 1 if desk.ledger.accepted else 1
            desk.record(Accepted("v", seq, "digest"))
    desk.expire()


@pytest.mark.parametrize("tended", [True, False], ids=["between-turns", "in-the-middle-of-a-turn"])
def test_what_was_acknowledged_is_there_wherever_the_work_of_the_journal_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tended: bool
) -> None:
    """Copies go in slices between turns, or all at once in the turn that needs their space."""
    folder, scratch = tmp_path / "state", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    chance = random.Random(1)
    shop = Shop(folder)
    for n in range(COPY_LEASES + 50):  # more than one slice
        shop.acquire(f"stays-{n}", ttl=10**6)
    shop.commit()
    shop.tend()
    medium = Medium(folder, random.Random(1))
    medium.synced = medium.content()
    witness = Witness(shop, medium, scratch)
    medium.watch(monkeypatch)
    generations: set[bytes] = set()
    turns = 0
    while len(generations) < 3:
        turn(shop, chance, 40)
        witness.commit(mark=chance.random() < 0.1)
        if tended:
            shop.journal.tend()
            witness.check("tend")
        generations.add((folder / "journal").read_bytes()[4:12])
        turns += 1
        assert turns < 2000
    assert witness.checks > turns
    monkeypatch.undo()


def test_a_start_cut_off_anywhere_loses_nothing_and_the_next_one_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scratch = tmp_path / "state", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    for spare in (False, True):
        shop = Shop(folder)
        for n in range(COPY_LEASES + 50):
            shop.acquire(f"till-{spare}-{n}")
        shop.commit()
        if spare:
            shop.tend()
        shop.journal.close()
        medium = Medium(folder, random.Random(1))
        medium.synced = medium.content()
        witness = Witness(shop, medium, scratch)
        with monkeypatch.context() as patch:
            medium.watch(patch)
            again = Shop(folder)
        assert witness.checks > 4
        assert recorded(again.ledger) == recorded(shop.ledger)
        again.journal.close()


def test_the_first_start_ever_cut_off_anywhere_leaves_a_folder_that_the_next_one_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scratch = tmp_path / "state", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    medium = Medium(folder, random.Random(1))
    seen = []

    def start(call: str) -> None:
        medium.watching = False
        for files in medium.after_crash():
            for path in scratch.iterdir():
                path.unlink()
            for name, content in files.items():
                (scratch / name).write_bytes(content)
            shop = Shop(scratch)
            assert shop.found.problem is None
            shop.journal.close()
            assert (scratch / "journal").stat().st_size == MIN_BYTES
            seen.append(call)
        medium.watching = True

    medium.on_call = start
    with monkeypatch.context() as patch:
        medium.watch(patch)
        Shop(folder).journal.close()
    assert len(seen) > 10
