"""licd-cli: the command line is parsed, one command asks and shows the answer, the exit status says how it went."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import licd
from licd.cli import completion, completion_shells, output
from licd.cli.commands import COMMANDS
from licd.cli.problems import (
    BAD_USAGE,
    CANNOT_WRITE,
    DONE,
    EXIT_STATUS,
    INTERRUPTED,
    UNREAD,
    Problem,
    failure,
    status_of,
)
from licd.rpc.client import DEFAULT_SOCKET, Client, ClientError, ProtocolError
from licd.rpc.errors import Refused

PROG = "licd-cli"
TIMEOUT_S = 10.0  # for an answer of licd; the vendor's server has its own

CALL_HELP = """\
A value is taken as JSON if it is JSON (2, true, ["a","b"]), else as text; a number with a
fraction is text, and key=@FILE is a file's bytes. To send digits as text: holder='"12"'.

  licd-cli call seat.acquire license=kso.pos holder=till-1 version=5.2 seats=2
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of one command line, which is carried out meanwhile."""
    words = list(sys.argv[1:] if argv is None else argv)
    output.prepare()
    try:
        status = completion.complete(_parser(), words[1:]) if words[:1] == [completion.REQUEST] else _run(words)
        sys.stdout.flush()
        return status
    except SystemExit as end:  # argparse, after --help and --version
        return end.code if isinstance(end.code, int) else DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # head has seen enough
        output.abandon()
        return UNREAD
    except OSError as error:  # the client has its own errors, so this is stdout: a full disk behind a redirection
        output.abandon()
        output.complain(failure(Problem(CANNOT_WRITE, file="standard output", reason=error.strerror), "").error)
        return CANNOT_WRITE.status


def _run(words: list[str]) -> int:
    as_json = "--json" in words  # so that also a wrong command line is told to programs
    path = ""
    try:
        args = parse(words)
        as_json, path = args.json, args.socket
        return _carry_out(args)
    except (Problem, Refused, ClientError) as error:
        failed = failure(error, path)
        output.print_failure(failed, as_json=as_json)
        return failed.status


def _carry_out(args: argparse.Namespace) -> int:
    command = COMMANDS[args.command]
    try:
        with Client(args.socket, timeout_s=args.timeout or TIMEOUT_S) as client:
            answer = command.ask(client, args)
        failures = command.failures(answer)  # first: an answer without shape must not be printed before the error
        if args.json:
            output.print_json(answer)
        else:
            command.show(answer, args)
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        # The answer has not the shape that its method has. A user is told so, without a traceback.
        if isinstance(error, ClientError):
            raise
        raise ProtocolError(f"an unexpected answer ({type(error).__name__}: {error})") from error
    for error_map in failures:
        command.tell(error_map)
    lasting = (error_map for error_map in failures if not error_map.get("passes"))
    return max((status_of(error_map.get("code"), error_map.get("name")) for error_map in lasting), default=DONE)


# --- the command line ----------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise Problem(BAD_USAGE, reason=message[:1].upper() + message[1:], command=self.prog)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line's meaning.

    Errors: Problem BAD_USAGE; SystemExit after --help and --version
    """
    parser = _parser()
    args, rest = parser.parse_known_args(words)
    words_left = [word for word in rest if not word.startswith("-")]
    # argparse ends a list of words at the first option: in `call METHOD --json key=value` the rest is left over.
    if words_left == rest and args.words is not None:
        getattr(args, args.words).extend(rest)
    elif rest:
        parser.error(f"not understood: {' '.join(rest)}")
    if args.command in ("confirm", "release"):
        _check_lease_meant(args)
    if args.command == "activate" and args.install_request is not None and (args.code or args.vendor is not None):
        reason = "An install request takes the place of the code, and names its vendor"
        raise Problem(BAD_USAGE, reason=reason, command=f"{PROG} activate")
    if args.command == "renew":
        _settle_renew(args)
    return args


def _settle_renew(args: argparse.Namespace) -> None:
    """The command is the one of four that the options ask for."""
    ways = {"--due": args.due, "--export": args.output is not None, "--import": args.answer is not None}
    way = next((way for way, wanted in ways.items() if wanted), None)
    if way == "--import" and args.vendor is not None:
        raise Problem(BAD_USAGE, reason="An answer names its vendor itself", command=f"{PROG} renew")
    if way in ("--export", "--import") and args.ca is not None:
        raise Problem(BAD_USAGE, reason="By file no server is asked, so there is no --ca", command=f"{PROG} renew")
    if args.output == "-":
        args.output = None
    args.command = "renew" if way is None else f"renew {way}"


def _check_lease_meant(args: argparse.Namespace) -> None:
    by_holder = args.license is not None and args.holder is not None
    neither = args.license is None and args.holder is None
    if not (neither if args.leases else by_holder):
        reason = "Name the lease either by its id, or by --license and --holder together"
        raise Problem(BAD_USAGE, reason=reason, command=f"{PROG} {args.command}")


def _parser() -> argparse.ArgumentParser:
    general = argparse.ArgumentParser(add_help=False)
    # SUPPRESS: an option given before the command must not be reset by the command's own default.
    _add_general(general, argparse.SUPPRESS, argparse.SUPPRESS, argparse.SUPPRESS)
    parser = _Parser(
        prog=PROG,
        description="Asks the license server of this device. See licd-cli(1).",
        epilog=EXIT_STATUS,
    )
    _add_general(parser, False, os.environ.get("LICD_SOCKET") or DEFAULT_SOCKET, None)
    parser.add_argument("--version", action="version", version=f"{PROG} {licd.__version__}")
    parser.set_defaults(words=None)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    def add(
        group: Any, name: str, text: str, *, command: str | None = None, epilog: str | None = None
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = group.add_parser(
            name, help=text, description=text, parents=[general], epilog=epilog
        )
        added.set_defaults(command=command or name)
        return added

    add(commands, "hello", "who answers, and what you may do")
    add(commands, "status", "health, counts, clock and warnings")
    add(commands, "licenses", "the licenses installed, and how many seats of each are held")
    _add_license(add, add(commands, "license", "import, export, show or check licenses"))

    _add_requests(add, commands)
    _add_activate(add, commands)
    _add_renew(add, commands)
    _add_fingerprint(add, add(commands, "fingerprint", "what this device is known by, and how much of it may change"))

    acquire = add(commands, "acquire", "take seats of a license for a holder; the same holder gets the same lease back",
                  epilog="The lease stays until its time is over: confirm it before, or release it.")  # fmt: skip
    acquire.add_argument("license", metavar="LICENSE")
    acquire.add_argument("holder", metavar="HOLDER", help="a name of your choice that stays the same")
    acquire.add_argument("--seats", type=_integer, metavar="N", help="how many (1)")
    acquire.add_argument("--version", dest="for_version", metavar="V",
                         help="the version of the software that runs, such as 5.2.1")  # fmt: skip
    acquire.add_argument("--ttl", type=_integer, metavar="S", help="seconds until it must be confirmed (60)")

    confirm = add(commands, "confirm", "say that leases are still in use")
    _add_lease(confirm, nargs="*")
    confirm.set_defaults(words="leases")

    release = add(commands, "release", "give the seats of a lease back")
    _add_lease(release, nargs="?")
    release.add_argument("--reason", metavar="TEXT", help="why, for the record, if it is another user's lease")

    leases = add(commands, "leases", "who holds what: your own leases, for an administrator all")
    leases.add_argument("--license", metavar="LICENSE", help="only of this license")
    leases.add_argument("--holder", metavar="HOLDER", help="only of this holder")

    call = add(commands, "call", "call any method of licd-rpc(7)", epilog=CALL_HELP)
    call.add_argument("method", metavar="METHOD")
    call.add_argument("arguments", metavar="key=value", nargs="*", default=[])
    call.set_defaults(words="arguments")

    script = add(commands, "completion", "print the script by which a shell completes the words of licd-cli")
    script.add_argument("shell", metavar="SHELL", choices=completion_shells.SHELLS, help="bash, zsh or fish")
    return parser


def _add_license(add: Any, parent: argparse.ArgumentParser) -> None:
    commands = parent.add_subparsers(dest="action", required=True, metavar="COMMAND", title="commands")

    take = add(commands, "import", "put a license file in force, whole or not at all", command="license import")
    take.add_argument("file", metavar="FILE", help="- for standard input")
    take.add_argument("--dry-run", action="store_true", help="only say what would change")

    give = add(commands, "export", "write the license file in force, as the vendor signed it", command="license export")
    give.add_argument("--vendor", metavar="V", help="whose, if there are several")
    give.add_argument("-o", "--output", metavar="FILE", help="instead of standard output")

    show = add(commands, "show", "everything about one license", command="license show")
    show.add_argument("license", metavar="LICENSE")

    check = add(commands, "check", "whether a license is valid; takes no seat", command="license check")
    check.add_argument("license", metavar="LICENSE")
    check.add_argument("--version", dest="for_version", metavar="V",
                       help="also: does it cover this version of the software")  # fmt: skip


def _add_requests(add: Any, commands: Any) -> None:
    def group(name: str, text: str) -> Any:
        parent = add(commands, name, text)
        return parent.add_subparsers(dest="action", required=True, metavar="COMMAND", title="commands")

    install = group("install-request", "take in what the vendor asks of this device")
    take = add(install, "import", "take in the vendor's install request", command="install-request import")
    take.add_argument("file", metavar="FILE", help="- for standard input")

    license = group("license-request", "ask the vendor for licenses for this device")
    give = add(license, "export", "write the document to send to the vendor", command="license-request export",
               epilog="The same document is written until it is answered: to ask again is safe.")  # fmt: skip
    give.add_argument("--vendor", metavar="V", help="which, if there are several")
    give.add_argument("-o", "--output", metavar="FILE", help="instead of standard output")

    show = add(license, "show", "what that document tells, in words", command="license-request show")
    show.add_argument("--vendor", metavar="V", help="which, if there are several")


def _add_activate(add: Any, commands: Any) -> None:
    activate = add(commands, "activate", "get licenses over the network, with a code or an install request",
                   epilog="Interrupted, it can be run again and goes on. Without a code it asks for one. An answer of "
                   "the vendor's server may take 30 seconds, or --timeout.")  # fmt: skip
    activate.add_argument("code", metavar="CODE", nargs="*", default=[],
                          help="16 symbols and 6, as the vendor sent them")  # fmt: skip
    activate.add_argument("--install-request", metavar="FILE", help="in place of a code; - for standard input")
    activate.add_argument("--vendor", metavar="V", help="whose code it is, if there are several")
    activate.add_argument("--ca", metavar="FILE",
                          help="trust these certificates (PEM) for TLS, not the system's")  # fmt: skip
    activate.set_defaults(words="code")


def _add_renew(add: Any, commands: Any) -> None:
    renew = add(commands, "renew", "have licenses renewed by their vendors, over the network or by file",
                epilog="Interrupted, it can be run again. An answer of a vendor's server may take 30 seconds, or "
                "--timeout.")  # fmt: skip
    renew.add_argument("--vendor", metavar="V", help="only by this one")
    way = renew.add_mutually_exclusive_group()
    way.add_argument("--due", action="store_true", help="only what is due, as a timer does: silent if nothing is")
    way.add_argument("--export", dest="output", metavar="FILE",
                     help="write the document to send to the vendor; - for standard output")  # fmt: skip
    way.add_argument("--import", dest="answer", metavar="FILE",
                     help="take in what the vendor sent back; - for standard input")  # fmt: skip
    renew.add_argument("--ca", metavar="FILE",
                       help="trust these certificates (PEM) for TLS, not the system's")  # fmt: skip


def _add_fingerprint(add: Any, parent: argparse.ArgumentParser) -> None:
    commands = parent.add_subparsers(dest="action", metavar="COMMAND", title="commands")
    what_if = add(commands, "what-if", "whether this would still be the device that licenses are bound to",
                  command="fingerprint what-if",
                  epilog="NAME is a factor or a kind, such as board_serial or board: licd-cli fingerprint lists them. "
                  "The exit status is 1 if it would not.")  # fmt: skip
    what_if.add_argument("--without", metavar="NAME", action="append", required=True,
                         help="if this were gone; several times for several")  # fmt: skip


def _add_lease(parser: argparse.ArgumentParser, nargs: str) -> None:
    parser.add_argument("leases", metavar="LEASE", nargs=nargs, default=[], action=_Words, help="its id")
    parser.add_argument("--license", metavar="LICENSE", help="with --holder, in place of the id")
    parser.add_argument("--holder", metavar="HOLDER")


class _Words(argparse.Action):
    """One word, many or none: a list."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, list(values) if isinstance(values, list) else [values] if values else [])


def _add_general(parser: argparse.ArgumentParser, as_json: Any, socket: Any, timeout: Any) -> None:
    group = parser.add_argument_group("general options", "before or after the command")
    group.add_argument(
        "--json", action="store_true", default=as_json, help="for programs: the answer, or the error, as JSON"
    )
    group.add_argument(
        "--socket", metavar="PATH", default=socket, help=f"licd's socket ($LICD_SOCKET, {DEFAULT_SOCKET})"
    )
    group.add_argument("--timeout", metavar="S", type=_seconds, default=timeout, help="seconds to wait in all (10)")


def _integer(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a whole number of at most nine digits")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0.001 <= value <= 86400:
        return value
    raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0.001 to 86400")


if __name__ == "__main__":
    sys.exit(main())
