"""The vendor's keys and certificates: a root, a signing leaf under it, and their files.

DIR/root.key  DIR/root.pem      the trust anchor; its key is needed for new signing certificates only
DIR/signer.key  DIR/signer.pem  what signs documents
DIR/signer-*.pem                what signed them before; see signers.py
DIR/profile/                    the vendor profile, to be copied to vendor.d/NAME on the devices
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.x509.oid import NameOID

from licd import durable
from licd.license import document
from licd.license.lines import NAME
from licd.license.signer import ECDSA, RSA, SIGNING_PURPOSE
from licd.license.trust import ProfileError, load_profile

ROOT_YEARS = 25  # a new root has to reach every device
SIGNER_YEARS = 3  # licenses outlive it; a stolen key does not
BACKDATED = timedelta(hours=1)  # the clocks of a vendor's machines differ

KINDS = ("p256", "p384", "rsa")  # of keys that `new_key` makes

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Failure(Exception):
    """What a command of licd-vendor cannot do: a sentence, and what to do next."""

    def __init__(self, sentence: str, hint: str) -> None:
        super().__init__(sentence)
        self.hint = hint


def new_key(kind: str) -> PrivateKey:
    """A new private key: p256, p384 or rsa."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 3072)
    return ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}[kind])


def algorithm_of(key: PrivateKey | PublicKey) -> str:
    """The alg of RFC 7518 that goes with the key."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return "PS256"
    return next(name for name, (curve, _, _) in ECDSA.items() if isinstance(key.curve, curve))


def sign_bytes(key: PrivateKey, algorithm: str, data: bytes) -> bytes:
    """The signature as a JWS holds it."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, RSA[algorithm], SHA256())
    _, digest, size = ECDSA[algorithm]
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    return r.to_bytes(size) + s.to_bytes(size)


def root_certificate(key: PrivateKey, vendor: str, now: datetime) -> x509.Certificate:
    name = _name(f"{vendor} licd root")
    builder = _builder(name, name, key, now, now + timedelta(days=365 * ROOT_YEARS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_usage(ca=True), critical=True)
    return builder.sign(key, _digest(key))


def signer_certificate(
    key: PrivateKey, vendor: str, root: x509.Certificate, root_key: PrivateKey, now: datetime
) -> x509.Certificate:
    """A leaf whose only purpose is to sign license documents. It ends with its root at the latest."""
    ends = min(now + timedelta(days=365 * SIGNER_YEARS), root.not_valid_after_utc)
    builder = _builder(_name(f"{vendor} license signer"), root.subject, key, now, ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(ca=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([SIGNING_PURPOSE]), critical=True)
    return builder.add_extension(_issuer(root), critical=False).sign(root_key, _digest(root_key))


def _issuer(root: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        there = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:  # a root that was not made here
        key = root.public_key()
        assert isinstance(key, PublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(there)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _digest(key: PrivateKey) -> SHA256 | SHA384:
    return SHA256() if isinstance(key, rsa.RSAPrivateKey) else ECDSA[algorithm_of(key)][1]


# --- files --------------------------------------------------------------------------------------------------


def init(
    folder: Path, vendor: str, names: list[str], *, url: str | None, kind: str, passphrase: bytes | None
) -> x509.Certificate:
    """The folder holds new keys, certificates and the vendor profile; the signing certificate is returned.

    Errors: Failure, if there are keys already
    """
    for name in ("root.key", "root.pem", "signer.key", "signer.pem", "profile"):
        if (folder / name).exists():
            raise Failure(
                f"{folder / name} exists already; keys are never overwritten.",
                "Name another folder, or move the old one away: whoever trusts its root will not trust a new one.",
            )
    now = datetime.now(UTC).replace(microsecond=0)
    root_key, key = new_key(kind), new_key(kind)
    root = root_certificate(root_key, vendor, now)
    leaf = signer_certificate(key, vendor, root, root_key, now)
    _check_profile(vendor, names, url, root)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_key(folder / "root.key", root_key, passphrase)
    write_key(folder / "signer.key", key, passphrase)
    (folder / "root.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (folder / "signer.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    write_profile(folder / "profile", vendor, names, url, [root])
    return leaf


def _check_profile(vendor: str, names: list[str], url: str | None, root: x509.Certificate) -> None:
    hint = "See licd-vendor(1) for what --vendor, --names and --url may be."
    if not NAME.fullmatch(vendor):
        raise Failure("A vendor's id is a-z, 0-9, '.', '_' and '-', at most 64.", hint)
    with TemporaryDirectory() as temporary:
        write_profile(Path(temporary) / vendor, vendor, names, url, [root])
        try:
            load_profile(Path(temporary) / vendor)
        except ProfileError as error:
            raise Failure(f"A device would not take this vendor profile: {error.reason}.", hint) from None


def write_profile(
    folder: Path, vendor: str, names: list[str], url: str | None, anchors: list[x509.Certificate]
) -> None:
    """The folder is a vendor profile, as licd reads it from vendor.d."""
    (folder / "anchors").mkdir(parents=True)
    lines = ["[vendor]", f"id = {vendor}", f"names = {', '.join(names)}", *([f"url = {url}"] if url else [])]
    (folder / "vendor.conf").write_text("\n".join(lines) + "\n", "utf-8")
    for n, anchor in enumerate(anchors):
        name = "root.pem" if n == 0 else f"root{n + 1}.pem"
        (folder / "anchors" / name).write_bytes(anchor.public_bytes(serialization.Encoding.PEM))


def key_bytes(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """The key as its file holds it, encrypted if there is a passphrase."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def write_key(path: Path, key: PrivateKey, passphrase: bytes | None) -> None:
    durable.create(path, key_bytes(key, passphrase), 0o600)


class SigningKey(NamedTuple):
    """What signs documents. `chain`: the signer first, then intermediate CAs, if signer.pem holds some."""

    key: PrivateKey
    chain: tuple[x509.Certificate, ...]

    def line(self, value: dict[str, Any], *, first: bool) -> bytes:
        """The signed line of a document that says `value`. Errors: ValueError, if that is not JSON"""
        algorithm = algorithm_of(self.key)
        return _line(value, self.chain, algorithm, lambda data: sign_bytes(self.key, algorithm, data), first=first)


def _line(
    value: dict[str, Any],
    chain: tuple[x509.Certificate, ...],
    algorithm: str,
    sign: Callable[[bytes], bytes],
    *,
    first: bool,
) -> bytes:
    x5c = [document.b64(each.public_bytes(serialization.Encoding.DER)) for each in chain] if first else None
    header = document.vendor_header(value["type"], algorithm, chain[0].fingerprint(SHA256()), x5c)
    return document.build_line(value, header, sign)


def blank_line(value: dict[str, Any], chain: tuple[x509.Certificate, ...], *, first: bool) -> bytes:
    """As SigningKey.line, and as long; but zeros for a signature, for which no key is needed.

    Errors: ValueError, if that is not JSON
    """
    key = chain[0].public_key()
    assert isinstance(key, PublicKey)  # read_chain
    algorithm = algorithm_of(key)
    length = key.key_size // 8 if isinstance(key, rsa.RSAPublicKey) else 2 * ECDSA[algorithm][2]
    return _line(value, chain, algorithm, lambda _: bytes(length), first=first)


FOLDER_HINT = "Name the folder that `licd-vendor init` made."


def read_chain(folder: Path) -> tuple[x509.Certificate, ...]:
    """The signing certificate of a folder, with intermediate CAs, if signer.pem holds some. Errors: Failure"""
    path = folder / "signer.pem"
    try:
        chain = tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except OSError as error:
        raise Failure(f"{error.filename} cannot be read: {error.strerror}.", FOLDER_HINT) from None
    except ValueError:
        raise Failure(f"{path} holds no certificate.", FOLDER_HINT) from None
    key = chain[0].public_key()
    if isinstance(key, rsa.RSAPublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey)
        and isinstance(key.curve, tuple(curve for curve, _, _ in ECDSA.values()))
    ):
        return chain
    raise Failure(f"The key of {path} is of a kind that signs no documents.", FOLDER_HINT)


def read_signer(folder: Path, passphrase: bytes | None, ask: Callable[[Path], bytes | None]) -> SigningKey:
    """The signing key of a folder. `ask` is asked for the passphrase if one is needed and none was given.

    Errors: Failure
    """
    chain = read_chain(folder)
    try:
        data = (folder / "signer.key").read_bytes()
    except OSError as error:
        raise Failure(f"{error.filename} cannot be read: {error.strerror}.", FOLDER_HINT) from None
    key = open_key(folder / "signer.key", data, passphrase, ask)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) or key.public_key() != chain[0].public_key():
        hint = "If licd-vendor signer new was cut off, run it again; otherwise bring back the two that belong together."
        raise Failure(f"{folder / 'signer.key'} is not the key of signer.pem.", hint)
    return SigningKey(key, chain)


def open_key(path: Path, data: bytes, passphrase: bytes | None, ask: Callable[[Path], bytes | None]) -> object:
    """The private key in these bytes of a file. Errors: Failure"""
    try:
        return serialization.load_pem_private_key(data, passphrase)
    except TypeError:  # a passphrase without need, or the need without a passphrase
        if passphrase is not None:
            raise Failure(f"{path} is not encrypted.", "Leave the passphrase out.") from None
        asked = ask(path)
        if asked is None:
            raise Failure(f"{path} is encrypted.", "Give --passphrase-file or --passphrase-env.") from None
        return open_key(path, data, asked, ask)
    except ValueError:
        raise Failure(f"{path} cannot be opened.", "Is it the right passphrase?") from None
