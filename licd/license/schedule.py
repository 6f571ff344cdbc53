"""When a license file goes back to its vendor, and until when its licenses wait for the answer. Pure.

Each line says how often it is to be renewed. The days count from `issued` of the newest document that the vendor
signed for the file, never from what a courier said. To them a third at most is added, by a hash of the device: of a
thousand devices that were installed on one day, each day some ask, from day 30 to day 40 and then further apart.

Two clocks must both have run out before a license stops for want of renewal: its days of grace by the trusted time, and
72 hours of running since the attempt became due. So a device that was off for months is due at its start, and has
three days of work in which to reach the vendor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple

from licd.license.dates import DAY_S, FOREVER
from licd.license.lines import NEEDS, Renewal

RUNNING_S = 72 * 3600  # of running time, that a license waits for its renewal at the least
SPREAD = 1 / 3  # of every_days: 30 becomes 30 to 40
FIRST_RETRY_S, LAST_RETRY_S = 2 * 3600, DAY_S  # after a failure; doubled with each
RETRY_SPREAD = 1 / 4  # of the wait, by which it is shortened
MAX_RETRY_AFTER_S = 14 * DAY_S  # that a server may ask for
_RETRY_WITHIN_S = 15 * DAY_S  # further ahead nothing was ever put off

NONE, OPTIONAL, REQUIRED = NEEDS
NEVER, NOT_DUE, DUE, FAILED, REFUSED = "never", "not_due", "due", "failed", "refused"


class Progress(NamedTuple):
    """How far the attempts at one license file have got. A new file, or an unchanged answer, starts again from none.

    due: every_days -> the device's running time when that attempt became due
    failures: in a row
    retry_at: the trusted time before which nothing is tried
    """

    due: Mapping[int, float] = MappingProxyType({})
    failures: int = 0
    retry_at: float = -FOREVER


class Plan(NamedTuple):
    """What is to be done about one license file, and until when.

    need: none | optional | required, the strictest
    due: when the first of its lines is due; next: when it is tried next, None: never
    why: never | not_due | due | failed | refused; is_due: it is to be tried now
    progress: with what has become due put in; to be recorded if it differs
    stops: of what is required, (from when it is warned of, from when it no longer counts); of what has stopped already
        the second is the latest moment at which it can have done so
    Units: trusted time, Unix seconds
    """

    need: str
    due: float | None
    next: float | None
    why: str
    is_due: bool
    progress: Progress
    stops: Mapping[Renewal, tuple[float, float]]


def share(device_key: str, vendor: str) -> float:
    """Where in the spread of a vendor's devices this one stands, in [0, 1): always the same, evenly over all."""
    return _even(f"{vendor}\n{device_key}")


def attempt(every_days: int, basis: float, share: float) -> float:
    """When a device asks that is to ask every so many days, counted from `basis`."""
    return basis + every_days * DAY_S * (1 + share * SPREAD)


def plan(
    renewals: Collection[Renewal],
    basis: float,
    progress: Progress,
    *,
    share: float,
    trusted: float,
    ran_s: float,
    refused: bool = False,
    void: bool = False,
) -> Plan:
    """What to do now about a file whose lines are to be renewed so.

    basis: `issued` of the newest document that the vendor signed for it: the file, or an unchanged answer
    refused: the newest answer is a refusal, which is asked about again however far the next attempt would be; not if
             nothing of it is to be renewed
    void: who signed the file was declared void: none of its lines counts, and a new one is asked for at once
    Units: basis and trusted are trusted time; ran_s is the running time of the device, seconds
    """
    wanted = [each for each in renewals if each.need != NONE]
    attempts = {each: attempt(each.every_days or 0, basis, share) for each in wanted}
    progress = Progress(
        # Never later than now: the count of running time may have been lost.
        due={
            each.every_days or 0: min(progress.due.get(each.every_days or 0, ran_s), ran_s)
            for each, at in attempts.items()
            if at <= trusted
        },
        failures=progress.failures,
        retry_at=progress.retry_at if progress.retry_at <= trusted + _RETRY_WITHIN_S else -FOREVER,  # clock lowered
    )
    due = basis if void else min(attempts.values(), default=None)
    again = progress.retry_at if progress.retry_at > -FOREVER else trusted
    why, following = NEVER, None
    if due is not None:
        if refused:
            why, following = REFUSED, again
        elif void:
            why, following = FAILED if progress.failures else DUE, again
        else:
            why = NOT_DUE if trusted < due else FAILED if progress.failures else DUE
            following = max(due, progress.retry_at)
    return Plan(
        need=max((each.need for each in renewals), key=NEEDS.index, default=NONE),
        due=due,
        next=following,
        why=why,
        is_due=following is not None and trusted >= following,
        progress=progress,
        stops={
            each: _stop(each, at, progress, trusted, ran_s)
            for each, at in attempts.items()
            if each.need == REQUIRED and not void
        },
    )


def _stop(renewal: Renewal, attempt: float, progress: Progress, trusted: float, ran_s: float) -> tuple[float, float]:
    became_due = progress.due.get(renewal.every_days or 0)
    # Not max(0, what is left): what stopped while the device went on running, stopped at one moment.
    has_run = attempt + RUNNING_S if became_due is None else trusted + became_due + RUNNING_S - ran_s
    stop = max(attempt + (renewal.grace_days or 0) * DAY_S, has_run)
    return (attempt + stop) / 2, stop


def failed(progress: Progress, *, share: float, trusted: float, stop: float, retry_after_s: int | None) -> Progress:
    """After one more failure: tried again in 2 hours, then after ever longer, at last once a day.

    retry_after_s: how long the server asked to wait; heeded for 14 days at most, and for half of what is left until
        `stop`, when the first license stops
    """
    failures = progress.failures + 1
    wait = min(FIRST_RETRY_S * 2 ** min(failures - 1, 10), LAST_RETRY_S)
    wait = max(wait * (1 - RETRY_SPREAD * _even(f"{share} {failures}")), FIRST_RETRY_S)
    if retry_after_s is not None:
        wait = max(wait, min(retry_after_s, MAX_RETRY_AFTER_S, (stop - trusted) / 2))
    return Progress(progress.due, failures, trusted + wait)


def refused(progress: Progress, *, share: float, trusted: float) -> Progress:
    """After a refusal: asked again in about a day, for the vendor may think better of it."""
    wait = LAST_RETRY_S * (1 - RETRY_SPREAD * _even(f"{share} refused"))
    return Progress(progress.due, 0, trusted + wait)


def _even(text: str) -> float:
    return int.from_bytes(sha256(text.encode()).digest()[:6]) / 2**48
