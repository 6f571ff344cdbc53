"""The license files in force: one a vendor, which of two is newer, and what they grant at the moment."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from licd.license import document, terms, trust
from licd.license.dates import DAY_S, day, end_of
from licd.license.lines import LicenseFile
from licd.license.store import Store
from licd.rpc.errors import (
    BAD_DOCUMENT,
    BINDING_NOT_SUPPORTED,
    ISSUED_IN_FUTURE,
    OLDER_FILE,
    SEQ_CONFLICT,
    UNTRUSTED_SIGNER,
    Refused,
)
from licd.seats.events import Accepted

CLOCK_TOLERANCE_S = DAY_S  # between the vendor's clock and a confirmed one of ours
EXPIRY_NOTICE_S = 14 * DAY_S  # status begins to warn two weeks ahead: time to order and to import


class Outcome(NamedTuple):
    """What an import does. `already`: this very file is in force. `others`: files of the delivery for other devices."""

    file: LicenseFile
    already: bool
    changes: list[dict[str, Any]]
    others: int


class Installed:
    def __init__(self, profiles: Mapping[str, trust.VendorProfile], store: Store) -> None:
        self.profiles = profiles
        self.store = store
        self.files: dict[str, LicenseFile] = {}  # in force, by vendor
        self.problems: dict[str, str] = {}  # why a vendor's stored file is not in force
        self.verdicts = terms.evaluate((), 0.0)

    def load(self, accepted: Mapping[str, Accepted], trusted_now: float) -> None:
        """The stored files that still verify are in force; `problems` says why others are not."""
        for profile in self.profiles.values():
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
        first, *others = document.parse(data)
        if others:
            raise Refused(BAD_DOCUMENT, line=others[0].records[0].number, reason="there is another document behind it")
        file = document.run(trust.verify(first, self.profiles, trusted_now=trusted_now, new=False))
        if file.vendor != vendor:
            raise Refused(UNTRUSTED_SIGNER, reason=f"it is of the vendor {file.vendor}, not {vendor}")
        _check_seq(file, accepted)
        self.files[file.vendor] = file

    def judge(self, trusted_now: float) -> terms.Verdicts:
        self.verdicts = terms.evaluate(self.files.values(), trusted_now)
        return self.verdicts

    def import_steps(
        self, data: bytes, accepted: Mapping[str, Accepted], trusted_now: float, *, clock_confirmed: bool
    ) -> Generator[None, None, Outcome]:
        """What the import of this delivery does, once every line is verified; yields after each. Changes nothing.

        Errors: all of 3x, OLDER_FILE, SEQ_CONFLICT, ISSUED_IN_FUTURE, BINDING_NOT_SUPPORTED
        """
        delivery: list[LicenseFile] = []
        known = {each.digest for each in accepted.values()}  # the same file again is nothing new, whoever retired since
        for each in document.parse(data):
            new = each.digest not in known
            delivery.append((yield from trust.verify(each, self.profiles, trusted_now=trusted_now, new=new)))
        files = [file for file in delivery if file.device is None]  # the others are for one device each
        if not files:
            raise Refused(BINDING_NOT_SUPPORTED)
        if len({file.vendor for file in files}) > 1:
            raise Refused(BAD_DOCUMENT, line=1, reason="the delivery holds files of several vendors")
        file = max(files, key=lambda file: file.seq)
        for other in files:
            if other.seq == file.seq and other.digest != file.digest:
                raise Refused(SEQ_CONFLICT, seq=file.seq)
        if clock_confirmed and file.issued > trusted_now + CLOCK_TOLERANCE_S:
            raise Refused(ISSUED_IN_FUTURE, issued=day(file.issued), today=day(trusted_now))
        _check_seq(file, accepted.get(file.vendor))
        current = self.files.get(file.vendor)
        already = current is not None and current.digest == file.digest and self._is_stored(file)
        changes = terms.difference(current, file, trusted_now)
        return Outcome(file, already, changes, len(delivery) - 1)

    def _is_stored(self, file: LicenseFile) -> bool:
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
        self.problems.pop(file.vendor, None)

    def warnings(self, trusted_now: float) -> list[str]:
        found = [f"{vendor}: {problem}" for vendor, problem in self.problems.items()]
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


def _check_seq(file: LicenseFile, accepted: Accepted | None) -> None:
    """Nothing, if the file is newer than what was accepted before, or the same. Errors: OLDER_FILE, SEQ_CONFLICT"""
    if accepted is not None and file.seq < accepted.seq:
        raise Refused(OLDER_FILE, seq=file.seq, in_force=accepted.seq)
    if accepted is not None and file.seq == accepted.seq and file.digest != accepted.digest:
        raise Refused(SEQ_CONFLICT, seq=file.seq)
