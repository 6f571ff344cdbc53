"""licd-vendor: make keys, keep orders, issue and show documents."""

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
from licd_vendor import key_commands, keys, output, passphrase, renewal_commands, show, sign, store_commands
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
        description="Make the vendor's keys, keep orders, issue and show documents.",
        epilog="Exit status: 0 done, 1 refused, 2 usage. See licd-vendor(1) and licd-license(5).",
    )
    parser.add_argument("--version", action="version", version=f"licd-vendor {__version__}")
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(os.environ.get("LICD_VENDOR_DIR", ".")),
        metavar="DIR",
        help="the folder that init made (default: %(default)s)",
    )
    parser.add_argument(
        "--database",
        default=os.environ.get("LICD_VENDOR_DATABASE"),
        metavar="URL",
        help="where orders are kept (default: sqlite, DIR/vendor.db)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="make a root, a signing certificate and the vendor profile")
    init.add_argument("folder", type=Path, metavar="DIR")
    init.add_argument("--vendor", required=True, metavar="ID", help="the vendor's id, e.g. acme")
    init.add_argument(
        "--names", required=True, nargs="+", metavar="NAME", help="the license names it may grant, e.g. 'kso.*'"
    )
    init.add_argument("--url", help="the vendor's server, https://...")
    init.add_argument("--key", choices=keys.KINDS, default=keys.KINDS[0], help="kind of keys (default: p256)")
    passphrase.add_options(init, new=True)
    init.set_defaults(run=_init)

    signing = commands.add_parser("sign", help="make a license file from a description")
    signing.add_argument("folder", type=Path, metavar="DIR", help="the folder that init made")
    signing.add_argument("description", type=Path, metavar="DESCRIPTION.json")
    output.add_option(signing)
    passphrase.add_options(signing)
    signing.set_defaults(run=_sign)

    showing = commands.add_parser("show", help="verify and print a document")
    showing.add_argument("file", type=Path, metavar="FILE")
    showing.add_argument("--profile", type=Path, metavar="DIR", help="the vendor profile to verify it under")
    showing.add_argument("--json", action="store_true", help="print JSON, for programs")
    showing.set_defaults(run=_show)
    key_commands.add(commands)
    store_commands.add(commands)
    renewal_commands.add(commands)
    return parser


def _init(arguments: argparse.Namespace) -> int:
    leaf = keys.init(
        arguments.folder,
        arguments.vendor,
        arguments.names,
        url=arguments.url,
        kind=arguments.key,
        passphrase=passphrase.given(arguments),
    )
    print(f"keys and certificates: {arguments.folder}")
    print(f"signing certificate:   until {timestamp(leaf.not_valid_after_utc.timestamp())[:10]}")
    print(f"its purpose:           {SIGNING_PURPOSE.dotted_string}")
    print(f"vendor profile:        {arguments.folder / 'profile'}")
    print(f"Copy the profile to vendor.d/{arguments.vendor} on the devices; keep root.key offline.")
    return DONE


def _sign(arguments: argparse.Namespace) -> int:
    others = {"the description": arguments.description, "the passphrase": arguments.passphrase_file}
    output.check(arguments.output, arguments.folder, others)
    description = sign.read_description(arguments.description)
    profile = show.load_profile(arguments.folder / "profile")
    key = keys.read_signer(arguments.folder, passphrase.given(arguments), passphrase.ask)
    file = sign.license_file(description, profile, key, time.time())
    output.write(arguments.output, file.text, "Check the path, its owner and the disk, and run it again.")
    words = f"{output.name(arguments.output)}: seq {file.seq}, {show.counted(len(file.lines), 'license')}"
    print(words, file=output.words(arguments.output))
    return DONE


def _show(arguments: argparse.Namespace) -> int:
    profile = show.load_profile(arguments.profile) if arguments.profile else None
    documents = show.describe(show.read_document(arguments.file), profile)
    if arguments.json:
        print(json.dumps({"documents": documents}, indent=2))
    else:
        print("\n".join(show.as_text(documents)))
    return DONE
