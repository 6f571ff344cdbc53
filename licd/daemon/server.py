"""The turn: everything that happens between two waits, in an order that is never broken.

    clocks, license dates that have passed         but not in a turn that follows within a millisecond
    read all that can be read, decide and apply    answers pile up in Clients and the connections
    who asks meanwhile, if there is to be a sync   answers that tell nothing of this turn leave
    the ends of connections, each where it is read; then what has expired
    one frame with all of that, fdatasync          journal.commit
    the answers leave

So an answer never leaves before what it tells is on the medium, not even a read that could have seen it. Reading
comes before expiring: whoever is heard in this turn is in time. After a stall or a suspend every lease first gets its
full ttl.
"""

from __future__ import annotations

import socket
from time import perf_counter

from licd.daemon.clients import Clients
from licd.daemon.connection import Connection
from licd.daemon.loop import READ, Callback, Loop
from licd.daemon.notify import Notifier
from licd.daemon.service import Service
from licd.daemon.state import State
from licd.device import clock

MARK_INTERVAL_S = clock.RECORD_INTERVAL_S  # between two marks of the clock on record: the only write of an idle licd
STALL_S = 1.0  # a turn that begins later than this was held up, and so were the holders
STATUS_INTERVAL_S = 1.0  # between two STATUS= lines, however busy
# A turn that begins so soon after a thorough one leaves out what no client asks for: 5 us of the 15 that a turn with
# one confirm took. What falls due waits that long, and behind the last hurried turn comes a thorough one.
THOROUGH_S = 0.001
# Of a turn that must be synced, as long as somebody asks: what comes meanwhile shares the sync. Acquire and release
# on 16 connections: 43,000 a second instead of 27,000.
GATHER_S = 0.0005
EXPIRE_AT_ONCE = 200  # leases expired in one turn: about 1 ms
# A lease outlives its deadline by no more than this while requests wait for their slice. More than STALL_S: a turn that
# begins almost that late must still have time for what was sent before the deadline.
PATIENCE_S = STALL_S + 1.0


class Server:
    def __init__(self, state: State, listener: socket.socket, notifier: Notifier) -> None:
        self._state = state
        self._notifier = notifier
        self._service = Service(state)
        self.loop: Loop[Connection] = Loop()
        self.clients = Clients(state, self._service, self.loop, listener)
        self._timer = clock.WallTimer()
        self._backlog = True  # a slice of work is left for the next turn; at first, the journal's second file
        self._began = 0.0
        self._talking = False  # clients were heard in the last turn
        self._thorough_at = 0.0  # when the last thorough turn began, on perf_counter()
        self._hurried = False  # the last turn left out all but the requests
        self._asleep_s = 0.0  # CLOCK_BOOTTIME minus CLOCK_MONOTONIC: grows in a suspend
        self._wall_offset_s = 0.0  # the wall clock minus CLOCK_BOOTTIME: moves when the clock is set
        self._mark_at = 0.0
        self._watchdog_at = float("inf")
        self._status_at = float("inf")
        self._told = (-1, -1)  # what the last STATUS= told of: changes, judgements
        self._told_at = 0.0
        self._judgements = 0

    def start(self) -> None:
        """Clients are served from the first turn on."""
        self._begin(clock.boottime())
        state = self._state
        state.started = state.now
        self._mark_at = state.now + MARK_INTERVAL_S
        if self._notifier.watchdog_s is not None:
            self._watchdog_at = state.now
        state.recognize()
        self.judge()
        self.loop.watch(self._timer, READ, self._on_wall_timer)
        self.clients.listen()

    @property
    def busy(self) -> bool:
        """An import is under way, which was begun under the profiles of now."""
        return self._service.busy

    # --- the turn --------------------------------------------------------------------------------------------

    def turn(self) -> set[int]:
        """One turn, after waiting for something to do; the signals caught meanwhile.

        Errors: JournalFailed, FaultAfterChange: the process must end, and no answer of this turn has left
        """
        state = self._state
        # While clients talk, what they confirm is not moved on each time; the price is one turn for nothing when they
        # fall silent.
        due = state.ledger.nothing_due_before() if self._talking else state.ledger.next_deadline()
        over = clock.boottime()
        if over - state.now > STALL_S:  # a sync that stalled
            state.ledger.prolong_all(over - state.now)
        expected = max(state.now, due)
        calls, ready = self.loop.wait(self._timeout(due, over))
        self._talking = any(ready)
        now = clock.boottime()
        ran = perf_counter()  # a clock of its own: CLOCK_BOOTTIME jumps in a suspend
        soon = now - self._began < THOROUGH_S and ran - self._thorough_at < THOROUGH_S
        self._hurried = soon and not (calls or self._backlog)
        if self._hurried:
            state.now = now
        else:
            self._thorough_at = ran
            self._look_around(now, expected, calls)
        self.clients.begin_turn()
        self.clients.read(*ready)
        if state.journal.must_sync:
            self._gather()
        if self._service.busy:
            self._work()
        untidy = self._backlog
        if not self._hurried:
            self._expire()
        written = self._commit()
        late = self.clients.let_answers_go()
        if written or untidy:
            self._backlog = state.journal.tend() or self._backlog
        self._backlog = self._backlog or late
        if not self._hurried:
            self._tell_systemd()
        return self.loop.signals()

    def _look_around(self, now: float, expected: float, calls: list[tuple[Callback, int]]) -> None:
        """What is not asked by clients: time, dates, the device."""
        state = self._state
        self._begin(now)
        if now - expected > STALL_S:
            state.ledger.extend_all(now)
        if now >= state.recognize_at:
            state.device.look_again()
            state.recognize()
            self.judge()
        elif now >= state.judge_at:
            self.judge()
        for callback, events in calls:
            callback(events)

    def _work(self) -> None:
        waiter = self._service.work()
        if waiter is not None:
            self.clients.answered(waiter)

    def _gather(self) -> None:
        """Who asks while the turn lasts comes into the same commit."""
        until = perf_counter() + GATHER_S
        while True:
            self.clients.let_prompt_answers_go()
            if not self._hear_more() or perf_counter() > until:
                return

    def _hear_more(self) -> bool:
        """Who has asked since the turn began is heard; False if nobody has."""
        others, readable = self.loop.look()
        # Not those whose slice or buffer is full, and who have ended: epoll tells of them again and again.
        others = [each for each in others if not each.ended and (each.quiet or each.hung_up)]
        readable = [each for each in readable if each.quiet]
        if not (others or readable):
            return False
        self.clients.read(others, readable)
        return True

    def _begin(self, now: float) -> None:
        """The other clocks are read, and what they reveal is drawn from them."""
        state = self._state
        wall = clock.wall()
        asleep, offset = now - clock.monotonic(), wall - now
        if self._began:  # it never shrinks; what lies between the two reads must not be taken for a suspend later
            asleep = max(asleep, self._asleep_s)
        state.tell_time(now, wall)
        state.count_day()
        if asleep - self._asleep_s > STALL_S and self._began:
            state.ledger.extend_all(now)
            state.clock.slept(asleep - self._asleep_s)
        if abs(offset - self._wall_offset_s) > clock.STEP_S and self._began:
            self.judge()
            self._mark_at = now  # a crash must not forget what was accepted
        self._asleep_s, self._wall_offset_s, self._began = asleep, offset, now

    def _timeout(self, due: float, now: float) -> float:
        if self._backlog or self.clients.paused or self._service.busy:
            return 0.0
        if self._hurried:
            return THOROUGH_S  # what is due comes after the thorough turn
        state = self._state
        own = min(self._mark_at, self._watchdog_at, self._status_at, self.clients.accept_at)
        changes = min(due, state.judge_at, state.recognize_at)
        return float(min(changes, own) - now)

    def _expire(self) -> None:
        state = self._state
        if state.ledger.nothing_due_before() <= state.now:  # licd may have been stopped between its wait and the clock
            self._hear_more()
        # Among what was read but is not handled yet may be a confirm; but nobody keeps leases alive by a flood.
        patience = PATIENCE_S if self.clients.unheard() else 0.0
        expired = state.ledger.decide_expire(state.now - patience, EXPIRE_AT_ONCE)
        for event in expired:
            state.record(event, sync=False)
        self._backlog = len(expired) == EXPIRE_AT_ONCE

    def judge(self) -> None:
        """Licenses are judged anew: a date passed, the clock was set, or ten minutes went by."""
        state = self._state
        state.clock.synchronized = clock.ntp_synchronized()
        state.tell_time(state.now, state.wall)
        state.judge()
        self._judgements += 1
        self._status_at = self._told_at + STATUS_INTERVAL_S  # a reload comes between two turns
        self._timer.arm(state.wall + (state.judge_at - state.now) if state.judge_at < float("inf") else None)

    def _commit(self) -> bool:
        """What was recorded in this turn is on the medium; False if there was nothing to write."""
        state = self._state
        mark = state.now >= self._mark_at and not self._hurried
        if mark:
            self.judge()  # the clock may have become synchronized without a step
            state.record_usage()
            self._mark_at = state.now + MARK_INTERVAL_S
        if not (mark or state.journal.must_sync):
            return False
        state.commit(mark=mark)
        return True

    def stop(self) -> None:
        """What is staged and the clean-stop mark are on record; no lease has ended."""
        state = self._state
        state.tell_time(clock.boottime(), clock.wall())
        state.stop()
        self.clients.close()
        self._timer.close()
        self.loop.close()

    # --- the outside -----------------------------------------------------------------------------------------

    def _on_wall_timer(self, events: int) -> None:
        if self._timer.read() is not None:
            self.judge()

    def _tell_systemd(self) -> None:
        now = self._state.now
        if now >= self._watchdog_at:
            assert self._notifier.watchdog_s is not None
            self._watchdog_at = now + self._notifier.watchdog_s
            self._notifier.alive()
        told = (self._state.changes, self._judgements)
        if told != self._told and now >= self._told_at + STATUS_INTERVAL_S:
            self._told, self._told_at = told, now
            self._notifier.status(self._state.summary())
        self._status_at = float("inf") if told == self._told else self._told_at + STATUS_INTERVAL_S
