"""The commands around the signing certificate: a new one, and withdrawing an old one. They need no store."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from licd.license.dates import timestamp
from licd_vendor import keys, passphrase, show, signers
from licd_vendor.show import counted

DONE = 0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The parsers of these commands stand below `commands`."""
    of_signer = commands.add_parser("signer", help="keep the signing certificate")
    new = of_signer.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "new", help="make a new signing certificate under the root"
    )
    new.add_argument("--root-key", type=Path, metavar="FILE", help="the root's key (default: root.key in DIR)")
    new.add_argument("--key", choices=keys.KINDS, help="kind of the new key (default: that of the old one)")
    passphrase.add_options(new)
    passphrase.add_options(new, new=True, prefix="new-")
    new.set_defaults(run=_new)

    withdrawing = commands.add_parser("withdraw", help="declare that a signing certificate signs nothing new")
    withdrawing.add_argument("certificate", type=Path, metavar="CERT.pem")
    withdrawing.add_argument(
        "--void", action="store_true", help="its key was stolen: what it has signed stops where it is in force, too"
    )
    passphrase.add_options(withdrawing)
    withdrawing.set_defaults(run=_withdraw)


def _new(arguments: argparse.Namespace) -> int:
    made = signers.new_signer(
        arguments.dir,
        show.load_profile(arguments.dir / "profile"),
        root_key=arguments.root_key or arguments.dir / "root.key",
        passphrase=passphrase.given(arguments),
        ask=passphrase.ask,
        fresh=passphrase.given(arguments, "new-"),
        kind=arguments.key,
    )
    until = timestamp(made.certificate.not_valid_after_utc.timestamp())[:10]
    print(f"signing certificate: until {until}, serial {made.certificate.serial_number:x}")
    print(f"its key: {arguments.dir / 'signer.key'}, {'encrypted' if made.encrypted else 'not encrypted'}")
    if made.kept is not None:
        print(f"the old one: {made.kept}; its key is gone from here")
        print(f"next: if the old key may be in other hands: licd-vendor withdraw {made.kept}")
    print("note: a licd-vendor serve that runs signs with the old one until it is started anew", file=sys.stderr)
    return DONE


def _withdraw(arguments: argparse.Namespace) -> int:
    folder = arguments.dir / "profile"
    done = signers.withdraw(
        arguments.dir,
        folder,
        arguments.certificate,
        void=arguments.void,
        open_key=lambda: keys.read_signer(arguments.dir, passphrase.given(arguments), passphrase.ask),
        now=time.time(),
    )
    how = "withdrawn and void" if done.void else "withdrawn"
    subject = show.plain(done.certificate.subject.rfc4514_string())
    print(f"{subject}, serial {done.certificate.serial_number:x}: {how}{' already' if done.again else ''}")
    print(f"{folder / 'withdrawn.licd'}: seq {done.seq}, {counted(done.keys, 'key')}")
    if not done.again:
        print("next: devices get it with their next answer from licd-vendor serve, or with a copy of the profile")
        print("note: what it signed, and no device has taken in yet, none takes in any more: ask anew", file=sys.stderr)
        if done.void:
            words = "what it signed stops on a device that has this list, until a file of the new signer is there"
            print(f"note: {words}: licd-vendor renew, issue", file=sys.stderr)
    return DONE
