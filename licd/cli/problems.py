"""What can go wrong on this side of the socket, and the exit status of everything.

Refusals have their sentences from licd (licd.rpc.errors); these are the few that licd cannot say itself.
"""

from __future__ import annotations

import grp
import os
import stat
from typing import Any, NamedTuple

from licd.rpc import client, errors
from licd.rpc.errors import Refused

# Exit statuses, as in licd-cli(1).
DONE = 0
REFUSED = 1
USAGE = 2
UNREACHABLE = 3
FAULT = 4
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
UNREAD = 141  # 128 + SIGPIPE

EXIT_STATUS = """\
exit status:
  0    done
  1    refused: licd said no and why, or the vendor did; also a license that is
       not valid, and a device that would no longer be the one bound
       (fingerprint what-if). renew of several vendors: the highest of theirs
  2    usage: the command line, or a file that it names
  3    unreachable: no socket, not permitted, nobody listens, no answer in time;
       for activate and renew also the vendor's server
  4    fault: a mistake of licd's own, or an answer that is not its protocol
  130  interrupted (Ctrl-C)
  141  whoever read the output stopped reading
"""


class Row(NamedTuple):
    """`message` and `next` are format strings over the data of a problem."""

    name: str
    status: int
    message: str
    next: str


# fmt: off
BAD_USAGE = Row(
    "BAD_USAGE", USAGE, "{reason}.",
    "{command} --help",
)
CANNOT_READ = Row(
    "CANNOT_READ", USAGE, "{file} cannot be read: {reason}.",
    "Check the path and who may read it; - stands for standard input.",
)
CANNOT_WRITE = Row(
    "CANNOT_WRITE", USAGE, "{file} cannot be written: {reason}.",
    "Check the path, who may write there, and the free space.",
)
NO_SOCKET = Row(
    "NO_SOCKET", UNREACHABLE, "There is no socket {path}.",
    "Is licd running? systemctl status licd. If so, the file was removed: systemctl restart licd.socket. Another path "
    "goes into --socket or LICD_SOCKET.",
)
ACCESS_DENIED = Row(
    "ACCESS_DENIED", UNREACHABLE, "You may not connect to {path}.",
    "Run it as root, or as the user that licd runs as.",
)
GROUP_ONLY = Row(
    "ACCESS_DENIED", UNREACHABLE, "You may not connect to {path}: it is for the group {group}.",
    "Run it as root, or join the group (usermod -aG {group} USER) and log in again.",
)
NOT_LISTENING = Row(
    "NOT_LISTENING", UNREACHABLE, "Nobody listens on {path}.",
    "licd has ended, or is just starting: systemctl status licd.",
)
NOT_USABLE = Row(
    "NOT_USABLE", UNREACHABLE, "{path} cannot be used as licd's socket: {reason}.",
    "Check --socket and LICD_SOCKET; without them it is /run/licd/licd.sock.",
)
CONNECTION_LOST = Row(
    "CONNECTION_LOST", UNREACHABLE, "licd ended the connection before it answered, twice.",
    "Every request is safe to repeat. If it goes on: journalctl -u licd.",
)
TIMED_OUT = Row(
    "TIMED_OUT", UNREACHABLE, "licd did not answer {method} within {seconds} seconds.",
    "Every request is safe to repeat; --timeout gives it longer. If it goes on: journalctl -u licd.",
)
BAD_ANSWER = Row(
    "BAD_ANSWER", FAULT, "What answers on {path} does not speak licd's protocol: {reason}.",
    "Check --socket, and whether licd and licd-cli are of one version: licd-cli hello.",
)
WOULD_BREAK = Row(
    "WOULD_BREAK", REFUSED, "Without {gone} this would not be the device that the license file of {vendor} is for. It "
    "would be: {standing}.",
    "Speak with the vendor before that repair; after it: licd-cli license-request export.",
)
# --- activate, renew: the code, and the vendor's server. By file there is always a way. ----------------------
_GO_ON = "The same command goes on where this one ended."
BY_FILE = "Without the network: licd-cli license-request export -o FILE, and send FILE to the vendor."
RENEW_BY_FILE = "Without the network: licd-cli renew --export FILE, and send FILE to the vendor."
BAD_CODE = Row(
    "BAD_CODE", USAGE, "That is no activation code: {reason}.",
    "Compare it with what the vendor sent: 16 symbols, and 6 that guard them. Nothing was sent.",
)
MISTYPED_CODE = Row(
    "BAD_CODE", USAGE, "That is no activation code: {reason}.",
    "Did you mean {proposal}? Then: licd-cli activate {proposal}",
)
NO_TERMINAL = Row(
    "NO_TERMINAL", USAGE, "There is no terminal to ask for the code.",
    "Give the code (licd-cli activate CODE), or --install-request FILE.",
)
NO_SUCH_VENDOR = Row(
    "NO_SUCH_VENDOR", USAGE, "There is no profile of the vendor {vendor} (there are: {known}).",
    "licd-cli status shows the vendors of this device.",
)
SEVERAL_VENDORS = Row(
    "SEVERAL_VENDORS", USAGE, "There are several vendors with a server: {vendors}.",
    "Whose code is it? Give --vendor.",
)
NO_VENDOR_URL = Row(
    "NO_VENDOR_URL", UNREACHABLE, "No address of the vendor's server is known here.",
    "Ask the vendor for a profile with an address (url in vendor.conf). {by_file}",
)
BAD_VENDOR_URL = Row(
    "BAD_VENDOR_URL", UNREACHABLE, "Nothing is sent to {url}: {reason}.",
    "Ask the vendor for a profile or an install request with a right address. {by_file}",
)
BAD_CA_FILE = Row(
    "BAD_CA_FILE", USAGE, "{file} cannot be used as --ca: {reason}.",
    "Give the certificate, as PEM, of who issued that of the vendor's server.",
)
BAD_VENDOR_CA = Row(
    "BAD_VENDOR_CA", UNREACHABLE, "{file}, which the profile of {vendor} trusts for TLS, cannot be used: {reason}.",
    "Correct ca in its vendor.conf: a file of certificates (PEM) that everybody may read. {by_file}",
)
VENDOR_NO_ANSWER = Row(
    "VENDOR_NO_ANSWER", UNREACHABLE, "{host} does not answer: {reason}.",
    f"Check the network, and HTTPS_PROXY if there is a proxy. {_GO_ON} {{by_file}}",
)
PROXY_FAILED = Row(
    "PROXY_FAILED", UNREACHABLE, "The proxy {host} does not lead to the vendor's server: {reason}.",
    f"Check HTTPS_PROXY, and NO_PROXY for hosts that need none. {_GO_ON} {{by_file}}",
)
VENDOR_UNTRUSTED = Row(
    "VENDOR_UNTRUSTED", UNREACHABLE, "{host} cannot be trusted: {reason}.",
    "Check the date of this device; does this network want a sign-in first, or look into TLS? A certificate of the "
    "vendor's own goes into --ca, or into ca of vendor.conf. {by_file}",
)
VENDOR_CUT = Row(
    "VENDOR_CUT", UNREACHABLE, "The connection to {host} ended before the answer was whole: {reason}.",
    f"Try again. {_GO_ON} {{by_file}}",
)
VENDOR_REDIRECTED = Row(
    "VENDOR_REDIRECTED", UNREACHABLE, "{host} sends to {to}, and nothing is sent there: {reason}.",
    "If this network wants a sign-in first, do that; else ask the vendor for the right address. {by_file}",
)
NOT_THE_VENDOR = Row(
    "NOT_THE_VENDOR", UNREACHABLE, "What answers at {host} is not the vendor's license server: {reason}.",
    "If this network wants a sign-in first, do that; else ask the vendor for the right address. {by_file}",
)
VENDOR_BUSY = Row(
    "VENDOR_BUSY", UNREACHABLE, "{host} is busy.",
    f"Try again {{later}}. {_GO_ON} {{by_file}}",
)
VENDOR_FAILED = Row(
    "VENDOR_FAILED", UNREACHABLE, "{host} has trouble of its own (status {status}).",
    f"Try again later; if it goes on, tell the vendor. {_GO_ON} {{by_file}}",
)
ANSWER_TOO_LARGE = Row(
    "ANSWER_TOO_LARGE", FAULT, "{host} answers with more than {limit} bytes, which is no document.",
    "Tell the vendor. {by_file}",
)
VENDOR_REFUSED = Row(
    "VENDOR_REFUSED", REFUSED, "{host} refuses: {detail} ({name})",
    "{advice} {by_file}",
)
# --- renew ---------------------------------------------------------------------------------------------------
NOTHING_TO_RENEW = Row(
    "NOTHING_TO_RENEW", REFUSED, "No license file is in force on this device, so there is nothing to renew.",
    "Get one first: licd-cli activate, or licd-cli license import FILE.",
)
# In the place of licd's own sentence, which is of one license: this is said of all that the vendor sold.
RENEWAL_REFUSED = Row(
    errors.RENEWAL_REFUSED.name, REFUSED,
    "The vendor REFUSES to renew the licenses of this device: {reason}. Their last day is {stops}.",
    "Speak with the vendor. When it is settled: licd-cli renew.",
)
# fmt: on

_UNREACHABLE = {
    client.NO_SOCKET: NO_SOCKET,
    client.DENIED: ACCESS_DENIED,
    client.NOT_LISTENING: NOT_LISTENING,
    client.LOST: CONNECTION_LOST,
}


class Problem(Exception):
    """One row, with the data that fills its sentences."""

    def __init__(self, row: Row, **data: Any) -> None:
        super().__init__(row.name)
        self.row = row
        self.data = data


class Failure(NamedTuple):
    """What people and programs are told: `error` has the shape it has on the wire; its code is None if it is ours."""

    status: int
    error: dict[str, Any]


_STATUSES = {row.name: row.status for row in tuple(globals().values()) if isinstance(row, Row)}


def status_of(code: Any, name: Any = None) -> int:
    """The decade of a code says who can help (licd-rpc(7)): 9x is licd itself, all others are answers.

    Without a code it is one of the rows here, by its name.
    """
    if code is None and type(name) is str:
        return _STATUSES.get(name, REFUSED)
    return FAULT if type(code) is int and 90 <= code <= 99 else REFUSED


def failure(error: Problem | Refused | client.ClientError, path: str) -> Failure:
    """Any way in which a command can fail, in one shape."""
    if isinstance(error, client.CallError):
        return Failure(status_of(error.code), error.as_map())
    if isinstance(error, Refused):  # found on this side before it was asked
        return Failure(REFUSED, error.as_map())
    problem = error if isinstance(error, Problem) else _problem(error, path)
    row, data = problem.row, problem.data
    return Failure(
        row.status,
        {
            "code": None,
            "name": row.name,
            "message": row.message.format_map(data),
            "data": {**data, "next": row.next.format_map(data)},
        },
    )


def _problem(error: client.ClientError, path: str) -> Problem:
    if isinstance(error, client.Unreachable):
        group = _group_of(path) if error.reason == client.DENIED else None
        if group is not None:
            return Problem(GROUP_ONLY, path=path, group=group)
        return Problem(_UNREACHABLE.get(error.reason, NOT_USABLE), path=path, reason=error.detail)
    if isinstance(error, client.TimedOut):
        return Problem(TIMED_OUT, method=error.method, seconds=f"{error.timeout_s:g}")
    if isinstance(error, client.Unsendable):
        return Problem(BAD_USAGE, reason=f"An argument cannot be sent: {error}", command="licd-cli call")
    return Problem(BAD_ANSWER, path=path, reason=str(error))


def _group_of(path: str) -> str | None:
    """The group whose members may connect; None if that is no way in, or cannot be seen."""
    try:
        status = os.stat(path)
    except OSError:
        return None  # a folder on the way is closed
    if not status.st_mode & stat.S_IWGRP or status.st_gid == 0:  # nobody should join root's group for a license
        return None
    try:
        return grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return str(status.st_gid)
