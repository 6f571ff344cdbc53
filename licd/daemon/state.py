"""What the daemon knows, and the one way to change it."""

from __future__ import annotations

from licd.daemon.config import Config
from licd.daemon.installed import Installed
from licd.device.clock import TrustedClock
from licd.license import terms
from licd.seats.events import Event, Stopped
from licd.seats.journal import Journal, NoJournal
from licd.seats.ledger import Ledger
from licd.seats.replay import Clock

GRACE = "GRACE"  # the one warning of a grant or check: the license ended, its grace is running


class State:
    """Units: now is CLOCK_BOOTTIME, wall CLOCK_REALTIME, trusted the trusted time, all in seconds, read once a turn."""

    def __init__(
        self, config: Config, ledger: Ledger, journal: Journal | NoJournal, installed: Installed, clock: TrustedClock
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.journal = journal
        self.installed = installed
        self.clock = clock
        self.now = 0.0
        self.wall = 0.0
        self.trusted = 0.0
        self.started = 0.0  # on the clock of `now`
        self.judge_at = 0.0  # when a license date, or the clock's own rules, may change a verdict
        self.salvage_problem: str | None = None
        self.salvage_until = 0.0  # by then every lease that was granted before has been confirmed or has expired
        self.reload_problem: str | None = None
        self.connections = 0
        self.changes = 0  # events recorded: a fault after a change ends the process

    def tell_time(self, now: float, wall: float) -> None:
        self.now = now
        self.wall = wall
        self.trusted = self.clock.now(wall, now)

    def stamp(self) -> Clock:
        """What every frame says of the time: the trusted clock's record, and CLOCK_BOOTTIME."""
        return Clock(*self.clock.record(), self.now)

    def record(self, event: Event, *, sync: bool = True) -> None:
        """The event is true from now on, and goes into this turn's frame."""
        self.changes += 1
        self.ledger.apply(event)
        self.journal.stage(event, sync=sync)

    def judge(self) -> None:
        """Licenses and pools are as the trusted time says; judge_at is when to look again."""
        verdicts = self.installed.judge(self.trusted)
        self.ledger.set_pools({name: (verdict.total, verdict.grants) for name, verdict in verdicts.names.items()})
        change = float("inf") if verdicts.next_change is None else verdicts.next_change
        self.judge_at = self.now + self.clock.until(change, self.wall, self.now)

    def stop(self) -> None:
        """The clean-stop mark is on record. Errors: JournalFailed"""
        self.record(Stopped())
        self.journal.commit(self.stamp(), mark=True)

    def warnings(self) -> list[str]:
        """What someone must act on, in words."""
        found = [
            self.clock.warning(),
            self.salvage_problem if self.now < self.salvage_until else None,
            self.reload_problem,
            None if self.journal.writable else f"the state folder cannot be written: {self.journal.reason}",
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


def warnings_of(verdict: terms.Verdict) -> list[str]:
    """What comes with the answer to who acquires or checks this license."""
    return [GRACE] if verdict.state == terms.GRACE else []
