"""The vendor's server, as activate and renew ask it: one document there, one back, every other end in words."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterable
from typing import Any, NamedTuple

from licd.cli import problems
from licd.cli.answers import Answer, as_map
from licd.cli.output import fill, span
from licd.cli.problems import Problem
from licd.license.document import parse
from licd.online import failures
from licd.online.failures import OnlineError
from licd.rpc.client import CallError
from licd.rpc.errors import Refused

TIMEOUT_S = 30.0  # for one answer, if --timeout does not say: a phone's network needs seconds for TLS alone
MAX_PAUSE_S = 10  # longer than that a person does not wait before a still screen
MAX_PAUSES = 3


class Server(NamedTuple):
    """Where one vendor's documents go.

    ca:      certificates that TLS trusts in place of the system's
    of_user: --ca names them, not the vendor's profile
    by_file: the sentence that says how it works without a server
    """

    vendor: Any
    url: str
    ca: str | None
    of_user: bool
    by_file: str


def server_of(answer: Answer, args: Namespace, by_file: str) -> Server:
    """The server that a map with vendor, url and perhaps ca names. Errors: Problem NO_VENDOR_URL"""
    url, ca = answer.get("url"), answer.get("ca")
    if url is None:
        raise Problem(problems.NO_VENDOR_URL, by_file=by_file)
    of_user = args.ca is not None
    return Server(answer.get("vendor"), str(url).rstrip("/"), args.ca if of_user else ca, of_user, by_file)


def rows_of(rows: Iterable[Any], vendor: str | None) -> list[Answer]:
    """The vendors' rows; of one that is named only its own. Errors: Problem NO_SUCH_VENDOR"""
    found = [as_map(row) for row in rows]
    if vendor is None:
        return found
    known = ", ".join(str(row.get("vendor")) for row in found) or "none"
    found = [row for row in found if row.get("vendor") == vendor]
    if not found:
        raise Problem(problems.NO_SUCH_VENDOR, vendor=vendor, known=known)
    return found


def post(
    server: Server,
    path: str,
    body: bytes,
    types: tuple[str, str],
    *,
    timeout_s: float | None,
    pauses: int = MAX_PAUSES,
) -> bytes:
    """The document that the server answers, of that vendor.

    types:  of what is sent, and of what is to come
    pauses: how often a server that is busy for some seconds is asked again
    Errors: Problem; CallError, if the vendor's server has one of licd's names for its no. Either of a server that is
            busy has `seconds` in its data, if it told them
    """
    from licd.online import posting  # noqa: PLC0415  TLS and HTTP: slow to start

    while True:
        try:
            document = posting.post(
                server.url + path, body, *types, ca_file=server.ca, timeout_s=timeout_s or TIMEOUT_S
            )
            break
        except OnlineError as error:
            seconds = error.data["seconds"] if error.kind == failures.BUSY else None
            if seconds is None or seconds > MAX_PAUSE_S or not pauses:
                raise failed(error, server) from None
        pauses -= 1
        seconds = max(seconds, 1)
        tell("    it is busy; asking again in {seconds} s", seconds=seconds)
        time.sleep(seconds)
    _check_vendor(document, server)
    return document


def _check_vendor(document: bytes, server: Server) -> None:
    """Nothing, if the document names the vendor that was asked, or cannot be read; licd verifies all else.

    Errors: Problem NOT_THE_VENDOR
    """
    try:
        named = parse(document)[0].records[0].value.get("vendor")
    except Refused:
        return
    if named != server.vendor:
        reason = fill("its document is of {vendor}", vendor=named)
        raise Problem(problems.NOT_THE_VENDOR, host=server.url, reason=reason, by_file=server.by_file)


_ROWS = {
    failures.NOT_HTTPS: problems.BAD_VENDOR_URL,
    failures.NO_ANSWER: problems.VENDOR_NO_ANSWER,
    failures.NO_PROXY: problems.PROXY_FAILED,
    failures.UNTRUSTED: problems.VENDOR_UNTRUSTED,
    failures.CUT: problems.VENDOR_CUT,
    failures.REDIRECTED: problems.VENDOR_REDIRECTED,
    failures.NOT_LICD: problems.NOT_THE_VENDOR,
    failures.TOO_LARGE: problems.ANSWER_TOO_LARGE,
    failures.FAILED: problems.VENDOR_FAILED,
}


def failed(error: OnlineError, server: Server) -> Problem | CallError:
    """How it ended, as a command's own error."""
    data = error.data
    more: dict[str, Any] = {"by_file": server.by_file}
    if error.kind in (failures.PROBLEM, failures.BUSY) and data.get("code") is not None:
        more = {key: data[key] for key in ("next", "seconds") if data.get(key) is not None}
        return CallError(data["code"], data["name"], data["detail"], more)
    if error.kind == failures.PROBLEM:
        return Problem(problems.VENDOR_REFUSED, **data, **more, advice=data.get("next") or "Ask the vendor.")
    if error.kind == failures.BUSY:
        later = "in " + span(data["seconds"]) if data["seconds"] is not None else "later"
        return Problem(problems.VENDOR_BUSY, **data, **more, later=later)
    if error.kind == failures.BAD_CA_FILE:
        row = problems.BAD_CA_FILE if server.of_user else problems.BAD_VENDOR_CA
        return Problem(row, **data, **more, vendor=server.vendor)
    return Problem(_ROWS[error.kind], **data, **more)


def tell(sentence: str, **values: object) -> None:
    """What goes on, for who waits: to stderr."""
    print(fill(sentence, **values), file=sys.stderr, flush=True)
