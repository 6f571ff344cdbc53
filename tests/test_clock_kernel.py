"""The kernel's clocks and timer, on the real kernel; what it does only when the clock is set is injected by strace."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from licd.device import clock
from tests.support.needs import needs_strace


@pytest.fixture
def timer() -> Iterator[clock.WallTimer]:
    with contextlib.closing(clock.WallTimer()) as timer:
        yield timer


def ready(timer: clock.WallTimer, timeout_s: float) -> bool:
    return bool(select.select([timer], [], [], timeout_s)[0])


def test_a_wall_timer_is_readable_when_its_time_has_come_and_not_before(timer: clock.WallTimer) -> None:
    at = clock.wall() + 0.15
    timer.arm(at)
    assert timer.read() is None
    assert ready(timer, 5)
    assert at <= clock.wall() < at + 2
    assert timer.read() == "expired"
    assert timer.read() is None


@pytest.mark.parametrize("past", [-5.0, 0.0, 1.0, 1e9])
def test_a_wall_timer_armed_for_the_past_is_readable_at_once(timer: clock.WallTimer, past: float) -> None:
    timer.arm(past)
    assert ready(timer, 5)
    assert timer.read() == "expired"


@pytest.mark.parametrize("far", [None, 4e9, 253370764800.0, 1e300, float("inf")])
def test_a_wall_timer_armed_for_no_time_or_one_beyond_the_kernels_stays_silent(
    timer: clock.WallTimer, far: float | None
) -> None:
    timer.arm(1.0)
    timer.arm(far)
    assert not ready(timer, 0.05)
    assert timer.read() is None


def test_a_wall_timer_is_armed_on_the_wall_clock_with_both_flags(timer: clock.WallTimer) -> None:
    # What the kernel says of it. That a step then cancels it cannot be tried without setting this machine's clock.
    timer.arm(4e9 + 0.5)
    info = dict(
        line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{timer.fileno()}").read_text("ascii").splitlines()
    )
    assert info["clockid"].split() == [str(time.CLOCK_REALTIME)]
    flags = int(info["settime flags"], 8)
    assert flags == clock.TFD_TIMER_ABSTIME | clock.TFD_TIMER_CANCEL_ON_SET


def test_a_wall_timer_is_not_inherited_and_is_closed_once() -> None:
    timer = clock.WallTimer()
    fd = timer.fileno()
    assert not os.get_inheritable(fd)
    timer.close()
    timer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_the_clocks_are_the_kernels() -> None:
    assert abs(clock.wall() - time.time()) < 1
    assert clock.boottime() >= clock.monotonic() - 1
    uptime = float(Path("/proc/uptime").read_text("ascii").split()[0])
    assert abs(clock.boottime() - uptime) < 1


def test_the_boot_id_is_the_kernels_and_stays() -> None:
    assert clock.boot_id() == clock.boot_id()
    assert clock.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def test_the_kernel_is_asked_whether_ntp_has_synchronized_the_clock() -> None:
    assert clock.ntp_synchronized() in {True, False}


# --- what this machine's clock is not to be set for --------------------------------------------------------------

TIMER_SAYS = """
import select
from licd.device import clock
timer = clock.WallTimer()
timer.arm(None)
print(bool(select.select([timer], [], [], 0.05)[0]), timer.read(), timer.read())
"""


def told(program: str, inject: str, *, path: str | None = None) -> str:
    """What a program prints if the kernel answers it as `inject` says (strace(1)), for one file if there is a path."""
    only = [] if path is None else ["-P", path]
    command = ["strace", "-qq", "-o", os.devnull, *only, "-e", f"inject={inject}", sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


@needs_strace
def test_a_wall_timer_that_the_kernel_canceled_says_step_and_then_nothing() -> None:
    assert told(TIMER_SAYS, "read:error=ECANCELED:when=1", path="anon_inode:[timerfd]") == "False step None"


@needs_strace
def test_a_step_that_the_kernel_tells_of_while_arming_makes_the_timer_readable_and_is_not_lost() -> None:
    assert told(TIMER_SAYS, "timerfd_settime:error=ECANCELED:when=2") == "True step None"


@needs_strace
def test_whether_ntp_has_synchronized_the_clock_is_unknown_where_licd_may_not_ask() -> None:
    program = "from licd.device import clock; print(clock.ntp_synchronized())"
    assert told(program, "adjtimex,clock_adjtime:error=EPERM") == "None"


@needs_strace
def test_the_boot_id_is_unknown_where_it_cannot_be_read() -> None:
    program = "from licd.device import clock; print(clock.boot_id())"
    assert told(program, "openat:error=EACCES", path="/proc/sys/kernel/random/boot_id") == "None"
