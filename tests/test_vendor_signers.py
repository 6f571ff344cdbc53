"""licd-vendor signer new: the real command, and what a device then says of files old and new."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from licd.license import document
from licd.license.signer import key_print
from licd.rpc.errors import SIGNER_RETIRED, Refused
from licd_vendor import keys
from tests.support import pki
from tests.support.books import Books, Machine, complaint, problem
from tests.support.needs import needs_strace
from tests.support.signing import Folder, certificate, made, public_key


@pytest.fixture
def acme(tmp_path: Path) -> Folder:
    return made(tmp_path / "acme")


# --- a new signer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", keys.KINDS)
def test_what_a_new_signer_signs_is_taken_and_what_the_old_one_signed_too(tmp_path: Path, kind: str) -> None:
    acme = made(tmp_path / "acme", "--key", kind)
    old, before = acme.sign(), certificate(acme.path / "signer.pem")
    kept = acme.renew()
    new, after = acme.sign(), certificate(acme.path / "signer.pem")
    assert certificate(kept) == before
    assert kept.name == f"signer-{before.serial_number:x}.pem"
    assert key_print(after) != key_print(before)
    assert keys.algorithm_of(public_key(after)) == keys.algorithm_of(public_key(before))
    assert [acme.verdict(each) for each in (old, new)] == ["taken", "taken"]


def test_the_old_private_key_is_nowhere_any_more(acme: Folder) -> None:
    before = (acme.path / "signer.key").read_bytes()
    acme.renew()
    assert before not in acme.bytes().values()
    assert {path.name for path in acme.path.glob("*.key*")} == {"root.key", "signer.key"}
    assert (acme.path / "signer.key").stat().st_mode & 0o777 == 0o600


def test_the_new_key_may_be_of_another_kind(acme: Folder) -> None:
    acme.renew("--key", "p384")
    assert keys.algorithm_of(public_key(certificate(acme.path / "signer.pem"))) == "ES384"
    assert acme.verdict(acme.sign()) == "taken"


def test_signers_follow_each_other_and_each_certificate_is_kept(acme: Folder) -> None:
    assert len({acme.renew(), acme.renew(), acme.renew()}) == 3


def test_a_folder_without_a_signer_gets_one(acme: Folder) -> None:
    (acme.path / "signer.key").unlink()
    (acme.path / "signer.pem").unlink()
    assert acme.run("signer", "new") == 0
    assert not list(acme.path.glob("signer-*.pem"))
    assert acme.verdict(acme.sign()) == "taken"


def test_a_root_key_that_is_kept_elsewhere_is_asked_for_and_named(
    acme: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (acme.path / "root.key").rename(tmp_path / "safe.key")
    before = acme.bytes()
    capsys.readouterr()
    assert acme.run("signer", "new") == 1
    assert "name it: --root-key" in complaint(capsys)
    assert acme.bytes() == before
    acme.renew("--root-key", tmp_path / "safe.key")
    assert not (acme.path / "root.key").exists()
    assert acme.verdict(acme.sign()) == "taken"


def _another_root(acme: Folder) -> None:
    other = made(acme.path.parent / "other")
    for name in ("root.key", "root.pem"):
        shutil.copy(other.path / name, acme.path / name)


def _another_roots_key(acme: Folder) -> None:
    _another_root(acme)
    (acme.path / "root.pem").write_bytes((acme.profile / "anchors" / "root.pem").read_bytes())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_another_root, "A device would refuse what this certificate signs"),
        (_another_roots_key, "root.key is not the key of root.pem"),
        (lambda acme: (acme.path / "root.key").write_bytes(b"no key"), "root.key cannot be opened"),
        (lambda acme: (acme.path / "root.pem").write_bytes(b"none"), "root.pem holds no certificate"),
        (lambda acme: (acme.path / "root.pem").unlink(), "root.pem cannot be read"),
        (lambda acme: (acme.path / "signer.pem").write_bytes(b"none"), "signer.pem holds no certificate"),
        (lambda acme: shutil.rmtree(acme.profile), "Name a vendor profile"),
        (lambda acme: acme.list.write_bytes(b"{}"), "withdrawn.licd"),
    ],
)
def test_where_no_signer_can_be_made_the_old_one_stays(
    acme: Folder, spoil: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(acme)
    before = acme.bytes()
    capsys.readouterr()
    assert acme.run("signer", "new") == 1
    assert words in complaint(capsys)
    assert acme.bytes() == before


def test_a_signer_ends_with_its_root_at_the_latest_and_not_after_it(tmp_path: Path) -> None:
    def with_root(days: float) -> Folder:
        begins = datetime.now(UTC).replace(microsecond=0) - timedelta(days=10)
        vendor = pki.Vendor(root={"begins": begins, "days": days}, leaf={"begins": begins})
        acme = Folder(vendor.write_folder(tmp_path / f"acme{days}"))
        keys.write_key(acme.path / "root.key", vendor.root.key, None)
        (acme.path / "root.pem").write_bytes(vendor.root.certificate.public_bytes(serialization.Encoding.PEM))
        return acme

    short, ended = with_root(100), with_root(5)
    short.renew()
    leaf, root = (certificate(short.path / f"{name}.pem") for name in ("signer", "root"))
    assert leaf.not_valid_after_utc == root.not_valid_after_utc
    assert short.verdict(short.sign()) == "taken"
    assert ended.run("signer", "new") == 1


@needs_strace
@pytest.mark.parametrize(("call", "when"), [("rename", 1), ("rename", 2), ("rename", 3), ("fsync", 3), ("fsync", 4)])
def test_a_signer_is_made_by_the_next_run_wherever_the_first_was_killed(acme: Folder, call: str, when: int) -> None:
    old, first = acme.sign(), certificate(acme.path / "signer.pem")
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
    command += [sys.executable, "-m", "licd_vendor", "--dir", str(acme.path), "signer", "new"]
    killed = subprocess.run(
        command, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False
    )
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "")
    assert acme.run("signer", "new") == 0
    assert certificate(acme.path / f"signer-{first.serial_number:x}.pem") == first
    assert {path.name for path in acme.path.glob("*.new")} == set()
    assert [acme.verdict(each) for each in (old, acme.sign())] == ["taken", "taken"]


def test_a_signer_that_was_cut_off_half_way_says_what_to_do(acme: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    half = (acme.path / "signer.pem").read_bytes()
    acme.renew()
    (acme.path / "signer.pem").write_bytes(half)
    (acme.path / "d.json").write_text('{"seq": 1, "licenses": []}')
    capsys.readouterr()
    assert acme.run("sign", acme.path, acme.path / "d.json", "-o", acme.path.parent / "o") == 1
    assert "signer new was cut off, run it again" in complaint(capsys)


# --- passphrases ----------------------------------------------------------------------------------------------------


def test_the_new_key_has_the_roots_passphrase_or_one_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, other = tmp_path / "secret", tmp_path / "other"
    secret.write_text("open sesame\n")
    other.write_text("of the server\n")
    acme = made(tmp_path / "acme", "--passphrase-file", str(secret))
    before = acme.bytes()
    wrongs: list[list[str | Path]] = [[], ["--passphrase-file", other]]
    for wrong in wrongs:
        capsys.readouterr()
        assert acme.run("signer", "new", *wrong) == 1
        complaint(capsys)
        assert acme.bytes() == before
    acme.renew("--passphrase-file", secret)
    load_pem_private_key((acme.path / "signer.key").read_bytes(), b"open sesame")
    assert acme.verdict(acme.sign("--passphrase-file", secret)) == "taken"
    monkeypatch.setenv("LICD_ROOT", "open sesame")
    acme.renew("--passphrase-env", "LICD_ROOT", "--new-passphrase-file", other)
    load_pem_private_key((acme.path / "signer.key").read_bytes(), b"of the server")
    kept = acme.renew("--passphrase-file", secret, "--new-passphrase-file", other)
    assert acme.run("withdraw", kept, "--passphrase-file", secret) == 1
    assert not acme.list.exists()
    assert acme.run("withdraw", kept, "--passphrase-file", other) == 0


def test_a_root_without_a_passphrase_may_make_a_signer_with_one(acme: Folder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the server\n")
    acme.renew("--new-passphrase-file", tmp_path / "secret")
    load_pem_private_key((acme.path / "signer.key").read_bytes(), b"of the server")
    acme.renew()
    load_pem_private_key((acme.path / "signer.key").read_bytes(), None)


# --- orders, and a server ------------------------------------------------------------------------------------------


def test_orders_go_on_under_the_new_signer(books: Books) -> None:
    request = Machine(1).request(books.ask(books.order()))
    old = books.issue(request)
    acme = Folder(books.dir)
    kept = acme.renew()
    assert books.run("withdraw", kept, "--void") == 0
    with pytest.raises(Refused, match="declared it void"):
        books.verify(old.text)
    assert books.issue(Machine(2).request(books.ask(books.order()))).seq == 1


def test_a_server_that_still_has_a_withdrawn_signer_issues_nothing_and_one_started_anew_does(books: Books) -> None:
    web, acme = books.web(), Folder(books.dir)
    asked = books.ask(books.order("--devices", 2, "--renewal", "required"))
    file, machine = books.issue(Machine(1).request(asked)), Machine(2)
    assert books.run("withdraw", acme.renew(), "--void") == 0
    newer = books.ask(1)
    before = books.dump()
    assert problem(web.post("/license-file", machine.request(newer).text))["name"] == "SERVER_ERROR"
    assert books.dump() == before
    web = books.web()
    answer = web.post("/license-file", machine.request(newer).text)
    assert [each.kind for each in document.parse(answer.data)] == ["license-file", "withdrawn"]
    assert acme.verdict(document.parse(answer.data)[0].text) == "taken"
    assert acme.verdict(file.text, new=False) == SIGNER_RETIRED.name


def test_the_keys_need_no_database(acme: Folder) -> None:
    code = "import sys; sys.modules['sqlalchemy'] = None; from licd_vendor.main import main; sys.exit(main())"
    kept = acme.path / f"signer-{certificate(acme.path / 'signer.pem').serial_number:x}.pem"
    for words in (["signer", "new"], ["withdraw", str(kept)]):
        command = [sys.executable, "-c", code, "--dir", str(acme.path), *words]
        assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
