"""What a verified delivery brings is taken in: on the medium, on record, in force.

It goes onto the medium in an order in which a power cut between any two steps loses nothing and lets
nothing count twice:

    the document                    counts at the next start, for it is verified anew there
    the journal's record            complete() makes it: the document is newer, by the vendor's stamps, than what is
                                    on record
    the renewal request is closed   until then the vendor's answer to it is known as taken in by the document itself

So the same delivery again is taken for what it is, whatever was cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from licd.daemon import installed, log, renewing
from licd.daemon.delivery import Outcome, is_about_file
from licd.daemon.state import State, refusal_of
from licd.license.dates import FOREVER, day
from licd.license.document import LICENSE_REQUEST, RENEWAL_REQUEST, UNCHANGED
from licd.license.renewal import Answer, RenewalRequest
from licd.license.trust import profile_of
from licd.seats.events import Accepted

ACCEPTED_BYTES = 256  # of one Accepted record: vendor, seq, digest
RENEWING_BYTES = 2560  # of one Renewing record, with MAX_WORDS characters of four bytes twice


def file_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """The license file of a delivery as answers have it."""
    if outcome.file is None:
        return []
    return [
        {
            "vendor": outcome.vendor,
            "seq": outcome.file.seq,
            "in_force": "already" if outcome.already else "new",
            "changes": outcome.changes,
        }
    ]


def reserve(state: State) -> None:
    """What carry_out() puts on record has its space. Errors: STORAGE_FULL, STATE_NOT_WRITABLE"""
    state.journal.reserve(ACCEPTED_BYTES + RENEWING_BYTES)


def carry_out(state: State, outcome: Outcome, *, renewal: bool = False) -> None:
    """The delivery has come in: what it brings is on the medium, then on record, and then the request is closed.

    After a power cut between two of these, what came first counts at the next start, and complete() does the rest.
    Errors: STORAGE_FULL, STATE_NOT_WRITABLE; nothing has changed then
    """
    if not outcome.already:
        reserve(state)
        _put_on_medium(state, outcome)
        _tell_clock(state, outcome)
        if outcome.answer is not None:  # of what was asked before it came in, nothing is known to be newer
            state.asked.pop((RENEWAL_REQUEST, outcome.vendor), None)
        file, request = outcome.file, outcome.request
        if file is not None:
            state.record(Accepted(file.vendor, file.seq, file.digest))
            log.write(log.NOTICE, f"license file {file.vendor} seq {file.seq} is in force")
        by_renewal = renewal or request is not None
        if by_renewal or outcome.vendor in state.ledger.renewing:
            _record(state, outcome, outcome.less if by_renewal else ())
    if outcome.withdrawn is not None:
        _withdraw(state, outcome)
    if not outcome.already or outcome.withdrawn is not None:
        state.recognize()
        state.judge()
    if outcome.request is not None or (outcome.answer is not None and not outcome.already):
        state.journal.commit(state.stamp())
        state.requests.close_renewal_request(outcome.vendor)


def _put_on_medium(state: State, outcome: Outcome) -> None:
    try:
        if outcome.file is not None:
            state.installed.put_in_force(outcome.file)
        elif outcome.answer is not None:
            state.requests.keep_answer(outcome.answer)
    except OSError as error:
        if outcome.answer is None or outcome.answer.kind == UNCHANGED:
            raise refusal_of(error) from None
        # It counts all the same, by the journal's record.
        log.write(log.WARNING, f"the refusal of {outcome.vendor} cannot be kept: {error.strerror}")
    if outcome.answer is not None:
        state.installed.answers[outcome.vendor] = outcome.answer
    state.changes += 1  # a fault from here on must not be answered as if nothing had changed


def _tell_clock(state: State, outcome: Outcome) -> None:
    """A document is never older than it says; one that answers a request of this boot is also no younger."""
    issued, answers = outcome.taken.issued, outcome.taken.request
    for kind in (LICENSE_REQUEST, RENEWAL_REQUEST):
        id, asked_at = state.asked.get((kind, outcome.vendor), (None, 0.0))
        if id is not None and id == answers:
            del state.asked[kind, outcome.vendor]
            asked_s, least = state.now - asked_at, state.told_by_others(outcome.vendor)
            state.clock.confirm(issued, state.wall, state.now, asked_s=asked_s, least=least)
            state.told[outcome.vendor] = (issued, state.now)
            break
    else:
        state.clock.floor(issued, state.wall, state.now)
    state.tell_time(state.now, state.wall)


def _record(state: State, outcome: Outcome, less: Sequence[str] = ()) -> None:
    """What the vendor's answer does to the renewal is on record; what is to be known of it is logged."""
    vendor, answer = outcome.vendor, outcome.answer
    file, known = state.installed.renewable(vendor), state.ledger.renewing.get(vendor)
    assert file is not None
    if answer is None and known is not None and known.digest == file.digest:
        return  # it was lost and is imported again: that ends no refusal
    issued = outcome.taken.issued
    if answer is not None and answer.kind == UNCHANGED and not outcome.fresh and renewing.is_known(file, known, issued):
        return  # it was lost and is taken in again: what became due since stays so
    record = renewing.heard(renewing.begin(file, known, fresh=outcome.fresh), issued, fresh=outcome.fresh)
    # By a clock that was years ahead, no usage would ever be told again.
    reported = None if outcome.request is None else day(min(outcome.request.issued, issued))
    if answer is None:
        record = renewing.answered(record, renewing.RENEWED, state.trusted, reported, less)
        if record.stops is not None:
            log.write(log.WARNING, f"{vendor} refused to renew after it signed this license file, and that goes on")
        if less:
            log.write(log.WARNING, f"the renewal of {vendor} grants less than before: {', '.join(less)}")
    elif answer.kind == UNCHANGED:
        record = renewing.answered(record, renewing.UNCHANGED, state.trusted, reported)
    else:
        share = installed.share(file, state.device.public_key(vendor))
        record = renewing.refused(record, answer, state.trusted, share, reported)
        log.write(log.WARNING, f"{vendor} refused to renew ({answer.reason}): its licenses count until {answer.stops}")
    state.record(record)


def _withdraw(state: State, outcome: Outcome) -> None:
    """The newer list counts from now on, also where the disk has no room to keep it."""
    assert outcome.withdrawn is not None
    document, withdrawn = outcome.withdrawn
    there, vendor = state.installed, outcome.vendor
    try:
        state.requests.keep_withdrawn(vendor, document)
    except OSError as error:
        log.write(log.WARNING, f"the withdrawn list {withdrawn.seq} of {vendor} cannot be kept: {error.strerror}")
    there.withdraw(profile_of(vendor, there.profiles), withdrawn)
    there.reread_answer(vendor)
    log.write(log.NOTICE, f"withdrawn list {withdrawn.seq} of {vendor} counts from now on")
    if outcome.stops is not None:
        there.stop(vendor, outcome.stops)
        log.write(log.ERROR, f"{vendor}: {there.problems[vendor]}")
        known = state.ledger.renewing.get(vendor)
        if known is not None and known.failures:  # a new file is asked for at once
            state.record(known._replace(failures=0, retry_at=-FOREVER))


def complete(state: State) -> None:
    """What a power cut left half done of an answer to a renewal request is done: it is recorded, the request closed.

    What came in last the vendor's stamps say. The rest of the state folder is anybody's who wants a refusal undone.
    """
    if not state.journal.writable:
        return
    for vendor in [profile.vendor for profile in state.installed.profiles.values()]:
        file, answer = state.installed.renewable(vendor), state.installed.answers.get(vendor)
        if file is None:
            continue
        request = state.requests.renewal_request(vendor)
        record = renewing.begin(file, state.ledger.renewing.get(vendor))
        outcome = None
        if answer is not None and renewing.is_news(record, answer) and is_about_file(state, answer):
            answers = request if request is not None and request.id == answer.request else None
            outcome = Outcome(vendor, None, answer, already=False, request=answers)
        elif request is not None and file.request == request.id:
            outcome = Outcome(vendor, file, None, already=False, request=request)
        if outcome is not None:
            _record(state, outcome)
        if outcome is not None or _is_answered(request, answer):
            state.journal.commit(state.stamp())
            state.requests.close_renewal_request(vendor)


def _is_answered(request: RenewalRequest | None, answer: Answer | None) -> bool:
    return request is not None and answer is not None and answer.request == request.id
