"""The journal on disk: a reply leaves only after its record is synced.

So, once a turn: stage the records, commit() them as one frame, fdatasync, and only then may any reply of the turn
go. If a write or a sync fails, the process must stop: asking again proves nothing, because the kernel may have dropped
the pages and forgotten the error. A restart reads what is on the medium.

Two files of the same size are allocated in full (written, not only fallocated: a later frame then changes no metadata,
which halves the cost of its fdatasync, and needs no space that the disk may not have). `journal` takes the frames. When
it is half full, the living state is copied into `journal.next` in slices between turns, while every new frame goes to
both; then sync, exchange the names, sync the folder:

    link journal -> journal.old     (a crash here: two names of one file; the second is removed at start)
    rename journal.next -> journal  (the one moment that counts)
    rename journal.old -> journal.next

A start does the same in one go: what it replayed goes into a new file with a new generation before READY, because after
a failed sync the old file's pages in memory prove nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from licd import durable
from licd.rpc.errors import STATE_NOT_WRITABLE, STORAGE_FULL, Refused
from licd.seats.compaction import FEW_LEASES, Copy
from licd.seats.events import Event, encode, pack
from licd.seats.framefile import GROW_BYTES, FrameFile
from licd.seats.ledger import Ledger
from licd.seats.replay import Clock

RELEASE_BYTES = 128  # a frame with one Released or Expired record and the clock: kept free for every lease that lives
RESERVE_BYTES = 80 * 1024  # kept free besides: a week's marks of the clock, reasons of administrators
MIN_BYTES = 256 * 1024
RECLAIM_PART = 16  # a copy for less than a sixteenth would come round too soon
MAX_KEPT_ASIDE = 3  # damaged files kept for a person to look at
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # any other error of a write is the medium's


class JournalFailed(Exception):
    """A write or sync failed: no reply that waits for it may leave, and the process must stop."""


class Journal:
    """The open journal. Nothing staged is on record until commit() has returned."""

    writable = True
    reason: str | None = None

    def __init__(
        self, folder: Path, size: int, ledger: Ledger, clock: Clock, boot_id: str | None, *, keep_aside: bool
    ) -> None:
        """The ledger's whole state is on record in a new file.

        keep_aside: the old file stays as journal.damaged-N.
        Errors: OSError; what was there before is then untouched
        """
        self._folder = folder
        self._ledger = ledger
        self._boot_id = boot_id
        self._clock = clock
        self._staged: list[bytes] = []
        self._staged_bytes = 0
        self.must_sync = False
        self._failed: JournalFailed | None = None
        self._starved = False  # the disk had no space for the spare file: asked again at the next mark
        self._tidy_names()
        spare = folder / "journal.next"
        new = FrameFile(spare)
        try:
            new.allocate(max(size, MIN_BYTES))
        except OSError:
            if new.size < MIN_BYTES:
                raise
        self._spare: FrameFile | None = None
        self._copy: Copy | None = Copy(new, ledger, clock, boot_id)
        while self._copy.step(clock):
            pass
        fixed_bytes = self._copy.fixed_bytes
        new.sync()
        if keep_aside:
            self._keep_aside()
        elif (folder / "journal").exists():
            with contextlib.suppress(
                OSError
            ):  # not ours (a restored backup), or no links here: without it, one is made
                self._link_old()
        self._exchange(new, None)
        self.file = new
        if spare.exists():
            self._spare = FrameFile(spare)
        self._copied_bytes = new.end
        self._fixed_bytes = fixed_bytes
        self._copied_leases = len(ledger.leases)
        self._measure()

    # --- once a turn -----------------------------------------------------------------------------------------

    def reserve(self, record_bytes: int) -> None:
        """There is allocated space for this record and for the later end of every lease.

        Errors: STORAGE_FULL, JournalFailed
        """
        if self.file.end + self._staged_bytes + record_bytes + RELEASE_BYTES * len(self._ledger.leases) <= self._room:
            return
        try:
            self._make_room(record_bytes)
        finally:
            self._measure()

    def _make_room(self, record_bytes: int) -> None:
        """Errors: STORAGE_FULL, JournalFailed"""
        if self._fits(record_bytes):
            return
        if self._copy is None and self._worth_copying():
            self._begin_copy()
        while self._copy is not None:
            # A long copy goes on in slices, as far as the disk has space for what comes meanwhile.
            if self._copy.left <= FEW_LEASES or not self._grow():
                self._finish_copy()
            if self._fits(record_bytes):
                return
        while not self._fits(record_bytes):
            if not (self._grow() or self._reclaim()):
                raise Refused(STORAGE_FULL)

    def stage(self, event: Event, *, sync: bool = True) -> None:
        """The event goes into this turn's frame. With sync=False it may wait for the next frame that must be synced."""
        record = encode(event)
        self._staged.append(record)
        self._staged_bytes += len(record)
        if sync:
            self.must_sync = True

    def commit(self, clock: Clock, *, mark: bool = False) -> None:
        """All that was staged for sync is on the medium. mark: write the clock even if nothing else is to be written.

        Errors: JournalFailed
        """
        self._clock = clock
        if self._failed is not None:
            raise self._failed
        if not (self.must_sync or mark):
            return
        if mark:
            self._starved = False
        payload = b"".join((pack(clock), *self._staged))
        self._staged.clear()
        self._staged_bytes = 0
        self.must_sync = False
        try:
            self.file.append(payload)
            self.file.sync()
        except OSError as error:
            raise self._failure("write", error) from error
        if self._copy is not None:
            try:
                self._copy.add(payload)
            except OSError:
                self._abandon_copy()

    def tend(self) -> bool:
        """One slice of the housekeeping between turns is done; True if more is waiting.

        Errors: JournalFailed
        """
        if self._copy is None and self._paired and self.file.end <= self._half:
            return False  # as _tend() would find, after more questions
        more = self._tend()
        self._measure()
        return more

    def _tend(self) -> bool:
        if self._copy is not None:
            try:
                if self._copy.step(self._clock):
                    self._copy.sync_some()
                else:
                    self._finish_copy()
            except OSError:
                self._abandon_copy()
            return True
        if self._starved:
            return False
        if self._spare is None or self._spare.size < self.file.size:
            return self._allocate_slice()
        if self._worth_copying():
            self._begin_copy()
            return True
        return False

    def close(self) -> None:
        self.file.close()
        if self._spare is not None:
            self._spare.close()

    # --- for status ------------------------------------------------------------------------------------------

    @property
    def bytes_used(self) -> int:
        return self.file.end

    @property
    def bytes_allocated(self) -> int:
        return self.file.size

    # --- compaction and space --------------------------------------------------------------------------------

    def _fits(self, record_bytes: int) -> bool:
        ends = RELEASE_BYTES * (len(self._ledger.leases) + 1) + RESERVE_BYTES
        return self.file.end + self._staged_bytes + record_bytes + ends <= self._usable()

    def _measure(self) -> None:
        # Between two calls nothing makes it less: so a turn need not ask for the sizes of files each time.
        usable = self._usable()
        self._room = usable - RESERVE_BYTES - RELEASE_BYTES
        self._half = usable // 2
        self._paired = self._spare is not None and self._spare.size >= self.file.size

    def _usable(self) -> int:
        """What of the journal file may be used: a start on a full disk must be able to copy it into the spare one.

        A spare file that is yet to be made limits nothing, so that a disk too small for two serves with one.
        """
        spare = 0 if self._spare is None else self._spare.size
        return self.file.size if spare < MIN_BYTES else min(self.file.size, spare)

    def _worth_copying(self) -> bool:
        """Half full, and at least half of that is past: a file of living leases only is made larger instead."""
        return self._can_copy() and self.file.end > max(self._usable() // 2, 2 * self._living_bytes())

    def _can_copy(self) -> bool:
        return self._spare is not None and self._spare.size >= self._usable()

    def _living_bytes(self) -> int:
        """What the last copy took, less its part in leases that ended since; what was added since is not in it."""
        left = min(len(self._ledger.leases), self._copied_leases)
        return self._fixed_bytes + (self._copied_bytes - self._fixed_bytes) * left // max(1, self._copied_leases)

    def _grow(self) -> bool:
        """Both files are one step larger; False where the disk has no space for it.

        Errors: JournalFailed
        """
        size = self._usable() + GROW_BYTES
        try:
            if self._spare is None:
                self._spare = FrameFile(self._folder / "journal.next")
            self._spare.allocate(size)
        except OSError:
            return False
        try:
            self.file.allocate(size)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise self._failure("write", error) from error
            return False
        return True

    def _reclaim(self) -> bool:
        """The journal is smaller by what is past, if that is worth a whole copy in the middle of a turn."""
        before = self.file.end
        if not self._can_copy() or before - self._living_bytes() <= min(RESERVE_BYTES, self._usable() // RECLAIM_PART):
            return False
        self._begin_copy()
        self._finish_copy()
        return self.file.end < before

    def _failure(self, what: str, error: OSError) -> JournalFailed:
        self._failed = JournalFailed(f"cannot {what} {self.file.path}: {error.strerror}")
        return self._failed

    def _begin_copy(self) -> None:
        assert self._spare is not None
        try:
            self._copy = Copy(self._spare, self._ledger, self._clock, self._boot_id)
        except OSError:
            self._abandon_copy()

    def _finish_copy(self) -> None:
        """The copy under way, if any, takes the journal's place.

        Until the rename nothing depends on the new file: an error there only puts the copy off.
        Errors: JournalFailed
        """
        copy = self._copy
        if copy is None:
            return
        try:
            while copy.step(self._clock):
                pass
            copy.file.sync()
            self._link_old()
        except OSError:
            self._abandon_copy()
            return
        try:
            self._exchange(copy.file, self.file)
        except OSError as error:
            raise self._failure("exchange", error) from error
        self.file, self._spare = copy.file, self.file
        self._copied_bytes = copy.file.end
        self._fixed_bytes = copy.fixed_bytes
        self._copied_leases = len(self._ledger.leases)

    def _abandon_copy(self) -> None:
        self._copy = None
        self._starved = True

    def _link_old(self) -> None:
        self._tidy_names()
        os.link(self._folder / "journal", self._folder / "journal.old")

    def _exchange(self, new: FrameFile, old: FrameFile | None) -> None:
        self._copy = None
        journal, spare, third = (self._folder / name for name in ("journal", "journal.next", "journal.old"))
        os.rename(spare, journal)
        if third.exists():
            os.rename(third, spare)
        durable.sync_folder(self._folder)
        new.path = journal
        if old is not None:
            old.path = spare

    def _tidy_names(self) -> None:
        """Names left by a crash in the middle of an exchange."""
        journal, spare, third = (self._folder / name for name in ("journal", "journal.next", "journal.old"))
        if third.exists():
            if spare.exists() or (journal.exists() and third.samefile(journal)):
                third.unlink()
            else:
                third.rename(spare)

    def _keep_aside(self) -> None:
        kept = sorted(self._folder.glob("journal.damaged-*"), key=_number)
        for path in kept[: len(kept) - MAX_KEPT_ASIDE + 1]:
            path.unlink()
        number = _number(kept[-1]) + 1 if kept else 1
        os.link(self._folder / "journal", self._folder / f"journal.damaged-{number}")

    def _allocate_slice(self) -> bool:
        """One step towards a spare file of full size. A full disk leaves it for later: the journal goes on without."""
        try:
            if self._spare is None:
                self._spare = FrameFile(self._folder / "journal.next")
            self._spare.allocate(self.file.size, most=GROW_BYTES)
        except OSError:
            self._starved = True
            return False
        return True


class NoJournal:
    """What stands in for the journal where the state folder cannot be written: nothing new is granted or imported."""

    writable = False
    bytes_used = 0
    bytes_allocated = 0
    must_sync = False

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def reserve(self, record_bytes: int) -> None:
        """Errors: STATE_NOT_WRITABLE"""
        raise Refused(STATE_NOT_WRITABLE, reason=self.reason)

    def stage(self, event: Event, *, sync: bool = True) -> None:
        """In memory only."""

    def commit(self, clock: Clock, *, mark: bool = False) -> None:
        """Nothing to write to."""

    def tend(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""


def _number(path: Path) -> int:
    digits = path.name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0
