"""device.fingerprint: what this machine shows, whether it is still the device bound, and what it could lose."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from licd.cli.answers import UNREADABLE_NEXT, UNREADABLE_WARNING, Answer, as_map, listed
from licd.cli.output import fill, hint, pairs, say, table, warn
from licd.cli.problems import WOULD_BREAK, Problem, failure
from licd.device.fingerprint import UNREADABLE
from licd.license.terms import ANY, CHANGED, COPY, OTHER_KEY, SAME
from licd.rpc.client import Client

IS = {
    ANY: "one of any: the license file is for every device",
    SAME: "the device that the license file is for",
    CHANGED: "CHANGED; licenses go on until {until}",
    COPY: "ANOTHER device: none of the strong factors bound is found here",
    OTHER_KEY: "the hardware bound with ANOTHER device key; licenses go on until {until}",
}
WOULD_BE = {
    ANY: "one of any: the license file is for every device",
    SAME: "still the device that the license file is for",
    CHANGED: "a CHANGED device; licenses would go on for some days of grace, and then stop",
    COPY: "ANOTHER device, as no strong factor bound would be found; licenses would stop",
    OTHER_KEY: "the hardware bound with ANOTHER device key, as it is now",
}
WARNINGS = {
    CHANGED: "This device has CHANGED: the licenses of {vendor} go on until {until} and not longer.",
    COPY: "This is NOT the device that the license file of {vendor} is for: its licenses have stopped.",
    OTHER_KEY: "This device has ANOTHER key than the one bound, as after its state folder was lost: the licenses of "
    "{vendor} go on until {until} and not longer.",
}
UNTIL_RESTART = (
    "Too much of the device that the license file of {vendor} is for is gone; it counts as the same only until this "
    "device starts again."
)
RE_HOST_NEXT = (
    "Put back what was replaced; or bind the licenses to this device as it is now: licd-cli license-request export "
    "--vendor {vendor} -o FILE, and send FILE to the vendor. It says that it is a re-host."
)


def ask_fingerprint(licd: Client, args: Namespace) -> Answer:
    return as_map(licd.call("device.fingerprint"))


def show_fingerprint(answer: Answer, args: Namespace) -> None:
    _show_machine(answer, ())
    vendors = answer.get("vendors") or ()
    for row in vendors:
        _show_vendor(row, IS)
    _show_concerns(answer)
    for row in vendors:
        _show_way_out(row)


def ask_what_if(licd: Client, args: Namespace) -> Answer:
    return as_map(licd.call("device.fingerprint", without=args.without))


def show_what_if(answer: Answer, args: Namespace) -> None:
    gone = answer.get("without") or ()
    say("What if {gone} were gone? So it WOULD be; nothing has changed.", gone=listed(gone))
    print()
    _show_machine(answer, gone)
    for row in answer.get("vendors") or ():
        _show_vendor(row, WOULD_BE)


def failures_of_what_if(answer: Answer) -> Sequence[Mapping[str, Any]]:
    """One for each vendor whose device this would no longer be."""
    gone = listed(answer.get("without"))
    found = []
    for row in answer.get("vendors") or ():
        standing = str(row.get("standing"))
        if standing not in (ANY, SAME):
            would_be = WOULD_BE.get(standing, standing)
            problem = Problem(WOULD_BREAK, gone=gone, vendor=row.get("vendor"), standing=would_be)
            found.append(failure(problem, "").error)
    return found


# --- parts ---------------------------------------------------------------------------------------------------


def _show_machine(answer: Answer, gone: Sequence[Any]) -> None:
    machine = as_map(answer.get("machine", {}))
    kind = "{kind}" if machine.get("name") is None else "{kind} ({name})"
    pairs([("machine", fill(kind, **machine)), ("device key usable", answer.get("key"))])
    print()
    table(
        ("FACTOR", "KIND", "STRENGTH", "STATE", "COUNT", "NOTE"),
        [
            [
                *(row.get(key) for key in ("factor", "kind", "strength")),
                *(("gone", 0, None) if row.get("factor") in gone or row.get("kind") in gone else _reading(row)),
            ]
            for row in answer.get("factors") or ()
        ],
    )


def _reading(row: Answer) -> Sequence[Any]:
    return [row.get(key) for key in ("state", "count", "note")]


def _show_vendor(row: Answer, words: Mapping[str, str]) -> None:
    print()
    device = fill(words.get(str(row.get("standing")), "{standing}"), **row)
    rows = [("vendor", row.get("vendor")), ("this device", device)]
    if row.get("reason") is not None and words is IS:
        rows.append(("reason", row["reason"]))
    weight = row.get("weight")
    if weight is not None:
        rows.append(("weight kept", fill("{kept} of {bound}; {needed} are needed", **as_map(weight))))
        rows.append(("margin", _margin(row)))
    pairs(rows)
    if row.get("factors"):
        print()
        table(
            ("FACTOR BOUND", "WEIGHT", "STATE"),
            [[each.get("factor"), each.get("weight"), each.get("state")] for each in row["factors"]],
        )


def _margin(row: Answer) -> str:
    """How many repairs are left, before the last of them."""
    if not _is_enough(row):
        return "none; too much is gone"
    if row.get("breaking"):
        return fill("one more change breaks it: {kinds}", kinds=listed(row["breaking"]))
    if row.get("changes_left") == 1:
        return "any one change is fine; a second one may break it"
    return fill("any {n} changes are fine; one more may break it", n=row.get("changes_left"))


def _is_enough(row: Answer) -> bool:
    """The hardware found is the hardware bound, whatever was found before and whichever key this device has."""
    return bool(row.get("breaking") or row.get("changes_left"))  # of a device that is not the one, nothing may be lost


def _show_concerns(answer: Answer) -> None:
    if answer.get("key") is False:
        warn("The device key cannot be used: no license request can be made, and licenses bound to it will stop.")
        hint("What is wrong with it, licd-cli status says.")
    if answer.get("weak"):
        warn("The fingerprint is WEAK: fewer than two strong kinds of hardware are found. A vendor may refuse it.")
    unreadable = [row.get("factor") for row in answer.get("factors") or () if row.get("state") == UNREADABLE]
    if unreadable:
        warn(UNREADABLE_WARNING, factors=listed(unreadable))
        hint(UNREADABLE_NEXT)


def _show_way_out(row: Answer) -> None:
    """Loudly, if this is not the device bound as it was."""
    standing = row.get("standing")
    sentence = WARNINGS.get(str(standing))
    if standing == SAME and row.get("weight") is not None and not _is_enough(row):
        sentence = UNTIL_RESTART
    if sentence is not None:
        warn(sentence, vendor=row.get("vendor"), until=row.get("until"))
        hint(RE_HOST_NEXT, vendor=row.get("vendor"))
