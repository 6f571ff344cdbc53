"""Who signed a document: the certificate on its first line, its key, and the chain from it to an anchor.

Signatures are checked under the certificate that the first line brings along, before anybody asks who that is; then
the chain says whether to believe it. Not consulted: revocation lists and OCSP (the device may have no network), the
time of day.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    DuplicateExtension,
    ExtendedKeyUsage,
    ExtensionNotFound,
    InvalidVersion,
    KeyUsage,
    ObjectIdentifier,
    UnsupportedGeneralNameType,
    load_der_x509_certificate,
)
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from licd.license.document import Record, b64url, b64url_decode
from licd.rpc.errors import BAD_CERTIFICATE, BAD_SIGNATURE, BAD_SIGNATURE_HEADER, UNTRUSTED_SIGNER, Refused

# The only purpose of a signing certificate: "signs license documents for licd". An arc of ITU-T X.667 (2.25 and a
# random UUID as one integer), which needs no registration and cannot clash.
SIGNING_PURPOSE = ObjectIdentifier("2.25.31096314441792221689482318744730605780")

MAX_CHAIN = 4  # certificates in x5c: the signer, two CAs, and a cross certificate when a root is replaced
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 4096  # below: breakable; above: milliseconds a line on a small board
_RSA_EXPONENT = 65537

# The algorithms of RFC 7518, sections 3.3 to 3.5. Of ECDSA: the curve, the hash, the bytes of each half of a signature.
ECDSA: dict[str, tuple[type[ec.EllipticCurve], SHA256 | SHA384, int]] = {
    "ES256": (ec.SECP256R1, SHA256(), 32),
    "ES384": (ec.SECP384R1, SHA384(), 48),
}
RSA: dict[str, padding.AsymmetricPadding] = {
    "RS256": padding.PKCS1v15(),
    "PS256": padding.PSS(padding.MGF1(SHA256()), SHA256.digest_size),  # the salt as long as the hash
}

# Certificates are parsed only as far as they are asked; any question may find that the DER is broken there.
UNREADABLE = (
    *(ValueError, TypeError, InvalidVersion),
    *(DuplicateExtension, UnsupportedAlgorithm, UnsupportedGeneralNameType),
)


def thumbprint(certificate: Certificate) -> str:
    """x5t#S256 of RFC 7515, 4.1.8."""
    return b64url(certificate.fingerprint(SHA256())).decode()


def key_print(certificate: Certificate) -> str:
    """SHA-256 of the certified key. Not of the certificate: whoever has that can, without its issuer's key, make others
    that are as good, for (r, n - s) is an ECDSA signature too; and a key that is known to a thief has no good one."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64url(sha256(key).digest()).decode()


class Signer:
    """The holder of the certificate on a document's first line."""

    def __init__(self, first: Record) -> None:
        """Errors: BAD_SIGNATURE_HEADER, BAD_CERTIFICATE"""
        self.certificates = _certificates(first)
        self.leaf = self.certificates[0]
        self.thumbprint = thumbprint(self.leaf)
        if first.header["x5t#S256"] != self.thumbprint:
            _wrong_header(first, "x5t#S256 is not the first certificate of x5c")
        try:
            self._key: Any = self.leaf.public_key()
        except UNREADABLE:
            raise Refused(BAD_CERTIFICATE, reason="its key cannot be used") from None
        if isinstance(self._key, rsa.RSAPublicKey):
            if not MIN_RSA_BITS <= self._key.key_size <= MAX_RSA_BITS:
                reason = f"its RSA key has {self._key.key_size} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}"
                raise Refused(BAD_CERTIFICATE, reason=reason)
            if self._key.public_numbers().e != _RSA_EXPONENT:
                raise Refused(BAD_CERTIFICATE, reason=f"its RSA exponent is not {_RSA_EXPONENT}")
        self._chains: dict[float, tuple[Certificate, ...]] = {}

    @property
    def expires(self) -> float:
        return self.leaf.not_valid_after_utc.timestamp()

    def check(self, record: Record) -> None:
        """Nothing, if this signer signed the line. Errors: BAD_SIGNATURE, BAD_SIGNATURE_HEADER"""
        # RFC 7515 5.2 step 8. The algorithm must fit the key: a key is never used in another way than its own.
        algorithm, signature = record.header["alg"], record.signature
        try:
            if algorithm in ECDSA:
                curve, digest, size = ECDSA[algorithm]
                if not isinstance(self._key, ec.EllipticCurvePublicKey) or not isinstance(self._key.curve, curve):
                    _wrong_header(record, f"alg {algorithm} does not fit the certificate's key")
                if len(signature) != 2 * size:
                    raise InvalidSignature
                r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
                self._key.verify(utils.encode_dss_signature(r, s), record.signed, ec.ECDSA(digest))
            else:
                if not isinstance(self._key, rsa.RSAPublicKey):
                    _wrong_header(record, f"alg {algorithm} does not fit the certificate's key")
                self._key.verify(signature, record.signed, RSA[algorithm], SHA256())
        except InvalidSignature:
            raise Refused(BAD_SIGNATURE, line=record.number) from None

    def chain(self, anchors: Iterable[Certificate], at: float) -> tuple[Certificate, ...]:
        """The signer's chain to one of the anchors, valid at that time (Unix seconds), signer first.

        Errors: UNTRUSTED_SIGNER, BAD_CERTIFICATE
        """
        if at not in self._chains:  # the lines of a file are usually issued at one time
            anchors = tuple(anchors)
            moment = datetime.fromtimestamp(at, UTC)
            builder = PolicyBuilder().store(Store(list(anchors))).time(moment).max_chain_depth(MAX_CHAIN)
            verifier = builder.extension_policies(ca_policy=_CA, ee_policy=_LEAF).build_client_verifier()
            try:
                self._chains[at] = tuple(verifier.verify(self.leaf, list(self.certificates[1:])).chain)
            except (VerificationError, *UNREADABLE) as error:
                raise self._explain(anchors, moment, str(error)) from None
        return self._chains[at]

    def _explain(self, anchors: tuple[Certificate, ...], moment: datetime, reason: str) -> Refused:
        # Only to name the refusal: if issuers can be followed up to an anchor at all, the signer is known, and it is a
        # certificate on the way that is at fault.
        at, path = self.leaf, [self.leaf]
        for _ in range(MAX_CHAIN + 1):
            above = next((each for each in (*anchors, *self.certificates[1:]) if _issued(each, at)), None)
            if above is None:
                break
            path.append(above)
            if above in anchors:
                for each in path:
                    if not each.not_valid_before_utc <= moment <= each.not_valid_after_utc:
                        reason = f"{_subject(each)} was not valid when the line was issued ({moment:%Y-%m-%d})"
                        return Refused(BAD_CERTIFICATE, reason=reason)
                return Refused(BAD_CERTIFICATE, reason=_cleaned(reason))
            at = above
        return Refused(UNTRUSTED_SIGNER, reason=f"{_subject(self.leaf)} has no chain to an anchor of the profile")


def check_anchor(certificate: Certificate) -> None:
    """Nothing, if the certificate is a CA's. Errors: ValueError"""
    try:
        constraints = certificate.extensions.get_extension_for_class(BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(KeyUsage).value
    except ExtensionNotFound:
        raise ValueError("it is no CA: basicConstraints or keyUsage is missing") from None
    except UNREADABLE as error:
        raise ValueError(f"its extensions cannot be read: {error}") from None
    if not (constraints.ca and usage.key_cert_sign):
        raise ValueError("it is no CA: its basicConstraints or keyUsage say so")


def _certificates(first: Record) -> tuple[Certificate, ...]:
    x5c = first.header["x5c"]
    if type(x5c) is not list or not 1 <= len(x5c) <= MAX_CHAIN:
        _wrong_header(first, f"x5c must hold 1 to {MAX_CHAIN} certificates")
    certificates = []
    for each in x5c:
        try:
            certificates.append(load_der_x509_certificate(b64decode(each, validate=True)))
        except UNREADABLE:
            _wrong_header(first, "x5c does not hold certificates (base64 of DER)")
    return tuple(certificates)


def _wrong_header(record: Record, reason: str) -> NoReturn:
    raise Refused(BAD_SIGNATURE_HEADER, line=record.number, reason=reason)


def _issued(issuer: Certificate, certificate: Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _subject(certificate: Certificate) -> str:
    try:
        text = certificate.subject.rfc4514_string()
    except UNREADABLE:
        return "a certificate with a broken name"
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:100] or "a nameless certificate"


def _cleaned(reason: str) -> str:
    return reason.removeprefix("validation failed: ").removeprefix("candidates exhausted: ").split(" (encountered")[0]


# --- devices ------------------------------------------------------------------------------------------------


def check_device(first: Record) -> str:
    """The key (base64url) whose holder signed the line: the one that its signature header brings along.

    Errors: BAD_SIGNATURE, BAD_SIGNATURE_HEADER
    """
    key: str = first.header["jwk"]["x"]
    raw = b64url_decode(key.encode())
    if _has_small_order(raw):
        _wrong_header(first, "jwk is a key that anybody can sign for")
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(first.signature, first.signed)
    except InvalidSignature:
        raise Refused(BAD_SIGNATURE, line=first.number) from None
    return key


# The y of the points whose order divides 8, on the curve of RFC 8032, 5.1. Under such a "key" one signature fits any
# message, one in eight at the least; OpenSSL accepts them.
_P = 2**255 - 19
_Y8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022  # of order 8
_SMALL = {0, 1, _P - 1, _Y8, _P - _Y8}


def _has_small_order(key: bytes) -> bool:
    return (int.from_bytes(key, "little") & (2**255 - 1)) % _P in _SMALL


# --- extension policies: RFC 5280, 6.1.4 (k) to (n) for CAs; the leaf by rules of our own --------------------
# An extension that is critical and unknown is refused by the verifier itself, as are path lengths.


def _leaf_usage(_: Policy, __: Certificate, usage: KeyUsage) -> None:
    if not usage.digital_signature:
        raise ValueError("keyUsage of the signing certificate lacks digitalSignature")
    if usage.key_cert_sign:
        raise ValueError("the signing certificate is a CA's")


def _leaf_purpose(_: Policy, __: Certificate, purposes: ExtendedKeyUsage) -> None:
    # The only purpose: a certificate that also serves a web site lies about on web servers.
    if list(purposes) != [SIGNING_PURPOSE]:
        raise ValueError(f"extendedKeyUsage of the signing certificate is not {SIGNING_PURPOSE.dotted_string} alone")


def _leaf_constraints(_: Policy, __: Certificate, constraints: BasicConstraints | None) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError("the signing certificate is a CA's")


def _ca_usage(_: Policy, __: Certificate, usage: KeyUsage) -> None:
    if not usage.key_cert_sign:
        raise ValueError("keyUsage of an issuer lacks keyCertSign")


_LEAF = (
    ExtensionPolicy.permit_all()
    .require_present(KeyUsage, Criticality.AGNOSTIC, _leaf_usage)
    .require_present(ExtendedKeyUsage, Criticality.AGNOSTIC, _leaf_purpose)
    .may_be_present(BasicConstraints, Criticality.AGNOSTIC, _leaf_constraints)
)
_CA = (
    ExtensionPolicy.permit_all()
    .require_present(BasicConstraints, Criticality.CRITICAL, None)  # cA is the verifier's own condition
    .require_present(KeyUsage, Criticality.AGNOSTIC, _ca_usage)
)
