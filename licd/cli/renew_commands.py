"""renew: each vendor is asked whether the licenses go on, and what it signs is handed to licd.

This courier decides nothing and remembers nothing. What is due, what is sent and what an answer means is licd's to say
(renewal.plan, renewal.request, renewal.report); every document is signed. Until a request is answered licd gives out
the same one and the vendor's server the same answer, so whatever ends the command, it can simply be run again.

One vendor's trouble is not another's: each has its own outcome, and the exit status is the worst of them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from licd.cli import arguments, problems, vendor_server
from licd.cli.answers import Answer, as_map, ask_document, given, show_document
from licd.cli.license_commands import less_granted, show_changes
from licd.cli.output import fill, hint, say
from licd.cli.problems import Problem, failure
from licd.license.dates import timestamp
from licd.license.schedule import MAX_RETRY_AFTER_S
from licd.rpc.client import CallError, Client, ClientError
from licd.rpc.errors import IMPORT_BUSY, RENEWAL_REFUSED

RENEWAL_REQUEST = "application/vnd.licd.renewal-request"
RENEWAL_ANSWER = "application/vnd.licd.renewal-answer"

FAILED = "failed"  # the outcome that licd does not know: nothing came, or nothing that it takes
BUSY_TRIES, BUSY_PAUSE_S = 5, 1.0  # another import is over within seconds, and the vendor was asked already


def ask_now(licd: Client, args: Namespace) -> Answer:
    """{"vendors": [...]}, a row for each that was asked: every one with a file in force and an address.

    Errors: Problem NO_SUCH_VENDOR, NOTHING_TO_RENEW, and those of call(). What concerns one vendor is in its row
    """
    rows = _plan(licd, args)
    if args.vendor is None:
        rows = [row for row in rows if row.get("seq") is not None]  # a file that was declared void is asked about, too
        if not rows:
            raise Problem(problems.NOTHING_TO_RENEW)
        rows = [row for row in rows if row.get("url") is not None] or rows  # none of them: then that is told
    return {"vendors": [_renew(licd, row, args, pauses=vendor_server.MAX_PAUSES) for row in rows]}


def ask_due(licd: Client, args: Namespace) -> Answer:
    """The same, of those whose renewal is due. Who has no address is renewed by file, and nothing is said of it."""
    rows = [row for row in _plan(licd, args) if row.get("is_due") and row.get("url") is not None]
    return {"vendors": [_renew(licd, row, args, pauses=0) for row in rows]}


def ask_import(licd: Client, args: Namespace) -> Answer:
    """The same, of the vendor whose answer the file is."""
    return {"vendors": [_answered(_report(licd, arguments.read(args.answer)))]}


def ask_export(licd: Client, args: Namespace) -> Answer:
    return ask_document(licd, "renewal.request", args)


# --- one vendor ----------------------------------------------------------------------------------------------


def _plan(licd: Client, args: Namespace) -> list[Answer]:
    return vendor_server.rows_of(as_map(licd.call("renewal.plan")).get("vendors") or (), args.vendor)


def _renew(licd: Client, row: Answer, args: Namespace, *, pauses: int) -> Answer:
    """What became of one vendor.

    pauses: how often its server is asked again while it is busy. Who waits for none is a timer, and is told no steps
    """
    vendor = row.get("vendor")
    before = {"vendor": vendor, "seq_before": row.get("seq")}
    try:
        made = as_map(licd.call("renewal.request", vendor=vendor))
        server = vendor_server.server_of({**row, **made}, args, problems.RENEW_BY_FILE)
        if pauses:
            vendor_server.tell("asking {url} to renew the licenses of {vendor}", url=server.url, vendor=vendor)
        document = vendor_server.post(
            server,
            "/renewal",
            str(made["document"]).encode(),
            (RENEWAL_REQUEST, RENEWAL_ANSWER),
            timeout_s=args.timeout,
            pauses=pauses,
        )
        return {**before, **_answered(_report(licd, document))}
    except (Problem, ClientError) as error:
        failed = failure(error, args.socket)
        told = _tell_licd(licd, vendor, error) if _was_tried(error) else {}
        after = {"next": told.get("next", row.get("next"))} | {name: row.get(name) for name in ("hard_stop", "refused")}
        return {**before, "outcome": FAILED, **after, "error": failed.error}


def _report(licd: Client, document: bytes) -> Answer:
    for _ in range(BUSY_TRIES):
        try:
            return as_map(licd.call("renewal.report", document=document))
        except CallError as error:
            if error.name != IMPORT_BUSY.name:
                raise
        time.sleep(BUSY_PAUSE_S)
    return as_map(licd.call("renewal.report", document=document))


def _was_tried(error: Problem | ClientError) -> bool:
    """It is no mistake of the command line's, and no lack of any server: neither puts the next try off."""
    return not isinstance(error, Problem) or (
        error.row.status != problems.USAGE and error.row != problems.NO_VENDOR_URL
    )


def _tell_licd(licd: Client, vendor: Any, error: Problem | ClientError) -> Answer:
    """What licd says to a failure: it sets the next try. Nothing if licd itself is what fails."""
    if isinstance(error, CallError):
        name = error.name
    elif isinstance(error, Problem):
        name = error.data["name"] if error.row is problems.VENDOR_REFUSED else error.row.name
    else:
        return {}
    seconds = error.data.get("seconds")
    if seconds is not None:
        seconds = min(int(seconds), MAX_RETRY_AFTER_S)  # a date may name any year
    with contextlib.suppress(ClientError):  # the first failure is the one to tell, say of a full disk
        return as_map(licd.call("renewal.report", vendor=vendor, failure=name, **given(retry_after=seconds)))
    return {}


def _answered(report: Answer) -> Answer:
    """licd's answer to a document, with an error if the document is the vendor's no."""
    if report.get("refusal") is None:
        return report
    refusal = as_map(report["refusal"])
    reason = str(refusal.get("reason")).rstrip(".")
    no = Problem(problems.RENEWAL_REFUSED, vendor=report.get("vendor"), reason=reason, stops=refusal.get("stops"))
    return {**report, "error": {**failure(no, "").error, "code": RENEWAL_REFUSED.code}}


# --- for people ----------------------------------------------------------------------------------------------

_SENTENCES = {
    "renewed": "{vendor}: renewed; the license file {seq} is in force now.",
    "unchanged": "{vendor}: unchanged; the license file in force goes on.",
    "already": "{vendor}: this answer was taken in before; nothing was changed.",
    FAILED: "{vendor}: not renewed; nothing was changed.",
}
_REFUSED = "{vendor}: REFUSED; the last day of the licenses is {stops}."
_FROM_TO = "{vendor}: renewed; the license file {seq} is in force now, in place of {seq_before}."


def show_renew(answer: Answer, args: Namespace) -> None:
    for row in map(as_map, answer["vendors"]):
        say("{line}", line=_line(row))
        show_changes(_changes(row))
        if row.get("others"):
            say("License files in this answer that are not for now or not for this device: {n}", n=row["others"])


def show_export(answer: Answer, args: Namespace) -> None:
    written = "The renewal request {id} for {vendor} is written to {file}."
    show_document(answer, args, written, id=answer.get("id"), vendor=answer.get("vendor"))
    if args.output is not None:
        hint("Send {file} to the vendor; what comes back: licd-cli renew --import FILE", file=args.output)


def failures_of_renew(answer: Answer) -> Sequence[Mapping[str, Any]]:
    """The errors in the rows, each with its vendor's name before the sentence."""
    rows = [row for row in map(as_map, answer["vendors"]) if row.get("error") is not None]
    return [
        {**error, "message": fill("{vendor}: {message}", vendor=row.get("vendor"), message=error.get("message"))}
        for row, error in ((row, as_map(row["error"])) for row in rows)
    ]


def _line(row: Answer) -> str:
    """What was done for one vendor, and what comes next."""
    outcome = row.get("outcome")
    values = {**row, "seq": next((file.get("seq") for file in _files(row)), None)}
    sentence = _SENTENCES.get(str(outcome), "{vendor}: {outcome}.")
    if row.get("refusal") is not None:
        sentence, values["stops"] = _REFUSED, as_map(row["refusal"]).get("stops")
    elif outcome == "renewed" and row.get("seq_before") is not None:
        sentence = _FROM_TO
    parts = [sentence]
    if row.get("withdrawn") is not None:
        parts.append("A list of withdrawn certificates came with it (number {withdrawn}).")
    if row.get("next") is not None:
        parts.append("Next try: {next}." if row.get("error") is not None else "Next renewal: {next}.")
    if row.get("refused") is not None:
        parts.append("The vendor's refusal stands: {reason}; the licenses go on through {stops}, and no longer.")
        values |= {name: as_map(row["refused"]).get(name) for name in ("reason", "stops")}
        values["reason"] = str(values["reason"]).rstrip(".")
    elif row.get("hard_stop") is not None:
        parts.append(
            "Licenses have stopped for want of renewal, the first of them on {hard_stop}."
            if _has_stopped(row)
            else "Without a renewal licenses stop from {hard_stop} on."
        )
    return fill(" ".join(parts), **values)


def _has_stopped(row: Answer) -> bool:
    """Licenses of this vendor have stopped for want of renewal."""
    return row.get("hard_stop") is not None and str(row["hard_stop"]) <= timestamp(time.time())


def _files(row: Answer) -> list[Answer]:
    return [as_map(file) for file in row.get("files") or ()]


def _changes(row: Answer) -> list[Answer]:
    files = [file for file in _files(row) if file.get("in_force") != "already"]
    return [as_map(change) for file in files for change in file.get("changes") or ()]


# --- for a timer: one line a vendor, for systemd's journal ---------------------------------------------------

_ERROR, _WARNING, _INFO = 3, 4, 6  # syslog's levels


def show_due(answer: Answer, args: Namespace) -> None:
    for row in map(as_map, answer["vendors"]):
        if row.get("error") is None:
            less = less_granted(_changes(row))
            _log(_WARNING if less else _INFO, " ".join([_line(row), *(f"{each}." for each in less)]))


def failures_of_due(answer: Answer) -> Sequence[Mapping[str, Any]]:
    """`passes`: a vendor's server that is not reached, which is tried again, while all licenses go on. A shop may be
    without a network for months; its administrator looks for units that have failed, and must find only what needs him.
    """
    rows = (row for row in map(as_map, answer["vendors"]) if row.get("error") is not None)
    return [
        {
            **error,
            "after": fill("Next try: {next}.", next=row["next"]) if row.get("next") is not None else "",
            "passes": problems.status_of(error.get("code"), error.get("name")) == problems.UNREACHABLE
            and not _has_stopped(row),
        }
        for row, error in zip(rows, failures_of_renew(answer), strict=True)
    ]


def log_failure(error: Mapping[str, Any]) -> None:
    level = _ERROR if error.get("name") == RENEWAL_REFUSED.name else _WARNING
    _log(level, fill("{message} ({name}) {after}", **error).rstrip())


def _log(level: int, line: str) -> None:
    """One line: to stderr what someone should read, else to stdout; with its level where systemd's journal reads."""
    stream = sys.stdout if level == _INFO else sys.stderr
    print(f"<{level}>{line}" if _is_journal(stream) else line, file=stream, flush=True)


def _is_journal(stream: TextIO) -> bool:
    """Source: systemd.exec(5) JOURNAL_STREAM, sd-daemon(3)"""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
