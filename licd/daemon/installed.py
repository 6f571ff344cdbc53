"""The license files in force: one a vendor, which of two is newer, and what they grant at the moment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from licd.daemon import renewing
from licd.daemon.recognition import warning
from licd.daemon.renewing import Course
from licd.daemon.requests import Requests
from licd.license import document, schedule, terms, trust
from licd.license.dates import DAY_S, end_of
from licd.license.document import REFUSAL
from licd.license.lines import LicenseFile
from licd.license.renewal import Answer
from licd.license.store import Store
from licd.rpc.errors import OLDER_FILE, SEQ_CONFLICT, SIGNER_RETIRED, UNTRUSTED_SIGNER, Refused
from licd.seats.events import Accepted, Renewing

EXPIRY_NOTICE_S = 14 * DAY_S  # status begins to warn two weeks ahead: time to order and to import


class Installed:
    def __init__(self, profiles: Mapping[str, trust.VendorProfile], store: Store, requests: Requests) -> None:
        self.profiles = dict(profiles)
        self.store = store
        self.requests = requests
        self.files: dict[str, LicenseFile] = {}  # in force, by vendor
        self.stopped: dict[str, LicenseFile] = {}  # by vendor: no longer in force, for its signer was declared void
        self.answers: dict[str, Answer] = {}  # the newest answer to a renewal request, by vendor
        self.courses: dict[str, Course] = {}  # of the renewal of each file, by vendor
        self.problems: dict[str, str] = {}  # why a vendor's stored file is not in force
        self._on_line: dict[str, terms.Standing] = {}
        self.standings: dict[str, terms.Standing] = {}  # by vendor: whether this is the device that the file is for
        self.verdicts = terms.evaluate((), 0.0)

    def load(self, accepted: Mapping[str, Accepted], trusted_now: float) -> None:
        """The stored files that still verify are in force; `problems` says why others are not."""
        for profile in list(self.profiles.values()):
            withdrawn = self.requests.withdrawn(profile)
            if withdrawn is not None:
                self.withdraw(profile, withdrawn)
            self.reread_answer(profile.vendor)
            try:
                self._load(profile.vendor, accepted.get(profile.vendor), trusted_now)
            except Refused as refused:
                self.problems[profile.vendor] = f"the stored license file is not in force: {refused}"
            except OSError as error:
                self.problems[profile.vendor] = f"the stored license file cannot be read: {error.strerror}"

    def _load(self, vendor: str, accepted: Accepted | None, trusted_now: float) -> None:
        data = self.store.load(vendor)
        if data is None:
            if accepted is not None:
                self.problems[vendor] = f"the license file in force (seq {accepted.seq}) is gone; import it again"
            return
        only = document.parse_one(data, document.LICENSE_FILE)
        try:
            file = document.run(trust.verify(only, self.profiles, trusted_now=trusted_now, new=False))
        except Refused as refused:
            if refused.error == SIGNER_RETIRED:
                with contextlib.suppress(Refused):
                    self.stopped[vendor] = self._verify_void(only, vendor, accepted)
            raise
        _check_place(file, vendor, accepted)
        self.files[vendor] = file

    def _verify_void(self, only: document.Document, vendor: str, accepted: Accepted | None) -> LicenseFile:
        """The file whose signer was declared void: it grants nothing, and is what a renewal asks about."""
        none = trust.Withdrawn(0, 0.0, {})
        profiles = {name: profile._replace(withdrawn=none) for name, profile in self.profiles.items()}
        file = document.run(trust.verify(only, profiles, trusted_now=None, new=False))
        _check_place(file, vendor, accepted)
        return file

    def renewable(self, vendor: str) -> LicenseFile | None:
        """The file that a renewal is about: in force, or until its signer was declared void."""
        return self.files.get(vendor) or self.stopped.get(vendor)

    def stop(self, vendor: str, why: Refused) -> None:
        """The file in force is so no longer, for its signer was declared void. To be judged after."""
        self.stopped[vendor] = self.files.pop(vendor)
        self.problems[vendor] = f"the license file is no longer in force: {why}"

    def withdraw(self, profile: trust.VendorProfile, withdrawn: trust.Withdrawn) -> None:
        """The list counts for this vendor, if it is newer than that of the profile."""
        if withdrawn.seq > profile.withdrawn.seq:
            self.profiles[profile.name] = profile._replace(withdrawn=withdrawn)

    def reread_answer(self, vendor: str) -> None:
        """The vendor's newest answer is the stored one, as it verifies now."""
        answer = self.requests.answer(vendor, self.profiles)
        if answer is not None:
            self.answers[vendor] = answer
        else:
            self.answers.pop(vendor, None)

    def stand(self, standings: Mapping[str, terms.Standing], lag: float) -> None:
        """The files stand so, by vendor. `until` is on the clock's line; trusted time is `lag` ahead of that."""
        self._on_line = dict(standings)
        self.move(lag)

    def move(self, lag: float) -> None:
        """Trusted time is so far ahead of the clock's line now: it can be set back, and grace must not gain by that."""
        self.standings = {vendor: each._replace(until=each.until + lag) for vendor, each in self._on_line.items()}

    def plan(
        self, known: Mapping[str, Renewing], own_key: Callable[[str], str | None], trusted_now: float, ran_s: float
    ) -> list[Renewing]:
        """The renewal of each file stands so; what is to be put on record of that.

        own_key: the public key of this device, of a vendor
        """
        self.courses = {}
        for vendor, file in (self.stopped | self.files).items():
            key = own_key(vendor)
            self.courses[vendor] = renewing.stand(
                file,
                known.get(vendor),
                self._answer_about(file, key, known.get(vendor)),
                share=share(file, key),
                trusted=trusted_now,
                ran_s=ran_s,
                void=vendor in self.stopped,
            )
        return [course.record for course in self.courses.values() if course.news]

    def _answer_about(self, file: LicenseFile, own_key: str | None, known: Renewing | None) -> Answer | None:
        """The newest answer to a renewal request, if it is about this file on this device."""
        answer = self.answers.get(file.vendor)
        if answer is None:
            return None
        # Without a record, a refusal stands against each file that is older than it.
        against = known is None and answer.kind == REFUSAL and answer.issued > file.issued
        if (answer.file, answer.seq) != (file.file, file.seq) and not against:
            return None
        # The bound key may be lost, and the file in force for a grace.
        return answer if answer.device in (own_key, _bound_key(file)) else None

    def judge(self, trusted_now: float) -> terms.Verdicts:
        renewals = {vendor: course.state for vendor, course in self.courses.items()}
        self.verdicts = terms.evaluate(self.files.values(), trusted_now, self.standings, renewals)
        return self.verdicts

    def is_stored(self, file: LicenseFile) -> bool:
        """Whether the file is on the disk as it is in memory: importing it again is how to put that right."""
        try:
            return self.store.load(file.vendor) == file.text
        except OSError:
            return False

    def put_in_force(self, file: LicenseFile) -> None:
        """The file is on the medium in place of the vendor's current one, which is kept as the previous.

        Errors: OSError; nothing has changed then
        """
        self.store.replace(file.vendor, file.text)
        self.files[file.vendor] = file
        self.stopped.pop(file.vendor, None)
        self.problems.pop(file.vendor, None)

    def _way_out(self, vendor: str) -> str:
        return "; ask the vendor for a new one: licd-cli renew" if vendor in self.stopped else ""

    def warnings(self, trusted_now: float) -> list[str]:
        found = [f"{vendor}: {problem}{self._way_out(vendor)}" for vendor, problem in self.problems.items()]
        found += [text for vendor, each in self.standings.items() if (text := warning(vendor, each, trusted_now))]
        for vendor, course in self.courses.items():
            if vendor in self.files:
                found += renewing.warnings(self.files[vendor], course, self.verdicts.names, trusted_now)
        for verdict in self.verdicts.names.values():
            if verdict.state == terms.GRACE:
                found.append(f"{verdict.name} ended on {verdict.expires}; grace until {verdict.grace_until}")
            elif verdict.state == terms.EXPIRED:
                found.append(f"{verdict.name} ended on {verdict.expires}")
            elif (
                verdict.state == terms.VALID
                and verdict.expires is not None
                and trusted_now > end_of(verdict.expires) - EXPIRY_NOTICE_S
            ):
                found.append(f"{verdict.name} ends on {verdict.expires}")
        return found


def _check_place(file: LicenseFile, vendor: str, accepted: Accepted | None) -> None:
    """Nothing, if the file may be this vendor's. Errors: UNTRUSTED_SIGNER, OLDER_FILE, SEQ_CONFLICT"""
    if file.vendor != vendor:
        raise Refused(UNTRUSTED_SIGNER, reason=f"it is of the vendor {file.vendor}, not {vendor}")
    check_seq(file, accepted)


def share(file: LicenseFile, own_key: str | None) -> float:
    """Where in the spread of its vendor's devices this one stands."""
    return schedule.share(own_key or _bound_key(file) or "", file.vendor)


def _bound_key(file: LicenseFile) -> str | None:
    return None if file.device is None else file.device.key


def check_seq(file: LicenseFile, accepted: Accepted | None) -> None:
    """Nothing, if the file is newer than what was accepted before, or the same. Errors: OLDER_FILE, SEQ_CONFLICT"""
    if accepted is not None and file.seq < accepted.seq:
        raise Refused(OLDER_FILE, seq=file.seq, in_force=accepted.seq)
    if accepted is not None and file.seq == accepted.seq and file.digest != accepted.digest:
        raise Refused(SEQ_CONFLICT, seq=file.seq)
