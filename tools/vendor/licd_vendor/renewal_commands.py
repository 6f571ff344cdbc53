"""The commands around renewals: renewing by file, alarms, and what devices told of their usage."""

from __future__ import annotations

import argparse
from pathlib import Path

from licd_vendor import output, passphrase
from licd_vendor.arguments import add_json, an_id_argument, later, number
from licd_vendor.recognize import ANY, MANY


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The parsers of these commands stand below `commands`."""
    renewing = commands.add_parser("renew", help="answer a renewal request that came by file")
    renewing.add_argument("request", type=Path, metavar="REQUEST")
    output.add_option(renewing)
    renewing.add_argument(
        "--rehost",
        type=number(1),
        nargs="?",
        const=ANY,
        metavar="DEVICE",
        help="a person decided that it is the device, though its hardware is another",
    )
    renewing.add_argument(
        "--many", action="store_true", help=f"even if the device shows more than {MANY} disks or network cards"
    )
    renewing.add_argument("--weak", action="store_true", help="even if the device shows too little of its hardware")
    passphrase.add_options(renewing)
    renewing.set_defaults(run=later("renew", "renewal_desk"))

    alarms = commands.add_parser("alarm", help="see license files that two devices seem to use")
    below = alarms.add_subparsers(required=True, metavar="COMMAND")
    listing = below.add_parser("list", help="list the alarms that are open")
    listing.add_argument("--all", action="store_true", help="those that were closed, too")
    add_json(listing)
    listing.set_defaults(run=later("alarm_list", "renewal_desk"))
    closing = below.add_parser("close", help="a person has looked at it")
    closing.add_argument("alarm", type=number(1), metavar="ID", help="its number; alarm list shows it")
    closing.set_defaults(run=later("alarm_close", "renewal_desk"))

    usage = commands.add_parser("usage", help="show how many seats devices used, as they told with their renewals")
    usage.add_argument("--customer", type=an_id_argument, metavar="ID", help="of this customer only")
    add_json(usage)
    usage.set_defaults(run=later("usage", "renewal_desk"))
