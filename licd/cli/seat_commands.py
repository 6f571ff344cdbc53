"""seat.*: what is asked, and how the answer looks to people."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from licd.cli.answers import Answer, as_map, given, show_warnings
from licd.cli.output import fill, pairs, say, span, table
from licd.rpc.client import Client

MAX_CONFIRMS = 100  # leases that one seat.confirm may name: licd-rpc(7)


def ask_acquire(licd: Client, args: Namespace) -> Answer:
    wish = given(license=args.license, holder=args.holder, seats=args.seats, version=args.for_version, ttl=args.ttl)
    return as_map(licd.call("seat.acquire", **wish))


def show_acquire(lease: Answer, args: Namespace) -> None:
    pairs(
        [
            ("lease", lease.get("lease")),
            ("license", lease.get("license")),
            ("holder", lease.get("holder")),
            ("seats", lease.get("seats")),
            ("confirm within", span(lease.get("ttl"))),
        ]
    )
    show_warnings(lease)


def ask_confirm(licd: Client, args: Namespace) -> Answer:
    if len(args.leases) <= 1:
        return as_map(licd.call("seat.confirm", **_lease_meant(args)))
    results: list[Any] = []
    for first in range(0, len(args.leases), MAX_CONFIRMS):
        answer = as_map(licd.call("seat.confirm", leases=args.leases[first : first + MAX_CONFIRMS]))
        results += answer["results"]
    return {"results": results}


def show_confirm(answer: Answer, args: Namespace) -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)  # licd's clock for leases: it is on this machine
    for lease in answer.get("results", [answer]):
        if "error" not in lease:
            left = span(lease["deadline"] - now) if "deadline" in lease else None
            say("{lease} is confirmed for {left}", lease=lease.get("lease"), left=left)


def failures_of_confirm(answer: Answer) -> Sequence[Mapping[str, Any]]:
    found = []
    for row in answer.get("results", ()):
        error = row.get("error")
        if isinstance(error, dict):  # which of the many, licd's sentence does not say
            found.append({**error, "message": f"{row.get('lease')}: {error.get('message')}"})
    return found


def ask_release(licd: Client, args: Namespace) -> Answer:
    return as_map(licd.call("seat.release", **_lease_meant(args), **given(reason=args.reason)))


def show_release(answer: Answer, args: Namespace) -> None:
    if answer.get("released"):
        say("The lease is released.")
    else:
        say("There was no such lease (any more); nothing had to be released.")


def ask_leases(licd: Client, args: Namespace) -> Answer:
    """All leases, page after page; each page is true for its own moment."""
    leases: list[Any] = []
    chosen = given(license=args.license, holder=args.holder)
    answer = as_map(licd.call("seat.list", **chosen))
    leases += answer["leases"]
    while answer.get("next") is not None:
        answer = as_map(licd.call("seat.list", **chosen, after=answer["next"]))
        leases += answer["leases"]
    return {"leases": leases}


def show_leases(answer: Answer, args: Namespace) -> None:
    rows = answer["leases"]
    if not rows:
        say("No leases.")
        return
    table(
        ("LEASE", "LICENSE", "HOLDER", "SEATS", "UID", "PID", "UNIT", "SINCE", "CONFIRMED", "LEFT"),
        [
            [
                *(row.get(key) for key in ("lease", "license", "holder", "seats", "uid", "pid", "unit", "since")),
                _ago(row.get("confirmed_s")),
                span(row.get("expires_s")),
            ]
            for row in rows
        ],
    )


def _lease_meant(args: Namespace) -> Answer:
    if args.leases:
        return {"lease": args.leases[0]}
    return {"license": args.license, "holder": args.holder}


def _ago(seconds: Any) -> str:
    return "-" if seconds is None else fill("{span} ago", span=span(seconds))
