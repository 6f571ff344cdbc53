"""A vendor's folder whose signers follow each other, and a device that judges what they sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509

from licd.license import document, trust
from licd.rpc.errors import Refused
from licd_vendor import keys
from licd_vendor.main import main

INIT = ["--vendor", "acme", "--names", "kso.*"]


class Folder:
    """A vendor's folder, and a device with its profile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.profile = path / "profile"
        self.list = path / "profile" / "withdrawn.licd"

    def run(self, *words: str | Path) -> int:
        return main(["--dir", str(self.path), *map(str, words)])

    def renew(self, *options: str | Path) -> Path:
        """A new signer; where the old certificate is now."""
        before = set(self.path.glob("signer-*.pem"))
        assert self.run("signer", "new", *options) == 0
        (kept,) = set(self.path.glob("signer-*.pem")) - before
        return kept

    def sign(self, *options: str | Path) -> bytes:
        (self.path / "d.json").write_text('{"seq": 1, "licenses": [{"name": "kso.a"}]}')
        out = self.path.parent / "out.licd"
        assert self.run("sign", self.path, self.path / "d.json", "-o", out, *options) == 0
        return out.read_bytes()

    def verdict(self, file: bytes, *, new: bool = True) -> str:
        """What a device says that imports the file; or, if it is not new, that had it in force."""
        (only,) = document.parse(file)
        profiles = {"acme": trust.load_profile(self.profile)}
        try:
            document.run(trust.verify(only, profiles, trusted_now=None, new=new))
        except Refused as refused:
            return refused.error.name
        return "taken"

    def withdrawn(self) -> dict[str, Any]:
        return document.parse_one(self.list.read_bytes(), document.WITHDRAWN).records[0].value

    def bytes(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(self.path.rglob("*")) if path.is_file()}


def made(path: Path, *options: str) -> Folder:
    """As licd-vendor init leaves it."""
    assert main(["init", str(path), *INIT, *options]) == 0
    return Folder(path)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def public_key(certificate: x509.Certificate) -> keys.PublicKey:
    key = certificate.public_key()
    assert isinstance(key, keys.PublicKey)
    return key
