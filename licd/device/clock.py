"""Trusted time: the clock that licenses are judged by. TrustedClock is pure; below it are the kernel's clocks.

Who sets the wall clock back wants a license to last longer; who only has a dead battery must go on selling. Nothing
tells the two apart, so neither is refused anything, and neither gains more than a day. Two numbers do that:

    mark       the latest trusted time. Trusted time is never below it.
    expected   the line: it runs with CLOCK_BOOTTIME, a wall clock that is accepted raises it, and nothing lowers it
               but a vendor's document that answers this device's own recent request. It is never below the mark.

    wall clock against the line             state         trusted time          the mark becomes
    within 24 h, or confirmed and ahead     ok            max(wall, mark)       the trusted time
    further behind                          behind        expected              expected
    further ahead, unconfirmed, 7 days      ahead         expected              expected
    the same, when those are spent          ahead-spent   wall                  expected: the wall clock leaves no trace

Why a line beside the mark: set the clock back by 23 h, and trusted time stands still until the wall clock has caught
up with the mark. Were "behind" judged against the mark, or against a line that such a wall clock may lower, the same
could be done every 23 h, and the license would never end. The line went on meanwhile: now it is 23 h ahead of the wall
clock, and the next hour more is "behind", where the line itself counts. So in every state

    trusted time >= expected - 24 h,   and   expected grows by at least the uptime:

a license judged to have D seconds left runs for at most D + 24 h of uptime, whatever is done to the wall clock. (The
7 days of "ahead" do not add to that, the line runs in them too. They are for how long a device may go on by uptime
alone after months that it was really off for.) An NTP-synchronized clock does not lower the line either: whoever can
set the clock can also run an NTP server.

The line loses what passed between the last record and a crash. Records are at most RECORD_INTERVAL_S apart, so that
much is added, to the line always: were it left out where the wall clock is past the mark, a device could be cut off
every 599 s with its clock set to a second past it. To the mark it is added only where the wall clock is not past it.
If the caller knows what passed (the same boot: CLOCK_BOOTTIME went on), exactly that is added instead, and a process
that crashes in a loop costs no time of any license.

Not seen: time while the device is off and its clock is set back; a restored image; a kernel told to tick slowly.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import time
from typing import Literal, NamedTuple

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

TOLERANCE_S = DAY_S  # wrong time zone, daylight saving, a day of drift: honest errors are smaller
BUDGET_S = 7 * DAY_S  # someone looks at a shop's till once a week; no more is given to an unconfirmed leap ahead
RECORD_INTERVAL_S = 600.0  # the daemon puts the clock on record at least this often: what a crash can lose
STEP_S = 1.0  # NTP slews what is smaller: a wall clock that moved further against uptime was set
EARLIEST_S = 1767225600.0  # 2026-01-01: licd is younger than no honest clock

State = Literal["ok", "behind", "ahead", "ahead-spent"]


class ClockRecord(NamedTuple):
    """What is on record, in every frame of the journal.

    Units: mark, expected: trusted time, Unix seconds; budget_s: uptime spent ahead and unconfirmed; ran_s: uptime of
           this device under licd in all
    """

    mark: float
    expected: float
    budget_s: float
    ran_s: float = 0.0


class TrustedClock:
    """The time that licenses are judged by. It never goes back, but as now() says.

    Units: wall is CLOCK_REALTIME, boot CLOCK_BOOTTIME, each read anew for every call; all times are seconds
    """

    state: State = "ok"
    synchronized: bool | None
    """ntp_synchronized(), to be set after now() has been told a wall clock that was read before asking. Setting the
    wall clock makes it unknown, here as in the kernel."""
    ran_s: float
    """Uptime of this device under licd in all, whatever its clock says, but for what slept() says: what a device that
    was off for months must be given before a renewal counts as overdue. What a crash may have lost is added here as to
    the line."""

    def __init__(
        self,
        record: ClockRecord | None,
        *,
        clean_stop: bool,
        wall: float,
        boot: float,
        synchronized: bool | None,
        passed: float | None = None,
    ) -> None:
        """record None: the first start ever. passed: CLOCK_BOOTTIME since the record if of this boot, else None."""
        if record is None:
            first = max(wall, EARLIEST_S)
            record = ClockRecord(first, first, 0.0)
            clean_stop = True
        if passed is not None and passed < 0:
            passed = None  # CLOCK_BOOTTIME never goes back: the record is of another boot after all
        self._mark, self._expected, self._budget_s, self.ran_s = record
        lost = 0.0 if clean_stop else RECORD_INTERVAL_S if passed is None else min(passed, RECORD_INTERVAL_S)
        if wall <= self._mark:
            self._mark += lost
        gained = lost if passed is None else passed
        self._expected = max(self._mark, self._expected + gained)
        self.ran_s += gained
        self._boot = boot
        self._wall = wall
        self._document_confirms = False
        self.synchronized = synchronized
        self.now(wall, boot)
        if self.state == "ahead":
            self._budget_s += lost
            self.now(wall, boot)

    @property
    def confirmed(self) -> bool:
        """Trusted time is the wall clock, and the kernel or a vendor's document bears it out."""
        return self.state == "ok" and (self.synchronized is True or self._document_confirms)

    @property
    def line(self) -> float:
        """What the clock was last expected to be: it goes on at least as uptime does, however the clock is set."""
        return self._expected

    def now(self, wall: float, boot: float) -> float:
        """The trusted time. It goes back only while "ahead-spent", with the wall clock, and after confirm()."""
        passed = max(0.0, boot - self._boot)
        if abs(wall - self._wall - passed) > STEP_S:
            self.synchronized = None
        self._boot = boot
        self._wall = wall
        self._expected += passed
        self.ran_s += passed
        if self.state == "ahead":
            self._budget_s += passed

        gap = wall - self._expected
        if gap < -TOLERANCE_S:
            self.state = "behind"
        elif gap <= TOLERANCE_S or self.synchronized:
            self.state = "ok"
            if self.synchronized:
                self._budget_s = 0.0
            self._mark = max(self._mark, wall)
            self._expected = max(self._expected, wall)
            return self._mark
        else:
            self.state = "ahead" if self._budget_s < BUDGET_S else "ahead-spent"
        self._document_confirms = False
        self._mark = self._expected
        return wall if self.state == "ahead-spent" else self._expected

    def slept(self, seconds: float) -> None:
        """Of the time that now() has counted so much was a suspend, in which nobody could renew anything."""
        self.ran_s = max(0.0, self.ran_s - seconds)

    def floor(self, issued: float, wall: float, boot: float) -> float:
        """The trusted time, from now on at least `issued`: that of any verified document."""
        self._mark = max(self._mark, issued)
        self._expected = max(self._expected, issued)
        return self.now(wall, boot)

    def confirm(
        self, issued: float, wall: float, boot: float, *, asked_s: float = 0.0, least: float = -math.inf
    ) -> float:
        """The trusted time, confirmed up to `issued`: that of a vendor's answer to this device's own recent request.

        The only thing that lowers mark and line. asked_s: uptime since the request was made. The answer is no older,
        so the line is lowered to issued + asked_s at most, and holding an answer back gains nothing.
        least: below this they are not lowered; what the other vendors say, whose licenses the clock judges, too
        """
        self.now(wall, boot)
        mark, line = min(self._mark, least), min(self._expected, least)
        self._expected = max(line, min(max(self._expected, issued), issued + asked_s))
        self._mark = max(mark, min(max(self._mark, issued), self._expected))
        self._budget_s = 0.0
        self._document_confirms = True  # now() takes it back if the wall clock is too far from that
        return self.now(wall, boot)

    def until(self, deadline: float, wall: float, boot: float) -> float:
        """Seconds of CLOCK_BOOTTIME until trusted time is `deadline`, or this clock's own rules change it, if the
        wall clock is left alone. 0: it is, already."""
        trusted = self.now(wall, boot)
        if trusted >= deadline:
            return 0.0
        if self.state == "ahead":
            return min(deadline - trusted, BUDGET_S - self._budget_s)
        if self.state == "behind":
            return deadline - trusted
        return deadline - wall

    def record(self) -> ClockRecord:
        return ClockRecord(self._mark, self._expected, self._budget_s, self.ran_s)

    def warning(self) -> str | None:
        """What someone must act on, in words; None if the wall clock is the trusted time."""
        if self.state == "ok":
            return None
        says = f"the clock of this device says {_words(self._wall)}"
        if self.state == "behind":
            return (
                f"{says}, but it is at least {_words(self._expected)}, which counts: "
                "set the clock, or, if it is right, renew a license"
            )
        if self.state == "ahead":
            left = (BUDGET_S - self._budget_s) / HOUR_S
            return (
                f"{says}, and nothing confirms it: {_words(self._expected)} counts for {left:.0f} more hours of "
                "running, then the clock; set it, let NTP set it, or renew a license"
            )
        return (
            f"{says}, and nothing confirms it; it counts because the 7 days of running without are used up: "
            "set it, let NTP set it, or renew a license"
        )


def _words(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))


# --- the kernel ------------------------------------------------------------------------------------------------


def wall() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def monotonic() -> float:
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def boot_id() -> str | None:
    """Another one for each boot; None if the kernel does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip() or None
    except (OSError, ValueError):
        return None


_libc = ctypes.CDLL(None, use_errno=True)

STA_UNSYNC = 0x0040  # <sys/timex.h>


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>, as far as it is read, with room for the rest (208 bytes on 64 bit)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("_rest", ctypes.c_long * 32),
    )


def ntp_synchronized() -> bool | None:
    """Whether the kernel holds the wall clock for synchronized; None if this process may not ask.

    Source: adjtimex(2); the kernel itself sets STA_UNSYNC when the clock is set, and when NTP is not heard for hours
    """
    timex = _Timex(modes=0)  # 0: read only
    if _libc.adjtimex(ctypes.byref(timex)) == -1:
        return None
    return not timex.status & STA_UNSYNC


TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET = 1, 2  # <sys/timerfd.h>; the flags of timerfd_create are those of open(2)
LONG_MAX = 2 ** (8 * ctypes.sizeof(ctypes.c_long) - 1) - 1
# The year 3000; the kernel itself takes what it cannot count for the year 2262.
FAR_AHEAD_S = min(LONG_MAX, 32503680000)


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class WallTimer:
    """A descriptor that is readable when the wall clock reaches a time, or was set.

    Source: timerfd_create(2), CLOCK_REALTIME with TFD_TIMER_CANCEL_ON_SET. Python has it from 3.13 on
    """

    def __init__(self) -> None:
        self._fd = _checked(_libc.timerfd_create(time.CLOCK_REALTIME, os.O_CLOEXEC | os.O_NONBLOCK))
        self._set_meanwhile = False
        self.arm(None)

    def fileno(self) -> int:
        return self._fd

    def arm(self, unix_s: float | None) -> None:
        """Readable at unix_s, at once if that is past; None: only when the wall clock is set."""
        try:
            self._settime(FAR_AHEAD_S if unix_s is None else unix_s)
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            # The wall clock was set since the last read. The kernel says so here, once, and no read will: it must not
            # be lost, so the timer is made to run out at once.
            self._set_meanwhile = True
            self._settime(0.0)

    def read(self) -> Literal["expired", "step"] | None:
        """Why it is readable; None if it is not. After "step" it is to be armed again."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            return "step"
        stepped, self._set_meanwhile = self._set_meanwhile, False
        return "step" if stepped else "expired"

    def close(self) -> None:
        """It is closed; closing again does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _settime(self, unix_s: float) -> None:
        whole, part = divmod(max(1.0, min(unix_s, float(FAR_AHEAD_S))), 1.0)  # an absolute 0 would disarm it
        spec = _Itimerspec(value_s=int(whole), value_ns=int(part * 1e9))
        flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET
        _checked(_libc.timerfd_settime(self._fd, flags, ctypes.byref(spec), None))


def _checked(result: int) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
