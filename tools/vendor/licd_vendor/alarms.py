"""Whether two devices use the license file of one: what the renewals of a device contradict, for a person to look at.

A machine copied with all its hardware names, or a backup put back, shows only here: two machines send the same number
with other hardware or under another key, or one sends a number that was replaced already. All of that can be honest,
too: a repair, a restored backup. So an alarm blocks nothing. It says what was seen, and a person closes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from licd.device.fingerprint import FACTORS, STRONG, Tags
from licd.license.dates import timestamp
from licd.license.renewal import RenewalRequest
from licd_vendor.keys import Failure
from licd_vendor.store import lock
from licd_vendor.tables import Alarm, Device, Issue, Renewal


def check(
    session: Session, device: Device, issue: Issue, request: RenewalRequest, *, matches: bool, now: float
) -> str | None:
    """In words the alarm that this request, not answered before, raises; None if it raises none, or none anew.

    issue: of the file that it was made with
    matches: it would be taken for the same device
    """
    shown = {factor: tags for factor, tags in request.fingerprint.items() if factor in device.weights}
    others = select(Renewal).where(Renewal.device == device, Renewal.request_id != request.id, Renewal.at <= now)
    rows = session.scalars(others.order_by(Renewal.at.desc(), Renewal.id.desc())).all()
    found = _earlier(rows, request, shown) or _two(rows, request.seq, shown)
    if found is None and not matches and not any(row.seq == request.seq for row in rows):
        bound = json.loads(issue.document.partition(b"\t")[0])["device"]["fingerprint"]
        if differs := _differ(bound, shown):
            found = None, issue.issued, differs
    if found is None and request.device != device.key:  # who has a copy of the file has the tags that are in it, too
        found = None, device.issues[-1].issued, [KEY]
    if found is None:
        return None
    later_seq, before, differs = found
    kind = Alarm.later_seq.is_(None) if later_seq is None else Alarm.later_seq.is_not(None)
    there = session.scalar(select(Alarm).where(Alarm.device == device, Alarm.closed.is_(None), kind))
    if there is not None:
        there.last, there.times = timestamp(now), there.times + 1
        there.matches = there.matches and matches
        return None
    alarm = Alarm(
        device=device,
        seq=request.seq,
        later_seq=later_seq,
        before=before,
        at=timestamp(now),
        last=timestamp(now),
        times=1,
        differs=differs,
        matches=matches,
    )
    session.add(alarm)
    session.flush()
    return f"alarm {alarm.id}: device {device.id}: {what(alarm)}"


KEY = "key"  # among Alarm.differs: the hardware is the same, or somebody says so
Found = tuple[int | None, str, list[str]]  # Alarm.later_seq, before, differs


def _earlier(rows: Sequence[Renewal], request: RenewalRequest, shown: Tags) -> Found | None:
    # By when it was made: an exported request may be weeks on its way, and the device renews otherwise meanwhile.
    later = next((row for row in rows if row.seq > request.seq and row.at <= request.issued), None)
    if later is None:
        return None
    return later.seq, timestamp(later.at), _differ(later.fingerprint, shown)


def _two(rows: Iterable[Renewal], seq: int, shown: Tags) -> Found | None:
    for row in rows:
        if row.seq == seq and (differs := _differ(row.fingerprint, shown)):
            return None, timestamp(row.at), differs
    return None


def _differ(one: Tags, other: Tags) -> list[str]:
    """The strong factors that both show, and of which they have nothing in common. What only one shows may have been
    unreadable for the other."""
    strong = [factor for factor, kind in FACTORS.items() if kind in STRONG]
    both = [each for each in strong if one.get(each) and other.get(each)]
    return [each for each in both if set(one[each]).isdisjoint(other[each])]


def what(alarm: Alarm) -> str:
    """What was seen, in words."""
    if alarm.later_seq is not None:
        return f"seq {alarm.seq} was sent after seq {alarm.later_seq} was in use"
    if alarm.differs == [KEY]:
        return f"seq {alarm.seq} was sent under another key"
    return f"seq {alarm.seq} was sent from two fingerprints ({', '.join(alarm.differs)})"


def advice(alarm: Alarm) -> str:
    """What a person does about it."""
    if alarm.later_seq is not None:
        return (
            "Ask the customer whether a backup was put back on the device; if so, close this. "
            "If not, a copy of the device is in use."
        )
    if alarm.differs == [KEY]:
        return "Ask the customer whether the device was set up anew; if so, close this. If not, somebody has its file."
    if alarm.matches:
        return (
            "Ask the customer whether these parts were replaced; if so, close this. If not, two machines use one file."
        )
    return (
        "The second was not renewed. Ask the customer whether the device was repaired: then let them send a request, "
        "licd-cli renew --export; licd-vendor renew REQUEST --rehost, and close this. If not, it is a copy."
    )


def list_alarms(session: Session, *, closed: bool = False) -> list[dict[str, Any]]:
    """The alarms, the oldest first; with those that were closed, too, if `closed`.

    Shape:  {"alarm": int, "device": int, "customer": str, "orders": [int], "seq": int, "later_seq": int | None,
            "before", "at", "last": times, "times": int, "differs": [factor], "matches": bool, "closed": time | None,
            "what": str, "next": str}
    """
    query = select(Alarm).order_by(Alarm.id)
    if not closed:
        query = query.where(Alarm.closed.is_(None))
    return [
        {
            "alarm": each.id,
            "device": each.device_id,
            "customer": each.device.customer_id,
            "orders": [order.id for order in each.device.orders],
            "seq": each.seq,
            "later_seq": each.later_seq,
            "before": each.before,
            "at": each.at,
            "last": each.last,
            "times": each.times,
            "differs": each.differs,
            "matches": each.matches,
            "closed": each.closed,
            "what": what(each),
            "next": advice(each),
        }
        for each in session.scalars(query)
    ]


def close(session: Session, id: int, now: float) -> Alarm:
    """A person has looked at it. What happens again raises a new one. Errors: Failure"""
    alarm = session.get(Alarm, id)
    if alarm is None:
        raise Failure(f"There is no alarm {id}.", "licd-vendor alarm list shows them.")
    lock(session, alarm.device.customer_id)
    alarm.closed = alarm.closed or timestamp(now)
    return alarm
