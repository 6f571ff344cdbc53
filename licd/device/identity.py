"""The device key: one secret, made on the first start, that never leaves its file.

A vendor's documents name a public key that is derived for this vendor alone, so two vendors cannot tell by it that they
serve one device.

Beside the secret stand tags of the strong factors of the machine that it belongs to, under a salt of this file. They
answer one question: is this the image of another machine? A golden image brings one secret to a hundred devices; as
long as no license is bound to it, each makes its own. They follow a machine whose parts are replaced one by one, and
decide nothing about licenses.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from licd import durable
from licd.device.fingerprint import FACTORS, STRONG, UNREADABLE, Reading, fingerprint

SECRET_BYTES = 32
SALT_BYTES = 16
_MODE = 0o600
_MAX_FILE_BYTES = 64 * 1024
_STRONG_FACTORS = tuple(factor for factor, kind in FACTORS.items() if kind in STRONG)


class Damaged(ValueError):
    """The file is there but is not a device key."""


class Identity(NamedTuple):
    """`machine`: tags of the strong factors, by factor, under `salt`."""

    secret: bytes
    salt: bytes
    machine: Mapping[str, Sequence[str]]

    def key(self, vendor: str) -> Ed25519PrivateKey:
        """The device's key for this vendor: HKDF (RFC 5869) of the secret over the vendor's id."""
        hkdf = HKDF(SHA256(), length=32, salt=None, info=b"licd device key 1 " + vendor.encode())
        return Ed25519PrivateKey.from_private_bytes(hkdf.derive(self.secret))

    def is_of_another_machine(self, readings: Sequence[Reading]) -> bool:
        """Strong factors were seen before, others are seen now, and none of them is one of those.

        What may not be read now is no evidence, nor is a machine that shows nothing.
        """
        now = fingerprint(readings, self.salt, _STRONG_FACTORS)
        unread = {reading.factor for reading in readings if reading.state == UNREADABLE}
        if not now or not self.machine or not unread.isdisjoint(self.machine):
            return False
        return all(set(tags).isdisjoint(now.get(factor, ())) for factor, tags in self.machine.items())

    def seen_on(self, readings: Sequence[Reading]) -> Identity:
        """The same secret on the machine as it is now; what may not be read now is remembered as it was."""
        unread = {reading.factor for reading in readings if reading.state == UNREADABLE}
        kept = {factor: list(tags) for factor, tags in self.machine.items() if factor in unread}
        return self._replace(machine={**kept, **fingerprint(readings, self.salt, _STRONG_FACTORS)})


def make(readings: Sequence[Reading]) -> Identity:
    """A new secret for this machine."""
    return Identity(os.urandom(SECRET_BYTES), os.urandom(SALT_BYTES), {}).seen_on(readings)


def load(path: Path) -> Identity | None:
    """The identity in the file; None if there is no file.

    Errors: OSError, Damaged
    """
    try:
        data = durable.read(path, _MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    try:
        return _read(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Damaged(f"{path} is not a device key") from None


def save(path: Path, identity: Identity) -> None:
    """The file holds the identity, on the medium; only its owner may read it. Errors: OSError"""
    value = {
        "licd": 1,
        "type": "device-key",
        "secret": b64encode(identity.secret).decode(),
        "salt": b64encode(identity.salt).decode(),
        "machine": identity.machine,
    }
    durable.replace(path, json.dumps(value).encode() + b"\n", _MODE)


def _read(value: Any) -> Identity:
    secret, salt = (b64decode(value[name], validate=True) for name in ("secret", "salt"))
    machine = {str(factor): [str(tag) for tag in tags] for factor, tags in value["machine"].items()}
    if (value["licd"], value["type"], len(secret), len(salt)) != (1, "device-key", SECRET_BYTES, SALT_BYTES):
        raise ValueError
    return Identity(secret, salt, machine)
