"""The living state on its way into a new journal file, in slices between turns. When it takes the journal's place, and
how, is journal.py's."""

from __future__ import annotations

from itertools import islice

from licd.seats.events import Event, Started, encode, pack
from licd.seats.framefile import FrameFile
from licd.seats.ledger import Ledger
from licd.seats.replay import Clock

COPY_LEASES = 200  # leases copied in one slice: about 1 ms
FEW_LEASES = 2000  # may be copied in the middle of a turn: about 10 ms
COPY_SYNC_BYTES = 256 * 1024  # written between two syncs of a copy that is made in slices


class Copy:
    def __init__(self, file: FrameFile, ledger: Ledger, clock: Clock, boot_id: str | None) -> None:
        self.file = file
        self._ledger = ledger
        self._ids = iter(list(ledger.leases))
        self.left = len(ledger.leases)  # to be copied
        self._owed_bytes = 0
        self._synced_bytes = 0
        first: list[Event] = [Started(boot_id), *ledger.accepted.values(), *ledger.recognized.values()]
        first += [*ledger.renewing.values(), *ledger.usage.events()]
        file.begin()
        file.append(b"".join((pack(clock), *map(encode, first))))
        self.fixed_bytes = file.end  # of what no lease's end makes smaller

    def add(self, payload: bytes) -> None:
        """What went into the journal meanwhile stands here too."""
        self.file.append(payload)
        self._owed_bytes += len(payload)

    def step(self, clock: Clock) -> bool:
        """One slice is written; False when nothing is left. The clock is today's: the last frame's is what counts.

        A slice is no smaller than what was added since the last: so a copy never doubles what it copies.
        """
        before = self.file.end
        while ids := list(islice(self._ids, COPY_LEASES)):
            self.left -= len(ids)
            self.file.append(b"".join((pack(clock), *map(encode, self._ledger.snapshot(ids)))))
            if self.file.end - before >= self._owed_bytes:
                break
        self._owed_bytes = 0
        return bool(ids)

    def sync_some(self) -> None:
        """What has come together is synced, so that the last sync does not hold up a turn for long."""
        if self.file.end - self._synced_bytes >= COPY_SYNC_BYTES:
            self.file.sync()
            self._synced_bytes = self.file.end
