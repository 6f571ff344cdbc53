"""The passphrase of the keys: from a file, an environment variable or the terminal.

Never from the command line: everybody on the machine can read that.
"""

from __future__ import annotations

import argparse
import os
import sys
from getpass import getpass
from pathlib import Path

from licd_vendor.keys import Failure

_SOURCES = ("file", "env", "prompt")
MAX_PASSPHRASE_BYTES = 1023  # OpenSSL takes no more


def add_options(parser: argparse.ArgumentParser, *, new: bool = False, prefix: str = "") -> None:
    """new: a key is to be encrypted; otherwise the terminal is asked without being told.

    prefix: "new-" where a command needs two: another one for the key that it makes
    """
    group = parser.add_mutually_exclusive_group()
    words = (
        "the new key gets another passphrase: the first line of this file"
        if prefix
        else "keys are encrypted; its first line opens"
    )
    group.add_argument(f"--{prefix}passphrase-file", type=Path, metavar="FILE", help=words)
    group.add_argument(f"--{prefix}passphrase-env", metavar="NAME", help="the same from an environment variable")
    if new:
        words = "the same, asked for at the terminal"
        group.add_argument(f"--{prefix}passphrase-prompt", action="store_true", help=words)


def given(arguments: argparse.Namespace, prefix: str = "") -> bytes | None:
    """The passphrase that the options name, None if they name none. Errors: Failure, OSError"""
    options = {name: getattr(arguments, f"{prefix}passphrase_{name}".replace("-", "_"), None) for name in _SOURCES}
    text: str
    if options["file"] is not None:
        return read(options["file"])
    if options["env"] is not None:
        text = os.environ.get(options["env"], "")
    elif options["prompt"]:
        text = getpass("New passphrase: ")
        if getpass("Again: ") != text:
            raise Failure("These were two different passphrases.", "Run it again.")
    else:
        return None
    return _checked(text)


def read(path: Path) -> bytes:
    """The passphrase in this file. Errors: Failure, OSError"""
    # surrogateescape, as os.environ does: whatever the bytes are, they are the passphrase.
    lines = path.read_text("utf-8", "surrogateescape").splitlines()
    return _checked(lines[0] if lines else "")


def _checked(text: str) -> bytes:
    if not text:
        hint = "Put it into the file's first line, or the variable named, or type it."
        raise Failure("The passphrase is empty.", hint)
    passphrase = text.encode("utf-8", "surrogateescape")
    if len(passphrase) > MAX_PASSPHRASE_BYTES:
        raise Failure(f"The passphrase is over {MAX_PASSPHRASE_BYTES} bytes.", "Choose a shorter one.")
    return passphrase


def ask(path: Path) -> bytes | None:
    """What a person types for this key; None where nobody sits at a terminal."""
    if not sys.stdin.isatty():
        return None
    return getpass(f"Passphrase of {path}: ").encode("utf-8", "surrogateescape")
