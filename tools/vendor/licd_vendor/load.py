"""How much the server has to do with renewals, and whether a device can be asked to come again later."""

from __future__ import annotations

import random
from collections.abc import Callable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from licd.license import schedule
from licd.license.dates import DAY_S
from licd.license.document import REFUSAL
from licd_vendor import pacing
from licd_vendor.store import PLACES, License, Order, Renewal

KNOWN_FOR_S = 3600  # the mean changes with what is sold, and is counted from all devices


class Load:
    """The renewals of a store, as one process of the server knows them. chance: from [0, 1)"""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._expected = (0.0, -float("inf"))

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
