"""Simulated devices that renew for more than a year, with licd's own planning and the vendor's own pacing.

A device here is a self-checkout: on from morning to evening, on some days not at all, and its timer runs as
licd-renew.timer says. The rest is real: licd.license.schedule decides when it asks, and when again after it failed;
licd_vendor.pacing whether the server answers or puts it off. One seed, one course of events.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from typing import NamedTuple

from licd.license import schedule
from licd.license.dates import DAY_S
from licd.license.lines import REQUIRED, Renewal
from licd_vendor import pacing

HOUR_S = 3600
VENDOR = "acme"
EVERY_DAYS = 30
# The least grace that is usual: with more of it there is more time to spread.
TERMS = Renewal(REQUIRED, EVERY_DAYS, 14)
MEAN_DAYS = EVERY_DAYS * (1 + schedule.SPREAD / 2)

# licd-renew.timer
BOOT_S = 120
EVERY_S = 2 * HOUR_S
DELAY_S = 600  # random, on top of both


YEAR = 365


class Scenario(NamedTuple):
    """What happens. Days count from the first installation on; the load is judged for a year from day `judged` on."""

    name: str
    text: str
    installing: int  # over so many days, evenly
    judged: int
    why: str  # from that day on
    down: tuple[int, int] | None = None  # the vendor's server, from the beginning of one day to that of the other


_MIXED = "the first 90 days are for spreading: all become due within ten days, and have two weeks in which to renew"
SCENARIOS = (
    Scenario("year", "installed over a year", YEAR, YEAR + 40, "from then on all of them are there, and renew"),
    Scenario("day", "installed on one day", 1, 90, _MIXED),
    Scenario("down", "installed on one day, and the server is down for a week", 1, 90, _MIXED, (305, 312)),
)


class Load(NamedTuple):
    """What the server saw, one number a day from the first installation on.

    served: renewals answered; put_off: requests that were asked to come again later
    stopped: devices whose licenses stopped for want of renewal on a day of work while the server was up
    missed: others whose licenses stopped: on holiday until then, or the server was down; they renew when they can
    """

    served: list[int]
    put_off: list[int]
    stopped: set[int]
    missed: set[int]


class Device:
    """When one device is on, what is left of its plan, and when its licenses were last confirmed."""

    def __init__(self, chance: random.Random, days: int, *, jitter: bool) -> None:
        key = f"{chance.getrandbits(256):064x}"
        self.share = schedule.share(key, VENDOR) if jitter else 0.0
        self.basis: float | None = None  # not yet installed
        self.progress = schedule.Progress()
        self.opens_s = chance.uniform(6, 10) * HOUR_S
        self.on_s = chance.uniform(10, 14) * HOUR_S
        self.days = self._days(chance, days)

    @staticmethod
    def _days(chance: random.Random, days: int) -> bytearray:
        """1 for each day on which it is on."""
        on = bytearray(b"\x01") * days
        if chance.random() < 1 / 3:  # shut on Sundays, as all are that are
            on[6::7] = bytes(len(on[6::7]))
        for _ in range(days // 60):  # a day without power, a defect
            on[chance.randrange(days)] = 0
        if chance.random() < 1 / 4:  # a holiday
            first, length = chance.randrange(days - 28), chance.randint(3, 28)
            on[first : first + length] = bytes(length)
        return on

    def plan(self, moment: float) -> schedule.Plan:
        assert self.basis is not None
        plan = schedule.plan(
            [TERMS], self.basis, self.progress, share=self.share, trusted=moment, ran_s=self.ran_s(moment)
        )
        self.progress = plan.progress
        return plan

    def ran_s(self, moment: float) -> float:
        """For how long it was on in all."""
        day, into = divmod(moment, DAY_S)
        today = min(max(into - self.opens_s, 0), self.on_s) if self.days[int(day)] else 0
        return self.days.count(1, 0, int(day)) * self.on_s + today

    def runs(self, moment: float, chance: random.Random) -> float:
        """When its timer next runs from then on; infinite: not within the simulation."""
        first = int(moment // DAY_S)
        for day in range(first, len(self.days)):
            if self.days[day]:
                boots = day * DAY_S + self.opens_s
                k = max(0, math.ceil((moment - boots - BOOT_S) / EVERY_S))
                run = boots + BOOT_S + k * EVERY_S + chance.uniform(0, DELAY_S)
                if run < boots + self.on_s:
                    return run
        return math.inf


class Server:
    """The vendor's server: what it answered in the last 24 hours, and what it expects of so many devices."""

    def __init__(self, load: Load, chance: random.Random, *, paced: bool) -> None:
        self.load = load
        self.chance = chance
        self.paced = paced
        self.devices = 0
        self.answered: deque[float] = deque()

    def wait_s(self, moment: float, *, due: float, stop: float) -> int | None:
        """For how long it puts the device off; None: it answered."""
        while self.answered and self.answered[0] <= moment - DAY_S:
            self.answered.popleft()
        wait_s = None
        if self.paced:
            wait_s = pacing.wait_s(
                done=len(self.answered),
                expected=self.devices / MEAN_DAYS,
                slack_s=stop - moment,
                overdue_s=moment - due,
                chance=self.chance.random(),
            )
        day = int(moment // DAY_S)
        if wait_s is None:
            self.answered.append(moment)
            self.load.served[day] += 1
        else:
            self.load.put_off[day] += 1
        return wait_s


def run(scenario: Scenario, *, devices: int, seed: int, jitter: bool = True, paced: bool = True) -> Load:
    """The load of each day, until a year after the day from which on it is judged."""
    chance = random.Random(f"{scenario.name} {seed}")
    days = scenario.judged + YEAR
    load = Load([0] * days, [0] * days, set(), set())
    server = Server(load, chance, paced=paced)
    down_from, down_until = (day * DAY_S for day in scenario.down or (days, days))
    queue: list[tuple[float, int, Device]] = []  # when the timer of which device runs next
    for n in range(devices):
        installed_s = n * scenario.installing // devices * DAY_S + chance.uniform(9, 17) * HOUR_S
        queue.append((installed_s, n, Device(chance, days, jitter=jitter)))
    heapq.heapify(queue)
    while queue:
        moment, n, device = heapq.heappop(queue)
        if device.basis is None:
            device.basis = moment
            server.devices += 1
        plan = device.plan(moment)
        if plan.is_due:
            assert plan.due is not None
            stop = min(stop for _, stop in plan.stops.values())
            if stop <= moment:
                before = stop - BOOT_S - DELAY_S  # it may have come back just now, and this is its first try
                at_work = device.ran_s(before) > device.ran_s(before - DAY_S)
                was_up = not down_from <= stop < down_until + DAY_S
                (load.stopped if at_work and was_up else load.missed).add(n)
            down = down_from <= moment < down_until
            wait_s = None if down else server.wait_s(moment, due=plan.due, stop=stop)
            if down or wait_s is not None:
                device.progress = schedule.failed(
                    device.progress, share=device.share, trusted=moment, stop=stop, retry_after_s=wait_s
                )
            else:
                device.basis, device.progress = moment, schedule.Progress()
            plan = device.plan(moment)
        assert plan.next is not None
        next_run = device.runs(plan.next, chance)
        if next_run < math.inf:
            heapq.heappush(queue, (next_run, n, device))
    return load
