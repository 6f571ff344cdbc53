"""How much the server has to do with renewals, and whether a device can be asked to come again later."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from licd.license import schedule
from licd.license.dates import DAY_S, FOREVER
from licd.license.document import REFUSAL, UNCHANGED
from licd.license.members import a_stamp
from licd.license.renewal import RenewalRequest
from licd_vendor import filing, pacing
from licd_vendor.keys import Failure
from licd_vendor.tables import PLACES, Device, Issue, License, Order, Renewal

MAX_A_DAY = 24  # answered renewals of a device: an honest one asks once in some weeks, and a dozen times on a bad day
KNOWN_FOR_S = 3600  # the mean changes with what is sold, and is counted from all devices


class ComeAgain(Failure):
    """Nothing was decided, and nothing is lost: the device shall ask again after so many seconds."""

    def __init__(self, reason: str, seconds: int) -> None:
        super().__init__(reason, "Nothing is lost.")
        self.seconds = seconds


class Load:
    """The renewals of a store, as one process of the server knows them. chance: from [0, 1)"""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._expected = (0.0, -float("inf"))

    def check(self, session: Session, request: RenewalRequest, device: Device, issue: Issue, *, now: float) -> None:
        """Nothing, if the device is served now. issue: the file that it shows

        Errors: ComeAgain
        """
        mine = Renewal.device == device, Renewal.answer != REFUSAL
        today = Renewal.at > now - DAY_S, Renewal.at <= now
        last = session.scalar(
            select(Renewal.at).where(*mine, *today).order_by(Renewal.at.desc()).offset(MAX_A_DAY - 1).limit(1)
        )
        if last is not None:
            reason = f"Device {device.id} has had {MAX_A_DAY} answers within a day."
            raise ComeAgain(reason, min(DAY_S, max(1, math.ceil(last + DAY_S - now))))
        seconds = self.wait_s(session, now, lambda: _left(session, request, device, issue, now))
        if seconds is not None:
            raise ComeAgain(f"Many devices ask today; device {device.id} has time.", seconds)

    def wait_s(self, session: Session, now: float, left: Callable[[], tuple[float, float]]) -> int | None:
        """Seconds after which a device shall ask again; None: now.

        left: seconds until it loses something, and since it was to ask; called only if there is much to do
        """
        # Who is refused is not in the mean either; and what is later than now, a wrong clock wrote.
        counted = Renewal.at > now - DAY_S, Renewal.at <= now, Renewal.answer != REFUSAL
        done = session.scalar(select(func.count(Renewal.device_id.distinct())).where(*counted)) or 0
        if done < pacing.FREE:
            return None
        slack_s, overdue_s = left()
        return pacing.wait_s(
            done=done,
            expected=self._mean(session, now),
            slack_s=slack_s,
            overdue_s=overdue_s,
            chance=self._chance(),
        )

    def _mean(self, session: Session, now: float) -> float:
        value, known = self._expected
        if not 0 <= now - known < KNOWN_FOR_S:
            value, known = expected(session), now
            self._expected = value, known
        return value


def expected(session: Session) -> float:
    """Renewals a day that the devices of this store make in the mean."""
    live = Order.ended.is_(None), Order.suspended.is_(None)
    every: dict[int, int] = {}
    of_orders = select(PLACES.c.device_id, Order.renewal).join(Order, Order.id == PLACES.c.order_id).where(*live)
    of_lines = (
        select(PLACES.c.device_id, License.renewal)
        .join(License, License.order_id == PLACES.c.order_id)
        .join(Order, Order.id == PLACES.c.order_id)
        .where(*live)
    )
    for device, renewal in (*session.execute(of_orders), *session.execute(of_lines)):
        if renewal and renewal["need"] != schedule.NONE:
            every[device] = min(every.get(device, renewal["every_days"]), renewal["every_days"])
    return sum(1 / (days * (1 + schedule.SPREAD / 2)) for days in every.values())


# --- one device ---------------------------------------------------------------------------------------------------


def _renewals(file: bytes) -> list[Mapping[str, Any]]:
    """How the lines of a file are to be renewed, but for those that are not."""
    first, *rest = filing.said(file)
    found: Iterable[Mapping[str, Any]] = (each["renewal"] or first["renewal"] for each in rest)
    return [each for each in found if each["need"] != schedule.NONE]


def due(issue: Issue) -> float:
    """When the device shall ask first, counted from this file."""
    every = min((each["every_days"] for each in _renewals(issue.document)), default=None)
    return FOREVER if every is None else a_stamp(issue.issued) + every * DAY_S


def _left(session: Session, request: RenewalRequest, device: Device, issue: Issue, now: float) -> tuple[float, float]:
    """Seconds until the first license of the device stops for want of renewal, and since it was to ask."""
    unchanged = Renewal.device == device, Renewal.seq == issue.seq, Renewal.answer == UNCHANGED
    past = Renewal.at <= now  # what is later, a wrong clock wrote
    last = session.scalar(select(Renewal.at).where(*unchanged, past).order_by(Renewal.at.desc()).limit(1))
    basis = max(a_stamp(issue.issued), last or 0.0)
    share = schedule.share(request.device, request.vendor)
    renewals = _renewals(issue.document)
    attempts = [(each, schedule.attempt(each["every_days"], basis, share)) for each in renewals]
    stops = [at + each["grace_days"] * DAY_S for each, at in attempts if each["need"] == schedule.REQUIRED]
    overdue = now - min((at for _, at in attempts), default=now)
    return max(0.0, min(stops, default=FOREVER) - now), max(0.0, overdue)
