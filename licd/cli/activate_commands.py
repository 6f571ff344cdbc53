"""activate: from a code or an install request to licenses in force, over the network.

Every step may be done twice: the vendor's server and licd give the same documents again. So nothing is remembered here,
and whatever ended the command (Ctrl-C, a power cut, the network), the same command goes on.
"""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace

from licd.cli import arguments, license_commands, problems, vendor_server
from licd.cli.answers import Answer, as_map
from licd.cli.output import fill
from licd.cli.problems import Problem
from licd.cli.request_commands import show_concerns
from licd.cli.vendor_server import post, server_of, tell
from licd.license import code
from licd.rpc.client import Client

CODE = "application/vnd.licd.code"
INSTALL_REQUEST = "application/vnd.licd.install-request"
LICENSE_REQUEST = "application/vnd.licd.license-request"
LICENSE_FILE = "application/vnd.licd.license-file"

MAX_LINE = 4096  # characters: no terminal gives a longer line


def ask_activate(licd: Client, args: Namespace) -> Answer:
    """The answer of the last step, license.import. Meanwhile a line on stderr tells each step.

    Errors: Problem, CallError (also for a no of the vendor's server), and those of call()
    """
    if args.install_request is not None:
        document = arguments.read(args.install_request)
        _step(1, "taking in the install request {file}", file=args.install_request)
    else:
        symbols = _given(args.code) if args.code else _typed()
        server = server_of(_vendor_of(licd, args.vendor), args, problems.BY_FILE)
        _step(1, "asking {url} for the install request", url=server.url)
        kinds = (CODE, INSTALL_REQUEST)
        document = post(server, "/install-request", symbols.encode(), kinds, timeout_s=args.timeout)
    taken = as_map(licd.call("install.import", document=document))
    server = server_of(taken, args, problems.BY_FILE)

    _step(2, "making the license request of this device")
    made = as_map(licd.call("install.request", vendor=server.vendor))
    show_concerns(made)

    _step(3, "asking {url} for the license file", url=server.url)
    kinds = (LICENSE_REQUEST, LICENSE_FILE)
    document = post(server, "/license-file", made["document"].encode(), kinds, timeout_s=args.timeout)

    _step(4, "putting the license file in force")
    return as_map(licd.call("license.import", document=document))


def show_activate(answer: Answer, args: Namespace) -> None:
    license_commands.show_import(answer, args)


# --- the code ------------------------------------------------------------------------------------------------


def _given(words: list[str]) -> str:
    try:
        return code.read(" ".join(words))
    except code.Unreadable as error:
        if error.proposal is None:
            raise Problem(problems.BAD_CODE, reason=error.reason) from None
        raise Problem(problems.MISTYPED_CODE, reason=error.reason, proposal=error.proposal) from None


def _typed() -> str:
    """What a person types, when it is a code. Nothing is taken for another without a yes."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise Problem(problems.NO_TERMINAL)
    with contextlib.suppress(AttributeError):  # no TextIOWrapper
        sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr] # bytes that are no text are no code
    while True:
        text = _line("The code, 16 symbols and 6: ")
        try:
            return code.read(text)
        except code.Unreadable as error:
            tell("That is no code: {reason}.", reason=error.reason)
            if error.proposal is not None:
                said = _line(fill("Did you mean {proposal}? [y/N] ", proposal=error.proposal))
                if said.strip().lower() in ("y", "yes"):
                    return code.read(error.proposal)


def _line(prompt: str) -> str:
    """One line from the terminal. The prompt is not the answer, so it does not go to stdout."""
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline(MAX_LINE)
    if not line:  # Ctrl-D
        tell("")
        raise Problem(problems.BAD_CODE, reason="nothing was typed")
    return line


# --- whose code it is ----------------------------------------------------------------------------------------


def _vendor_of(licd: Client, vendor: str | None) -> Answer:
    """Whose code it is, and so where it goes: the one vendor with an address, or the one named."""
    rows = vendor_server.rows_of(as_map(licd.call("server.status")).get("vendors") or (), vendor)
    rows = [row for row in rows if row.get("url") is not None]
    if len(rows) > 1:
        raise Problem(problems.SEVERAL_VENDORS, vendors=", ".join(sorted(str(row.get("vendor")) for row in rows)))
    return rows[0] if rows else {}


def _step(n: int, sentence: str, **values: object) -> None:
    tell("{n}/4 " + sentence, n=n, **values)
