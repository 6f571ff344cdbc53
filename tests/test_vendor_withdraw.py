"""licd-vendor withdraw: the real command, its lists, and what a device then says of files old and new."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from licd.license import document
from licd.license.dates import timestamp
from licd.license.signer import key_print
from licd.rpc.errors import SIGNER_RETIRED
from licd_vendor import keys
from licd_vendor.main import main
from tests.support import pki
from tests.support.books import complaint
from tests.support.signing import Folder, certificate, made


@pytest.fixture
def acme(tmp_path: Path) -> Folder:
    return made(tmp_path / "acme")


def test_a_withdrawn_signer_signs_nothing_new_and_a_void_one_never_did(acme: Folder) -> None:
    old = acme.sign()
    kept = acme.renew()
    new = acme.sign()
    assert acme.run("withdraw", kept) == 0
    assert (acme.verdict(old), acme.verdict(old, new=False)) == (SIGNER_RETIRED.name, "taken")
    assert acme.verdict(new) == "taken"
    assert acme.run("withdraw", kept, "--void") == 0
    assert (acme.verdict(old), acme.verdict(old, new=False)) == (SIGNER_RETIRED.name, SIGNER_RETIRED.name)
    assert acme.verdict(new) == "taken"
    assert acme.verdict(acme.sign()) == "taken"


def test_lists_are_numbered_and_hold_all_that_was_on_them(acme: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = acme.renew(), acme.renew(), acme.renew()
    expected: dict[str, bool] = {}
    for seq, (path, void) in enumerate([(first, False), (second, True), (third, False), (first, True)], 1):
        capsys.readouterr()
        assert acme.run("withdraw", path, *(["--void"] if void else [])) == 0
        expected[key_print(certificate(path))] = void
        value = acme.withdrawn()
        assert value["seq"] == seq
        assert {each["key#S256"]: each["void"] for each in value["keys"]} == expected
        said = capsys.readouterr()
        assert f"withdrawn.licd: seq {seq}, {len(expected)} key" in said.out
        assert ("until a file of the new signer is there" in said.err) == void


def test_what_is_on_the_list_already_makes_no_new_one_and_void_stays_void(
    acme: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = acme.renew(), acme.renew()
    assert acme.run("withdraw", one) == 0
    assert acme.run("withdraw", two, "--void") == 0
    before = acme.list.read_bytes()
    for words in ([one], [two], [two, "--void"]):
        capsys.readouterr()
        assert acme.run("withdraw", *words) == 0
        assert "already" in capsys.readouterr().out
        assert acme.list.read_bytes() == before


def test_a_list_is_never_older_than_the_one_before_and_keeps_the_vendors_own_part(acme: Folder) -> None:
    kept, later = acme.renew(), timestamp(datetime.now(UTC).timestamp() + 5000)
    key = keys.read_signer(acme.path, None, lambda _: None)
    value: dict[str, Any] = {"licd": 1, "type": "withdrawn", "vendor": "acme", "seq": 41}
    value |= {"issued": later, "keys": [], "x": {"a": [1]}}
    acme.list.write_bytes(key.line(value, first=True))
    assert acme.run("withdraw", kept) == 0
    value = acme.withdrawn()
    assert (value["seq"], value["issued"], value["x"], len(value["keys"])) == (42, later, {"a": [1]}, 1)


def _foreign(acme: Folder) -> Path:
    return made(acme.path.parent / "b").path / "signer.pem"


def _text(acme: Folder) -> Path:
    (acme.path.parent / "text").write_text("a certificate")
    return acme.path.parent / "text"


def _list_is_broken(acme: Folder) -> Path:
    kept = acme.renew()
    assert acme.run("withdraw", kept) == 0
    acme.list.write_bytes(acme.list.read_bytes().replace(b'"void":false', b'"void":true '))
    return kept


def _keys_of_another(acme: Folder) -> Path:
    kept, other = acme.renew(), _foreign(acme).parent
    for name in ("signer.key", "signer.pem"):
        shutil.copy(other / name, acme.path)
    return kept


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (lambda acme: acme.path / "signer.pem", "Make a new one first: licd-vendor signer new"),
        (lambda acme: acme.path / "root.pem", "is a trust anchor of the devices"),
        (lambda acme: acme.path / "gone.pem", "gone.pem cannot be read"),
        (lambda acme: acme.path, "cannot be read"),
        (lambda acme: acme.path / "signer.key", "holds no certificate"),
        (_text, "text holds no certificate"),
        (_foreign, "is no certificate of the vendor acme"),
        (_list_is_broken, "withdrawn.licd"),
        (_keys_of_another, "A device would refuse what this certificate signs"),
    ],
)
def test_what_cannot_be_withdrawn_is_refused_and_the_list_stays(
    acme: Folder, name: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = name(acme)
    before = acme.bytes()
    capsys.readouterr()
    assert acme.run("withdraw", path, "--void") == 1
    assert words in complaint(capsys)
    assert acme.bytes() == before


def test_another_certificate_of_the_current_key_is_the_current_signer_too(
    acme: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    key, root = (load_pem_private_key((acme.path / f"{name}.key").read_bytes(), None) for name in ("signer", "root"))
    assert isinstance(key, keys.PrivateKey)
    assert isinstance(root, keys.PrivateKey)
    now = datetime.now(UTC).replace(microsecond=0)
    other = keys.signer_certificate(key, "acme", certificate(acme.path / "root.pem"), root, now)
    (acme.path / "other.pem").write_bytes(other.public_bytes(serialization.Encoding.PEM))
    assert acme.run("withdraw", acme.path / "other.pem") == 1
    assert "is the certificate that signs now" in complaint(capsys)
    assert not acme.list.exists()


def test_a_ca_between_is_withdrawn_with_all_that_it_issued_unless_the_signer_is_of_it(tmp_path: Path) -> None:
    vendor = pki.Vendor(between=[{}])
    acme = Folder(vendor.write_folder(tmp_path / "acme"))
    pem = serialization.Encoding.PEM
    between = tmp_path / "between.pem"
    between.write_bytes(vendor.between[0].certificate.public_bytes(pem))
    assert acme.run("withdraw", between) == 1
    old = acme.sign()
    keys.write_key(acme.path / "root.key", vendor.root.key, None)
    (acme.path / "root.pem").write_bytes(vendor.root.certificate.public_bytes(pem))
    kept = acme.renew()
    assert len(x509.load_pem_x509_certificates(kept.read_bytes())) == 2  # with what leads to the root
    assert acme.run("withdraw", between, "--void") == 0
    assert acme.verdict(old, new=False) == SIGNER_RETIRED.name
    assert acme.run("withdraw", kept) == 0
    assert key_print(vendor.leaf.certificate) in acme.list.read_text()
    assert acme.verdict(acme.sign()) == "taken"


def test_a_list_that_no_device_would_read_is_not_written(acme: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    kept = acme.renew()
    key = keys.read_signer(acme.path, None, lambda _: None)
    entries = [{"key#S256": document.b64url(n.to_bytes(32)).decode(), "void": False} for n in range(1000)]
    value = {"licd": 1, "type": "withdrawn", "vendor": "acme", "seq": 1, "issued": "2026-06-01T00:00:00Z"}
    issued = timestamp(datetime.now(UTC).timestamp())
    while len(line := key.line(value | {"issued": issued, "keys": entries}, first=True)) > document.MAX_HEADER_LINE:
        del entries[-1:]
    acme.list.write_bytes(line)
    before = acme.bytes()
    capsys.readouterr()
    assert acme.run("withdraw", kept) == 1
    assert "A device would refuse" in complaint(capsys)
    assert acme.bytes() == before


def test_two_commands_at_once_are_both_on_the_list(acme: Folder) -> None:
    kept = [acme.renew() for _ in range(4)]
    command = [sys.executable, "-m", "licd_vendor", "--dir", str(acme.path), "withdraw"]
    running = [subprocess.Popen([*command, str(each)], stdout=subprocess.DEVNULL) for each in kept]
    assert [process.wait(timeout=60) for process in running] == [0] * 4
    assert acme.withdrawn()["seq"] == 4
    assert {each["key#S256"] for each in acme.withdrawn()["keys"]} == {key_print(certificate(each)) for each in kept}


def test_a_command_waits_until_another_is_done_with_the_signer(acme: Folder) -> None:
    kept = acme.renew()
    command = [sys.executable, "-m", "licd_vendor", "--dir", str(acme.path), "withdraw", str(kept)]
    descriptor = os.open(acme.path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        waiting = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=2)
        assert not acme.list.exists()
    finally:
        os.close(descriptor)
    assert waiting.wait(timeout=60) == 0
    assert acme.withdrawn()["seq"] == 1


def test_an_old_certificate_is_no_place_for_a_document(acme: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    kept = acme.renew()
    (acme.path / "d.json").write_text('{"seq": 1, "licenses": []}')
    before = acme.bytes()
    capsys.readouterr()
    assert acme.run("sign", acme.path, acme.path / "d.json", "-o", kept) == 1
    assert "a certificate of the vendor" in complaint(capsys)
    assert acme.bytes() == before


def _shown(words: Sequence[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["show", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_show_says_in_words_what_a_withdrawn_list_takes_back(acme: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = acme.renew(), acme.renew()
    assert acme.run("withdraw", one) == 0
    assert acme.run("withdraw", two, "--void") == 0
    text = _shown([acme.list, "--profile", acme.profile], capsys)
    for part in (
        *("withdrawn of the vendor acme, seq 2, issued", "verified: every line"),
        f"key {key_print(certificate(one))}: signs nothing new",
        f"key {key_print(certificate(two))}: void: what it signed stops",
    ):
        assert part in text
    (only,) = json.loads(_shown([acme.list, "--json"], capsys))["documents"]
    assert [each["void"] for each in only["lines"][0]["keys"]] == [False, True]
