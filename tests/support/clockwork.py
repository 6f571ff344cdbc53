"""A device with licd's clock on it, whose time the test decides."""

from __future__ import annotations

from licd.device.clock import DAY_S, RECORD_INTERVAL_S, ClockRecord, TrustedClock

TODAY = 1800000000.0  # in January 2027
DEAD = 0.0  # where a clock without a battery begins
YEAR_S = 365 * DAY_S
ROUNDING_S = 1e-3  # a double holds today to a quarter of a microsecond; thousands of additions


class Device:
    """A device whose owner does as he likes with its wall clock, and licd on it, as the daemon drives it.

    `true` is the time that nobody on the device can see; it runs on while the device is off, its wall clock too.
    """

    def __init__(
        self, *, wall: float = TODAY, synchronized: bool | None = False, record: ClockRecord | None = None
    ) -> None:
        self.true = TODAY
        self.wall = wall
        self.boot = 40.0
        self.record = record
        self.recorded_at = self.boot
        self.start(clean=record is not None, same_boot=False, synchronized=synchronized)

    def start(self, *, clean: bool, same_boot: bool, synchronized: bool | None = False) -> None:
        self.clock = TrustedClock(
            self.record,
            clean_stop=clean,
            wall=self.wall,
            boot=self.boot,
            synchronized=synchronized,
            passed=self.boot - self.recorded_at if same_boot else None,
        )
        self.write()

    def write(self) -> None:
        self.record = self.clock.record()
        self.recorded_at = self.boot

    def now(self) -> float:
        return self.clock.now(self.wall, self.boot)

    def run(self, seconds: float) -> float:
        """Uptime passes, the clock goes on record as often as the daemon does it; the trusted time then."""
        while seconds > 0:
            slice_s = min(seconds, RECORD_INTERVAL_S - (self.boot - self.recorded_at))
            self.true += slice_s
            self.wall += slice_s
            self.boot += slice_s
            seconds -= slice_s
            self.now()
            if self.boot - self.recorded_at >= RECORD_INTERVAL_S - 1e-6:
                self.write()
        return self.now()

    def set(self, wall: float) -> float:
        """The wall clock is set; the trusted time then."""
        self.wall = wall
        return self.now()

    def ntp(self, wall: float) -> float:
        """NTP sets the wall clock; the daemon notices the step, asks the kernel, and looks again."""
        self.set(wall)
        self.clock.synchronized = True
        return self.now()

    def stop(self) -> None:
        self.now()
        self.write()

    def restart(self, *, clean: bool, off_s: float = 0.0, same_boot: bool = False, wall: float | None = None) -> float:
        """licd, or the whole device, ends and is back after off_s; the trusted time then."""
        if clean:
            self.stop()
        self.true += off_s
        self.wall = self.wall + off_s if wall is None else wall
        self.boot = self.boot + off_s if same_boot else 30.0
        self.start(clean=clean, same_boot=same_boot)
        return self.now()

    @property
    def state(self) -> str:
        return self.clock.state
