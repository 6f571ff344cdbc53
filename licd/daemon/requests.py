"""The documents around the license file, of each vendor, in the state folder:

    VENDOR.install      the install request taken in        VENDOR.request    the license request given out
    VENDOR.renewal      the renewal request given out       VENDOR.answer     the newest answer to one, but for a file
    VENDOR.withdrawn    the newest list of withdrawn certificates that came with a delivery

All are verified anew when they are read: what somebody changed there counts for nothing. What cannot be read is as if
it were not there: who asks again gets another one in its place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from licd.license.document import MAX_RENEWAL_BYTES, WITHDRAWN, Document, parse, parse_one
from licd.license.install import InstallRequest, LicenseRequest, verify_install_request, verify_license_request
from licd.license.renewal import Answer, RenewalRequest, verify_answer, verify_renewal_request
from licd.license.store import Store
from licd.license.trust import VendorProfile, Withdrawn, verify_withdrawn
from licd.rpc.errors import Refused


class Requests:
    """Errors: OSError of keep_... is let through."""

    def __init__(self, state_folder: Path) -> None:
        self._folder = state_folder / "requests"
        self._store = Store(self._folder)
        # By vendor: the renewal request read last, and how its file looked then. It holds a whole license file.
        self._read: dict[str, tuple[tuple[int, ...], RenewalRequest | None]] = {}

    def install_request(self, vendor: str, profiles: Mapping[str, VendorProfile]) -> InstallRequest | None:
        """The newest one taken in, as long as it verifies; that its signer retired meanwhile takes nothing from it."""
        data = self._load(f"{vendor}.install")
        try:
            found = None if data is None else verify_install_request(data, profiles, trusted_now=None)
        except Refused:
            return None
        return found if found is not None and found.vendor == vendor else None

    def license_request(self, vendor: str) -> LicenseRequest | None:
        """The one given out last."""
        data = self._load(f"{vendor}.request")
        try:
            found = None if data is None else verify_license_request(data)
        except Refused:
            return None
        return found if found is not None and found.vendor == vendor else None

    def renewal_request(self, vendor: str) -> RenewalRequest | None:
        """The one given out last, unless its answer was taken in whole."""
        looks = self._looks(f"{vendor}.renewal")
        if looks is None or vendor not in self._read or self._read[vendor][0] != looks:
            found = self._read_renewal_request(vendor)
            if looks is None:
                return found
            self._read[vendor] = looks, found
        return self._read[vendor][1]

    def _read_renewal_request(self, vendor: str) -> RenewalRequest | None:
        data = self._load(f"{vendor}.renewal")
        try:
            found = None if data is None else verify_renewal_request(data)
        except Refused:
            return None
        return found if found is not None and found.vendor == vendor else None

    def answer(self, vendor: str, profiles: Mapping[str, VendorProfile]) -> Answer | None:
        """The newest one taken in, unless who signed it was declared void."""
        data = self._load(f"{vendor}.answer")
        try:
            found = None if data is None else verify_answer(parse(data)[0], profiles, trusted_now=None, new=False)
        except Refused:
            return None
        return found if found is not None and found.vendor == vendor else None

    def withdrawn(self, profile: VendorProfile) -> Withdrawn | None:
        data = self._load(f"{profile.vendor}.withdrawn")
        try:
            return None if data is None else verify_withdrawn(parse_one(data, WITHDRAWN), profile)
        except Refused:
            return None

    def _looks(self, name: str) -> tuple[int, ...] | None:
        """What changes if anybody writes the file; None: it cannot be seen."""
        try:
            status = os.stat(self._folder / f"{name}.licd")
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _load(self, name: str) -> bytes | None:
        try:
            return self._store.load(name, MAX_RENEWAL_BYTES)
        except OSError:
            return None

    def keep_install_request(self, request: InstallRequest) -> None:
        self._store.replace(f"{request.vendor}.install", request.text)

    def keep_license_request(self, request: LicenseRequest) -> None:
        self._store.replace(f"{request.vendor}.request", request.text)

    def keep_renewal_request(self, request: RenewalRequest) -> None:
        self._store.replace(f"{request.vendor}.renewal", request.text)

    def close_renewal_request(self, vendor: str) -> None:
        """What it asked for is done. If it is still there at the next start, that sees so again."""
        with contextlib.suppress(OSError):
            self._store.remove(f"{vendor}.renewal")

    def keep_answer(self, answer: Answer) -> None:
        self._store.replace(f"{answer.vendor}.answer", answer.text)

    def keep_withdrawn(self, vendor: str, document: Document) -> None:
        self._store.replace(f"{vendor}.withdrawn", document.text)
