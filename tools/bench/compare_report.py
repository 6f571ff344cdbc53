"""Compares licd with Redis on the same work at the same durability, and with a bare echo server, all in one run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import machine
from compare_figures import (
    CONNECTIONS,
    LEAST_ROUNDS,
    Acquire,
    Bench,
    Goal,
    Runs,
    busier_load,
    goals,
    measure,
    medians,
    raw,
)
from compare_picture import picture
from loading import WORKLOADS, ErrorReply, LoadFailed
from servers import SEATS, NoStart, set_file_limit

HOW = (
    "licd: acquire, confirm and release name the seat by license and holder. Redis: appendfsync always; acquire and",
    "confirm are seat.lua by EVALSHA, release is ZREM, a license check GET. Echo: answers each request with itself.",
)


def table(figures: dict[str, dict[str, dict[str, float]]]) -> Iterator[str]:
    """For people."""
    titles = {workload.name: workload.title for workload in WORKLOADS}
    for name, rows in figures.items():
        yield f"{name}: {titles[name]}"
        yield f"  {'':11} {'requests a second':^29}   {'licd is':^17}   {'99 % within, us':^16}"
        names = f"{'licd':>8} {'Redis':>9} {'echo':>9}   {'x Redis':>8} {'x echo':>8}   {'licd':>7} {'Redis':>8}"
        yield f"  connections {names}"
        for connections, row in rows.items():
            yield (
                f"  {connections:>11} {row['licd']:8,.0f} {row['redis']:9,.0f} {row['echo']:9,.0f}   "
                f"{row['licd'] / row['redis']:8.2f} {row['licd'] / row['echo']:8.2f}   "
                f"{row['licd_p99_us']:7,.0f} {row['redis_p99_us']:8,.0f}"
            )
        yield ""


def told(acquire: Acquire) -> Iterator[str]:
    sync = acquire.sync
    yield f"one fdatasync of {acquire.frame_bytes} bytes: {sync.sync_us:.0f} us, 99 % within {sync.p99_us:.0f} us"
    yield (
        f"one acquire at one connection: {acquire.acquire_us:.0f} us, {acquire.ratio:.2f} times "
        f"one echo ({acquire.echo_us:.0f} us) and one fdatasync"
    )


def judged(all_goals: Sequence[Goal]) -> Iterator[str]:
    yield f"{'goal':46} {'is':>6}   {'to be':<9} "
    for goal in all_goals:
        verdict = "reached" if goal.reached else f"missed by {goal.missed_by:.0%}"
        bound = f"{'>=' if goal.at_least else '<='} {goal.bound:g}"
        yield f"{goal.text:46} {goal.figure:6.2f}   {bound:<9} {verdict}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench/compare", description=__doc__)
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("workload", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each run (2)")
    parser.add_argument(
        "--rounds", type=int, default=LEAST_ROUNDS, metavar="N", help=f"for the medians ({LEAST_ROUNDS})"
    )
    parser.add_argument(
        "--connections",
        type=int,
        nargs="+",
        default=list(CONNECTIONS),
        metavar="N",
        help=f"({' '.join(map(str, CONNECTIONS))})",
    )
    parser.add_argument("--seats", type=int, default=SEATS, metavar="N", help=f"of the license ({SEATS})")
    parser.add_argument("--json", action="store_true", help="the medians as one JSON object in place of the tables")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw them, too")
    parser.add_argument("--raw", type=Path, metavar="FILE.json", help="write every single run, too")
    parser.add_argument("--check", action="store_true", help="end with status 1 if a goal is missed")
    parser.add_argument("--quiet", action="store_true", help="do not say what is being measured")
    parser.add_argument(
        "--in-step",
        action="store_true",
        help="mix: all connections ask for the same at the same time; in life they do not",
    )
    machine.add_folder_option(parser)
    args = parser.parse_args(arguments)
    if unknown := set(args.workload) - set(names):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    if min(args.connections) < 1 or args.rounds < 1 or args.seconds <= 0:
        parser.error("connections, rounds and seconds begin at 1, 1 and above 0")
    try:
        set_file_limit()
        where = machine.cores()
        with machine.disk_folder(args.folder) as folder, Bench(folder, where, seats=args.seats) as bench:
            about = machine.described(folder, where)
            others = machine.Others()
            runs, acquire = measure(
                bench,
                workloads=[
                    each._replace(spread=each.spread and not args.in_step)
                    for each in WORKLOADS
                    if not args.workload or each.name in args.workload
                ],
                connections=args.connections,
                seconds=args.seconds,
                rounds=args.rounds,
                tell=lambda text: None if args.quiet else print(text, file=sys.stderr, flush=True),
            )
        about += others.told()
    except (machine.Unfit, NoStart, ErrorReply, LoadFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return _report(args, runs, acquire, about)


def _report(args: argparse.Namespace, runs: Runs, acquire: Acquire, about: list[str]) -> int:
    figures = medians(runs)
    all_goals = list(goals(figures, acquire))
    if args.json:
        print(json.dumps(figures))
    else:
        if args.rounds < LEAST_ROUNDS:
            about.append(f"fewer than {LEAST_ROUNDS} rounds: a first look, no medians")
        print("\n".join([*about, *told(acquire), *HOW, "", *table(figures), *judged(all_goals)]))
        if busier := busier_load(runs):
            print("", "the load generator had more to do than the server, which may be faster than it looks:", sep="\n")
            print("\n".join(f"  {line}" for line in busier))
    if args.plot is not None:
        args.plot.write_text(picture(figures, about))
    if args.raw is not None:
        facts = {"machine": about, "acquire": {**acquire._asdict(), "sync": acquire.sync._asdict()}}
        args.raw.write_text(json.dumps({**facts, "medians": figures, "runs": raw(runs)}, indent=1) + "\n")
    return 1 if args.check and not all(goal.reached for goal in all_goals) else 0


if __name__ == "__main__":
    machine.end_tidily()
    sys.exit(main())
