"""When a device is asked to renew later, so that a vendor's renewals of a day stay near their mean. Pure.

After the server was away for some days, everybody who became due meanwhile asks within a day; and devices that were
installed on one day keep meeting again. So beyond some renewals a day, a device that has time is asked to come again,
at a moment that chance spreads over the days that it has. Who just became due gives way to who has used up more of its
time. Nobody loses a license by that: who has little time left is served, whatever the day. tools/bench/renewals shows
the load.
"""

from __future__ import annotations

from licd.license.dates import DAY_S

HOUR_S = 3600

FREE = 100  # renewals in 24 h that any server can do: a vendor with few devices makes nobody wait
CALM = 1.2  # times the mean: up to here everybody is served
CEILING = 1.35  # times the mean, for who has used up its time: leaves room below 1.5 for who cannot wait
MIN_WAIT_S = 2 * HOUR_S  # licd does not ask sooner after it was put off
MAX_WAIT_S = 14 * DAY_S
PATIENCE_S = DAY_S  # at the end, who was put off for long asks every day
SPARE_S = 2 * DAY_S  # always left to a device: a shop that is shut over the weekend still renews in time


def wait_s(*, done: int, expected: float, slack_s: float, overdue_s: float, chance: float) -> int | None:
    """After how long a device shall ask again; None: it is served now.

    `done` renewals were answered in the last 24 hours, `expected` is their mean a day. `slack_s` is left until the
    first license of the device stops (infinite where none does), `overdue_s` passed since it became due, and `chance`,
    evenly from [0, 1), says where in the days that it has it comes again.
    """
    room_s = slack_s - SPARE_S
    if room_s < MIN_WAIT_S:
        return None
    overdue_s = max(overdue_s, 0)
    used_up = overdue_s / (overdue_s + room_s)  # of its time; 0 where no license stops
    if done < max(FREE, (CALM + (CEILING - CALM) * used_up) * expected):
        return None
    longest_s = min(MAX_WAIT_S, max(PATIENCE_S, MAX_WAIT_S - overdue_s), room_s, slack_s / 2)
    return int(MIN_WAIT_S + chance * max(longest_s - MIN_WAIT_S, 0))
