"""activate: from a code or an install request to licenses in force, over the network.

Every step may be done twice: the vendor's server and licd give the same documents again. So nothing is remembered here,
and whatever ended the command (Ctrl-C, a power cut, the network), the same command goes on.
"""

from __future__ import annotations

import contextlib
import sys
import time
from argparse import Namespace
from typing import Any

from licd.cli import arguments, license_commands, problems
from licd.cli.answers import Answer, as_map
from licd.cli.output import fill, span
from licd.cli.problems import Problem
from licd.cli.request_commands import show_concerns
from licd.license import code
from licd.license.document import parse
from licd.online import failures
from licd.online.failures import OnlineError
from licd.rpc.client import CallError, Client
from licd.rpc.errors import Refused

CODE = "application/vnd.licd.code"
INSTALL_REQUEST = "application/vnd.licd.install-request"
LICENSE_REQUEST = "application/vnd.licd.license-request"
LICENSE_FILE = "application/vnd.licd.license-file"

TIMEOUT_S = 30.0  # for one answer, if --timeout does not say: a phone's network needs seconds for TLS alone
MAX_PAUSE_S = 10  # longer than that a person does not wait before a still screen
MAX_PAUSES = 3
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
        vendor = _vendor_of(licd, args.vendor)
        url = _base(vendor.get("url"))
        _step(1, "asking {url} for the install request", url=url)
        document = _post(f"{url}/install-request", symbols.encode(), (CODE, INSTALL_REQUEST), args)
        _check_vendor(document, vendor.get("vendor"), url)
    taken = as_map(licd.call("install.import", document=document))
    url = _base(taken.get("url"))

    _step(2, "making the license request of this device")
    made = as_map(licd.call("install.request", vendor=taken["vendor"]))
    show_concerns(made)

    _step(3, "asking {url} for the license file", url=url)
    document = _post(f"{url}/license-file", made["document"].encode(), (LICENSE_REQUEST, LICENSE_FILE), args)
    _check_vendor(document, taken["vendor"], url)

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
            _tell("That is no code: {reason}.", reason=error.reason)
            if error.proposal is not None:
                said = _line(fill("Did you mean {proposal}? [y/N] ", proposal=error.proposal))
                if said.strip().lower() in ("y", "yes"):
                    return code.read(error.proposal)


def _line(prompt: str) -> str:
    """One line from the terminal. The prompt is not the answer, so it does not go to stdout."""
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline(MAX_LINE)
    if not line:  # Ctrl-D
        _tell("")
        raise Problem(problems.BAD_CODE, reason="nothing was typed")
    return line


# --- the vendor's server -------------------------------------------------------------------------------------


def _base(url: Any) -> str:
    if url is None:
        raise Problem(problems.NO_VENDOR_URL)
    return str(url).rstrip("/")


def _vendor_of(licd: Client, vendor: str | None) -> Answer:
    """Whose code it is, and so where it goes: the one vendor with an address, or the one named."""
    rows = [as_map(row) for row in as_map(licd.call("server.status")).get("vendors") or ()]
    if vendor is not None:
        known = ", ".join(str(row.get("vendor")) for row in rows) or "none"
        rows = [row for row in rows if row.get("vendor") == vendor]
        if not rows:
            raise Problem(problems.NO_SUCH_VENDOR, vendor=vendor, known=known)
    rows = [row for row in rows if row.get("url") is not None]
    if len(rows) > 1:
        raise Problem(problems.SEVERAL_VENDORS, vendors=", ".join(sorted(str(row.get("vendor")) for row in rows)))
    return rows[0] if rows else {}


def _check_vendor(document: bytes, vendor: Any, url: str) -> None:
    """Nothing, if the document names the vendor that was asked, or cannot be read; licd verifies all else.

    Errors: Problem NOT_THE_VENDOR
    """
    try:
        named = parse(document)[0].records[0].value.get("vendor")
    except Refused:
        return
    if named != vendor:
        raise Problem(problems.NOT_THE_VENDOR, host=url, reason=fill("its document is of {vendor}", vendor=named))


def _post(url: str, body: bytes, types: tuple[str, str], args: Namespace) -> bytes:
    from licd.online import posting  # noqa: PLC0415  TLS and HTTP: slow to start

    timeout_s = args.timeout or TIMEOUT_S
    for pauses in range(MAX_PAUSES + 1):
        try:
            return posting.post(url, body, *types, ca_file=args.ca, timeout_s=timeout_s)
        except OnlineError as error:
            seconds = error.data["seconds"] if error.kind == failures.BUSY else None
            if seconds is None or seconds > MAX_PAUSE_S or pauses == MAX_PAUSES:
                raise _failed(error) from None
        seconds = max(seconds, 1)
        _tell("    it is busy; asking again in {seconds} s", seconds=seconds)
        time.sleep(seconds)
    raise AssertionError("the last time returns or raises")


_ROWS = {
    failures.NOT_HTTPS: problems.BAD_VENDOR_URL,
    failures.NO_ANSWER: problems.VENDOR_NO_ANSWER,
    failures.NO_PROXY: problems.PROXY_FAILED,
    failures.BAD_CA_FILE: problems.BAD_CA_FILE,
    failures.UNTRUSTED: problems.VENDOR_UNTRUSTED,
    failures.CUT: problems.VENDOR_CUT,
    failures.REDIRECTED: problems.VENDOR_REDIRECTED,
    failures.NOT_LICD: problems.NOT_THE_VENDOR,
    failures.TOO_LARGE: problems.ANSWER_TOO_LARGE,
    failures.FAILED: problems.VENDOR_FAILED,
}


def _failed(error: OnlineError) -> Problem | CallError:
    data = error.data
    if error.kind in (failures.PROBLEM, failures.BUSY) and data.get("code") is not None:
        more = {key: data[key] for key in ("next", "seconds") if data.get(key) is not None}
        return CallError(data["code"], data["name"], data["detail"], more)
    if error.kind == failures.PROBLEM:
        return Problem(problems.VENDOR_REFUSED, **data, advice=data.get("next") or "Ask the vendor.")
    if error.kind == failures.BUSY:
        later = "in " + span(data["seconds"]) if data["seconds"] is not None else "later"
        return Problem(problems.VENDOR_BUSY, **data, later=later)
    return Problem(_ROWS[error.kind], **data)


def _step(n: int, sentence: str, **values: object) -> None:
    _tell("{n}/4 " + sentence, n=n, **values)


def _tell(sentence: str, **values: object) -> None:
    print(fill(sentence, **values), file=sys.stderr, flush=True)
