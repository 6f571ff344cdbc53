"""Whether this is still the same device: factors, their salted tags, and a rule that says how many must be kept. Pure.

A document never holds a serial number, but tags: HMAC-SHA-256 of a value under the vendor's salt and id, cut to 24
bits. That is enough to recognize a device among those of a customer. The tags of two vendors cannot be compared, not
even if they agree on a salt.

Only what is lost counts. What is added is free, the order of discovery does not matter, and of several disks or network
cards any one that is kept keeps the factor.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

TAG_BYTES = 3  # two machines share a tag by chance once in 16 million

# What one repair changes. A strong kind is this very piece of hardware; a weak one travels with an image, or is common.
BOARD, DISK, NIC, CPU, OS = "board", "disk", "nic", "cpu", "os"
STRONG = (BOARD, DISK, NIC)
LEAST_STRONG = 2  # kinds: with fewer, a fingerprint is weak, for one repair would make it another device

# Public: in documents and answers. factor: its kind
FACTORS: dict[str, str] = {
    "system_uuid": BOARD,
    "board_serial": BOARD,
    "product_serial": BOARD,
    "chassis_serial": BOARD,
    "disk": DISK,
    "nic": NIC,
    "cpu": CPU,
    "machine_id": OS,
}

SEVERAL = {"disk", "nic"}  # one machine shows more than one value of these, and of no other

# What the vendor's tool asks for unless told: licd-license(5) argues each number.
DEFAULT_WEIGHTS: dict[str, int] = {
    "system_uuid": 30,
    "board_serial": 20,
    "product_serial": 15,
    "chassis_serial": 5,
    "disk": 30,
    "nic": 30,
    "cpu": 5,
    "machine_id": 5,
}
DEFAULT_SHARE = 50  # percent

FOUND, ABSENT, UNREADABLE = "found", "absent", "unreadable"
KEPT, LOST = "kept", "lost"


class Reading(NamedTuple):
    """What this machine shows of one factor. `values` are normalized, sorted, and empty unless it is found.

    note: why it is not found, in words without any value: "a placeholder: ...", "Permission denied"
    """

    factor: str
    state: str  # found | absent | unreadable
    values: tuple[str, ...] = ()
    note: str | None = None


Tags = Mapping[str, Collection[str]]  # by factor


def tag_key(vendor: str, salt: bytes) -> bytes:
    """What a vendor's tags are made under. Salts are of one length, so no other vendor and salt give the same key."""
    return salt + vendor.encode()


def tag(key: bytes, factor: str, value: str) -> str:
    """Six hexadecimal digits. The factor is part of it: that one serial stands for two factors does not show."""
    return hmac.digest(key, f"{factor}={value}".encode(), "sha256")[:TAG_BYTES].hex()


def fingerprint(readings: Iterable[Reading], key: bytes, factors: Collection[str]) -> dict[str, list[str]]:
    """The tags of what is found, by factor, of the factors that are asked for."""
    return {
        reading.factor: sorted({tag(key, reading.factor, value) for value in reading.values})
        for reading in readings
        if reading.state == FOUND and reading.factor in factors
    }


def unreadable(readings: Iterable[Reading], factors: Collection[str]) -> list[str]:
    """The factors asked for that are there but may not be read."""
    return [reading.factor for reading in readings if reading.state == UNREADABLE and reading.factor in factors]


def strong_kinds(factors: Iterable[str]) -> list[str]:
    """Which kinds of hardware these factors stand for; a fingerprint with fewer than LEAST_STRONG is weak."""
    kinds = {FACTORS.get(factor) for factor in factors}
    return [kind for kind in STRONG if kind in kinds]


def without(tags: Tags, changes: Iterable[str]) -> dict[str, Collection[str]]:
    """The tags that would be left without these factors or kinds.

    Errors: KeyError, if one is neither
    """
    gone: set[str] = set()
    for change in changes:
        factors = {factor for factor, kind in FACTORS.items() if change in (factor, kind)}
        if not factors:
            raise KeyError(change)
        gone |= factors
    return {factor: each for factor, each in tags.items() if factor not in gone}


class FactorMatch(NamedTuple):
    """One bound factor. `state`: kept, lost, or unreadable, which counts as lost but has another remedy."""

    factor: str
    weight: int
    state: str


class Match(NamedTuple):
    """How the device of now compares with the bound one.

    share: the percentage of the bound weight that must be kept
    """

    factors: tuple[FactorMatch, ...]
    share: int

    @property
    def bound(self) -> int:
        return sum(each.weight for each in self.factors)

    @property
    def kept(self) -> int:
        return sum(each.weight for each in self.factors if each.state == KEPT)

    @property
    def needed(self) -> int:
        return -(-self.share * self.bound // 100)

    @property
    def ok(self) -> bool:
        """It is the same device. Where nothing is bound, nothing can be recognized; and where something strong is
        bound, the weak factors of a copied image are not enough."""
        return self.bound > 0 and self.kept >= self.needed and bool(self.strong_kept or not self._strong_bound)

    @property
    def strong_kept(self) -> tuple[str, ...]:
        """The bound strong factors still found: with one of them it is a changed device, with none a copy."""
        return tuple(each.factor for each in self.factors if each.state == KEPT and _is_strong(each.factor))

    @property
    def breaking(self) -> tuple[str, ...]:
        """The kinds that are kept and whose loss alone, as by one repair, would make it another device."""
        if not self.ok:
            return ()
        strong = strong_kinds(self.strong_kept)
        return tuple(
            kind
            for kind, weight in self._kept_by_kind().items()
            if self.kept - weight < self.needed or strong == [kind]
        )

    @property
    def changes_left(self) -> int:
        """So many kinds may be lost, whichever they are."""
        if not self.ok:
            return 0
        left, kept = 0, self.kept
        for weight in sorted(self._kept_by_kind().values(), reverse=True):
            kept -= weight
            if kept < self.needed:
                break
            left += 1
        return min(left, len(strong_kinds(self.strong_kept)) - 1) if self._strong_bound else left

    @property
    def _strong_bound(self) -> bool:
        return any(_is_strong(each.factor) for each in self.factors)

    def _kept_by_kind(self) -> dict[str, int]:
        weights: dict[str, int] = {}
        for each in self.factors:
            if each.state == KEPT:
                kind = FACTORS.get(each.factor, each.factor)
                weights[kind] = weights.get(kind, 0) + each.weight
        return weights


def _is_strong(factor: str) -> bool:
    return FACTORS.get(factor) in STRONG


def match(
    bound: Tags, weights: Mapping[str, int], share: int, now: Tags, unreadable_now: Collection[str] = ()
) -> Match:
    """Factor by factor, what of the bound fingerprint is found now. Both under the same key."""
    found = []
    for factor, tags in bound.items():
        if tags:
            kept = not set(tags).isdisjoint(now.get(factor, ()))
            state = KEPT if kept else UNREADABLE if factor in unreadable_now else LOST
            found.append(FactorMatch(factor, weights.get(factor, 0), state))
    return Match(tuple(found), share)
