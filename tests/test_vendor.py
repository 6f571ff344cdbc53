"""licd-vendor as a vendor runs it: the real command, and what a device then says of its files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from licd.license import document, terms, trust
from licd.license.lines import LicenseFile, Renewal
from licd_vendor.main import main
from tests.support import pki
from tests.support.books import Books, Machine

DESCRIPTION: dict[str, Any] = {
    "seq": 3,
    "licenses": [
        {"name": "kso.scales", "seats": 3, "versions": "5.*", "expires": "2090-12-31", "title": "Весы"},
        {"name": "kso.pay", "license": "uncounted"},
        {"name": "kso.light"},
    ],
}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    assert main(["init", str(tmp_path / "acme"), "--vendor", "acme", "--names", "kso.*", "light"]) == 0
    return tmp_path / "acme"


def sign(folder: Path, description: object, *options: str) -> int:
    (folder / "description.json").write_text(json.dumps(description, ensure_ascii=False), "utf-8")
    return main(["sign", str(folder), str(folder / "description.json"), "-o", str(folder / "out.licd"), *options])


def verified(folder: Path) -> LicenseFile:
    (only,) = document.parse((folder / "out.licd").read_bytes())
    profiles = {"acme": trust.load_profile(folder / "profile")}
    return document.run(trust.verify(only, profiles, trusted_now=None, new=True))


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
def test_a_file_signed_with_fresh_keys_is_accepted_under_the_profile_that_init_wrote(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "acme"
    assert main(["init", str(folder), "--vendor", "acme", "--names", "kso.*", "--key", kind]) == 0
    assert sign(folder, DESCRIPTION) == 0
    file = verified(folder)
    assert (file.seq, file.vendor, file.device) == (3, "acme", None)
    assert [(line.name, line.seats, line.title) for line in file.lines] == [
        ("kso.scales", 3, "Весы"),
        ("kso.pay", 0, ""),
        ("kso.light", 1, ""),
    ]
    assert terms.evaluate([file], file.issued).names["kso.pay"].total is None


def test_ids_are_new_each_time_unless_the_description_gives_them(made: Path) -> None:
    seen = set()
    for _ in range(2):
        sign(made, DESCRIPTION)
        file = verified(made)
        seen |= {file.file, *(line.id for line in file.lines)}
    assert len(seen) == 8
    sign(made, {"seq": 4, "id": "F-4", "licenses": [{"name": "kso.a", "id": "L-1"}]})
    assert (verified(made).file, verified(made).lines[0].id) == ("F-4", "L-1")


def test_a_profile_folder_can_be_copied_to_vendor_d_as_it_is(made: Path, tmp_path: Path) -> None:
    (tmp_path / "vendor.d").mkdir()
    (made / "profile").rename(tmp_path / "vendor.d" / "acme")
    (profile,) = trust.load_profiles(tmp_path / "vendor.d").values()
    assert (profile.vendor, profile.names, profile.url) == ("acme", ("kso.*", "light"), None)


def test_private_keys_are_for_their_owner_only(made: Path) -> None:
    for name in ("root.key", "signer.key"):
        assert stat.S_IMODE((made / name).stat().st_mode) == 0o600


def test_the_certificates_are_a_ca_and_a_leaf_for_one_purpose(made: Path) -> None:
    root = x509.load_pem_x509_certificate((made / "root.pem").read_bytes())
    leaf = x509.load_pem_x509_certificate((made / "signer.pem").read_bytes())
    leaf.verify_directly_issued_by(root)
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_keys_are_never_overwritten(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    assert main(["init", str(made), "--vendor", "acme", "--names", "kso.*"]) == 1
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]


def test_keys_are_encrypted_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "acme"
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    common = ["--vendor", "acme", "--names", "kso.*", "--passphrase-file", str(secret)]
    assert main(["init", str(folder), *common]) == 0
    for name in ("root.key", "signer.key"):
        data = (folder / name).read_bytes()
        with pytest.raises(TypeError):
            load_pem_private_key(data, None)
        load_pem_private_key(data, b"open sesame")
    assert sign(folder, DESCRIPTION) == 1
    secret.write_text("wrong")
    assert sign(folder, DESCRIPTION, "--passphrase-file", str(secret)) == 1
    secret.write_text("\n")
    assert sign(folder, DESCRIPTION, "--passphrase-file", str(secret)) == 1
    assert sign(folder, DESCRIPTION, "--passphrase-file", str(tmp_path / "gone")) == 1
    assert not (folder / "out.licd").exists()
    monkeypatch.setenv("LICD_PASSPHRASE", "open sesame")
    assert sign(folder, DESCRIPTION, "--passphrase-env", "LICD_PASSPHRASE") == 0
    assert verified(folder).seq == 3


def test_a_passphrase_for_keys_without_one_is_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LICD_PASSPHRASE", "x")
    assert sign(made, DESCRIPTION, "--passphrase-env", "LICD_PASSPHRASE") == 1


def test_a_passphrase_is_any_bytes_of_a_file_but_not_too_many(tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "acme"
    common = ["--vendor", "acme", "--names", "kso.*", "--passphrase-file", str(secret)]
    secret.write_bytes(b"x" * 1024)
    assert main(["init", str(folder), *common]) == 1
    assert not folder.exists()
    secret.write_bytes(b"\xff\xfe secret\n")
    assert main(["init", str(folder), *common]) == 0
    assert sign(folder, DESCRIPTION, "--passphrase-file", str(secret)) == 0
    load_pem_private_key((folder / "signer.key").read_bytes(), b"\xff\xfe secret")


def test_a_description_with_a_member_that_stands_twice_is_refused(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made / "twice.json"
    path.write_text('{"seq": 1, "licenses": [{"name": "kso.a", "seats": 1, "seats": 5}]}')
    assert main(["sign", str(made), str(path), "-o", str(made / "out.licd")]) == 1
    assert "stands twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--vendor", "Acme", "--names", "kso.*"],
        ["--vendor", "../acme", "--names", "kso.*"],
        ["--vendor", "acme", "--names", "*"],
        ["--vendor", "acme", "--names", "kso.*", "--url", "http://example.com"],
    ],
)
def test_a_profile_that_no_device_would_take_is_refused_before_keys_are_made(
    tmp_path: Path, options: list[str]
) -> None:
    assert main(["init", str(tmp_path / "acme"), *options]) == 1
    assert not (tmp_path / "acme").exists()


@pytest.mark.parametrize(
    "description",
    [
        pytest.param([], id="an array"),
        pytest.param({"seq": 1}, id="no licenses"),
        pytest.param({"licenses": []}, id="no seq"),
        pytest.param({"seq": 0, "licenses": []}, id="seq 0"),
        pytest.param({"seq": 1, "licenses": [], "color": "red"}, id="an unknown member"),
        pytest.param({"seq": 1, "licenses": [{"seats": 1}]}, id="a license without a name"),
        pytest.param({"seq": 1, "licenses": ["kso.a"]}, id="a name for a license"),
        pytest.param({"seq": 1, "licenses": [{"name": "kso.a", "seat": 3}]}, id="a misspelled member"),
        pytest.param({"seq": 1, "licenses": [{"name": "foreign"}]}, id="a foreign name"),
        pytest.param({"seq": 1, "licenses": [{"name": "kso.a", "seats": 0}]}, id="no seats"),
        pytest.param({"seq": 1, "licenses": [{"name": "kso.a", "expires": "31.12.2027"}]}, id="another date"),
        pytest.param({"seq": 1, "licenses": [{"name": "kso.a", "versions": "5.x"}]}, id="another version"),
        pytest.param({"seq": 1, "licenses": [{"name": "kso.a", "id": "a"}] * 2}, id="one id twice"),
        pytest.param({"seq": 1, "licenses": [{"name": "kso.a", "x": {"a": float("nan")}}]}, id="NaN"),
        pytest.param({"seq": 1, "licenses": [{"name": "kso.a"}] * 2000}, id="too many"),
        pytest.param({"seq": 1, "device": {}, "licenses": []}, id="half a binding"),
    ],
)
def test_a_description_that_a_device_would_refuse_is_refused_here(
    made: Path, description: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign(made, description) == 1
    assert not (made / "out.licd").exists()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]


def test_a_binding_and_x_go_into_the_file_as_they_are(made: Path) -> None:
    device = {
        "key": document.b64url(bytes(32)).decode(),
        "salt": document.b64url(bytes(16)).decode(),
        "fingerprint": {"board_serial": ["00ff00"]},
        "weights": {"board_serial": 3},
        "share": 60,
    }
    renewal = {"need": "required", "every_days": 35, "grace_days": 14}
    licenses = [{"name": "kso.a", "x": {"order": 5}}]
    assert sign(made, {"seq": 1, "device": device, "x": {"a": 1}, "renewal": renewal, "licenses": licenses}) == 0
    file = verified(made)
    assert file.device is not None
    assert file.device._asdict() == device
    assert (file.x, file.lines[0].x) == ({"a": 1}, {"order": 5})
    assert file.lines[0].renewal == Renewal("required", 35, 14)


def test_signing_with_a_certificate_of_another_key_is_refused(made: Path, tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "b"), "--vendor", "acme", "--names", "kso.*"]) == 0
    (made / "signer.pem").write_bytes((tmp_path / "b" / "signer.pem").read_bytes())
    assert sign(made, DESCRIPTION) == 1


def test_signing_with_an_intermediate_ca_after_the_signers_certificate(tmp_path: Path) -> None:
    vendor = pki.Vendor(between=[{}])
    folder = vendor.write_folder(tmp_path / "acme")
    assert sign(folder, DESCRIPTION) == 0
    assert verified(folder).seq == 3


# --- show -----------------------------------------------------------------------------------------------------


def test_show_prints_a_verified_file_for_people(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign(made, DESCRIPTION)
    capsys.readouterr()
    assert main(["show", str(made / "out.licd"), "--profile", str(made / "profile")]) == 0
    text = capsys.readouterr().out
    for part in (
        "verified: every line",
        "kso.scales",
        "3 seats",
        "2090-12-31",
        "versions 5.*",
        "Весы",
        "seq 3",
        "any version",
    ):
        assert part in text


def test_show_prints_every_member_that_says_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    renewal = {"need": "required", "every_days": 35, "grace_days": 14}
    line = {"not_before": "2026-07-01", "replaces": "old", "grace_days": 9, "x": {"order": 4711}, "renewal": renewal}
    data = pki.Vendor().license_file(lines=[line], header={"request": "r-17", "renewal": {"need": "none"}})
    (tmp_path / "f.licd").write_bytes(data)
    assert main(["show", str(tmp_path / "f.licd")]) == 0
    text = capsys.readouterr().out
    for part in ("device: any", "request: r-17", "renewal: none", "from 2026-07-01, perpetual", "replaces: old"):
        assert part in text
    for part in ("grace_days: 9", 'x: {"order": 4711}', "renewal: required, every 35 days, 14 days of grace"):
        assert part in text


def test_show_prints_json_for_programs(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign(made, DESCRIPTION)
    capsys.readouterr()
    assert main(["show", str(made / "out.licd"), "--profile", str(made / "profile"), "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)["documents"]
    assert (only["kind"], only["verified"], only["lines"][1]["seats"]) == ("license-file", True, 3)


def test_show_without_a_profile_says_loudly_that_nothing_is_verified(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign(made, DESCRIPTION)
    data = (made / "out.licd").read_bytes()
    (made / "out.licd").write_bytes(data.replace(b'"seats":3', b'"seats":9'))
    capsys.readouterr()
    assert main(["show", str(made / "out.licd")]) == 0
    assert "NOT VERIFIED" in capsys.readouterr().out
    assert main(["show", str(made / "out.licd"), "--profile", str(made / "profile")]) == 1
    assert "BAD_SIGNATURE" in capsys.readouterr().err


def test_show_keeps_control_characters_of_an_unverified_file_from_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pki.Vendor().license_file(lines=[{"title": "\x1b[2J"}], header={"request": "\x1b]0;x\x07"})
    (tmp_path / "evil.licd").write_bytes(data)
    assert main(["show", str(tmp_path / "evil.licd")]) == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_show_verifies_a_file_whose_signer_has_retired_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begins = pki.START.replace(year=2020)
    vendor = pki.Vendor(root={"begins": begins}, leaf={"begins": begins, "days": 1095})
    profile = vendor.write_profile(tmp_path)
    issued = pki.START.replace(year=2021).timestamp()
    (tmp_path / "old.licd").write_bytes(vendor.license_file(issued=issued))
    assert main(["show", str(tmp_path / "old.licd"), "--profile", str(profile)]) == 0
    assert "no device imports it anew" in capsys.readouterr().out


def test_show_verifies_a_withdrawn_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vendor = pki.Vendor()
    profile = vendor.write_profile(tmp_path)
    (tmp_path / "withdrawn.licd").write_bytes(vendor.withdrawn((vendor.leaf.certificate, True)))
    assert main(["show", str(tmp_path / "withdrawn.licd"), "--profile", str(profile)]) == 0
    assert "withdrawn of the vendor acme" in capsys.readouterr().out


def test_show_prints_the_requests_before_a_license_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = Books(tmp_path)
    asked = books.ask(books.order())
    request = Machine(1).request(asked)
    (tmp_path / "both").write_bytes(asked.text + request.text)
    capsys.readouterr()
    assert main(["show", str(tmp_path / "both"), "--profile", str(books.dir / "profile")]) == 0
    text = capsys.readouterr().out
    for part in ("install-request of the vendor acme, issued", "license-request for the vendor acme, issued"):
        assert part in text
    for part in (f"salt: {asked.salt}", "signed by the key that it names", request.device, "debian"):
        assert part in text
    (tmp_path / "both").write_bytes(asked.text + request.text.replace(b"debian", b"gentoo"))
    assert main(["show", str(tmp_path / "both"), "--profile", str(books.dir / "profile")]) == 1
    assert "BAD_SIGNATURE" in capsys.readouterr().err


# --- the command ------------------------------------------------------------------------------------------------


def _command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "licd_vendor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_wrong_usage_exits_2() -> None:
    assert _command("sign").returncode == 2
    assert _command().returncode == 2


def test_help_says_the_exit_statuses() -> None:
    assert "Exit status: 0 done, 1 refused, 2 usage" in _command("--help").stdout


def test_what_is_missing_is_refused_without_a_traceback(tmp_path: Path) -> None:
    for arguments in (
        ("show", str(tmp_path / "gone.licd")),
        ("show", str(tmp_path)),
        ("sign", str(tmp_path), str(tmp_path / "gone.json"), "-o", str(tmp_path / "o")),
        ("init", "/dev/null/acme", "--vendor", "acme", "--names", "kso.*"),
    ):
        done = _command(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "f.licd").write_bytes(pki.Vendor().license_file())
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "licd_vendor", "show", str(tmp_path / "f.licd")]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_spoilt_folder_of_keys_is_refused_with_a_hint(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "ok.json").write_text(json.dumps(DESCRIPTION))
    command = ["sign", str(made), str(made / "ok.json"), "-o", str(made / "out.licd")]
    for name, data in (("signer.key", b"no key"), ("signer.pem", b"no certificate"), ("ok.json", b"{")):
        kept = (made / name).read_bytes()
        (made / name).write_bytes(data)
        assert main(command) == 1
        (made / name).unlink()
        assert main(command) == 1
        (made / name).write_bytes(kept)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"] * 6
    assert main(command) == 0
    assert main(["show", str(made / "out.licd"), "--profile", str(made)]) == 1


def test_show_separates_the_files_of_a_delivery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vendor = pki.Vendor()
    (tmp_path / "two.licd").write_bytes(vendor.license_file(seq=1) + vendor.license_file(seq=2))
    assert main(["show", str(tmp_path / "two.licd"), "--profile", str(vendor.write_profile(tmp_path))]) == 0
    assert capsys.readouterr().out.count("verified: every line") == 2
