"""Measures how licd bears what grows: leases, connections, the journal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import machine
from loading import ErrorReply, LoadFailed
from scale_journal import bounded, compaction, replay, written
from scale_load import expiry, idle_connections, leases_held
from scale_parts import Figure, Setting
from scale_space import space
from servers import NoStart, set_file_limit

LEASES = 100_000


class Item(NamedTuple):
    name: str
    title: str
    measure: Callable[[Setting], list[Figure]]


ITEMS = (
    Item("leases", "Leases held by others", leases_held),
    Item("idle", "Idle connections beside busy ones", idle_connections),
    Item("expiry", "Leases that expire within one second", expiry),
    Item("replay", "A start that replays leases", replay),
    Item("compaction", "Compaction under load", compaction),
    Item("space", "Where a frame goes", space),
    Item("written", "Bytes written to the disk, each", written),
    Item("bounded", "The journal's size", bounded),
)


def told(item: Item, figures: Sequence[Figure]) -> Iterator[str]:
    """For people."""
    yield f"{item.name}: {item.title.lower()}"
    for each in figures:
        verdict = ""
        if each.goal is not None:
            verdict = f"<= {each.goal:g}: {'reached' if each.reached else f'MISSED{_by(each)}'}"
        yield f"  {each.text:66} {_number(each.value):>9} {each.unit:5} {verdict}".rstrip()
    yield ""


def _by(figure: Figure) -> str:
    return f" by {figure.value / figure.goal - 1:.0%}" if figure.goal else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="tools/bench/scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [item.name for item in ITEMS]
    parser.add_argument("item", nargs="*", metavar="ITEM", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--leases", type=int, default=LEASES, metavar="N", help=f"that stand for very many ({LEASES})")
    parser.add_argument(
        "--seconds", type=float, default=1.0, metavar="S", help="of a short run; others in proportion (1)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    parser.add_argument("--check", action="store_true", help="end with status 1 if a goal is missed")
    machine.add_folder_option(parser)
    args = parser.parse_args(arguments)
    if unknown := set(args.item) - set(names):
        parser.error(f"no such item: {', '.join(sorted(unknown))}")
    if not 1000 <= args.leases <= LEASES or args.seconds <= 0:
        parser.error(f"leases are from 1000 to {LEASES}, seconds above 0")
    set_file_limit()
    where = machine.cores()
    found: dict[str, list[Figure]] = {}
    others = machine.Others()
    failed = False
    for n, item in enumerate(item for item in ITEMS if not args.item or item.name in args.item):
        try:
            with machine.disk_folder(args.folder) as folder:
                if n == 0 and not args.json:
                    print("\n".join([*machine.described(folder, where), ""]), flush=True)
                found[item.name] = item.measure(Setting(folder, where, args.leases, args.seconds))
            if not args.json:
                print("\n".join(told(item, found[item.name])), flush=True)
        except (machine.Unfit, NoStart, ErrorReply, LoadFailed) as error:
            failed = True
            print(f"error: {item.name}: {error}", file=sys.stderr)
    if args.json:
        print(json.dumps({name: {each.key: each.value for each in figures} for name, figures in found.items()}))
    else:
        for line in others.told():
            print(line)
    missed = any(not each.reached for figures in found.values() for each in figures)
    return 1 if failed or (args.check and missed) else 0


if __name__ == "__main__":
    machine.end_tidily()
    sys.exit(main())
