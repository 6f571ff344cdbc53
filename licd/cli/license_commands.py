"""license.*: what is asked, and how the answer looks to people."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from licd.cli import arguments
from licd.cli.answers import Answer, as_map, ask_document, given, listed, show_document, show_warnings
from licd.cli.output import fill, pairs, say, table, warn
from licd.rpc.client import Client
from licd.rpc.errors import NO_SUCH_LICENSE, Refused


def ask_licenses(licd: Client, args: Namespace) -> Answer:
    return as_map(licd.call("license.list"))


def show_licenses(answer: Answer, args: Namespace) -> None:
    rows = answer.get("licenses") or ()
    if not rows:
        say("No license is installed. To install one: licd-cli license import FILE")
        return
    table(
        ("LICENSE", "STATE", "HELD", "SEATS", "EXPIRES", "VERSIONS", "TITLE"),
        [
            [
                row.get("license"),
                row.get("state"),
                row.get("held"),
                _seats(row),
                _expiry(row),
                _versions(row.get("versions")),
                row.get("title"),
            ]
            for row in rows
        ],
    )


def ask_show(licd: Client, args: Namespace) -> Answer:
    for row in as_map(licd.call("license.list")).get("licenses") or ():
        if row.get("license") == args.license:
            return as_map(row)
    raise Refused(NO_SUCH_LICENSE, license=args.license)


def show_show(row: Answer, args: Namespace) -> None:
    pairs(
        [
            ("license", row.get("license")),
            ("title", row.get("title")),
            ("vendor", row.get("vendor")),
            ("type", row.get("type")),
            ("state", row.get("state")),
            ("seats", _seats(row)),
            ("held", row.get("held")),
            ("valid from", row.get("not_before")),
            ("expires", _expiry(row)),
            ("grace until", row.get("grace_until")),
            ("versions", _versions(row.get("versions"))),
        ]
    )
    lines = row.get("lines") or ()
    if lines:
        print()
        table(
            ("LINE", "STATE", "TYPE", "SEATS", "FROM", "EXPIRES", "GRACE DAYS", "VERSIONS", "REPLACES"),
            [
                [
                    line.get("id"),
                    line.get("state"),
                    line.get("type"),
                    line.get("seats"),
                    line.get("not_before"),
                    line.get("expires") or "never",
                    line.get("grace_days"),
                    line.get("versions") or "any",
                    line.get("replaces"),
                ]
                for line in lines
            ],
        )


def ask_check(licd: Client, args: Namespace) -> Answer:
    return as_map(licd.call("license.check", **given(license=args.license, version=args.for_version)))


def show_check(answer: Answer, args: Namespace) -> None:
    if answer.get("valid"):
        expires = answer.get("expires")
        if expires is None:
            say("{license} is valid, without an end.", license=answer.get("license"))
        else:
            say("{license} is valid until {expires}.", license=answer.get("license"), expires=expires)
    else:
        say("{license} is not valid.", license=answer.get("license"))
    show_warnings(answer)


def failures_of_check(answer: Answer) -> Sequence[Mapping[str, Any]]:
    return () if answer.get("valid") is True else (as_map(answer.get("reason")),)


def ask_import(licd: Client, args: Namespace) -> Answer:
    return as_map(licd.call("license.import", document=arguments.read(args.file), dry_run=args.dry_run))


def show_import(answer: Answer, args: Namespace) -> None:
    dry_run = answer.get("dry_run")
    for file in answer.get("files") or ():
        if file.get("in_force") == "already":
            say("The license file {seq} of {vendor} is in force already; nothing was changed.", **_sentence(file))
            continue
        if dry_run:
            say("The license file {seq} of {vendor} would come into force; nothing was changed.", **_sentence(file))
        else:
            say("The license file {seq} of {vendor} is in force now.", **_sentence(file))
        show_changes(file.get("changes") or ())
    if answer.get("others"):
        say("License files in this delivery that are not for now or not for this device: {n}", n=answer.get("others"))


def show_changes(changes: Iterable[Answer]) -> None:
    rows = [_change(change) for change in changes]
    if rows:
        table(("LICENSE", "CHANGE", "BEFORE", "AFTER", ""), rows)
    for row in rows:
        if row[-1]:
            warn("{less}", less=_less(row))


def less_granted(changes: Iterable[Answer]) -> list[str]:
    """A sentence for each license of which there is less."""
    return [_less(row) for row in map(_change, changes) if row[-1]]


def _change(change: Answer) -> list[Any]:
    return [
        change.get("license"),
        change.get("change"),
        _grant(change.get("was")),
        _grant(change.get("will_be")),
        "LESS" if change.get("less") else "",
    ]


def _less(row: list[Any]) -> str:
    license, _, was, will_be, _ = row
    return fill("{license} is granted LESS than before: {was} -> {will_be}", license=license, was=was, will_be=will_be)


def ask_export(licd: Client, args: Namespace) -> Answer:
    return ask_document(licd, "license.export", args)


def show_export(answer: Answer, args: Namespace) -> None:
    show_document(answer, args, "The license file {seq} of {vendor} is written to {file}.", **_sentence(answer))


# --- parts ---------------------------------------------------------------------------------------------------


def _sentence(values: Answer) -> Answer:
    return {"seq": values.get("seq"), "vendor": values.get("vendor")}


def _seats(row: Answer) -> Any:
    total = row.get("total")
    return "no limit" if total is None and row.get("type") == "uncounted" else total


def _expiry(row: Answer) -> Any:
    return row.get("expires") or "never"


def _versions(versions: Any) -> str | None:
    """The sets of versions of the lines that count, each once."""
    return listed(dict.fromkeys("any" if each is None else each for each in versions or ()))


def _grant(summary: Any) -> str:
    """One side of a change, as people compare it."""
    if summary is None:
        return "nothing"
    values = {
        "state": summary.get("state"),
        "total": "no limit" if summary.get("total") is None else summary["total"],
        "not_before": summary.get("not_before"),
        "expires": summary.get("expires") or "never",
        "versions": _versions(summary.get("versions")),
    }
    if values["state"] == "not_yet_valid":  # its seats and versions count from then on
        return fill("{state}, from: {not_before}, expires: {expires}", **values)
    return fill("{state}, seats: {total}, expires: {expires}, versions: {versions}", **values)
