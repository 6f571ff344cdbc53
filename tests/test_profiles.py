"""vendor.d on a real folder: what is a vendor profile, and what is a configuration error."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from licd.license import trust
from licd.license.signer import key_print
from licd.rpc.errors import (
    SIGNER_RETIRED,
)
from tests.support import pki
from tests.support.trusting import FILE, VENDOR, flipped, refused, verify

# --- vendor.d -----------------------------------------------------------------------------------------------


def test_profiles_are_loaded_by_folder_name(tmp_path: Path) -> None:
    VENDOR.write_profile(tmp_path, "shop-software", url="https://licenses.example.com/")
    pki.Vendor("other", ("other.*", "scales")).write_profile(tmp_path, ca=Path("/etc/ssl/other ca.pem"))
    (tmp_path / "README").write_text("notes")
    (tmp_path / ".hidden").mkdir()
    profiles = trust.load_profiles(tmp_path)
    assert list(profiles) == ["other", "shop-software"]
    found = profiles["shop-software"]
    assert (found.name, found.vendor, found.names) == ("shop-software", "acme", ("kso.*",))
    assert (found.url, found.ca) == ("https://licenses.example.com/", None)
    assert (profiles["other"].url, profiles["other"].ca) == (None, "/etc/ssl/other ca.pem")
    assert verify(FILE, profiles).profile == "shop-software"


def test_a_missing_folder_holds_no_profiles(tmp_path: Path) -> None:
    assert trust.load_profiles(tmp_path / "vendor.d") == {}


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


# The version (2, for v3) is the first INTEGER of a certificate: A0 03 02 01 02.
_BROKEN_PEM = b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(
    VENDOR.root.certificate.public_bytes(serialization.Encoding.DER).replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\x67", 1)
)


_ENTRY = {"key#S256": key_print(VENDOR.leaf.certificate)}


def _conf(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "vendor.conf").write_text(text)


def _anchor(data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "anchors" / "other.pem").write_bytes(data)


def _withdrawn(data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "withdrawn.licd").write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "file"),
    [
        pytest.param(lambda folder: (folder / "vendor.conf").unlink(), "vendor.conf", id="no vendor.conf"),
        pytest.param(_conf("id = acme\n"), "vendor.conf", id="no section"),
        pytest.param(_conf("[vendor]\nid = acme\n"), "vendor.conf", id="no names"),
        pytest.param(_conf("[vendor]\nnames = kso.*\n"), "vendor.conf", id="no id"),
        pytest.param(_conf("[vendor]\nid = Acme\nnames = kso.*\n"), "vendor.conf", id="a wrong id"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = *\n"), "vendor.conf", id="all names"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = kso*\n"), "vendor.conf", id="an asterisk without a dot"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = kso.*,\n"), "vendor.conf", id="an empty name"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = k\nurl = http://x\n"), "vendor.conf", id="plain http"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = k\nurl = https://é\n"), "vendor.conf", id="a url in Unicode"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = k\nurl = https://x\n y\n"), "vendor.conf", id="two urls"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = k\nca = ca.pem\n"), "vendor.conf", id="a ca beside it"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = k\nca =\n"), "vendor.conf", id="no ca"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = k\nca = ~/ca.pem\n"), "vendor.conf", id="a ca at home"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = k\nca = /a\n /b\n"), "vendor.conf", id="two cas"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = k\nca = /a\x1b[2J\n"), "vendor.conf", id="a ca of control"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = k\nport = 1\n"), "vendor.conf", id="an unknown key"),
        pytest.param(_conf("[vendor]\nid = acme\nid = b\nnames = k\n"), "vendor.conf", id="a key twice"),
        pytest.param(_conf("[vendor]\nid = acme\nnames = k\n[x]\n"), "vendor.conf", id="an unknown section"),
        pytest.param(lambda folder: (folder / "anchors" / "root.pem").unlink(), "anchors", id="no anchor"),
        pytest.param(_anchor(b"nothing"), "other.pem", id="no certificate"),
        pytest.param(_anchor(_BROKEN_PEM), "other.pem", id="a certificate of no version"),
        pytest.param(lambda folder: (folder / "withdrawn.licd").mkdir(), "withdrawn.licd", id="a folder as a list"),
        pytest.param(_anchor(_pem(VENDOR.leaf.certificate)), "other.pem", id="a leaf as an anchor"),
        pytest.param(_anchor(_pem(pki.signer(None).certificate)), "other.pem", id="a self-signed leaf as an anchor"),
        pytest.param(
            _anchor(_pem(pki.authority(key_usage=pki.usage("digital_signature")).certificate)),
            "other.pem",
            id="an anchor without keyCertSign",
        ),
        pytest.param(_anchor(_pem(pki.authority(ca=False).certificate)), "other.pem", id="an anchor with cA false"),
        pytest.param(_anchor(_pem(pki.authority(ca=None).certificate)), "other.pem", id="without basicConstraints"),
        pytest.param(_withdrawn(b""), "withdrawn.licd", id="an empty withdrawn list"),
        pytest.param(_withdrawn(FILE), "withdrawn.licd", id="a license file as withdrawn list"),
        pytest.param(_withdrawn(VENDOR.withdrawn() * 2), "withdrawn.licd", id="two withdrawn lists"),
        pytest.param(_withdrawn(VENDOR.withdrawn(seq=0)), "withdrawn.licd", id="a withdrawn list without number"),
        pytest.param(_withdrawn(VENDOR.withdrawn(vendor="b")), "withdrawn.licd", id="another vendor's withdrawn list"),
        pytest.param(
            _withdrawn(pki.Vendor(root={"subject": "foreign"}).withdrawn()), "withdrawn.licd", id="a foreign one"
        ),
        pytest.param(_withdrawn(VENDOR.withdrawn(keys={})), "withdrawn.licd", id="no array"),
        pytest.param(_withdrawn(VENDOR.withdrawn(keys=[{"void": True}])), "withdrawn.licd", id="no key"),
        pytest.param(_withdrawn(VENDOR.withdrawn(keys=[_ENTRY | {"void": 1}])), "withdrawn.licd", id="void 1"),
        pytest.param(_withdrawn(flipped(VENDOR.withdrawn(), 60)), "withdrawn.licd", id="a changed letter"),
    ],
)
def test_a_profile_that_cannot_be_used_says_which_file_and_why(
    tmp_path: Path, spoil: Callable[[Path], object], file: str
) -> None:
    folder = VENDOR.write_profile(tmp_path)
    assert "acme" in trust.load_profiles(tmp_path)
    spoil(folder)
    with pytest.raises(trust.ProfileError) as caught:
        trust.load_profiles(tmp_path)
    assert caught.value.path.name == file
    assert caught.value.reason


def test_a_withdrawn_list_is_read_from_the_profile(tmp_path: Path) -> None:
    folder = VENDOR.write_profile(tmp_path)
    (folder / "withdrawn.licd").write_bytes(VENDOR.withdrawn((VENDOR.leaf.certificate, True), seq=4))
    profiles = trust.load_profiles(tmp_path)
    assert profiles["acme"].withdrawn.seq == 4
    assert refused(FILE, profiles, new=False).error is SIGNER_RETIRED


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("kso.*",), ("kso.*",)),
        (("kso.*",), ("kso.scales",)),
        (("kso.scales.*",), ("kso.*",)),
        (("a", "kso.scales"), ("b", "kso.scales")),
    ],
)
def test_two_profiles_that_claim_one_name_are_an_error(
    tmp_path: Path, one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    pki.Vendor("a", one).write_profile(tmp_path)
    pki.Vendor("b", other).write_profile(tmp_path)
    with pytest.raises(trust.ProfileError, match="claims"):
        trust.load_profiles(tmp_path)


@pytest.mark.parametrize(("one", "other"), [("kso.*", "kso"), ("kso.*", "kso-b.*"), ("a", "ab"), ("a.b.*", "a.c.*")])
def test_profiles_with_names_apart_are_fine(tmp_path: Path, one: str, other: str) -> None:
    pki.Vendor("a", (one,)).write_profile(tmp_path)
    pki.Vendor("b", (other,)).write_profile(tmp_path)
    assert len(trust.load_profiles(tmp_path)) == 2


def test_a_folder_that_is_no_name_is_no_profile(tmp_path: Path) -> None:
    VENDOR.write_profile(tmp_path, "Acme Inc")
    with pytest.raises(trust.ProfileError, match="Acme Inc"):
        trust.load_profiles(tmp_path)


def test_one_vendor_cannot_have_two_profiles(tmp_path: Path) -> None:
    pki.Vendor("a", ("a.*",)).write_profile(tmp_path, "one")
    pki.Vendor("a", ("b.*",)).write_profile(tmp_path, "two")
    with pytest.raises(trust.ProfileError, match="already"):
        trust.load_profiles(tmp_path)
