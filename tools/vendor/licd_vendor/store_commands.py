"""The commands of licd-vendor that need the store: orders, codes, install requests, issuing, history, the server.

What they do stands in desk.py and online_desk.py, which are imported only when one of them runs: SQLAlchemy and the
like are extras, and who keeps no books needs them not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from licd.device.fingerprint import DEFAULT_SHARE, FACTORS
from licd_vendor import output, passphrase
from licd_vendor.arguments import add_json, an_id_argument, later, number
from licd_vendor.recognize import ANY, MANY


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The parsers of these commands stand below `commands`."""
    orders = commands.add_parser("order", help="keep orders").add_subparsers(required=True, metavar="COMMAND")
    new = orders.add_parser("new", help="take in an order")
    new.add_argument("description", type=Path, nargs="?", metavar="DESCRIPTION.json", help="licenses, as for sign")
    new.add_argument(
        "--customer", type=an_id_argument, required=True, metavar="ID", help="an opaque id of the customer: no name"
    )
    new.add_argument(
        "--license",
        action="append",
        metavar="LICENSE",
        help="a license: NAME[,seats=N][,uncounted][,expires=DATE][,versions=V] ...; once for each",
    )
    new.add_argument(
        "--devices", type=number(1), default=1, metavar="N", help="for so many devices (default: %(default)s)"
    )
    new.add_argument(
        "--rehosts",
        type=number(0),
        default=3,
        metavar="N",
        help="may be moved so many times (default: %(default)s)",
    )
    new.add_argument("--allow-weak", action="store_true", help="also for devices that show too little of themselves")
    _add_renewal(new, "default: none, or as described")
    new.set_defaults(run=later("order_new"))

    listing = orders.add_parser("list", help="list orders")
    listing.add_argument("--customer", type=an_id_argument, metavar="ID", help="of this customer only")
    add_json(listing)
    listing.set_defaults(run=later("order_list"))

    showing = orders.add_parser("show", help="show an order, its licenses and devices")
    _add_order(showing)
    add_json(showing)
    showing.set_defaults(run=later("order_show"))

    setting = orders.add_parser("set", help="change what an order allows")
    _add_order(setting)
    setting.add_argument("--devices", type=number(1), metavar="N", help="for so many devices")
    setting.add_argument("--rehosts", type=number(0), metavar="N", help="may be moved so many times")
    weak = setting.add_mutually_exclusive_group()
    weak.add_argument("--allow-weak", action="store_true", default=None, help="also for devices that show too little")
    weak.add_argument("--refuse-weak", action="store_false", dest="allow_weak", default=None, help="not for those")
    _add_renewal(setting, "default: as it is")
    setting.add_argument(
        "--license",
        action="append",
        metavar="CHANGE",
        help="change a license: NAME or id[,seats=N][,expires=DATE or none] ...; once for each",
    )
    setting.add_argument("--add-license", action="append", metavar="LICENSE", help="one more, as for order new")
    setting.add_argument("--remove-license", action="append", metavar="NAME", help="one less, by its name or id")
    setting.set_defaults(run=later("order_set"))

    ending = orders.add_parser("end", help="issue nothing more for an order")
    _add_order(ending)
    ending.set_defaults(run=later("order_end"))

    opening = orders.add_parser("reopen", help="take back that an order was ended")
    _add_order(opening)
    opening.set_defaults(run=later("order_reopen"))

    suspending = orders.add_parser("suspend", help="issue nothing for an order until it is resumed")
    _add_order(suspending)
    suspending.add_argument("--reason", type=_reason, metavar="TEXT", help="why; the devices' users are told, too")
    suspending.set_defaults(run=later("order_suspend"))

    resuming = orders.add_parser("resume", help="take back that an order was suspended")
    _add_order(resuming)
    resuming.set_defaults(run=later("order_resume"))

    _add_codes(commands)

    requests = commands.add_parser("install-request", help="ask devices who they are")
    asking = requests.add_subparsers(required=True, metavar="COMMAND").add_parser("new", help="make an install request")
    _add_order(asking)
    output.add_option(asking)
    asking.add_argument("--weights", type=_weights, metavar="FACTOR=N,...", help="ask for these factors only")
    asking.add_argument(
        "--share",
        type=number(1, 100),
        default=DEFAULT_SHARE,
        metavar="PERCENT",
        help="so much of the weight must be kept (default: %(default)s)",
    )
    passphrase.add_options(asking)
    asking.set_defaults(run=later("install_request_new"))

    issuing = commands.add_parser("issue", help="answer a license request with a license file")
    issuing.add_argument("request", type=Path, metavar="REQUEST")
    output.add_option(issuing)
    issuing.add_argument(
        "--rehost",
        type=number(1),
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
    issuing.set_defaults(run=later("issue"))

    again = commands.add_parser("reissue", help="give out a document again, the same bytes")
    again.add_argument("document", type=an_id_argument, metavar="ID", help="its id; history shows it")
    output.add_option(again)
    again.set_defaults(run=later("reissue"))

    history = commands.add_parser("history", help="list all that was issued")
    of = history.add_mutually_exclusive_group()
    of.add_argument("--customer", type=an_id_argument, metavar="ID", help="to this customer")
    of.add_argument("--device", type=number(1), metavar="DEVICE", help="for this device")
    of.add_argument("--order", type=number(1), metavar="ORDER", help="for this order")
    add_json(history)
    history.set_defaults(run=later("history"))
    _add_serve(commands)


def _add_codes(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    codes = commands.add_parser("code", help="keep activation codes").add_subparsers(required=True, metavar="COMMAND")
    new = codes.add_parser("new", help="make an activation code for devices of an order")
    _add_order(new)
    new.add_argument(
        "--expires-days", type=number(1, 3650), default=90, metavar="N", help="for so long (default: %(default)s)"
    )
    new.add_argument(
        "--devices", type=number(1), default=1, metavar="N", help="for so many devices (default: %(default)s)"
    )
    new.set_defaults(run=later("code_new", "online_desk"))

    listing = codes.add_parser("list", help="list the codes of an order; not the codes themselves")
    _add_order(listing)
    add_json(listing)
    listing.set_defaults(run=later("code_list", "online_desk"))

    ending = codes.add_parser("end", help="issue nothing more for a code")
    ending.add_argument("code", type=number(1), metavar="ID", help="its number; code list shows it")
    ending.set_defaults(run=later("code_end", "online_desk"))


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serving = commands.add_parser("serve", help="answer devices over the network")
    serving.add_argument(
        "--listen", type=_place, default="127.0.0.1:8443", metavar="HOST:PORT", help="where (default: %(default)s)"
    )
    serving.add_argument("--tls-cert", type=Path, metavar="FILE", help="speak TLS, with this certificate chain (PEM)")
    serving.add_argument("--tls-key", type=Path, metavar="FILE", help="and its key (PEM)")
    serving.add_argument(
        "--behind-proxy", action="store_true", help="one reverse proxy is in front: plain HTTP, it says who asks"
    )
    serving.add_argument("--access-log", type=Path, metavar="FILE", help="a line a request; default: standard error")
    passphrase.add_options(serving)
    serving.set_defaults(run=later("serve", "online_desk"))


def _place(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not host or not colon or not (port.isascii() and port.isdigit() and int(port[:6]) < 65536):
        raise argparse.ArgumentTypeError("must be HOST:PORT, such as 0.0.0.0:8443 or [::]:8443")
    return text


def _add_renewal(parser: argparse.ArgumentParser, otherwise: str) -> None:
    parser.add_argument(
        "--renewal",
        metavar="RENEWAL",
        help=f"none, or optional or required[,every=DAYS][,grace=DAYS] ({otherwise})",
    )


def _add_order(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("order", type=number(1), metavar="ORDER", help="the order's number")


MAX_REASON = 120  # characters: it stands in a refusal of at most 200, with words around it


def _reason(text: str) -> str:
    if 0 < len(text) <= MAX_REASON and text.isprintable() and text.strip() == text:
        return text
    raise argparse.ArgumentTypeError(f"must be 1 to {MAX_REASON} printable characters")


def _weights(text: str) -> dict[str, int]:
    weights: dict[str, int] = {}
    for piece in text.split(","):
        factor, _, weight = piece.partition("=")
        if factor not in FACTORS or factor in weights:
            why = "stands twice" if factor in weights else f"is none of: {', '.join(FACTORS)}"
            raise argparse.ArgumentTypeError(f"the factor {factor!a} {why}")
        weights[factor] = number(1, 1000)(weight)
    return weights
