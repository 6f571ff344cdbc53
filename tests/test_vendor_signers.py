"""licd-vendor signer new and withdraw: the real commands, and what a device then says of files old and new."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from licd.license import document, trust
from licd.license.dates import timestamp
from licd.license.signer import key_print
from licd.rpc.errors import SIGNER_RETIRED, Refused
from licd_vendor import keys
from licd_vendor.main import main
from tests.support import pki
from tests.support.books import Books, Machine, problem
from tests.support.needs import needs_strace

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


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    error, hint = capsys.readouterr().err.splitlines()
    assert (error[:7], hint[:6]) == ("error: ", "hint: ")
    return f"{error}\n{hint}"


@pytest.fixture
def acme(tmp_path: Path) -> Folder:
    assert main(["init", str(tmp_path / "acme"), *INIT]) == 0
    return Folder(tmp_path / "acme")


# --- a new signer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", keys.KINDS)
def test_what_a_new_signer_signs_is_taken_and_what_the_old_one_signed_too(tmp_path: Path, kind: str) -> None:
    assert main(["init", str(tmp_path / "acme"), *INIT, "--key", kind]) == 0
    acme = Folder(tmp_path / "acme")
    old, before = acme.sign(), certificate(acme.path / "signer.pem")
    kept = acme.renew()
    new, after = acme.sign(), certificate(acme.path / "signer.pem")
    assert certificate(kept) == before
    assert kept.name == f"signer-{before.serial_number:x}.pem"
    assert key_print(after) != key_print(before)
    assert keys.algorithm_of(_public(after)) == keys.algorithm_of(_public(before))
    assert [acme.verdict(each) for each in (old, new)] == ["taken", "taken"]


def _public(certificate: x509.Certificate) -> keys.PublicKey:
    key = certificate.public_key()
    assert isinstance(key, keys.PublicKey)
    return key


def test_the_old_private_key_is_nowhere_any_more(acme: Folder) -> None:
    before = (acme.path / "signer.key").read_bytes()
    acme.renew()
    assert before not in acme.bytes().values()
    assert {path.name for path in acme.path.glob("*.key*")} == {"root.key", "signer.key"}
    assert (acme.path / "signer.key").stat().st_mode & 0o777 == 0o600


def test_the_new_key_may_be_of_another_kind(acme: Folder) -> None:
    acme.renew("--key", "p384")
    assert keys.algorithm_of(_public(certificate(acme.path / "signer.pem"))) == "ES384"
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
    other = acme.path.parent / "other"
    assert main(["init", str(other), *INIT]) == 0
    for name in ("root.key", "root.pem"):
        shutil.copy(other / name, acme.path / name)


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
    assert main(["init", str(tmp_path / "acme"), *INIT, "--passphrase-file", str(secret)]) == 0
    acme = Folder(tmp_path / "acme")
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


# --- withdrawing ----------------------------------------------------------------------------------------------------


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
    assert main(["init", str(acme.path.parent / "b"), *INIT]) == 0
    return acme.path.parent / "b" / "signer.pem"


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
