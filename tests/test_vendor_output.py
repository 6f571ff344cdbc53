"""licd-vendor -o: a whole file or none, never one that the vendor needs, and standard output."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from licd.license import document, install
from licd_vendor.main import main
from tests.support.books import Books, Machine


@pytest.fixture
def sent(books: Books) -> Path:
    """A license request that nobody has answered."""
    path = books.folder / "request.licd"
    path.write_bytes(Machine(1).request(books.ask(books.order())).text)
    return path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("acme/root.key", "a key of the vendor"),
        ("acme/signer.key", "a key of the vendor"),
        ("acme/root.pem", "a certificate of the vendor"),
        ("acme/signer.pem", "a certificate of the vendor"),
        ("acme/vendor.db", "the store"),
        ("acme/vendor.db-journal", "the store"),
        ("acme/profile/vendor.conf", "in the vendor profile"),
        ("acme/profile/anchors/root.pem", "in the vendor profile"),
        ("acme/profile/new.licd", "in the vendor profile"),
        ("acme/profile/../signer.key", "a key of the vendor"),
        ("request.licd", "the license request"),
        ("passphrase", "the passphrase"),
        ("acme", "a folder"),
        ("link", "a key of the vendor"),
        ("second name", "a key of the vendor"),
    ],
)
def test_what_the_vendor_needs_is_refused_by_name_before_anything_is_issued(
    books: Books, sent: Path, capsys: pytest.CaptureFixture[str], name: str, what: str
) -> None:
    (books.folder / "passphrase").write_text("unused\n")
    (books.folder / "link").symlink_to("acme/signer.key")
    (books.folder / "second name").hardlink_to(books.dir / "signer.key")
    before = contents(books.folder)
    capsys.readouterr()
    secret = books.folder / "passphrase"
    assert books.run("issue", sent, "-o", books.folder / name, "--passphrase-file", secret) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert what in error
    assert "Nothing was issued" in hint
    assert contents(books.folder) == before


def test_a_key_that_was_moved_away_is_still_no_place_for_a_document(books: Books, sent: Path) -> None:
    (books.dir / "root.key").rename(books.folder / "offline")
    assert books.run("issue", sent, "-o", books.dir / "root.key") == 1


def test_every_command_with_an_output_looks_where_that_leads(books: Books, sent: Path) -> None:
    file = books.issue(sent.read_bytes())
    (books.folder / "d.json").write_text('{"seq": 1, "licenses": []}')
    before = contents(books.folder)
    key = books.dir / "signer.key"
    assert books.run("install-request", "new", 1, "-o", key) == 1
    assert books.run("reissue", file.file, "-o", key) == 1
    for taken in (key, books.folder / "d.json"):
        assert main(["sign", str(books.dir), str(books.folder / "d.json"), "-o", str(taken)]) == 1
    assert contents(books.folder) == before


def test_a_store_elsewhere_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = Books(tmp_path, database=f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert books.run("order", "new", "--customer", "c-1", "--license", "kso.a") == 0
    before = contents(tmp_path)
    assert books.run("install-request", "new", 1, "-o", tmp_path / "elsewhere.db") == 1
    assert "is the store" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_file_that_was_there_is_replaced_whole_with_the_mode_that_the_umask_leaves(books: Books, sent: Path) -> None:
    out, shared = books.folder / "out.licd", books.folder / "second name"
    out.write_bytes(b"older")
    shared.hardlink_to(out)
    mask = os.umask(0o027)
    try:
        assert books.run("issue", sent, "-o", out) == 0
    finally:
        os.umask(mask)
    assert books.verified(out).seq == 1
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert shared.read_bytes() == b"older"  # so it was written beside
    assert {path.name for path in books.folder.iterdir() if path.name.startswith(".")} == set()


def test_a_symbolic_link_stays_one(books: Books, sent: Path) -> None:
    (books.folder / "link").symlink_to("out.licd")
    assert books.run("issue", sent, "-o", books.folder / "link") == 0
    assert (books.folder / "link").is_symlink()
    assert books.verified(books.folder / "out.licd").seq == 1


def test_no_half_file_is_left_on_a_full_disk(books: Books) -> None:
    (books.folder / "d.json").write_text('{"seq": 1, "x": {"a": "' + "b" * 9000 + '"}, "licenses": []}')
    (books.folder / "out.licd").write_bytes(b"older")
    before = contents(books.folder)
    command = [sys.executable, "-m", "licd_vendor", "sign", "acme", "d.json", "-o", "out.licd"]
    limited = ["prlimit", "--fsize=4096", *command]
    done = subprocess.run(limited, cwd=books.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: out.licd cannot be written: File too large.\nhint: ")
    assert contents(books.folder) == before


def test_a_pipe_is_written_into_and_not_replaced(books: Books, sent: Path) -> None:
    pipe = books.folder / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert books.run("issue", sent, "-o", pipe) == 0
    reader.join(10)
    assert read[0].startswith(b'{"licd":1,"type":"license-file"')
    assert pipe.is_fifo()


def test_a_dash_is_standard_output_which_has_nothing_but_the_document(books: Books) -> None:
    order = books.order()

    def printed(*arguments: str | Path | int) -> bytes:
        command = [sys.executable, "-m", "licd_vendor", *books.options, *map(str, arguments)]
        done = subprocess.run(command, cwd=books.folder, capture_output=True, check=False)
        assert (done.returncode, done.stderr[:17]) == (0, b"standard output: ")
        return done.stdout

    asked = printed("install-request", "new", order, "-o", "-")
    made = install.verify_install_request(asked, books.profiles, trusted_now=None)
    (books.folder / "r").write_bytes(Machine(1).request(made).text)
    file = printed("issue", "r", "-o", "-")
    (only,) = document.parse(file)
    assert printed("reissue", only.records[0].value["id"], "-o", "-") == file
    (books.folder / "d.json").write_text('{"seq": 1, "licenses": []}')
    assert document.parse(printed("sign", books.dir, "d.json", "-o", "-"))
    assert not (books.folder / "-").exists()


def test_a_file_with_the_name_of_a_dash_can_be_had(books: Books, sent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(books.folder)
    assert books.run("issue", sent, "-o", "./-") == 0
    assert books.verified(books.folder / "-").seq == 1


def test_standard_output_that_nobody_reads_is_a_failure_and_the_hint_gives_the_file(books: Books, sent: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "licd_vendor", *books.options, "issue", str(sent), "-o", "-"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    error, hint = done.stderr.splitlines()
    assert (done.returncode, error) == (1, "error: standard output cannot be written: Broken pipe.")
    assert books.run(*hint.split("licd-vendor ")[1].replace("FILE", str(books.folder / "o")).split()) == 0
    assert books.verified(books.folder / "o").seq == 1
