"""What all commands do with arguments and answers.

An older or newer licd may leave members out or add some: what is shown is taken with get().
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from licd.cli.output import print_document, say, warn, write_document
from licd.rpc.client import Client

Answer = dict[str, Any]

# What licd's warnings mean; one that is not known here is shown by its name.
WARNINGS = {
    "GRACE": "The license has ended and its grace is running; renew it before that ends too.",
    "DEVICE_CHANGED": "This device has changed, and the license goes on only for a while: licd-cli fingerprint says "
    "how long, and what to do.",
    "RENEWAL_DUE": "The license stops soon unless it is renewed: licd-cli renew; licd-cli status says when, and why.",
}

UNREADABLE_WARNING = "These factors are there but licd may not read them, so they do not count: {factors}"
UNREADABLE_NEXT = "Install systemd/licd.tmpfiles as licd(8) THE DEVICE says, or let licd run as root; then ask again."


def as_map(value: Any) -> Answer:
    """The value, which has to be a map; main() turns the TypeError into BAD_ANSWER."""
    if not isinstance(value, dict):
        raise TypeError(f"a map was expected, not {type(value).__name__}")
    return value


def given(**params: Any) -> Answer:
    """The arguments that were given: licd's own defaults stand for the others."""
    return {key: value for key, value in params.items() if value is not None}


def ask_document(licd: Client, method: str, args: Namespace) -> Answer:
    """The answer whose document goes to a file if --output names one. Errors: Problem CANNOT_WRITE"""
    answer = as_map(licd.call(method, **given(vendor=args.vendor)))
    if args.output is not None:
        write_document(args.output, str(answer["document"]))
    return answer


def show_document(answer: Answer, args: Namespace, written: str, **values: Any) -> None:
    """The document, or, where it is in a file by now, the sentence that says so."""
    if args.output is None:
        print_document(str(answer["document"]))
    else:
        say(written, **values, file=args.output)


def show_warnings(answer: Answer) -> None:
    for text in answer.get("warnings") or ():
        warn("{text}", text=WARNINGS.get(str(text), text))


def listed(values: Any) -> str | None:
    return ", ".join(map(str, values or ())) or None
