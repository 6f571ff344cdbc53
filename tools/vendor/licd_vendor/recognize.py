"""Whether a request comes from a device that the vendor knows. Pure.

A device is a key and a fingerprint. The key alone may have been copied with the disk; the fingerprint alone is that of
the same hardware with a new system. So both are looked at, and always among the devices of one customer, which share a
salt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

from licd.device.fingerprint import FACTORS, KEPT, LOST, STRONG, Match, Tags, match

if TYPE_CHECKING:
    from licd_vendor.tables import Device

SAME = "same"  # key and hardware
REIMAGED = "reimaged"  # the hardware, under another key
CHANGED = "changed"  # the key, on other hardware: repaired, or a copy
MOVED = "moved"  # a person said that it takes the place of another device
UNKNOWN = "unknown"  # neither key nor hardware

MANY = 8  # disks or network cards: with more, a person looks whether they are of one machine

ANY = 0  # in place of a device's number, where a person said only that one is replaced: the order has no other


class Seen(NamedTuple):
    """What a request shows. `asked`: the factors that were asked for: by its install request, or by its license file"""

    key: str
    fingerprint: Tags
    unreadable: Collection[str]
    asked: Collection[str]

    def compared(self, device: Device) -> Match:
        # A factor that is not asked for any more is not lost.
        bound = {factor: tags for factor, tags in device.fingerprint.items() if factor in self.asked}
        return match(bound, device.weights, device.share, self.fingerprint, self.unreadable)


class Recognized(NamedTuple):
    """How a request is related to the known devices, and to which one; no device and no match if it is unknown."""

    how: str
    device: Device | None = None
    match: Match | None = None


def recognize(seen: Seen, devices: Iterable[Device]) -> Recognized:
    """The device that sent this. The key decides first: it is a secret, and hardware can be lent."""
    fitting: list[tuple[float, int, Recognized]] = []
    for device in devices:
        found = seen.compared(device)
        if device.key == seen.key:
            return Recognized(SAME if found.ok else CHANGED, device, found)
        # All devices of one model have the same weak factors: without a strong one it is nobody's hardware.
        if found.ok and found.strong_kept:
            fitting.append((found.kept / found.bound, -device.id, Recognized(REIMAGED, device, found)))
    return max(fitting)[2] if fitting else Recognized(UNKNOWN)


def replaced(found: Match, *, unreadable: bool = True) -> int:
    """Percent of the bound hardware that is not kept, rounded up: by weight, of the strong factors.

    unreadable: what is there but cannot be read is not kept either
    The weak ones travel with an image, so they are no reason to take what is new for what was there. Where nothing
    strong is bound, they are all there is.
    """
    strong = [each for each in found.factors if FACTORS.get(each.factor) in STRONG] or found.factors
    bound = sum(each.weight for each in strong)
    gone = sum(each.weight for each in strong if each.state == LOST or (unreadable and each.state != KEPT))
    return -(-100 * gone // bound) if bound else 0


def lost(found: Match) -> str:
    """What of the bound hardware is missing, in words for a person."""
    gone = ", ".join(f"{each.factor} ({each.state})" for each in found.factors if each.state != KEPT)
    return f"weight {found.kept} of {found.bound} is kept, {found.needed} is needed; not kept: {gone}"
