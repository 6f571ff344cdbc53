"""Renewals: a device shows its license file, and gets a new one, or hears that nothing changed, or a refusal.

Three kinds of "no" are kept apart. A refusal is signed, and takes licenses away: only for what a person did to the
orders. What a person still has to look at, other hardware first of all, is a problem without a signature, and the
device keeps what it has for as long as its days of grace last. And whoever has time may be asked to come again later.

Safe to repeat by meaning: a request is judged by what the books say now, and issues nothing as long as they say what
the newest file says. So one that was answered with that file gets the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from licd.device.fingerprint import Match
from licd.license import trust
from licd.license.document import LICENSE_FILE, REFUSAL, UNCHANGED
from licd.license.renewal import RenewalRequest
from licd.rpc.errors import ANOTHER_DEVICE, ANOTHER_VENDOR, Refused
from licd_vendor import alarms, answers, filing, recognize, sign
from licd_vendor.filing import Move
from licd_vendor.keys import Failure, SigningKey
from licd_vendor.load import Load, due
from licd_vendor.recognize import ANY, CHANGED, REIMAGED, Seen
from licd_vendor.store import lock
from licd_vendor.tables import Device, Issue, Order, Renewal

MAX_KEPT = 400  # renewals of a device that are remembered: more than thirty years of monthly ones


class UnknownFile(Failure):
    """The license file is none that this store issued."""


class Answer(NamedTuple):
    """What a renewal request is answered with. kind: license-file | unchanged | refusal

    file, seq: that the device has, or will have with this
    again: it was answered before, with the same file
    reason, stops: of a refusal
    rehosts, without, worn: as issuing.Issued
    """

    kind: str
    data: bytes
    device: int
    file: str
    seq: int
    again: bool = False
    reason: str | None = None
    stops: str | None = None
    licenses: int = 0
    rehosts: Sequence[tuple[int, int, int]] = ()
    without: Sequence[int] = ()
    worn: int = 0


class Outcome(NamedTuple):
    """The answer, or why there is none; and in words an alarm that was raised. Both are for after the commit: an alarm
    stands also where nothing is answered."""

    found: Answer | Refused | Failure
    alarm: str | None = None

    def answer(self) -> Answer:
        """Errors: as `renew` says"""
        if isinstance(self.found, Answer):
            return self.found
        raise self.found


class _Asked(NamedTuple):
    """A renewal request, whose place it is about, what a person decided, and who answers."""

    session: Session
    profile: trust.VendorProfile
    key: SigningKey
    now: float
    request: RenewalRequest
    issue: Issue
    device: Device
    rehost: int | None
    weak: bool
    many: bool
    online: bool


def renew(
    session: Session,
    profile: trust.VendorProfile,
    key: SigningKey,
    request: RenewalRequest,
    *,
    now: float,
    rehost: int | None = None,
    weak: bool = False,
    many: bool = False,
    load: Load | None = None,
) -> Outcome:
    """The answer to a renewal request.

    rehost, weak, many: a person decided so, as for issuing.issue
    load: of the server, where a machine asks and can be put off; None where a person does
    Errors: ANOTHER_VENDOR, ANOTHER_DEVICE, UnknownFile, ComeAgain, Failure; in the outcome also WEAK_FINGERPRINT,
            REHOST_LIMIT
    """
    if request.vendor != profile.vendor:
        raise Refused(ANOTHER_VENDOR, vendor=request.vendor, ours=profile.vendor)
    issue = session.get(Issue, request.file)
    if issue is None:
        raise _unknown(request)
    lock(session, issue.device.customer_id)
    if issue.document != request.license_file:
        raise _unknown(request)
    device = _device(session, issue, request)
    asked = _Asked(session, profile, key, now, request, issue, device, rehost, weak, many, load is not None)
    before = session.scalar(select(Issue).where(Issue.device == device, Issue.request_id == request.id))
    if before is not None and before.request != _first_line(request):
        raise _another(device, f"the request {request.id} was answered before, and it was another one")
    row = session.scalar(select(Renewal).where(Renewal.device == device, Renewal.request_id == request.id))
    if not (live := filing.live_orders(device, now)):  # before pacing: who is refused is not put off for months
        reason = answers.reason(device, now)
        data, stops = answers.refusal(profile, key, request, now, reason)
        _remember(asked, row, REFUSAL)
        return Outcome(Answer(REFUSAL, data, device.id, issue.id, issue.seq, reason=reason, stops=stops))
    if before is not None and _stands(asked, before, live):
        return Outcome(_file(before, again=True))
    if row is None and load is not None:
        load.check(session, request, device, issue, now=now)
    decided: _Decided | Refused | Failure
    try:
        decided = _decide(asked)
    except (Refused, Failure) as refused:
        decided = refused
    matches = not (isinstance(decided, Refused) and decided.error is ANOTHER_DEVICE)
    alarm = alarms.check(session, device, issue, request, matches=matches, now=now) if row is None else None
    if not isinstance(decided, _Decided):
        return Outcome(decided, alarm)
    try:
        with session.begin_nested():
            found = _renewed(asked, decided)
            _remember(asked, row, found.kind)
    except (Refused, Failure) as refused:
        return Outcome(refused, alarm)
    return Outcome(found, alarm)


def _unknown(request: RenewalRequest) -> UnknownFile:
    reason = f"The license file {request.file}, seq {request.seq}, is none that was issued from this store."
    return UnknownFile(reason, "Give the device a file of this store: licd-vendor install-request new, and issue.")


def _device(session: Session, issue: Issue, request: RenewalRequest) -> Device:
    """Whose file it was; or, if its place was given to another one, the device that the key belongs to now."""
    device = issue.device
    if device.moved_to is None:
        return device
    here = Device.customer_id == device.customer_id, Device.moved_to.is_(None), Device.key == request.device
    return session.scalar(select(Device).where(*here).order_by(Device.id)) or device


# --- the same again -------------------------------------------------------------------------------------------------


def _stands(asked: _Asked, before: Issue, live: Sequence[Order]) -> bool:
    """Whether the file that answered this request before is the answer still: a person may have sold less since."""
    newest = before is asked.device.issues[-1]
    if not newest or not filing.counts(before.document, asked.profile, asked.now, new=True):
        return False
    return _same(filing.description(asked.device, live), before)


def _file(issue: Issue, *, again: bool = False) -> Answer:
    licenses = filing.licenses_in(issue.document)
    return Answer(LICENSE_FILE, issue.document, issue.device_id, issue.id, issue.seq, again=again, licenses=licenses)


def _first_line(request: RenewalRequest) -> bytes:
    return request.text.removesuffix(request.license_file)


# --- the hardware ---------------------------------------------------------------------------------------------------


class _Decided(NamedTuple):
    move: Move
    bound: dict[str, list[str]]
    weak: bool


def _decide(asked: _Asked) -> _Decided:
    """Errors: WEAK_FINGERPRINT, ANOTHER_DEVICE, NotIssued, Failure"""
    device, request, rehost = asked.device, asked.request, asked.rehost
    if rehost not in (None, ANY, device.id):
        raise Failure(f"The license file is device {device.id}'s, not device {rehost}'s.", f"Name device {device.id}.")
    shown = {factor: list(tags) for factor, tags in request.fingerprint.items() if factor in device.weights}
    filing.check_shown(shown, device.fingerprint, many=asked.many)
    seen = Seen(request.device, shown, request.unreadable, device.weights.keys())
    known = recognize.recognize(seen, _candidates(asked))
    if known.device is not device or known.match is None:
        raise _another(device, _stranger(device, known.device))
    # What is there but cannot be read stays bound, and is not replaced: at the next renewal it may be readable.
    percent = recognize.replaced(known.match, unreadable=False)
    how, replaced, reason = filing.judge(device, known.how, known.match, percent, asked.now)
    if how == CHANGED and rehost is None:
        raise _another(device, reason)
    bound = shown if how == CHANGED else _unread(device, known.match, seen) | shown
    may_be_weak = asked.weak or device.issues[-1].weak or any(order.allow_weak for order in device.orders)
    weak = filing.is_weak(bound, weak=may_be_weak)
    moved = list(device.orders) if how in (REIMAGED, CHANGED) else []
    return _Decided(Move(device, None, *filing.counted(how, moved, asked.now), replaced), bound, weak)


def _candidates(asked: _Asked) -> Sequence[Device]:
    """The devices that may have sent this. To compare the hardware of thousands that a customer may have is for a
    person: who has a copy of a file would keep the server busy with it."""
    if asked.device.key == asked.request.device:
        return [asked.device]
    here = Device.customer_id == asked.device.customer_id, Device.moved_to.is_(None)
    if asked.online:
        others = select(Device).where(*here, Device.key == asked.request.device, Device.id != asked.device.id)
        return [asked.device, *asked.session.scalars(others.order_by(Device.id))]
    return asked.session.scalars(select(Device).where(*here).order_by(Device.id)).all()


def _unread(device: Device, match: Match, seen: Seen) -> dict[str, list[str]]:
    """What the device is bound to and cannot show now, because it may not read it."""
    factors = {each.factor for each in match.factors} & set(seen.unreadable) - seen.fingerprint.keys()
    return {factor: list(device.fingerprint[factor]) for factor in sorted(factors)}


def _stranger(device: Device, other: Device | None) -> str:
    if other is not None:
        return f"the request with the license file of device {device.id} comes from device {other.id}"
    return f"the request has neither the key nor the hardware of device {device.id}"


def _another(device: Device, reason: str) -> Refused:
    return Refused(ANOTHER_DEVICE, order=", ".join(str(order.id) for order in device.orders) or "-", reason=reason)


# --- what the device gets -------------------------------------------------------------------------------------------


def _renewed(asked: _Asked, decided: _Decided) -> Answer:
    session, profile, device, request, now = asked.session, asked.profile, asked.device, asked.request, asked.now
    newest = device.issues[-1]
    rehosts = filing.within_limits(session, decided.move)
    filing.bind(device, request.device, decided.bound, dict(device.weights), device.share)
    live = filing.live_orders(device, now)
    without = [order.id for order in device.orders if order not in live]
    if _same(filing.description(device, live), newest):
        if request.file == newest.id and filing.counts(newest.document, profile, now, new=False):
            data = answers.unchanged(profile, asked.key, request, now)
            return Answer(UNCHANGED, data, device.id, newest.id, newest.seq, without=without)
        if request.file != newest.id and now < due(newest) and filing.counts(newest.document, profile, now, new=True):
            return _file(newest, again=True)._replace(without=without)
    # The id has a file already: one that no device takes any more (see _again), or of another device that chose it.
    mine = Issue.install_request_id == newest.install_request_id, Issue.request_id == request.id
    taken = session.scalar(select(Issue.id).where(*mine)) is not None
    told = filing.Request(
        id=str(uuid4()) if taken else request.id,
        install_request=newest.install_request_id,
        key=request.device,
        document=_first_line(request),
        weak=decided.weak,
    )
    issue, licenses = filing.write(session, profile, asked.key, request=told, device=device, move=decided.move, now=now)
    worn = filing.worn(device, now)
    return _file(issue)._replace(licenses=licenses, rehosts=rehosts, without=without, worn=worn)


def _same(described: Mapping[str, Any], newest: Issue) -> bool:
    """Whether the newest file says already what a new one would."""
    first, *rest = filing.said(newest.document)
    there = {name: first.get(name) for name in ("device", "renewal", "device_grace_days", "x")}
    there["licenses"] = [{name: each.get(name) for name in sign.LICENSE_MEMBERS} for each in rest]
    wanted = dict(described) | {"licenses": [sign.whole_license(each) for each in described["licenses"]]}
    return _sorted(there) == _sorted(wanted)


def _sorted(described: Mapping[str, Any]) -> dict[str, Any]:
    device = described["device"]
    tags = {factor: sorted(each) for factor, each in device["fingerprint"].items()}
    return dict(described) | {"device": dict(device) | {"fingerprint": tags}}


# --- what is remembered ---------------------------------------------------------------------------------------------


def _remember(asked: _Asked, row: Renewal | None, kind: str) -> None:
    if row is not None:
        row.answer = kind
        return
    session, request, device = asked.session, asked.request, asked.device
    if request.device != device.key:  # a refusal, for which nobody was recognized: a copy of the file is enough
        return
    usage = {"from": request.usage.since, "peaks": {name: list(days) for name, days in request.usage.peaks.items()}}
    shown = {factor: list(tags) for factor, tags in request.fingerprint.items() if factor in device.weights}
    session.add(
        Renewal(
            device=device,
            at=asked.now,
            seq=request.seq,
            request_id=request.id,
            fingerprint=shown,
            answer=kind,
            usage=usage,
        )
    )
    session.flush()
    newest_first = select(Renewal.id).where(Renewal.device == device).order_by(Renewal.at.desc(), Renewal.id.desc())
    if too_many := session.scalars(newest_first.offset(MAX_KEPT)).all():
        session.execute(delete(Renewal).where(Renewal.id.in_(too_many)))
