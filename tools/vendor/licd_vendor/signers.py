"""A new signing certificate, and the list of those that are withdrawn.

The old certificate is kept as signer-SERIAL.pem: to withdraw it takes its public key, and a device may ask who signed
what is in force there. The old private key is not kept. It would sign nothing more, and could only be stolen; a new
one made by mistake is as good as the old. Copies in backups or on other machines are not reached.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from licd import durable
from licd.license import document, trust
from licd.license.dates import timestamp
from licd.license.document import WITHDRAWN
from licd.license.signer import MAX_CHAIN, UNREADABLE, key_print
from licd.rpc.errors import Refused
from licd_vendor import keys
from licd_vendor.keys import Failure, SigningKey

Ask = Callable[[Path], bytes | None]  # the passphrase of a key, from whoever sits at the terminal


class NewSigner(NamedTuple):
    """kept: where the certificate is that signed until now; None if there was none. `encrypted`: its key is"""

    certificate: x509.Certificate
    kept: Path | None
    encrypted: bool


def new_signer(
    folder: Path,
    profile: trust.VendorProfile,
    *,
    root_key: Path,
    passphrase: bytes | None,
    ask: Ask,
    fresh: bytes | None,
    kind: str | None,
) -> NewSigner:
    """The folder has a new signing certificate under its root, which devices with this profile take.

    passphrase: opens the root's key
    fresh: that of the new key; default: the root's
    kind: by itself that of the signer until now
    Errors: Failure, OSError; the signer is then the one from before
    """

    def remember(path: Path) -> bytes | None:
        nonlocal passphrase
        passphrase = ask(path)
        return passphrase

    with _alone(folder):
        root, authority = _read_root(folder, root_key, passphrase, remember)
        before = keys.read_chain(folder)[0] if (folder / "signer.pem").exists() else None
        key = keys.new_key(kind or _kind_of(before))
        now = datetime.now(UTC).replace(microsecond=0)
        if now >= root.not_valid_after_utc:
            raise Failure("The root's certificate has ended.", "Devices need a new root: licd-vendor init, elsewhere.")
        leaf = keys.signer_certificate(key, profile.vendor, root, authority, now)
        _verified(_list(profile, now.timestamp(), {}), SigningKey(key, (leaf,)), profile)
        kept = None
        if before is not None:
            kept = folder / f"signer-{before.serial_number:x}.pem"
            durable.replace(kept, (folder / "signer.pem").read_bytes(), 0o644)
        secret = fresh or passphrase
        pem = leaf.public_bytes(serialization.Encoding.PEM)
        _replace_both(folder, keys.key_bytes(key, secret), pem)
    return NewSigner(leaf, kept, secret is not None)


def _replace_both(folder: Path, key: bytes, certificate: bytes) -> None:
    # What may fail for want of space comes first. Between the two renames the pair does not fit, which read_signer
    # says; the command can then be run again.
    pairs = [(folder / "signer.key", key, 0o600), (folder / "signer.pem", certificate, 0o644)]
    fresh = [path.with_name(f"{path.name}.new") for path, _, _ in pairs]
    try:
        for path, (_, data, mode) in zip(fresh, pairs, strict=True):
            path.unlink(missing_ok=True)  # left by a crash
            durable.create(path, data, mode)
        for path, (target, _, _) in zip(fresh, pairs, strict=True):
            path.rename(target)
    finally:
        for path in fresh:
            path.unlink(missing_ok=True)
    durable.sync_folder(folder)


def _read_root(
    folder: Path, root_key: Path, passphrase: bytes | None, ask: Ask
) -> tuple[x509.Certificate, keys.PrivateKey]:
    hint = "It is needed to make signing certificates only. Bring it from where it is kept, and name it: --root-key."
    try:
        root = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
        data = root_key.read_bytes()
    except OSError as error:
        raise Failure(f"{error.filename} cannot be read: {error.strerror}.", hint) from None
    except ValueError:
        raise Failure(f"{folder / 'root.pem'} holds no certificate.", hint) from None
    key = keys.open_key(root_key, data, passphrase, ask)
    if not isinstance(key, keys.PrivateKey) or key.public_key() != root.public_key():
        raise Failure(f"{root_key} is not the key of root.pem.", hint)
    return root, key


def _kind_of(certificate: x509.Certificate | None) -> str:
    if certificate is None:
        return keys.KINDS[0]
    key = certificate.public_key()
    assert isinstance(key, keys.PublicKey)  # read_chain
    return {"PS256": "rsa", "ES384": "p384"}.get(keys.algorithm_of(key), "p256")


# --- withdrawing ----------------------------------------------------------------------------------------------------


class Withdrawal(NamedTuple):
    """`seq` of the list and how many keys are on it. `again`: it said so before, and nothing was written"""

    certificate: x509.Certificate
    seq: int
    keys: int
    void: bool
    again: bool


def withdraw(
    folder: Path, profile_folder: Path, path: Path, *, void: bool, open_key: Callable[[], SigningKey], now: float
) -> Withdrawal:
    """The vendor's withdrawn list has the certificate in this file, and all that were on it before.

    void: what it has signed, and is in force, stops too. Who is void stays it
    Errors: Failure, OSError; the list is then the one from before
    """
    with _alone(folder):
        profile = _load(profile_folder)
        key = open_key()
        chain = _certificates(path)
        certificate, print_ = chain[0], key_print(chain[0])
        if print_ in map(key_print, profile.anchors):
            reason = f"{path} is a trust anchor of the devices: without it they take nothing at all."
            raise Failure(reason, "A root is replaced by a new profile; see licd-license(5).")
        if not _is_ours(certificate, (*chain[1:], *key.chain[1:]), profile.anchors):
            reason = f"{path} is no certificate of the vendor {profile.vendor}: none of its roots has issued it."
            hint = "Is it the right file? Certificates between it and the root may stand behind it in the file."
            raise Failure(reason, hint)
        if print_ in map(key_print, key.chain):
            reason = f"{path} is the certificate that signs now: nothing that is issued would be taken any more."
            raise Failure(reason, "Make a new one first: licd-vendor signer new. It keeps this one as signer-*.pem.")
        entries = dict(profile.withdrawn.keys)
        if entries.get(print_) in (True, void):
            return Withdrawal(certificate, profile.withdrawn.seq, len(entries), entries[print_], True)
        entries[print_] = void
        value = _list(profile, now, entries) | _extra(profile_folder)
        data = _verified(value, key, profile)
        durable.replace(profile_folder / "withdrawn.licd", data, 0o644)
        return Withdrawal(certificate, value["seq"], len(entries), void, False)


def _list(profile: trust.VendorProfile, now: float, entries: dict[str, bool]) -> dict[str, Any]:
    """The withdrawn list that comes after the one of the profile."""
    return {
        "licd": 1,
        "type": WITHDRAWN,
        "vendor": profile.vendor,
        "seq": profile.withdrawn.seq + 1,
        "issued": timestamp(max(now, profile.withdrawn.issued)),
        "keys": [{"key#S256": each, "void": void} for each, void in entries.items()],
    }


def _extra(profile_folder: Path) -> dict[str, Any]:
    """What the vendor himself had put into the list."""
    path = profile_folder / "withdrawn.licd"
    if not path.exists():
        return {}
    value = document.parse_one(path.read_bytes(), WITHDRAWN).records[0].value  # verified with the profile
    return {"x": value["x"]} if "x" in value else {}


def _verified(value: dict[str, Any], key: SigningKey, profile: trust.VendorProfile) -> bytes:
    """The signed list, once a device with this profile would take it."""
    data = key.line(value, first=True)
    try:
        trust.verify_withdrawn(document.parse_one(data, WITHDRAWN), profile)
    except Refused as refused:
        hint = "Nothing was changed. Do the root, the keys and the profile in this folder belong together?"
        raise Failure(f"A device would refuse what this certificate signs. {refused.message}", hint) from None
    return data


def _certificates(path: Path) -> list[x509.Certificate]:
    hint = "Name a certificate (PEM), such as signer-SERIAL.pem, which licd-vendor signer new leaves."
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.", hint) from None
    except ValueError:
        raise Failure(f"{path} holds no certificate.", hint) from None


def _is_ours(
    certificate: x509.Certificate, between: Iterable[x509.Certificate], anchors: tuple[x509.Certificate, ...]
) -> bool:
    """Issuers can be followed up to an anchor. Whether it is valid, and for what, matters not: it is to be none."""
    at = certificate
    for _ in range(MAX_CHAIN):
        above = next((each for each in (*anchors, *between) if _issued(each, at)), None)
        if above is None or above in anchors:
            return above is not None
        at = above
    return False


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _load(folder: Path) -> trust.VendorProfile:
    try:
        return trust.load_profile(folder.resolve())
    except trust.ProfileError as error:
        raise Failure(f"{error}.", "The vendor profile must be whole before its list can be written.") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other command changes the signer or the list meanwhile; each would undo what the other did."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(f"{folder} cannot be opened: {error.strerror}.", keys.FOLDER_HINT) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
