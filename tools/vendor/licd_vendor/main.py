"""licd-vendor: make keys, sign license files, show documents."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from licd import __version__
from licd.license.dates import timestamp
from licd.license.signer import SIGNING_PURPOSE
from licd.rpc.errors import Refused
from licd_vendor import keys, show, sign
from licd_vendor.keys import Failure

DONE, REFUSED, USAGE = 0, 1, 2  # exit statuses; argparse has 2 for usage


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except Failure as failure:
        return _refuse(str(failure), failure.hint)
    except Refused as refused:
        return _refuse(f"{refused.message} ({refused.error.name})", refused.error.next)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # quiet at exit, too
        return DONE
    except OSError as error:
        return _refuse(f"{error.filename or 'output'}: {error.strerror}.", "Check the path, its owner and the disk.")
    return status


def _refuse(sentence: str, hint: str) -> int:
    print(f"error: {sentence}\nhint: {hint}", file=sys.stderr)
    return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="licd-vendor",
        description="Make the vendor's keys, sign license files, show documents.",
        epilog="Exit status: 0 done, 1 refused, 2 usage. See licd-vendor(1) and licd-license(5).",
    )
    parser.add_argument("--version", action="version", version=f"licd-vendor {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="make a root, a signing certificate and the vendor profile")
    init.add_argument("folder", type=Path, metavar="DIR")
    init.add_argument("--vendor", required=True, metavar="ID", help="the vendor's id, e.g. acme")
    init.add_argument(
        "--names", required=True, nargs="+", metavar="NAME", help="the license names it may grant, e.g. 'kso.*'"
    )
    init.add_argument("--url", help="the vendor's server, https://...")
    init.add_argument("--key", choices=("p256", "p384", "rsa"), default="p256", help="kind of keys (default: p256)")
    _add_passphrase(init)
    init.set_defaults(run=_init)

    signing = commands.add_parser("sign", help="make a license file from a description")
    signing.add_argument("folder", type=Path, metavar="DIR", help="the folder that init made")
    signing.add_argument("description", type=Path, metavar="DESCRIPTION.json")
    signing.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    _add_passphrase(signing)
    signing.set_defaults(run=_sign)

    showing = commands.add_parser("show", help="verify and print a document")
    showing.add_argument("file", type=Path, metavar="FILE")
    showing.add_argument("--profile", type=Path, metavar="DIR", help="the vendor profile to verify it under")
    showing.add_argument("--json", action="store_true", help="print JSON, for programs")
    showing.set_defaults(run=_show)
    return parser


MAX_PASSPHRASE_BYTES = 1023  # OpenSSL takes no more


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    # Never as an argument itself: everybody on the machine can read those.
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--passphrase-file", type=Path, metavar="FILE", help="keys are encrypted; its first line opens")
    group.add_argument("--passphrase-env", metavar="NAME", help="the same from an environment variable")


def _passphrase(arguments: argparse.Namespace) -> bytes | None:
    text: str | None = None
    if arguments.passphrase_file is not None:
        # surrogateescape, as os.environ does: whatever the bytes are, they are the passphrase.
        lines = arguments.passphrase_file.read_text("utf-8", "surrogateescape").splitlines()
        text = lines[0] if lines else ""
    elif arguments.passphrase_env is not None:
        text = os.environ.get(arguments.passphrase_env, "")
    if text == "":
        raise Failure("The passphrase is empty.", "Put it into the file's first line, or the variable named.")
    if text is None:
        return None
    passphrase = text.encode("utf-8", "surrogateescape")
    if len(passphrase) > MAX_PASSPHRASE_BYTES:
        raise Failure(f"The passphrase is over {MAX_PASSPHRASE_BYTES} bytes.", "Choose a shorter one.")
    return passphrase


def _init(arguments: argparse.Namespace) -> int:
    leaf = keys.init(
        arguments.folder,
        arguments.vendor,
        arguments.names,
        url=arguments.url,
        kind=arguments.key,
        passphrase=_passphrase(arguments),
    )
    print(f"keys and certificates: {arguments.folder}")
    print(f"signing certificate:   until {timestamp(leaf.not_valid_after_utc.timestamp())[:10]}")
    print(f"its purpose:           {SIGNING_PURPOSE.dotted_string}")
    print(f"vendor profile:        {arguments.folder / 'profile'}")
    print(f"Copy the profile to vendor.d/{arguments.vendor} on the devices; keep root.key offline.")
    return DONE


def _sign(arguments: argparse.Namespace) -> int:
    description = sign.read_description(arguments.description)
    profile = show.load_profile(arguments.folder / "profile")
    key, chain = keys.read_signer(arguments.folder, _passphrase(arguments))
    file = sign.license_file(description, profile, key, chain, time.time())
    arguments.output.write_bytes(file.text)
    print(f"{arguments.output}: seq {file.seq}, {len(file.lines)} licenses")
    return DONE


def _show(arguments: argparse.Namespace) -> int:
    profile = show.load_profile(arguments.profile) if arguments.profile else None
    documents = show.describe(show.read_document(arguments.file), profile)
    if arguments.json:
        print(json.dumps({"documents": documents}, indent=2))
    else:
        print("\n".join(show.as_text(documents)))
    return DONE
