"""renewal.*: what is due, the request for the vendor, and its answer or why there is none. For couriers.

A courier is believed nothing but that it failed, and that only puts the next attempt off.
"""

from __future__ import annotations

import os
from typing import Any

from licd.daemon import installed, renewing
from licd.daemon.connection import Connection
from licd.daemon.delivery import Outcome, open_renewal_request, steps
from licd.daemon.importing import Importing
from licd.daemon.renewing import Course, moment
from licd.daemon.state import State, refusal_of
from licd.daemon.taking_in import RENEWING_BYTES, carry_out, file_rows, reserve
from licd.license import schedule, terms
from licd.license.dates import day, timestamp
from licd.license.document import RENEWAL_REQUEST, UNCHANGED
from licd.license.lines import LicenseFile
from licd.license.renewal import NONCE_BYTES, RenewalRequest, Usage, request_id, sign_renewal_request
from licd.license.trust import VendorProfile
from licd.rpc.errors import (
    ANOTHER_REQUEST,
    BAD_PARAMS,
    NO_DEVICE_KEY,
    NOT_IN_FORCE,
    UNTRUSTED_SIGNER,
    Refused,
)

ALREADY, NOTED = "already", "noted"
SAME_FILE = "the vendor sent the file in force again"


class RenewalMethods:
    def __init__(self, state: State, importing: Importing) -> None:
        self._state = state
        self._importing = importing

    def plan(self, connection: Connection, msgid: int | None) -> dict[str, Any]:
        """How the renewal of each vendor's file stands; one row a vendor profile."""
        self._state.judge()
        return {"vendors": [self._row(profile) for profile in self._state.installed.profiles.values()]}

    def request(self, connection: Connection, msgid: int | None, vendor: str | None) -> dict[str, Any]:
        """The renewal request, the same bytes until it is answered or no longer true. vendor may be left out where
        there is one file in force only."""
        state = self._state
        file = self._file(vendor)
        if state.device.identity is None:
            raise Refused(NO_DEVICE_KEY, reason=state.device.problem)
        state.device.look_again()
        state.recognize()
        state.judge()
        request = self._given_out(file)
        new = request is None
        if request is None:
            state.check_writable()
            request = self._sign(file)
            try:
                state.requests.keep_renewal_request(request)
            except OSError as error:
                raise refusal_of(error) from None
            state.asked[RENEWAL_REQUEST, file.vendor] = (request.id, state.now)
        profile = state.installed.profiles[file.profile]
        return {
            "vendor": file.vendor,
            "id": request.id,
            "issued": timestamp(request.issued),
            "seq": request.seq,
            "document": request.text.decode("ascii"),
            "new": new,
            "url": profile.url,
            "ca": profile.ca,
        }

    def report(
        self,
        connection: Connection,
        msgid: int | None,
        vendor: str | None,
        document: bytes | None,
        failure: str | None,
        retry_after: int | None,
    ) -> dict[str, Any]:
        """The vendor's answer comes in whole or not at all, or that none came is noted."""
        if (document is None) == (failure is None):
            raise Refused(BAD_PARAMS, reason="one of document and failure is to be given, and not both")
        if failure is not None:
            if vendor is None:
                raise Refused(BAD_PARAMS, reason="vendor is missing; a failure does not say whose it is")
            return self._failed(self._file(vendor), failure, retry_after)
        if retry_after is not None:
            raise Refused(BAD_PARAMS, reason="retry_after comes with a failure only")
        assert document is not None
        self._importing.check_free()
        reserve(self._state)
        raise self._importing.begin(
            "renewal.report",
            connection,
            msgid,
            steps(self._state, document, renewal=True),
            lambda outcome: self._finish(vendor, outcome),
        )

    # --- plan ------------------------------------------------------------------------------------------------

    def _row(self, profile: VendorProfile) -> dict[str, Any]:
        state, vendor = self._state, profile.vendor
        file, course = state.installed.renewable(vendor), state.installed.courses.get(vendor)
        row: dict[str, Any] = {"vendor": vendor, "url": profile.url, "ca": profile.ca}
        if file is None or course is None:
            nothing = ("seq", "issued", "due", "next", "last", "hard_stop", "refused", "request")
            row |= {"in_force": False, **dict.fromkeys(nothing), "need": schedule.NONE, "why": schedule.NEVER}
            return row | {"is_due": False, "failures": 0, "overdue": []}
        plan, record = course.plan, course.record
        by_wall = self._is_due_by_wall(course)
        request = open_renewal_request(state, vendor)
        verdicts = state.installed.verdicts.names
        return row | {
            "in_force": vendor in state.installed.files,
            "seq": file.seq,
            "need": plan.need,
            "issued": timestamp(course.basis),
            "due": moment(plan.due),
            "next": moment(state.trusted if by_wall else plan.next),
            "is_due": plan.is_due or by_wall,
            "why": schedule.DUE if by_wall else plan.why,
            "failures": record.failures,
            "last": None if record.tried is None else {"at": timestamp(record.tried), "outcome": record.outcome},
            "hard_stop": moment(course.hard_stop),
            "overdue": [
                name
                for name in sorted(verdicts)
                if verdicts[name].vendor == vendor and verdicts[name].state == terms.OVERDUE
            ],
            "refused": _refusal(course),
            "request": request and request.id,
        }

    def _is_due_by_wall(self, course: Course) -> bool:
        """A wall clock that is far ahead, and that nothing confirms, says so: after months off it is right, and if it
        is not, the vendor's answer corrects it. Asking takes nothing away; that waits for the trusted time."""
        state, plan = self._state, course.plan
        return (
            not plan.is_due
            and state.clock.state == "ahead"
            and not state.told
            and plan.due is not None
            and plan.due <= state.wall
            and plan.progress.retry_at <= state.trusted
        )

    # --- request ---------------------------------------------------------------------------------------------

    def _file(self, vendor: str | None) -> LicenseFile:
        files = self._state.installed.stopped | self._state.installed.files
        if vendor is None and len(files) > 1:
            raise Refused(BAD_PARAMS, reason=f"vendor is missing; there are files of {', '.join(sorted(files))}")
        file = next(iter(files.values()), None) if vendor is None else files.get(vendor)
        if file is None:
            raise Refused(NOT_IN_FORCE, vendor=vendor or "any vendor")
        return file

    def _given_out(self, file: LicenseFile) -> RenewalRequest | None:
        """The renewal request that was given out before, if it still says what a new one would say of the device."""
        state = self._state
        old = open_renewal_request(state, file.vendor)
        if old is None or old.fingerprint != self._fingerprint(file):
            return None
        # Only the answer to a request of this process can correct a clock.
        asked, _ = state.asked.get((RENEWAL_REQUEST, file.vendor), (None, 0.0))
        if asked == old.id or not state.journal.writable:
            return old
        # What the vendor's server holds ready for this one may be older than what came in since.
        known = state.ledger.renewing.get(file.vendor)
        refused = known is not None and known.failures and known.outcome == ANOTHER_REQUEST.name
        return old if state.clock.state == "ok" and not refused else None

    def _fingerprint(self, file: LicenseFile) -> dict[str, list[str]]:
        bound = file.device
        return {} if bound is None else self._state.device.fingerprint(file.vendor, bound.salt, bound.weights)

    def _sign(self, file: LicenseFile) -> RenewalRequest:
        state = self._state
        identity = state.device.identity
        assert identity is not None
        key = identity.key(file.vendor)
        return sign_renewal_request(
            key,
            id=request_id(key, file.digest, os.urandom(NONCE_BYTES)),
            vendor=file.vendor,
            issued=state.trusted,
            fingerprint=self._fingerprint(file),
            unreadable=[] if file.device is None else state.device.unreadable(file.device.weights),
            file=file,
            usage=self._usage(file),
        )

    def _usage(self, file: LicenseFile) -> Usage:
        """Of this vendor's licenses, since the last request that was answered."""
        state = self._state
        state.record_usage()
        known = state.ledger.renewing.get(file.vendor)
        names = dict.fromkeys(line.name for line in file.lines)
        return Usage(*state.ledger.usage.report(names, known and known.reported, day(state.trusted)))

    # --- report ----------------------------------------------------------------------------------------------

    def _failed(self, file: LicenseFile, failure: str, retry_after: int | None) -> dict[str, Any]:
        state = self._state
        state.journal.reserve(RENEWING_BYTES)
        state.judge()
        share = installed.share(file, state.device.public_key(file.vendor))
        course = state.installed.courses[file.vendor]
        state.record(renewing.failed(course, failure, state.trusted, share, retry_after))
        state.judge()
        return self._told(file.vendor, NOTED)

    def _finish(self, vendor: str | None, outcome: Outcome) -> dict[str, Any]:
        if vendor is not None and outcome.vendor != vendor:
            raise Refused(UNTRUSTED_SIGNER, reason=f"it is of the vendor {outcome.vendor}, not {vendor}")
        carry_out(self._state, outcome, renewal=True)
        if outcome.already:
            if outcome.file is not None:
                self._came_again(outcome.vendor)
            return self._told(outcome.vendor, ALREADY, outcome)
        if outcome.answer is None:
            return self._told(outcome.vendor, renewing.RENEWED, outcome)
        what = renewing.UNCHANGED if outcome.answer.kind == UNCHANGED else renewing.REFUSED
        return self._told(outcome.vendor, what, outcome)

    def _came_again(self, vendor: str) -> None:
        """The file in force came in answer. Where it was to be renewed, that is one more failure."""
        state = self._state
        state.judge()
        course = state.installed.courses[vendor]
        if vendor in state.installed.files and (course.plan.is_due or self._is_due_by_wall(course)):
            self._failed(state.installed.files[vendor], SAME_FILE, None)

    def _told(self, vendor: str, what: str, outcome: Outcome | None = None) -> dict[str, Any]:
        course = self._state.installed.courses.get(vendor)
        return {
            "vendor": vendor,
            "outcome": what,
            "files": [] if outcome is None else file_rows(outcome),
            "others": 0 if outcome is None else outcome.others,
            "withdrawn": outcome.withdrawn[1].seq if outcome is not None and outcome.withdrawn is not None else None,
            "refusal": None if course is None else _refusal(course),
            "next": None if course is None else moment(course.plan.next),
        }


def _refusal(course: Course) -> dict[str, Any] | None:
    """The refusal in force, as answers have it."""
    if not course.refused:
        return None
    return {"reason": course.record.reason, "stops": course.record.stops}
