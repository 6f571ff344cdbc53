"""The commands of licd-vendor that need the store: orders, install requests, issuing, history.

What they do stands in desk.py, which is imported only when one of them runs: SQLAlchemy is an extra, and who keeps no
books needs it not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from licd.device.fingerprint import DEFAULT_SHARE, FACTORS
from licd.license.lines import an_id
from licd_vendor import output, passphrase
from licd_vendor.keys import Failure
from licd_vendor.recognize import ANY, MANY


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The parsers of these commands stand below `commands`."""
    orders = commands.add_parser("order", help="keep orders").add_subparsers(required=True, metavar="COMMAND")
    new = orders.add_parser("new", help="take in an order")
    new.add_argument("description", type=Path, nargs="?", metavar="DESCRIPTION.json", help="licenses, as for sign")
    new.add_argument("--customer", type=_id, required=True, metavar="ID", help="an opaque id of the customer: no name")
    new.add_argument(
        "--license",
        action="append",
        metavar="LICENSE",
        help="a license: NAME[,seats=N][,uncounted][,expires=DATE][,versions=V] ...; once for each",
    )
    new.add_argument(
        "--devices", type=_number(1), default=1, metavar="N", help="for so many devices (default: %(default)s)"
    )
    new.add_argument(
        "--rehosts",
        type=_number(0),
        default=3,
        metavar="N",
        help="may be moved so many times (default: %(default)s)",
    )
    new.set_defaults(run=_later("order_new"))

    listing = orders.add_parser("list", help="list orders")
    listing.add_argument("--customer", type=_id, metavar="ID", help="of this customer only")
    _add_json(listing)
    listing.set_defaults(run=_later("order_list"))

    showing = orders.add_parser("show", help="show an order, its licenses and devices")
    _add_order(showing)
    _add_json(showing)
    showing.set_defaults(run=_later("order_show"))

    setting = orders.add_parser("set", help="change how many devices or re-hosts an order allows")
    _add_order(setting)
    setting.add_argument("--devices", type=_number(1), metavar="N", help="for so many devices")
    setting.add_argument("--rehosts", type=_number(0), metavar="N", help="may be moved so many times")
    setting.set_defaults(run=_later("order_set"))

    ending = orders.add_parser("end", help="issue nothing more for an order")
    _add_order(ending)
    ending.set_defaults(run=_later("order_end"))

    requests = commands.add_parser("install-request", help="ask devices who they are")
    asking = requests.add_subparsers(required=True, metavar="COMMAND").add_parser("new", help="make an install request")
    _add_order(asking)
    output.add_option(asking)
    asking.add_argument("--weights", type=_weights, metavar="FACTOR=N,...", help="ask for these factors only")
    asking.add_argument(
        "--share",
        type=_number(1, 100),
        default=DEFAULT_SHARE,
        metavar="PERCENT",
        help="so much of the weight must be kept (default: %(default)s)",
    )
    passphrase.add_options(asking)
    asking.set_defaults(run=_later("install_request_new"))

    issuing = commands.add_parser("issue", help="answer a license request with a license file")
    issuing.add_argument("request", type=Path, metavar="REQUEST")
    output.add_option(issuing)
    issuing.add_argument(
        "--rehost",
        type=_number(1),
        nargs="?",
        const=ANY,
        metavar="DEVICE",
        help="a person decided that the device takes the place of this one",
    )
    issuing.add_argument(
        "--many",
        action="store_true",
        help=f"even if the device shows more than {MANY} disks or network cards",
    )
    issuing.add_argument("--weak", action="store_true", help="even if the device shows too little of its hardware")
    passphrase.add_options(issuing)
    issuing.set_defaults(run=_later("issue"))

    again = commands.add_parser("reissue", help="give out a document again, the same bytes")
    again.add_argument("document", type=_id, metavar="ID", help="its id; history shows it")
    output.add_option(again)
    again.set_defaults(run=_later("reissue"))

    history = commands.add_parser("history", help="list all that was issued")
    of = history.add_mutually_exclusive_group()
    of.add_argument("--customer", type=_id, metavar="ID", help="to this customer")
    of.add_argument("--device", type=_number(1), metavar="DEVICE", help="for this device")
    of.add_argument("--order", type=_number(1), metavar="ORDER", help="for this order")
    _add_json(history)
    history.set_defaults(run=_later("history"))


def _add_order(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("order", type=_number(1), metavar="ORDER", help="the order's number")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _id(text: str) -> str:
    try:
        return str(an_id(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


_MOST = 2**31 - 1  # what every database has as an integer


def _number(least: int, most: int = _MOST) -> Callable[[str], int]:
    def number(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text[:10]) <= most and len(text) <= 10:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a number from {least}" + (f" to {most}" if most < _MOST else ""))

    return number


def _weights(text: str) -> dict[str, int]:
    weights: dict[str, int] = {}
    for piece in text.split(","):
        factor, _, weight = piece.partition("=")
        if factor not in FACTORS or factor in weights:
            why = "stands twice" if factor in weights else f"is none of: {', '.join(FACTORS)}"
            raise argparse.ArgumentTypeError(f"the factor {factor!a} {why}")
        weights[factor] = _number(1, 1000)(weight)
    return weights


def _later(name: str) -> Callable[[argparse.Namespace], int]:
    """The function of desk.py with this name, imported when it is called."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            from licd_vendor import desk  # noqa: PLC0415  (see above)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "sqlalchemy":
                raise
            hint = "Install it: pip install 'licd[vendor]'. The commands init, sign and show work without."
            raise Failure("Orders are kept with SQLAlchemy, which is not installed.", hint) from None
        command: Callable[[argparse.Namespace], int] = getattr(desk, name)
        return command(arguments)

    return run
