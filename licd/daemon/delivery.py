"""What a delivery of license files, or the vendor's answer to a renewal request, does to this device. Changes nothing.

Each comes in whole or not at all: every line is verified first, in steps, for other clients do not wait.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

from licd.daemon.device import Device
from licd.daemon.installed import check_seq
from licd.daemon.recognition import explain, factor_rows
from licd.daemon.state import State
from licd.license import terms, trust
from licd.license.dates import DAY_S, day
from licd.license.document import REFUSAL, RENEWAL_REQUEST, UNCHANGED, WITHDRAWN, Document, parse
from licd.license.install import LicenseRequest
from licd.license.lines import LicenseFile
from licd.license.renewal import Answer, RenewalRequest, is_request_id, verify_answer
from licd.license.trust import Withdrawn
from licd.rpc.errors import (
    ANOTHER_REQUEST,
    BAD_DOCUMENT,
    ISSUED_IN_FUTURE,
    NOT_IN_FORCE,
    SEQ_CONFLICT,
    WRONG_DEVICE,
    Refused,
)

CLOCK_TOLERANCE_S = DAY_S  # between the vendor's clock and a confirmed one of ours


class Outcome(NamedTuple):
    """What a delivery does.

    file: the license file of it that is for this device; answer: the answer in its place, to a renewal request
    already: this very file is in force, this very answer was taken in
    changes: what the file changes; others: how many files of the delivery are not taken
    request: the open renewal request, if that is what file or answer are about
    fresh: it answers the renewal request that this process made last: nothing that came in before is newer
    withdrawn: the list of withdrawn certificates that comes with it, if it is newer than what is known
    stops: why that list stops the file in force
    """

    vendor: str
    file: LicenseFile | None
    answer: Answer | None
    already: bool
    changes: Sequence[dict[str, Any]] = ()
    others: int = 0
    request: RenewalRequest | None = None
    fresh: bool = False
    withdrawn: tuple[Document, Withdrawn] | None = None
    stops: Refused | None = None

    @property
    def taken(self) -> LicenseFile | Answer:
        found = self.file or self.answer
        assert found is not None
        return found

    @property
    def less(self) -> list[str]:
        """The licenses of which the file grants less than what was in force."""
        return [change["license"] for change in self.changes if change["less"]]


def steps(state: State, data: bytes, *, renewal: bool = False) -> Generator[None, None, Outcome]:
    """What the import of this delivery does, once every line is verified; yields after each. Changes nothing.

    renewal: it may also be an unchanged answer or a refusal, and a file that answers an earlier request
    Errors: all of 3x, OLDER_FILE, SEQ_CONFLICT, ISSUED_IN_FUTURE, WRONG_DEVICE, ANOTHER_REQUEST, WRONG_DOCUMENT
    """
    documents = parse(data)
    lists = [each for each in documents if each.kind == WITHDRAWN]
    others = [each for each in documents if each.kind != WITHDRAWN] or documents
    if renewal and others[0].kind in (UNCHANGED, REFUSAL):
        outcome = _answer(state, others)
        yield
    else:
        outcome = yield from _files(state, others, renewal=renewal)
    if lists:
        outcome = yield from _with_list(state, outcome, lists)
    return outcome


def _files(state: State, documents: list[Document], *, renewal: bool) -> Generator[None, None, Outcome]:
    installed, accepted, device = state.installed, state.ledger.accepted, state.device
    delivery: list[LicenseFile] = []
    known = {each.digest for each in accepted.values()}  # the same file again is nothing new, whoever retired since
    for each in documents:
        new = each.digest not in known
        delivery.append((yield from trust.verify(each, installed.profiles, trusted_now=state.trusted, new=new)))
    files = [file for file in delivery if file.device is None or file.device.key == device.public_key(file.vendor)]
    if not files:
        raise _for_another(delivery, device)
    if len({file.vendor for file in files}) > 1:
        raise Refused(BAD_DOCUMENT, line=1, reason="the delivery holds files of several vendors")
    file = max(files, key=lambda file: file.seq)
    for other in files:
        if other.seq == file.seq and other.digest != file.digest:
            raise Refused(SEQ_CONFLICT, seq=file.seq)
    check_issued(file.issued, state.trusted, clock_confirmed=state.clock.confirmed)
    check_seq(file, accepted.get(file.vendor))
    current = installed.files.get(file.vendor)
    open_ = open_renewal_request(state, file.vendor)
    request = open_ if open_ is not None and open_.id == file.request else None
    if file.digest not in known and request is None:
        _check_request(state, file, current, open_, renewal=renewal)
    in_force = current is not None and current.digest == file.digest
    if not (in_force and installed.standings[file.vendor].kind == terms.SAME):
        _check_device(file, device, known=file.digest in known)
    return Outcome(
        file.vendor,
        file,
        None,
        already=in_force and installed.is_stored(file),
        changes=terms.difference(current, file, state.trusted),
        others=len(delivery) - 1,
        request=request,
        fresh=_is_fresh(state, file.vendor, file.request),
    )


def _answer(state: State, documents: list[Document]) -> Outcome:
    first, *others = documents
    if others:
        reason = "another document stands behind the answer, where only a withdrawn list is allowed"
        raise Refused(BAD_DOCUMENT, line=others[0].records[0].number, reason=reason)
    known = {each.digest for each in state.installed.answers.values()}
    new = first.digest not in known
    answer = verify_answer(first, state.installed.profiles, trusted_now=state.trusted, new=new)
    before = state.installed.answers.get(answer.vendor)
    if before is not None and (before.request, before.kind, before.stops) == (
        answer.request,
        answer.kind,
        answer.stops,
    ):
        return Outcome(answer.vendor, None, answer, already=True)  # maybe signed once more
    check_issued(answer.issued, state.trusted, clock_confirmed=state.clock.confirmed)
    fresh = _is_fresh(state, answer.vendor, answer.request)
    record = state.ledger.renewing.get(answer.vendor)
    late = not fresh and record is not None and record.heard is not None and answer.issued < record.heard
    request = open_renewal_request(state, answer.vendor)
    if late or not is_about_file(state, answer):
        raise Refused(ANOTHER_REQUEST, answers=answer.request, open="none" if request is None else request.id)
    if answer.kind == UNCHANGED and answer.vendor in state.installed.stopped:  # nothing goes on as it was
        raise Refused(NOT_IN_FORCE, vendor=answer.vendor)
    if request is not None and request.id != answer.request:
        request = None
    return Outcome(answer.vendor, None, answer, already=False, request=request, fresh=fresh)


def is_about_file(state: State, answer: Answer) -> bool:
    """It answers a renewal request of this device, which may be any, about the very file that one made now would be."""
    file, identity = state.installed.renewable(answer.vendor), state.device.identity
    return (
        file is not None
        and identity is not None
        and answer.device == state.device.public_key(file.vendor)
        and (answer.file, answer.seq) == (file.file, file.seq)
        and is_request_id(answer.request, identity.key(file.vendor), file.digest)
    )


def _is_fresh(state: State, vendor: str, request: str | None) -> bool:
    asked, _ = state.asked.get((RENEWAL_REQUEST, vendor), (None, 0.0))
    return asked is not None and asked == request


def _with_list(state: State, outcome: Outcome, lists: list[Document]) -> Generator[None, None, Outcome]:
    """The same with the withdrawn list of the delivery, which must not stop what the delivery itself brings.

    Errors: all of 3x
    """
    installed = state.installed
    if len(lists) > 1:
        raise Refused(BAD_DOCUMENT, line=lists[1].records[0].number, reason="it is a second withdrawn list")
    profile = trust.profile_of(outcome.vendor, installed.profiles)
    withdrawn = trust.verify_withdrawn(lists[0], profile)
    yield
    if withdrawn.seq <= profile.withdrawn.seq:
        return outcome
    profiles = {**installed.profiles, profile.name: profile._replace(withdrawn=withdrawn)}
    if outcome.answer is not None:
        verify_answer(parse(outcome.answer.text)[0], profiles, trusted_now=None, new=False)
    stops = None
    file = outcome.file or installed.files.get(outcome.vendor)
    if file is not None:
        try:
            yield from trust.verify(parse(file.text)[0], profiles, trusted_now=None, new=False)
        except Refused as refused:
            if outcome.file is not None and not outcome.already:
                raise
            stops = refused
    return outcome._replace(withdrawn=(lists[0], withdrawn), stops=stops)


def open_renewal_request(state: State, vendor: str) -> RenewalRequest | None:
    """The renewal request given out last that waits for its answer: about the very file, of this device."""
    request, file = state.requests.renewal_request(vendor), state.installed.renewable(vendor)
    if request is None or file is None or request.digest != file.digest:
        return None
    answer = state.installed.answers.get(vendor)
    answered = answer is not None and answer.request == request.id
    return None if answered or request.device != state.device.public_key(vendor) else request


def check_issued(issued: float, trusted_now: float, *, clock_confirmed: bool) -> None:
    """Nothing, if a document may have been issued then. Errors: ISSUED_IN_FUTURE"""
    if clock_confirmed and issued > trusted_now + CLOCK_TOLERANCE_S:
        raise Refused(ISSUED_IN_FUTURE, issued=day(issued), today=day(trusted_now))


def _for_another(delivery: list[LicenseFile], device: Device) -> Refused:
    """Why none of the files is for this device: told of the one that is nearest to it."""
    found = [(device.compare(file.vendor, file.device), file) for file in delivery if file.device is not None]
    nearest, file = max(found, key=lambda each: (each[0].ok, each[0].kept))
    if device.problem is not None:
        reason = f"its own device key cannot be used: {device.problem}"
    elif nearest.ok:
        reason = "it is bound to another device key, though to this hardware; was the state folder lost or replaced?"
    else:
        reason = f"it is bound to another device key and to other hardware: {explain(nearest)}"
    if len(delivery) > 1:
        reason = f"none of the {len(delivery)} files is; the nearest one is not, because {reason}"
    return Refused(WRONG_DEVICE, vendor=file.vendor, reason=reason, factors=factor_rows(nearest))


def _check_request(
    state: State, file: LicenseFile, current: LicenseFile | None, renewing: RenewalRequest | None, *, renewal: bool
) -> None:
    """Nothing, if a file that does not answer the open renewal request may come in all the same.

    By a renewal: the newest file of this very device, which the vendor gives to who asks about an older one. By an
    administrator: a file that answers no request, that of the file in force, or the open license request.
    Errors: ANOTHER_REQUEST, NOT_IN_FORCE
    """
    if renewal:
        if current is None and file.vendor not in state.installed.stopped:
            raise Refused(NOT_IN_FORCE, vendor=file.vendor)
        if file.device is not None:
            return
        expected: LicenseRequest | RenewalRequest | None = renewing
    else:
        if file.request is None or (current is not None and current.request == file.request):
            return
        expected = state.requests.license_request(file.vendor) or renewing
        if expected is not None and expected.id == file.request:
            return
    raise Refused(ANOTHER_REQUEST, answers=file.request or "none", open="none" if expected is None else expected.id)


def _check_device(file: LicenseFile, device: Device, *, known: bool) -> None:
    """Nothing, if this hardware is what the file is bound to; or, if it is known, was before it changed.

    Errors: WRONG_DEVICE
    """
    if file.device is not None:
        device.look_again()
        found = device.compare(file.vendor, file.device)
        if not (found.ok or (known and found.strong_kept)):
            raise Refused(WRONG_DEVICE, vendor=file.vendor, reason=explain(found), factors=factor_rows(found))
