"""How the renewal of a license file stands: what is planned, what was refused, and what of that goes on record. Pure.

    what extends     the file itself, and the vendor's unchanged answer: as signed documents only, verified anew
    what restricts   the vendor's refusal: the document, and the journal's record of it; removing one lifts nothing

A refusal is lifted by a file or an unchanged answer that the vendor signed after it: which of two came later the
vendor's stamps say, never this device's clock. When an attempt became due, how often it failed and when it is made
again is only on record, for it only delays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from licd.license import schedule, terms
from licd.license.dates import DAY_S, FOREVER, day, end_of, timestamp
from licd.license.document import REFUSAL
from licd.license.lines import LicenseFile, Renewal
from licd.license.renewal import Answer
from licd.license.schedule import Plan, Progress
from licd.license.terms import RenewalState, Verdict
from licd.seats.events import MAX_WORDS, Renewing

RENEWED, UNCHANGED, REFUSED = "renewed", "unchanged", "refused"  # outcomes of an attempt; others tell why it failed

LESS_NOTICE_S = 14 * DAY_S  # status tells so long that a renewal granted less: somebody comes by once in two weeks
_MAX_NAMES = 3  # of licenses in one warning
_LATEST_S = 253402300799.0  # the end of the year 9999: beyond it, no time can be told in words


class Course(NamedTuple):
    """How the renewal of one file stands.

    basis: `issued` of the newest document that the vendor signed for it, Unix seconds
    record: what the journal is to say of that; news: it does not say so yet
    """

    basis: float
    plan: Plan
    state: RenewalState
    record: Renewing
    news: bool

    @property
    def hard_stop(self) -> float | None:
        """The trusted time at which the first of its licenses stops, or has stopped, for want of renewal or refused."""
        stop = min([self.state.refused_from, *(stops for _, stops in self.plan.stops.values())])
        return None if stop == FOREVER else stop

    @property
    def refused(self) -> bool:
        return self.record.stops is not None


def stand(
    file: LicenseFile,
    known: Renewing | None,
    answer: Answer | None,
    *,
    share: float,
    trusted: float,
    ran_s: float,
    void: bool = False,
) -> Course:
    """The course of this file's renewal.

    known: the newest record of its vendor; answer: the newest one about it; void: its signer was declared so
    """
    before = begin(file, known)
    record, basis = before, file.issued
    if answer is not None and answer.kind == REFUSAL:
        if before.stops is not None:
            record = _stopping(record, answer)
        elif is_news(before, answer):  # a power cut came before the record
            record = heard(record._replace(tried=trusted, outcome=REFUSED), answer.issued, fresh=False)
            record = _stopping(record, answer)
    elif answer is not None:
        basis = max(basis, answer.issued)
    plan = schedule.plan(
        _renewals(file, trusted),
        basis,
        _progress(record),
        share=share,
        trusted=trusted,
        ran_s=ran_s,
        refused=record.stops is not None,
        void=void,
    )
    record = _with(record, plan.progress)
    state = RenewalState(stops=plan.stops)
    if record.stops is not None:
        state = RenewalState(end_of(record.stops), record.reason, plan.stops)
    return Course(basis, plan, state, record, record != before)


def _renewals(file: LicenseFile, trusted: float) -> set[Renewal]:
    """How the lines that are not over are to be renewed; where all are, nothing more can stop, and more can be had."""
    lines = terms.ahead(file, trusted)
    if lines or not file.lines:
        return {line.renewal for line in lines} or {file.renewal}
    past = {line.renewal for line in file.lines}
    return {each._replace(need=schedule.OPTIONAL) if each.need == schedule.REQUIRED else each for each in past}


def begin(file: LicenseFile, known: Renewing | None, *, fresh: bool = False) -> Renewing:
    """The record of this file's renewal: a new file begins anew, but for what was heard of the vendor, and told.

    A refusal stands if the file is the older of the two: somebody held it back. fresh: the file is known to be newer.
    """
    if known is None:
        return Renewing(file.vendor, file.digest)
    if known.digest == file.digest:
        return known
    begun = Renewing(file.vendor, file.digest, reported=known.reported, heard=known.heard)
    if known.stops is None or fresh or known.heard is None or file.issued >= known.heard:
        return begun
    return begun._replace(retry_at=known.retry_at, stops=known.stops, reason=known.reason)


def is_news(record: Renewing, answer: Answer) -> bool:
    """The answer came in, by the document, but is not on record yet."""
    if record.heard is None or answer.issued > record.heard:
        return True
    return answer.kind == REFUSAL and record.stops is None and answer.issued == record.heard


def is_known(file: LicenseFile, known: Renewing | None, issued: float) -> bool:
    """An unchanged answer about this file that was issued then is on record, and nothing is newer."""
    return known is not None and known.stops is None and (known.digest, known.heard) == (file.digest, issued)


def heard(record: Renewing, issued: float, *, fresh: bool) -> Renewing:
    """A document issued then came in. fresh: it is known to be the newest, whatever the vendor's clock said before."""
    return record._replace(heard=issued if fresh or record.heard is None else max(issued, record.heard))


def answered(
    record: Renewing, outcome: str, trusted: float, reported: str | None, less: Iterable[str] = ()
) -> Renewing:
    """The vendor renewed the file, or said that it stays as it is. All that was due or refused is over, but for what
    begin() let stand.

    reported: the day of the request that this answers; less: the licenses of which the new file grants less
    """
    answered = Renewing(
        record.vendor,
        record.digest,
        tried=trusted,
        outcome=outcome,
        reported=reported or record.reported,
        heard=record.heard,
        less=_names(less) or None,
    )
    if outcome == RENEWED and record.stops is not None:
        return answered._replace(retry_at=record.retry_at, stops=record.stops, reason=record.reason)
    return answered


def refused(record: Renewing, answer: Answer, trusted: float, share: float, reported: str | None) -> Renewing:
    """The vendor refused."""
    again = _with(record, schedule.refused(_progress(record), share=share, trusted=trusted))
    return _stopping(again, answer)._replace(tried=trusted, outcome=REFUSED, reported=reported or record.reported)


def _stopping(record: Renewing, answer: Answer) -> Renewing:
    """Of refusals that follow one another the earliest date stands: each must name a later day than its own."""
    stops = min(each for each in (record.stops, answer.stops) if each is not None)
    return record._replace(stops=stops, reason=answer.reason)


def failed(course: Course, why: str, trusted: float, share: float, retry_after_s: int | None) -> Renewing:
    """The vendor could not be asked, or nothing came of it."""
    stop = FOREVER if course.hard_stop is None else course.hard_stop
    after = schedule.failed(
        _progress(course.record), share=share, trusted=trusted, stop=stop, retry_after_s=retry_after_s
    )
    return _with(course.record, after)._replace(tried=trusted, outcome=why[:MAX_WORDS])


def _progress(record: Renewing) -> Progress:
    return Progress(record.due, record.failures, record.retry_at)


def _with(record: Renewing, progress: Progress) -> Renewing:
    return record._replace(due=dict(progress.due), failures=progress.failures, retry_at=progress.retry_at)


# --- for people ----------------------------------------------------------------------------------------------


def moment(when: float | None) -> str | None:
    """A time as answers have it."""
    return None if when is None or when == FOREVER else timestamp(min(when, _LATEST_S))


def a_day(when: float) -> str:
    return day(min(when, _LATEST_S))


def warnings(file: LicenseFile, course: Course, verdicts: Mapping[str, Verdict], trusted: float) -> list[str]:
    """What someone must act on."""
    own = [verdict for verdict in verdicts.values() if verdict.vendor == file.vendor]
    found = []
    if course.refused:
        stop = course.state.refused_from
        verb = "stopped after" if trusted >= stop else "go on until"
        when = f"the licenses {verb} {course.record.stops}"
        reason = (course.state.reason or "").rstrip(".")
        found.append(
            f"{file.vendor}: RENEWAL_REFUSED: the vendor refused to renew the licenses: {reason}; {when}; "
            "ask the vendor, then: licd-cli renew"
        )
    overdue = [verdict for verdict in own if verdict.state == terms.OVERDUE]
    if overdue:
        since = a_day(min(verdict.renewal_stops or trusted for verdict in overdue))
        found.append(
            f"{file.vendor}: RENEWAL_OVERDUE: {_names(verdict.name for verdict in overdue)} stopped on {since}, for "
            f"want of renewal{_last(course)}; let this device reach the vendor's server (licd-cli renew), or renew by "
            "file (licd-cli renew --export FILE)"
        )
    near = [verdict for verdict in own if verdict.counts and verdict.renewal_stops is not None]
    if near and not course.refused:
        stops = a_day(min(verdict.renewal_stops or trusted for verdict in near))
        found.append(
            f"{file.vendor}: RENEWAL_DUE: {_names(verdict.name for verdict in near)} must be renewed, or will stop on "
            f"{stops}{_last(course)}; let this device reach the vendor's server (licd-cli renew), or renew by file "
            "(licd-cli renew --export FILE)"
        )
    less = course.record.less
    if less is not None and trusted < file.issued + LESS_NOTICE_S:
        found.append(f"{file.vendor}: the renewal of {a_day(file.issued)} grants less than before: {less}")
    return found


def _last(course: Course) -> str:
    """How the last attempt went, if it failed."""
    record = course.record
    if not record.failures or record.tried is None:
        return ""
    return f" (last tried on {a_day(record.tried)}: {record.outcome})"


def _names(names: Iterable[str]) -> str:
    some = sorted(names)
    more = f" and {len(some) - _MAX_NAMES + 1} more" if len(some) > _MAX_NAMES else ""
    return ", ".join(some[: _MAX_NAMES - 1] if more else some) + more


def next_due(courses: Iterable[Course], trusted: float) -> float:
    """The next moment at which an attempt becomes due, which is then put on record."""
    ahead = (course.plan.due for course in courses)
    return min((due for due in ahead if due is not None and due > trusted), default=FOREVER)
