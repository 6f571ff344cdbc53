"""The commands: what each asks licd, and how its answer looks to people. Programs get the answer itself (--json)."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from licd.cli import (
    activate_commands,
    arguments,
    completion_shells,
    device_commands,
    license_commands,
    renew_commands,
    request_commands,
    seat_commands,
)
from licd.cli.answers import Answer, as_map, listed
from licd.cli.output import complain, fill, hint, pairs, print_readable, say, span, table
from licd.rpc.client import Client
from licd.rpc.errors import STATE_NOT_WRITABLE


def ask_hello(licd: Client, args: Namespace) -> Answer:
    return as_map(licd.call("server.hello"))


def show_hello(hello: Answer, args: Namespace) -> None:
    rows = [
        ("server", fill("{server} {version}", **hello)),
        ("protocol", hello.get("protocol")),
        ("you are", fill("uid {uid}, pid {pid}", **hello)),
        ("roles", listed(hello.get("roles"))),
        *((f"limit {name}", value) for name, value in as_map(hello.get("limits", {})).items()),
    ]
    pairs(rows)
    say("methods:")
    for method in hello.get("methods") or ():
        say("  {method}", method=method)


def ask_status(licd: Client, args: Namespace) -> Answer:
    return as_map(licd.call("server.status"))


def show_status(status: Answer, args: Namespace) -> None:
    clock, journal = as_map(status.get("clock", {})), as_map(status.get("journal", {}))
    licenses, seats = as_map(status.get("licenses", {})), as_map(status.get("seats", {}))
    trusted = "{trusted} ({state}, confirmed)" if clock.get("confirmed") else "{trusted} ({state}, not confirmed)"
    pairs(
        [
            ("health", status.get("health")),
            *(("warning", text) for text in status.get("warnings") or ()),
            ("version", status.get("version")),
            ("pid", status.get("pid")),
            ("running for", span(status.get("uptime_s"))),
            ("trusted time", fill(trusted, **clock)),
            ("licenses valid", fill("{valid} of {total}", **licenses)),
            ("seats held", fill("{held} of {total}", **seats)),
            ("leases", status.get("leases")),
            ("connections", status.get("connections")),
            ("journal writable", journal.get("writable")),
            ("journal used", fill("{bytes} of {allocated} bytes", **journal)),
        ]
    )
    vendors = status.get("vendors") or ()
    if vendors:
        print()
        table(
            ("VENDOR", "IN FORCE", "SEQ", "ISSUED", "DEVICE", "PROBLEM"),
            [
                [*(row.get(key) for key in ("vendor", "in_force", "seq", "issued")), _device(row), row.get("problem")]
                for row in vendors
            ],
        )
    if journal.get("writable") is False:
        hint(STATE_NOT_WRITABLE.next)


def _device(row: Answer) -> Any:
    return row.get("device") if row.get("device_until") is None else fill("{device} until {device_until}", **row)


def ask_call(licd: Client, args: Namespace) -> Any:
    values = arguments.parse(args.arguments)
    return licd.call(args.method, **values)


def show_call(answer: Any, args: Namespace) -> None:
    print_readable(answer)


def _no_failures(answer: Any) -> Sequence[Mapping[str, Any]]:
    return ()


class Command(NamedTuple):
    """`failures`: the error maps inside an answer that as a whole is none (one lease of many, an invalid license).

    tell: how each of those reaches people
    """

    ask: Callable[[Client, Namespace], Any]
    show: Callable[[Any, Namespace], None]
    failures: Callable[[Any], Sequence[Mapping[str, Any]]] = _no_failures
    tell: Callable[[Mapping[str, Any]], None] = complain


COMMANDS = {
    "hello": Command(ask_hello, show_hello),
    "status": Command(ask_status, show_status),
    "licenses": Command(license_commands.ask_licenses, license_commands.show_licenses),
    "license import": Command(license_commands.ask_import, license_commands.show_import),
    "license export": Command(license_commands.ask_export, license_commands.show_export),
    "license show": Command(license_commands.ask_show, license_commands.show_show),
    "license check": Command(
        license_commands.ask_check, license_commands.show_check, license_commands.failures_of_check
    ),
    "install-request import": Command(request_commands.ask_install_import, request_commands.show_install_import),
    "license-request export": Command(request_commands.ask_export, request_commands.show_export),
    "license-request show": Command(request_commands.ask_show, request_commands.show_show),
    "activate": Command(activate_commands.ask_activate, activate_commands.show_activate),
    "renew": Command(renew_commands.ask_now, renew_commands.show_renew, renew_commands.failures_of_renew),
    "renew --due": Command(
        renew_commands.ask_due, renew_commands.show_due, renew_commands.failures_of_due, renew_commands.log_failure
    ),
    "renew --export": Command(renew_commands.ask_export, renew_commands.show_export),
    "renew --import": Command(renew_commands.ask_import, renew_commands.show_renew, renew_commands.failures_of_renew),
    "fingerprint": Command(device_commands.ask_fingerprint, device_commands.show_fingerprint),
    "fingerprint what-if": Command(
        device_commands.ask_what_if, device_commands.show_what_if, device_commands.failures_of_what_if
    ),
    "acquire": Command(seat_commands.ask_acquire, seat_commands.show_acquire),
    "confirm": Command(seat_commands.ask_confirm, seat_commands.show_confirm, seat_commands.failures_of_confirm),
    "release": Command(seat_commands.ask_release, seat_commands.show_release),
    "leases": Command(seat_commands.ask_leases, seat_commands.show_leases),
    "call": Command(ask_call, show_call),
    "completion": Command(completion_shells.ask_completion, completion_shells.show_completion),
}
