"""What the daemon knows, and the one way to change it."""

from __future__ import annotations

import contextlib
import errno

from licd.daemon import log
from licd.daemon.config import Config
from licd.daemon.device import Device
from licd.daemon.installed import Installed
from licd.daemon.recognition import warning
from licd.daemon.renewing import a_day, next_due
from licd.device.clock import TrustedClock
from licd.license import terms
from licd.license.dates import DAY_S, FOREVER, day
from licd.license.terms import ANY_DEVICE
from licd.rpc.errors import STATE_NOT_WRITABLE, STORAGE_FULL, Refused
from licd.seats.events import Acquired, Event, Recognized, Released, Renewing, Stopped, encode
from licd.seats.journal import Journal, NoJournal
from licd.seats.ledger import Ledger
from licd.seats.replay import Clock

# The warnings of a grant or check: the license ended, its grace is running; the device changed, its grace is running.
# It stops soon, unless the file is renewed.
GRACE, DEVICE_CHANGED, RENEWAL_DUE = "GRACE", "DEVICE_CHANGED", "RENEWAL_DUE"

# A device that was not recognized is looked at again, soon at first: after a boot, disks and network cards come late.
LOOK_AGAIN_S, LOOK_AGAIN_MOST_S = 5.0, 600.0


class State:
    """Units: now is CLOCK_BOOTTIME, wall CLOCK_REALTIME, trusted the trusted time, all in seconds, read once a turn."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        journal: Journal | NoJournal,
        installed: Installed,
        *,
        clock: TrustedClock,
        device: Device,
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.journal = journal
        self.installed = installed
        self.clock = clock
        self.device = device
        self.requests = installed.requests
        # By kind and vendor: the id of the request made last by this process, and when, on the clock of `now`.
        self.asked: dict[tuple[str, str], tuple[str, float]] = {}
        # By vendor: when its newest answer to one of these was issued, and came in. A clock still ahead of it is wrong.
        self.told: dict[str, tuple[float, float]] = {}
        self.recognize_at = float("inf")  # when to look again whether this is the right device
        self._look_again_s = LOOK_AGAIN_S
        self.now = 0.0
        self.wall = 0.0
        self.trusted = 0.0
        self._day = float("nan")  # the day whose peaks are counted, by number: none yet
        self.started = 0.0  # on the clock of `now`
        self.judge_at = 0.0  # when a license date, or the clock's own rules, may change a verdict
        self.salvage_problem: str | None = None
        self.salvage_until = 0.0  # by then every lease that was granted before has been confirmed or has expired
        self.reload_problem: str | None = None
        self.connections = 0
        self.changes = 0  # events recorded: a fault after a change ends the process
        # Set by a handler: its answer tells nothing that waits for the commit, and may leave before. Clients takes it
        # back before each request.
        self.prompt = False
        # Leases of a lower rank are on the medium as they stand; -1: none is sure, for something else has changed since
        # the last commit.
        self.settled_rank = 0

    def tell_time(self, now: float, wall: float) -> None:
        self.now = now
        self.wall = wall
        self.trusted = self.clock.now(wall, now)

    def told_by_others(self, vendor: str) -> float:
        """Below this one vendor's answer must not lower the clock: the time by the answers of the others whose licenses
        it judges, too. Infinity: one of them has not answered this process."""
        never = (float("inf"), self.now)
        told = (self.told.get(other, never) for other in self.installed.files if other != vendor)
        return max((issued + self.now - at for issued, at in told), default=-float("inf"))

    def stamp(self) -> Clock:
        """What every frame says of the time."""
        return stamp(self.clock, self.now)

    def record(self, event: Event, *, sync: bool = True) -> None:
        """The event is true from now on, and goes into this turn's frame."""
        self.changes += 1
        if type(event) is not Released and (type(event) is not Acquired or event.rank < self.settled_rank):
            self.settled_rank = -1  # what was settled has changed
        self.ledger.apply(event)
        self.journal.stage(event, sync=sync)

    def commit(self, *, mark: bool = False) -> None:
        """What was recorded in this turn is on the medium. Errors: JournalFailed"""
        self.journal.commit(self.stamp(), mark=mark)
        self.settled_rank = self.ledger.next_rank

    def recognize(self) -> None:
        """Each file in force stands as this device compares with its own; changes are on record. To be judged after."""
        before = self.installed.standings
        for event in self.look(self.installed):
            self.record(event)
        standings = self.installed.standings
        for vendor, standing in standings.items():
            was = before.get(vendor, ANY_DEVICE)
            if standing.kind != was.kind:
                text = warning(vendor, standing, self.trusted)
                if text is not None:
                    log.write(log.WARNING, text)
                elif not was.right:
                    log.write(log.NOTICE, f"{vendor}: this is the device that the license file is for")
        self.recognize_at = float("inf")
        if not all(standing.right for standing in standings.values()):
            self.recognize_at = self.now + self._look_again_s
            self._look_again_s = min(2 * self._look_again_s, LOOK_AGAIN_MOST_S)
        else:
            self._look_again_s = LOOK_AGAIN_S

    def look(self, installed: Installed) -> list[Recognized]:
        """These files stand as this device compares with theirs; what is to be put on record of that."""
        standings, news = self.device.recognize(installed.files, self.ledger.recognized, self.clock.line)
        installed.stand(standings, self.trusted - self.clock.line)
        return news

    def plan(self, installed: Installed) -> list[Renewing]:
        """The renewals of these files stand as the time says; what is to be put on record of that."""
        return installed.plan(self.ledger.renewing, self.device.public_key, self.trusted, self.clock.ran_s)

    def judge(self) -> None:
        """Licenses and pools are as the trusted time says; judge_at is when to look again."""
        installed, before = self.installed, self.installed.verdicts.names
        installed.move(self.trusted - self.clock.line)
        for event in self.plan(installed):
            self.record(event)
        verdicts = installed.judge(self.trusted)
        stopped = [name for name, verdict in verdicts.names.items() if verdict.state in (terms.OVERDUE, terms.REFUSED)]
        for name in stopped:
            if name not in before or before[name].state != verdicts.names[name].state:
                log.write(log.WARNING, f"{name} has stopped: {verdicts.names[name].refusal(None)}")
        self.ledger.set_pools({name: (verdict.total, verdict.grants) for name, verdict in verdicts.names.items()})
        change = FOREVER if verdicts.next_change is None else verdicts.next_change
        change = min(change, next_due(installed.courses.values(), self.trusted))
        self.judge_at = self.now + self.clock.until(change, self.wall, self.now)

    def count_day(self) -> None:
        """The day's peaks are counted; where another day has begun, those of the day before are on record."""
        number = self.trusted // DAY_S
        if number != self._day:
            self._day = number
            self.record_usage()
            self.ledger.begin_day(day(self.trusted))

    def record_usage(self) -> None:
        """What is new in the day's peaks goes out with the next frame, if there is room for it: seats come first."""
        event = self.ledger.decide_used()
        if event is not None:
            with contextlib.suppress(Refused):
                self.journal.reserve(len(encode(event)))
                self.record(event, sync=False)

    def check_writable(self) -> None:
        """Nothing, if the state folder is ours: without its lock another licd may write there.

        Errors: STATE_NOT_WRITABLE
        """
        if not self.journal.writable:
            raise Refused(STATE_NOT_WRITABLE, reason=self.journal.reason)

    def stop(self) -> None:
        """The clean-stop mark is on record. Errors: JournalFailed"""
        self.record_usage()
        self.record(Stopped())
        self.journal.commit(self.stamp(), mark=True)

    def warnings(self) -> list[str]:
        """What someone must act on, in words."""
        found = [
            self.clock.warning(),
            self.salvage_problem if self.now < self.salvage_until else None,
            self.reload_problem,
            None if self.journal.writable else f"the state folder cannot be written: {self.journal.reason}",
            self.device.problem,
            *self.installed.warnings(self.trusted),
        ]
        for pool in self.ledger.pools.values():
            if pool.over_capacity:
                found.append(f"{pool.license}: {pool.held} seats are held but only {pool.total} granted")
        return [text for text in found if text]

    def summary(self) -> str:
        """The line of `systemctl status`: what there is, and the first thing to act on."""
        valid, licenses = self.license_counts()
        held, total = self.seat_counts()
        line = f"{valid} of {licenses} licenses valid, {held} of {total} seats held"
        attempts = [each.plan.next for each in self.installed.courses.values() if each.plan.next is not None]
        if attempts:
            line += f"; renewal due {a_day(min(attempts))}"
        warnings = self.warnings()
        if warnings:
            line += f"; {warnings[0]}" + (f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else "")
        return line

    def license_counts(self) -> tuple[int, int]:
        """Licenses valid, and installed."""
        verdicts = self.installed.verdicts.names.values()
        return sum(verdict.counts for verdict in verdicts), len(verdicts)

    def seat_counts(self) -> tuple[int, int]:
        """Seats held and granted, of all counted licenses."""
        counted = [pool for pool in self.ledger.pools.values() if pool.total is not None]
        return sum(pool.held for pool in counted), sum(pool.total or 0 for pool in counted)


def stamp(clock: TrustedClock, now: float) -> Clock:
    """The trusted clock's record, and CLOCK_BOOTTIME with it."""
    mark, expected, budget_s, ran_s = clock.record()
    return Clock(mark, expected, budget_s, now, ran_s)


def warnings_of(verdict: terms.Verdict) -> list[str]:
    """What comes with the answer to who acquires or checks this license."""
    found = [GRACE] if verdict.state == terms.GRACE else []
    if verdict.device.until < FOREVER and verdict.counts:
        found.append(DEVICE_CHANGED)
    if verdict.renewal_stops is not None and verdict.counts:
        found.append(RENEWAL_DUE)
    return found


def refusal_of(error: OSError) -> Refused:
    """What a failed write into the state folder is called."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(STORAGE_FULL)
    return Refused(STATE_NOT_WRITABLE, reason=error.strerror)
