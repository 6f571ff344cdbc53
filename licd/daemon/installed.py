"""The license files in force: one a vendor, which of two is newer, and what they grant at the moment."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

from licd.daemon.device import Device
from licd.daemon.recognition import explain, factor_rows, warning
from licd.license import document, terms, trust
from licd.license.dates import DAY_S, day, end_of
from licd.license.lines import LicenseFile
from licd.license.store import Store
from licd.rpc.errors import (
    ANOTHER_REQUEST,
    BAD_DOCUMENT,
    ISSUED_IN_FUTURE,
    OLDER_FILE,
    SEQ_CONFLICT,
    UNTRUSTED_SIGNER,
    WRONG_DEVICE,
    Refused,
)
from licd.seats.events import Accepted

CLOCK_TOLERANCE_S = DAY_S  # between the vendor's clock and a confirmed one of ours
EXPIRY_NOTICE_S = 14 * DAY_S  # status begins to warn two weeks ahead: time to order and to import


class Outcome(NamedTuple):
    """What an import does. already: this very file is in force; others: how many of the delivery are not taken."""

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
        self._on_line: dict[str, terms.Standing] = {}
        self.standings: dict[str, terms.Standing] = {}  # by vendor: whether this is the device that the file is for
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
        only = document.parse_one(data, document.LICENSE_FILE)
        file = document.run(trust.verify(only, self.profiles, trusted_now=trusted_now, new=False))
        if file.vendor != vendor:
            raise Refused(UNTRUSTED_SIGNER, reason=f"it is of the vendor {file.vendor}, not {vendor}")
        _check_seq(file, accepted)
        self.files[file.vendor] = file

    def stand(self, standings: Mapping[str, terms.Standing], lag: float) -> None:
        """The files stand so, by vendor. `until` is on the clock's line; trusted time is `lag` ahead of that."""
        self._on_line = dict(standings)
        self.move(lag)

    def move(self, lag: float) -> None:
        """Trusted time is so far ahead of the clock's line now: it can be set back, and grace must not gain by that."""
        self.standings = {vendor: each._replace(until=each.until + lag) for vendor, each in self._on_line.items()}

    def judge(self, trusted_now: float) -> terms.Verdicts:
        self.verdicts = terms.evaluate(self.files.values(), trusted_now, self.standings)
        return self.verdicts

    def import_steps(
        self,
        data: bytes,
        accepted: Mapping[str, Accepted],
        trusted_now: float,
        *,
        clock_confirmed: bool,
        device: Device,
        open_request: Callable[[str], str | None],
    ) -> Generator[None, None, Outcome]:
        """What the import of this delivery does, once every line is verified; yields after each. Changes nothing.

        open_request: of a vendor, the id of the license request that waits for its answer
        Errors: all of 3x, OLDER_FILE, SEQ_CONFLICT, ISSUED_IN_FUTURE, WRONG_DEVICE, ANOTHER_REQUEST
        """
        delivery: list[LicenseFile] = []
        known = {each.digest for each in accepted.values()}  # the same file again is nothing new, whoever retired since
        for each in document.parse(data):
            new = each.digest not in known
            delivery.append((yield from trust.verify(each, self.profiles, trusted_now=trusted_now, new=new)))
        files = [file for file in delivery if file.device is None or file.device.key == device.public_key(file.vendor)]
        if not files:
            raise _for_another(delivery, device)
        if len({file.vendor for file in files}) > 1:
            raise Refused(BAD_DOCUMENT, line=1, reason="the delivery holds files of several vendors")
        file = max(files, key=lambda file: file.seq)
        for other in files:
            if other.seq == file.seq and other.digest != file.digest:
                raise Refused(SEQ_CONFLICT, seq=file.seq)
        check_issued(file.issued, trusted_now, clock_confirmed=clock_confirmed)
        _check_seq(file, accepted.get(file.vendor))
        current = self.files.get(file.vendor)
        if file.digest not in known:
            _check_request(file, current, open_request)
        in_force = current is not None and current.digest == file.digest
        if not (in_force and self.standings[file.vendor].kind == terms.SAME):
            _check_device(file, device, known=file.digest in known)
        already = in_force and self._is_stored(file)
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
        found += [text for vendor, each in self.standings.items() if (text := warning(vendor, each, trusted_now))]
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


def _check_request(file: LicenseFile, current: LicenseFile | None, open_request: Callable[[str], str | None]) -> None:
    """Nothing, if the file answers no request, that of the file in force, or the open one. Errors: ANOTHER_REQUEST"""
    if file.request is None or (current is not None and current.request == file.request):
        return
    expected = open_request(file.vendor)
    if file.request != expected:
        raise Refused(ANOTHER_REQUEST, answers=file.request, open=expected or "none")


def _check_device(file: LicenseFile, device: Device, *, known: bool) -> None:
    """Nothing, if this hardware is what the file is bound to; or, if it is known, was before it changed.

    Errors: WRONG_DEVICE
    """
    if file.device is not None:
        device.look_again()
        found = device.compare(file.vendor, file.device)
        if not (found.ok or (known and found.strong_kept)):
            raise Refused(WRONG_DEVICE, vendor=file.vendor, reason=explain(found), factors=factor_rows(found))


def _check_seq(file: LicenseFile, accepted: Accepted | None) -> None:
    """Nothing, if the file is newer than what was accepted before, or the same. Errors: OLDER_FILE, SEQ_CONFLICT"""
    if accepted is not None and file.seq < accepted.seq:
        raise Refused(OLDER_FILE, seq=file.seq, in_force=accepted.seq)
    if accepted is not None and file.seq == accepted.seq and file.digest != accepted.digest:
        raise Refused(SEQ_CONFLICT, seq=file.seq)
