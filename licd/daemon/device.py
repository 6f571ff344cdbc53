"""This device as licd knows it: its factors, its key, and how both compare with what license files are bound to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from licd.daemon import log, recognition
from licd.device import hardware, identity
from licd.device.fingerprint import Match, Reading, fingerprint, match, tag_key, unreadable, without
from licd.device.identity import Identity
from licd.license.binding import MAX_TAGS, Binding
from licd.license.document import b64url_decode
from licd.license.install import public_key
from licd.license.lines import LicenseFile
from licd.license.terms import ANY_DEVICE, OTHER_KEY, SAME, Standing
from licd.seats.events import Recognized


class Device:
    def __init__(
        self, folder: Path, boot_id: str | None, *, read: Callable[[], tuple[Reading, ...]] = hardware.read
    ) -> None:
        self._path = folder / "device.key"
        self._boot_id = boot_id
        self._read = read
        self._readings: tuple[Reading, ...] | None = None
        self.identity: Identity | None = None  # the device key
        self._same: set[str] = set()  # digests of files whose device this was, seen by this process
        self.problem: str | None = None  # why there is no device key

    # --- factors ---------------------------------------------------------------------------------------------

    @property
    def readings(self) -> tuple[Reading, ...]:
        if self._readings is None:
            self._readings = self._read()
        return self._readings

    def look_again(self) -> None:
        """The factors are read anew when they are next asked for."""
        self._readings = None

    def fingerprint(self, vendor: str, salt: str, factors: Mapping[str, int]) -> dict[str, list[str]]:
        """The tags that a document may hold."""
        found = fingerprint(self.readings, tag_key(vendor, b64url_decode(salt.encode())), factors)
        return {factor: tags[:MAX_TAGS] for factor, tags in found.items()}

    def unreadable(self, factors: Mapping[str, int]) -> list[str]:
        return unreadable(self.readings, factors)

    def compare(self, vendor: str, bound: Binding, gone: Sequence[str] = ()) -> Match:
        """What of a binding is found here; without the factors or kinds that are `gone`, for the sake of argument."""
        key = tag_key(vendor, b64url_decode(bound.salt.encode()))
        now = without(fingerprint(self.readings, key, bound.weights), gone)
        return match(bound.fingerprint, bound.weights, bound.share, now, self.unreadable(bound.weights))

    # --- the key ---------------------------------------------------------------------------------------------

    def open(self, files: Mapping[str, LicenseFile], *, all_known: bool, writable: bool) -> None:
        """The device key is there: that of the file, or a new one. Where it cannot be, `problem` says why.

        files: in force; a key that one of them is bound to is never replaced
        all_known: no other file was in force, which cannot be read now but may be bound to the key
        """
        try:
            self.identity = identity.load(self._path)
        except identity.Damaged as damaged:
            self.problem = (
                f"{damaged}; restore it from a backup, or remove it and, after a restart, export new license requests"
            )
        except OSError as error:
            self.problem = f"{self._path} cannot be read: {error.strerror}"
        else:
            if self.identity is None:
                self._renew(identity.make(self.readings), writable)
            elif all_known and not self._is_bound(files):
                self._settle(self.identity, writable)

    def _settle(self, known: Identity, writable: bool) -> None:
        if known.is_of_another_machine(self.readings):
            self.identity = None
            self._renew(identity.make(self.readings), writable)
            if self.identity is not None:
                log.write(
                    log.NOTICE, "this is the image of another machine, and no license is bound to it: new device key"
                )
        elif writable and (now := known.seen_on(self.readings)) != known:
            with contextlib.suppress(OSError):  # it follows at a later start
                identity.save(self._path, now)
                self.identity = now

    def _renew(self, made: Identity, writable: bool) -> None:
        if not writable:
            self.problem = "the state folder cannot be written, so there is no device key"
            return
        try:
            identity.save(self._path, made)
        except OSError as error:
            self.problem = f"{self._path} cannot be written: {error.strerror}"
        else:
            self.identity = made

    def _is_bound(self, files: Mapping[str, LicenseFile]) -> bool:
        return any(
            file.device is not None and file.device.key == self.public_key(file.vendor) for file in files.values()
        )

    def public_key(self, vendor: str) -> str | None:
        """What this vendor's documents call this device; None if there is no key."""
        return None if self.identity is None else public_key(self.identity.key(vendor))

    # --- recognition -----------------------------------------------------------------------------------------

    def recognize(
        self, files: Mapping[str, LicenseFile], known: Mapping[str, Recognized], line: float
    ) -> tuple[dict[str, Standing], list[Recognized]]:
        """How this device compares with the one of each file, by vendor; and what is to be put on record of that.

        known: what is on record, by vendor; line: of the trusted clock, on which `until` of the standings is
        """
        standings: dict[str, Standing] = {}
        news: list[Recognized] = []
        for vendor, file in files.items():
            before = known.get(vendor)
            if before is None or before.digest != file.digest:
                before = Recognized(vendor, file.digest, None, None, 0.0)
            standings[vendor], after = self._recognize(file, before, line)
            if file.device is not None and after != before:
                news.append(after)
        return standings, news

    def _recognize(self, file: LicenseFile, before: Recognized, line: float) -> tuple[Standing, Recognized]:
        if file.device is None:
            return ANY_DEVICE, before
        if file.digest in self._same or recognition.holds(before, self._boot_id):
            return Standing(SAME), before
        standing, after = recognition.stand(
            file,
            before,
            self.compare(file.vendor, file.device),
            own_key=self.has_key(file.device, file.vendor),
            boot_id=self._boot_id,
            line=line,
        )
        if standing.kind == SAME:
            self._same.add(file.digest)
        elif standing.kind == OTHER_KEY and self.problem is not None:
            standing = standing._replace(reason=self.problem)
        return standing, after

    def has_key(self, bound: Binding, vendor: str) -> bool:
        return bound.key == self.public_key(vendor)
