"""The passphrase of encrypted keys at a real terminal; files and variables are in test_vendor.py."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.support.books import Books


def at_a_terminal(command: Sequence[str], typed: Sequence[str]) -> tuple[int, str]:
    """The exit status, and all that the terminal shows. Each answer is typed when a line ends in a colon."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "licd_vendor", *command])
    shown, answers = b"", list(typed)
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # EIO: the other end is closed
            break
        if not data:
            break
        shown += data
        if shown.endswith(b": ") and answers:
            os.write(terminal, answers.pop(0).encode() + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


def init(folder: Path, *typed: str) -> tuple[int, str]:
    return at_a_terminal(["init", str(folder), "--vendor", "acme", "--names", "kso.*", "--passphrase-prompt"], typed)


def test_new_keys_are_encrypted_with_a_passphrase_typed_twice_and_never_shown(tmp_path: Path) -> None:
    status, shown = init(tmp_path / "acme", "open sesame", "open sesame")
    assert (status, "open sesame" in shown) == (0, False)
    for name in ("root.key", "signer.key"):
        load_pem_private_key((tmp_path / "acme" / name).read_bytes(), b"open sesame")


def test_two_different_passphrases_make_no_keys(tmp_path: Path) -> None:
    status, shown = init(tmp_path / "acme", "open sesame", "open sesama")
    assert status == 1
    assert "two different passphrases" in shown
    assert not (tmp_path / "acme").exists()


def test_whoever_signs_at_a_terminal_is_asked_for_the_passphrase(tmp_path: Path) -> None:
    init(tmp_path / "acme", "open sesame", "open sesame")
    books, asked = Books(tmp_path), tmp_path / "asked.licd"
    command = [*books.options, "install-request", "new", str(books.order()), "-o", str(asked)]
    status, shown = at_a_terminal(command, ["wrong"])
    assert (status, "Is it the right passphrase?" in shown, asked.exists()) == (1, True, False)
    status, shown = at_a_terminal(command, ["open sesame"])
    assert (status, "open sesame" in shown, asked.exists()) == (0, False, True)


def test_where_nobody_sits_at_a_terminal_nobody_is_asked(tmp_path: Path) -> None:
    init(tmp_path / "acme", "open sesame", "open sesame")
    books = Books(tmp_path)
    command = [*books.options, "install-request", "new", str(books.order()), "-o", "asked.licd"]
    whole = [sys.executable, "-m", "licd_vendor", *command]
    done = subprocess.run(
        whole, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.returncode == 1
    assert "Give --passphrase-file or --passphrase-env." in done.stderr


def test_whoever_makes_a_new_signer_is_asked_for_the_roots_passphrase_which_the_new_key_gets(tmp_path: Path) -> None:
    init(tmp_path / "acme", "open sesame", "open sesame")
    before = (tmp_path / "acme" / "signer.key").read_bytes()
    command = ["--dir", str(tmp_path / "acme"), "signer", "new"]
    status, shown = at_a_terminal(command, ["wrong"])
    assert (status, "Is it the right passphrase?" in shown) == (1, True)
    assert (tmp_path / "acme" / "signer.key").read_bytes() == before
    status, shown = at_a_terminal(command, ["open sesame"])
    assert (status, "root.key" in shown, "open sesame" in shown) == (0, True, False)
    after = (tmp_path / "acme" / "signer.key").read_bytes()
    assert after != before
    load_pem_private_key(after, b"open sesame")
    (kept,) = (tmp_path / "acme").glob("signer-*.pem")
    status, shown = at_a_terminal(["--dir", str(tmp_path / "acme"), "withdraw", str(kept)], ["open sesame"])
    assert (status, "signer.key" in shown) == (0, True)


def test_a_new_signer_may_have_another_passphrase_typed_twice(tmp_path: Path) -> None:
    init(tmp_path / "acme", "open sesame", "open sesame")
    command = ["--dir", str(tmp_path / "acme"), "signer", "new", "--new-passphrase-prompt"]
    status, _ = at_a_terminal(command, ["of the server", "of the server", "open sesame"])
    assert status == 0
    load_pem_private_key((tmp_path / "acme" / "signer.key").read_bytes(), b"of the server")
