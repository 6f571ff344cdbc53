"""A device whose parts a test sets, where hardware.py would have read them, and what the journal remembers of it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path

from licd.daemon.device import Device
from licd.device.fingerprint import ABSENT, DEFAULT_SHARE, DEFAULT_WEIGHTS, FACTORS, FOUND, UNREADABLE, Reading
from licd.license.document import LICENSE_FILE, b64url, parse_one, run
from licd.license.lines import LicenseFile
from licd.license.terms import Standing
from licd.license.trust import load_profiles, verify
from licd.seats.events import Recognized
from tests.support import pki
from tests.support.device import vendor

SALT = b64url(bytes(range(16))).decode()
NOW = pki.NOW + pki.DAY
DAY = pki.DAY
GRACE = 7 * DAY

KIOSK = {"disk": ("A",), "nic": ("00:1b:21:00:00:01",), "cpu": ("C",), "machine_id": ("M",)}
NEW_DISK = {**KIOSK, "disk": ("B",)}
NEW_DISK_AND_OS_AND_CPU = {**NEW_DISK, "machine_id": ("N",), "cpu": ("D",)}  # of 70, 30 are kept: the network card
CLONE = {**KIOSK, "disk": ("B",), "nic": ("00:1b:21:00:00:02",)}


class Kiosk(Device):
    """Its key lies in a folder; its parts are given."""

    def __init__(self, folder: Path, parts: Mapping[str, tuple[str, ...]] = KIOSK, boot: str | None = "boot-1") -> None:
        super().__init__(folder, boot, read=self._shown)
        self.show(parts)
        self.open({}, all_known=True, writable=True)

    def show(self, parts: Mapping[str, tuple[str, ...]], unreadable: tuple[str, ...] = ()) -> None:
        self._parts, self._unreadable = parts, unreadable
        self.look_again()

    def _shown(self) -> tuple[Reading, ...]:
        parts, unreadable = self._parts, self._unreadable
        return tuple(
            Reading(factor, FOUND, parts[factor])
            if factor in parts and factor not in unreadable
            else Reading(factor, UNREADABLE if factor in unreadable else ABSENT)
            for factor in FACTORS
        )


def bound(kiosk: Kiosk, folder: Path, *, seq: int = 1, grace_days: int = 7) -> LicenseFile:
    """A verified license file for this device as it is now."""
    if not (folder / "vendor.d").exists():
        vendor().write_profile(folder / "vendor.d")
    device = {
        "key": kiosk.public_key("acme"),
        "salt": SALT,
        "fingerprint": kiosk.fingerprint("acme", SALT, DEFAULT_WEIGHTS),
        "weights": DEFAULT_WEIGHTS,
        "share": DEFAULT_SHARE,
    }
    header = {"device": device, "device_grace_days": grace_days}
    only = parse_one(vendor().license_file(seq, header=header), LICENSE_FILE)
    return run(verify(only, load_profiles(folder / "vendor.d"), trusted_now=NOW, new=True))


class Shop:
    """A device and what the journal remembers of it."""

    def __init__(self, folder: Path, **options: int) -> None:
        self.folder = folder
        self.kiosk = Kiosk(folder)
        self.file = bound(self.kiosk, folder, **options)
        self.known: dict[str, Recognized] = {}
        self.records = 0
        self._boots = count(100)

    def look(self, now: float = NOW) -> Standing:
        standings, news = self.kiosk.recognize({"acme": self.file}, self.known, now)
        self.known |= {each.vendor: each for each in news}
        self.records += len(news)
        return standings["acme"]

    def reboot(
        self,
        parts: Mapping[str, tuple[str, ...]],
        now: float = NOW,
        boot: str | None = None,
        unreadable: tuple[str, ...] = (),
    ) -> Standing:
        self.kiosk = Kiosk(self.folder, KIOSK, boot or f"boot-{next(self._boots)}")
        self.kiosk.show(parts, unreadable)
        return self.look(now)
