"""The install request taken in and the license request given out, of each vendor, in the state folder.

Both are documents and are verified anew when they are read: what somebody changed there counts for nothing. What cannot
be read is as if it were not there: who asks again gets another one in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from licd.license.install import InstallRequest, LicenseRequest, verify_install_request, verify_license_request
from licd.license.store import Store
from licd.license.trust import VendorProfile
from licd.rpc.errors import Refused


class Requests:
    """Errors: OSError of keep_... is let through."""

    def __init__(self, state_folder: Path) -> None:
        self._store = Store(state_folder / "requests")

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

    def _load(self, name: str) -> bytes | None:
        try:
            return self._store.load(name)
        except OSError:
            return None

    def keep_install_request(self, request: InstallRequest) -> None:
        self._store.replace(f"{request.vendor}.install", request.text)

    def keep_license_request(self, request: LicenseRequest) -> None:
        self._store.replace(f"{request.vendor}.request", request.text)
