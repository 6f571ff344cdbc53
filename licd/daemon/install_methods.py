"""install.*: take in what the vendor asks of this device, and give out the license request that answers it."""

from __future__ import annotations

import os
from typing import Any

from licd.daemon import log
from licd.daemon.connection import Connection
from licd.daemon.delivery import check_issued
from licd.daemon.state import State, refusal_of
from licd.device import machine
from licd.device.fingerprint import ABSENT, LEAST_STRONG, match, strong_kinds
from licd.license.dates import timestamp
from licd.license.document import LICENSE_REQUEST
from licd.license.install import InstallRequest, LicenseRequest, sign_license_request, verify_install_request
from licd.license.terms import ANY_DEVICE
from licd.rpc.errors import (
    BAD_PARAMS,
    NO_DEVICE_KEY,
    NO_INSTALL_REQUEST,
    OLDER_INSTALL_REQUEST,
    Refused,
)


class InstallMethods:
    def __init__(self, state: State) -> None:
        self._state = state

    def import_request(self, connection: Connection, msgid: int | None, document: bytes) -> dict[str, Any]:
        """The install request is the vendor's open one. Licenses in force are not touched."""
        state = self._state
        profiles = state.installed.profiles
        request = verify_install_request(document, profiles, trusted_now=state.trusted)
        check_issued(request.issued, state.trusted, clock_confirmed=state.clock.confirmed)
        current = self._install_request(request.vendor)
        already = current is not None and current.text == request.text
        if current is not None and not already and request.issued < current.issued:
            issued, newest = timestamp(request.issued), timestamp(current.issued)
            raise Refused(OLDER_INSTALL_REQUEST, issued=issued, current=newest)
        if not already:
            self._state.check_writable()
            try:
                state.requests.keep_install_request(request)
            except OSError as error:
                raise refusal_of(error) from None
            state.clock.floor(request.issued, state.wall, state.now)
            state.tell_time(state.now, state.wall)
            state.journal.commit(state.stamp(), mark=True)  # no event tells of it, and a crash must not forget the time
            state.judge()
            log.write(log.NOTICE, f"install request {request.id} of {request.vendor} is open")
        return {
            "vendor": request.vendor,
            "id": request.id,
            "issued": timestamp(request.issued),
            "state": "already" if already else "open",
            "superseded": None if already or current is None else current.id,
            "factors": list(request.weights),
            "share": request.share,
            "url": request.url or profiles[request.profile].url,
            "ca": profiles[request.profile].ca,
        }

    def request(self, connection: Connection, msgid: int | None, vendor: str | None) -> dict[str, Any]:
        """The license request, the same bytes until it is answered or no longer true. vendor may be left out where
        there is one install request only."""
        state = self._state
        install = self._asked(vendor)
        if state.device.identity is None:
            raise Refused(NO_DEVICE_KEY, reason=state.device.problem)
        state.device.look_again()
        state.recognize()
        state.judge()
        request = self._given_out(install)
        new = request is None
        if request is None:
            self._state.check_writable()
            request = self._sign(install)
            try:
                state.requests.keep_license_request(request)
            except OSError as error:
                raise refusal_of(error) from None
            state.asked[LICENSE_REQUEST, request.vendor] = (request.id, state.now)
            log.write(log.NOTICE, f"license request {request.id} for {request.vendor} is open")
        strong = strong_kinds(request.fingerprint)
        readings = {reading.factor: reading for reading in state.device.readings}
        return {
            "vendor": request.vendor,
            "id": request.id,
            "issued": timestamp(request.issued),
            "install_request": request.install_request,
            "document": request.text.decode("ascii"),
            "new": new,
            "rehost": request.rehost,
            "weak": len(strong) < LEAST_STRONG,
            "strong": strong,
            "unreadable": list(request.unreadable),
            "absent": [factor for factor in install.weights if factor in readings and readings[factor].state == ABSENT],
        }

    def _install_request(self, vendor: str) -> InstallRequest | None:
        return self._state.requests.install_request(vendor, self._state.installed.profiles)

    def _asked(self, vendor: str | None) -> InstallRequest:
        vendors = [profile.vendor for profile in self._state.installed.profiles.values()]
        if vendor is not None:
            vendors = [vendor] if vendor in vendors else []
        found = [request for each in vendors if (request := self._install_request(each)) is not None]
        if len(found) > 1:
            names = ", ".join(sorted(request.vendor for request in found))
            raise Refused(BAD_PARAMS, reason=f"vendor is missing; there are install requests of {names}")
        if not found:
            raise Refused(NO_INSTALL_REQUEST, vendor=vendor or "any vendor")
        return found[0]

    def _given_out(self, install: InstallRequest) -> LicenseRequest | None:
        """The license request that was given out before, if it still says what a new one would say."""
        state = self._state
        old = state.requests.license_request(install.vendor)
        file = state.installed.files.get(install.vendor)
        if (
            old is None
            or old.install_request != install.id
            or old.device != state.device.public_key(install.vendor)
            or old.rehost != self._is_rehost(install.vendor)
            or (file is not None and file.request == old.id)  # answered
        ):
            return None
        now = state.device.fingerprint(install.vendor, install.salt, install.weights)
        unreadable = state.device.unreadable(install.weights)
        kept = match(old.fingerprint, install.weights, install.share, now, unreadable)
        # What can be read since is worth a new request: the vendor may refuse a weak one.
        return old if (kept.ok or not old.fingerprint) and now.keys() <= old.fingerprint.keys() else None

    def _is_rehost(self, vendor: str) -> bool:
        """Licenses are in force that were made for another device than this one is now."""
        return not self._state.installed.standings.get(vendor, ANY_DEVICE).right

    def _sign(self, install: InstallRequest) -> LicenseRequest:
        state = self._state
        identity = state.device.identity
        assert identity is not None
        return sign_license_request(
            identity.key(install.vendor),
            id=os.urandom(12).hex(),
            vendor=install.vendor,
            install_request=install.id,
            issued=state.trusted,
            fingerprint=state.device.fingerprint(install.vendor, install.salt, install.weights),
            unreadable=state.device.unreadable(install.weights),
            software=machine.software(),
            machine=machine.machine()._asdict(),
            rehost=self._is_rehost(install.vendor),
        )
