"""What license files grant at a time: lines of one name add up to a verdict. Pure; the trusted time is an argument.

A line counts from its begin until its grace ends, unless another line that replaces it has begun: then it stops for
good, also when that other one ends, so that a follow-up never adds up to what it follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from licd.license.dates import FOREVER, day, later
from licd.license.lines import COUNTED, UNCOUNTED, LicenseFile, Line, Renewal
from licd.license.versions import Versions
from licd.rpc.errors import (
    LICENSE_EXPIRED,
    LICENSE_NOT_YET_VALID,
    RENEWAL_OVERDUE,
    RENEWAL_REFUSED,
    VERSION_NOT_COVERED,
    WRONG_DEVICE,
    Refused,
)

VALID, GRACE, NOT_YET_VALID, EXPIRED, REPLACED = "valid", "grace", "not_yet_valid", "expired", "replaced"
ELSEWHERE = "wrong_device"  # it would count, but on another device
# It would count, but was to be renewed and was not, or the vendor refused to.
OVERDUE, REFUSED = "renewal_overdue", "refused"
# The state of a name is its lines' best.
_RANK = (VALID, GRACE, ELSEWHERE, OVERDUE, REFUSED, NOT_YET_VALID, EXPIRED, REPLACED)

# How a device compares with the one that a license file is bound to; any: it is bound to none.
ANY, SAME, CHANGED, OTHER_KEY, COPY = "any", "same", "changed", "other-key", "copy"


class Standing(NamedTuple):
    """How this device compares with the one that a license file is for.

    kind: any | same | changed | other-key | copy
    until: trusted time at which the file's licenses stop to count for that; the end of the grace of a changed device
    reason: what of it is another, in words; None if nothing
    """

    kind: str
    until: float = FOREVER
    reason: str | None = None

    @property
    def right(self) -> bool:
        """It is the device that the file is for."""
        return self.kind in (ANY, SAME)


ANY_DEVICE = Standing(ANY)


class RenewalState(NamedTuple):
    """What the renewal of a license file, or the want of it, does to its licenses.

    refused_from: from then on nothing of it counts, because the vendor refused to renew it, for this `reason`
    stops: of those that must be renewed, (from when it is warned of, from when they no longer count)
    Units:  trusted time, Unix seconds
    """

    refused_from: float = FOREVER
    reason: str | None = None
    stops: Mapping[Renewal, tuple[float, float]] = MappingProxyType({})


UNTROUBLED = RenewalState()


class Verdict(NamedTuple):
    """One license name at one time.

    total: its seats altogether; None: uncounted and in order; 0: nothing counts
    grants: (versions, seats) of the lines that count now
    expires: the last day of what counts now (None: perpetual); if nothing counts, of what counted last
    not_before: the first day of what counts now; if nothing counts, of what begins next
    grace_until: the last day of the grace, if `state` is grace
    renewal_stops: the trusted time at which it, or the first line of it, stops for want of renewal or by refusal, if
        it is time to warn of that; of what has stopped, the time at which it did
    refused: why the vendor refused to renew it, if it did
    """

    name: str
    title: str
    vendor: str
    device: Standing
    license: str
    state: str
    total: int | None
    grants: tuple[tuple[Versions | None, int], ...]
    expires: str | None
    not_before: str | None
    grace_until: str | None
    lines: tuple[tuple[Line, str], ...]
    renewal_stops: float | None = None
    refused: str | None = None

    @property
    def counts(self) -> bool:
        """It is valid, or its grace is running."""
        return self.state in (VALID, GRACE)

    @property
    def versions(self) -> list[str | None]:
        """What each of the lines that count covers, as the vendor wrote it; None: any version."""
        return [None if versions is None else str(versions) for versions, _ in self.grants]

    def refusal(self, version: str | None) -> Refused | None:
        """Why this version may not have the license now; None: it may.

        Errors: (returned) LICENSE_EXPIRED, LICENSE_NOT_YET_VALID, VERSION_NOT_COVERED, WRONG_DEVICE, RENEWAL_OVERDUE,
                RENEWAL_REFUSED
        """
        if self.state == ELSEWHERE:
            return Refused(WRONG_DEVICE, vendor=self.vendor, reason=self.device.reason)
        if self.state == OVERDUE:
            assert self.renewal_stops is not None
            return Refused(RENEWAL_OVERDUE, license=self.name, since=day(self.renewal_stops))
        if self.state == REFUSED:
            return Refused(RENEWAL_REFUSED, license=self.name, reason=self.refused)
        if self.state == NOT_YET_VALID:
            return Refused(LICENSE_NOT_YET_VALID, license=self.name, not_before=self.not_before)
        if self.state in (EXPIRED, REPLACED):
            return Refused(LICENSE_EXPIRED, license=self.name, expires=self.expires)
        if any(versions is None or versions.covers(version) for versions, _ in self.grants):
            return None
        covers = " or ".join(dict.fromkeys(str(versions) for versions, _ in self.grants))
        return Refused(VERSION_NOT_COVERED, license=self.name, covers=covers, version=version or "an unnamed version")

    def lines_as_maps(self) -> list[dict[str, Any]]:
        """The lines as license.list answers them."""
        return [
            {
                "id": line.id,
                "state": state,
                "type": line.license,
                "seats": None if line.license == UNCOUNTED else line.seats,
                "not_before": line.not_before,
                "expires": line.expires,
                "grace_days": line.grace_days,
                "versions": None if line.versions is None else str(line.versions),
                "replaces": line.replaces,
            }
            for line, state in self.lines
        ]


class Verdicts(NamedTuple):
    """`next_change` is the trusted time at which any of them changes, if ever."""

    names: dict[str, Verdict]
    next_change: float | None


_UNLIMITED = 10**12  # seats of an uncounted line; more than any sum of counted ones


def _seats(line: Line) -> int:
    return _UNLIMITED if line.license == UNCOUNTED else line.seats


# A line, its state, and the moment at which another takes its place.
Judged = tuple[Line, str, float]


def evaluate(
    files: Iterable[LicenseFile],
    trusted_now: float,
    standings: Mapping[str, Standing] = MappingProxyType({}),
    renewals: Mapping[str, RenewalState] = MappingProxyType({}),
) -> Verdicts:
    """What every license name is worth at this time, on a device that compares so with each vendor's file, whose
    renewal stands so. Both by vendor."""
    found: dict[str, list[Judged]] = {}
    vendors: dict[str, str] = {}
    next_change = FOREVER
    for file in files:
        until = standings.get(file.vendor, ANY_DEVICE).until
        renewal = renewals.get(file.vendor, UNTROUBLED)
        for moment in (until, renewal.refused_from):
            if moment > trusted_now:
                next_change = min(next_change, moment)
        for line, stop in _with_stop(file):
            state = _state(line, stop, trusted_now)
            warns, stops = renewal.stops.get(line.renewal, _NEVER)
            if state in (VALID, GRACE):
                if trusted_now >= until:
                    state = ELSEWHERE
                elif trusted_now >= renewal.refused_from:
                    state = REFUSED
                elif trusted_now >= stops:
                    state = OVERDUE
            found.setdefault(line.name, []).append((line, state, stop))
            vendors[line.name] = file.vendor
            moments = (line.begins, line.ends, line.grace_ends, warns, stops, stop)
            changes = (min(moment, stop) for moment in moments)
            next_change = min([next_change, *(moment for moment in changes if moment > trusted_now)])
    names = {}
    for name, judged in found.items():
        vendor = vendors[name]
        verdict = _judge(name, vendor, standings.get(vendor, ANY_DEVICE), judged)
        names[name] = _with_renewal(verdict, renewals.get(vendor, UNTROUBLED), judged, trusted_now)
    return Verdicts(names, None if next_change == FOREVER else next_change)


_NEVER = (FOREVER, FOREVER)


def _with_renewal(verdict: Verdict, renewal: RenewalState, judged: list[Judged], now: float) -> Verdict:
    """The verdict with the moment at which renewal stops it, once that is to be warned of."""
    moments = []
    for line, state, stop in judged:
        if state in (VALID, GRACE, OVERDUE, REFUSED):
            warns, stops = renewal.stops.get(line.renewal, _NEVER)
            if renewal.refused_from != FOREVER:  # of a refusal is warned at once
                warns, stops = -FOREVER, min(stops, renewal.refused_from)
            if warns <= now and stops < min(line.grace_ends, stop):
                moments.append(stops)
    # What counts in part has lost, or will lose, its first line then; what counts no longer has lost its last.
    stopped = min(moments, default=None) if verdict.counts else max(moments, default=None)
    return verdict._replace(renewal_stops=stopped, refused=renewal.reason)


def ahead(file: LicenseFile, trusted_now: float) -> list[Line]:
    """The lines that count now or will, by their dates."""
    return [line for line, stop in _with_stop(file) if trusted_now < min(line.grace_ends, stop)]


def _with_stop(file: LicenseFile) -> Iterator[tuple[Line, float]]:
    """Each line with the moment at which another takes its place."""
    stops: dict[str, float] = {}
    for line in file.lines:
        if line.replaces is not None:
            stops[line.replaces] = min(line.begins, stops.get(line.replaces, FOREVER))
    for line in file.lines:
        yield line, stops.get(line.id, FOREVER)


def _state(line: Line, stop: float, now: float) -> str:
    if now >= stop:
        return REPLACED
    if now < line.begins:
        return NOT_YET_VALID
    if now < line.ends:
        return VALID
    return GRACE if now < line.grace_ends else EXPIRED


def _judge(name: str, vendor: str, device: Standing, judged: list[Judged]) -> Verdict:
    state = min((each for _, each, _ in judged), key=_RANK.index)
    counting = [line for line, each, _ in judged if each in (VALID, GRACE)]
    shown = counting or [line for line, each, _ in judged if each == state]
    total: int | None = sum(line.seats for line in counting)
    if any(line.license == UNCOUNTED for line in counting):
        total = None
    last = max(shown, key=lambda line: line.ends)
    first = min(shown, key=lambda line: line.begins)
    expires = last.expires
    if state == REPLACED:  # by a line of another name: it ended when that began
        expires = day(max(last.issued, *(stop for _, _, stop in judged)))
    grace_until = None
    if state == GRACE:
        longest = max(counting, key=lambda line: line.grace_ends)
        assert longest.expires is not None
        grace_until = later(longest.expires, longest.grace_days)
    return Verdict(
        name=name,
        title=first.title,
        vendor=vendor,
        device=device,
        license=UNCOUNTED if any(line.license == UNCOUNTED for line in shown) else COUNTED,
        state=state,
        total=total,
        grants=tuple((line.versions, _seats(line)) for line in counting),
        expires=expires,
        not_before=first.not_before,
        grace_until=grace_until,
        lines=tuple((line, each) for line, each, _ in judged),
    )


# --- what a new file changes ---------------------------------------------------------------------------------


def difference(old: LicenseFile | None, new: LicenseFile, trusted_now: float) -> list[dict[str, Any]]:
    """What changes by license name, if `new` takes the place of `old`.

    Shape:  {"license", "change": added | removed | changed | same, "less": bool, "was": map | None, "will_be": ...}
            where less says that at some time from now on it grants fewer seats, or fewer to some version
    """
    was = {} if old is None else evaluate([old], trusted_now).names
    will_be = evaluate([new], trusted_now).names
    less = _less(old, new, trusted_now)
    rows = []
    for name in sorted(was.keys() | will_be.keys()):
        before, after = was.get(name), will_be.get(name)
        row = {"license": name, "less": name in less, "was": _summary(before), "will_be": _summary(after)}
        if before is None:
            row["change"] = "added"
        elif after is None:
            row["change"] = "removed"
        else:
            row["change"] = "same" if _essence(before) == _essence(after) else "changed"
        rows.append(row)
    return rows


def _summary(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "state": verdict.state,
        "total": verdict.total,
        "not_before": verdict.not_before,
        "expires": verdict.expires,
        "versions": verdict.versions,
    }


def _essence(verdict: Verdict) -> list[tuple[Any, ...]]:
    lines = (
        (line.license, line.seats, line.not_before, line.expires, str(line.versions), line.grace_days, state)
        for line, state in verdict.lines
    )
    return [(verdict.title,), *sorted(lines, key=repr)]


def _less(old: LicenseFile | None, new: LicenseFile, now: float) -> set[str]:
    # A sweep over the times at which seats come and go, the old file's against the new one's. A set of versions is
    # compared only with the same set and with "any": a new set that covers the old one under another spelling is
    # reported as less, which a person can judge.
    if old is None:
        return set()
    events: list[tuple[float, str, str | None, int, int]] = []
    for side, file in enumerate((old, new)):
        for line, stop in _with_stop(file):
            begins, ends = max(line.begins, now), min(line.grace_ends, stop)
            if begins < ends:
                seats = _seats(line)
                versions = None if line.versions is None else str(line.versions)
                events.append((begins, line.name, versions, side, seats))
                events.append((ends, line.name, versions, side, -seats))
    events.sort(key=lambda event: event[0])
    less: set[str] = set()
    seats_of: dict[str, dict[str | None, list[int]]] = {}  # by name and versions: [the old file's, the new one's]
    touched: set[str] = set()
    for n, (moment, name, versions, side, seats) in enumerate(events):
        by_versions = seats_of.setdefault(name, {None: [0, 0]})
        by_versions.setdefault(versions, [0, 0])[side] += seats
        touched.add(name)
        last_of_moment = n + 1 == len(events) or events[n + 1][0] != moment
        if last_of_moment:
            less |= {each for each in touched - less if _fewer(seats_of[each])}
            touched.clear()
    return less


def _fewer(by_versions: dict[str | None, list[int]]) -> bool:
    old_any, new_any = by_versions[None]
    own = [pair for versions, pair in by_versions.items() if versions is not None]
    return any(min(old + old_any, _UNLIMITED) > min(new + new_any, _UNLIMITED) for old, new in [[0, 0], *own])
