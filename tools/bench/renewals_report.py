"""Draws the renewals a day that renewals_load.py makes, and says whether the highest day is within bounds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from renewals_load import SCENARIOS, YEAR, Load, Scenario, run

BOUND = 1.5  # times the mean: the highest day of the year that is judged
FIRST_BOUND = 4  # before that: what became due at once is spread over ten days of 35, which makes 3.5
WIDTH, HEIGHT = 96, 12  # of the plot, in characters
WIDE, HIGH, LEFT, GAP = 900, 200, 60, 60  # of the picture
EIGHTHS = " ▁▂▃▄▅▆▇█"


class Figures(NamedTuple):
    """Of the year that is judged, but for `first` and for the devices.

    highest, day: the most renewals on one day, and which one, counted from the first installation on
    first: the highest day before that year, over the mean of it
    """

    scenario: str
    judged: int
    mean: float
    highest: int
    day: int
    ratio: float
    first: float
    requests: int  # on the day with the most of them, put off or not
    put_off: int
    stopped: int
    missed: int

    @property
    def within(self) -> bool:
        return self.ratio <= BOUND and self.first <= FIRST_BOUND and self.stopped == 0


def figures(scenario: Scenario, load: Load) -> Figures:
    served, put_off = load.served[scenario.judged :], load.put_off[scenario.judged :]
    mean, highest = sum(served) / YEAR, max(served)
    return Figures(
        scenario=scenario.name,
        judged=scenario.judged,
        mean=mean,
        highest=highest,
        day=scenario.judged + served.index(highest),
        ratio=highest / mean,
        first=max(load.served[: scenario.judged]) / mean,
        requests=max(map(sum, zip(served, put_off, strict=True))),
        put_off=sum(put_off),
        stopped=len(load.stopped),
        missed=len(load.missed),
    )


def told(scenario: Scenario, is_: Figures, load: Load, *, devices: int, width: int = WIDTH) -> Iterator[str]:
    """Lines for people: the curve, and what it says."""
    yield f"{scenario.name}: {devices:,} devices, {scenario.text}"
    yield ""
    yield from curve(load, is_, width=width)
    yield ""
    yield f"  judged from day {scenario.judged} on, for {YEAR} days: {scenario.why}"
    yield (
        f"  renewals: {is_.mean:.0f} a day in the mean; the highest day is {is_.day} with {is_.highest}: "
        f"{is_.ratio:.2f} times the mean, of at most {BOUND}: {_verdict(is_.ratio <= BOUND)}"
    )
    yield (
        f"  before that: up to {is_.first:.2f} times this mean, of at most {FIRST_BOUND}: "
        f"{_verdict(is_.first <= FIRST_BOUND)}"
    )
    yield f"  requests: {is_.requests} on the busiest day; {is_.put_off} of the year were asked to come again later"
    yield f"  licenses that stopped at work, the server up: on {is_.stopped} devices: {_verdict(is_.stopped == 0)}"
    yield f"  licenses that stopped on holiday, or while it was down: on {is_.missed} devices"


def _verdict(good: bool) -> str:
    return "ok" if good else "FAILED"


def curve(load: Load, is_: Figures, *, width: int) -> Iterator[str]:
    """The highest day of each column: solid the renewals, above them in dots the requests that were put off."""
    days = len(load.served)
    columns = [slice(n * days // width, max((n + 1) * days // width, n * days // width + 1)) for n in range(width)]
    requests = [served + put_off for served, put_off in zip(load.served, load.put_off, strict=True)]
    solid = [max(load.served[column]) for column in columns]
    dots = [max(requests[column]) for column in columns]
    # A first wave, or the day after the server was down, would press the rest flat: cut off, and said to be.
    top = min(max(dots), 3 * is_.mean)
    marks = {round(is_.mean / top * HEIGHT - 0.5): "mean", round(BOUND * is_.mean / top * HEIGHT - 0.5): f"x{BOUND}"}
    for row in reversed(range(HEIGHT)):
        low, step = top * row / HEIGHT, top / HEIGHT
        cells = (_cell(have, asked, low, step) for have, asked in zip(solid, dots, strict=True))
        yield f"  {low + step:5.0f} |{''.join(cells)}| {marks.get(row, '')}".rstrip()
    yield f"  {'day':>5} 0{f'judged from {is_.judged}':^{width - len(str(days))}}{days}"
    if max(dots) > top:
        yield f"        above it, up to {max(dots)} requests a day are cut off"


def _cell(have: int, asked: int, low: float, step: float) -> str:
    eighths = min(max(int((have - low) / step * 8), 0), 8)
    if eighths == 0 and asked > low:
        return "·"
    return EIGHTHS[eighths]


def picture(drawn: Sequence[tuple[Scenario, Figures, Load]]) -> str:
    """The same as SVG: a strip for each scenario, grey the requests that were put off."""
    parts = [line for n, each in enumerate(drawn) for line in _strip(*each, base=n * (HIGH + GAP) + HIGH + 30)]
    size = f'width="{LEFT + WIDE + 20}" height="{len(drawn) * (HIGH + GAP) + 20}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">\n{body}\n</svg>\n'


def _strip(scenario: Scenario, is_: Figures, load: Load, *, base: int) -> Iterator[str]:
    days, top = len(load.served), 3 * is_.mean
    requests = [served + put_off for served, put_off in zip(load.served, load.put_off, strict=True)]

    def across(day: float) -> float:
        return round(LEFT + day / days * WIDE, 1)

    def up(load: float) -> float:
        return round(base - min(load / top, 1) * HIGH, 1)

    def area(values: Sequence[int], colour: str) -> str:
        points = " ".join(f"{across(day)},{up(value)}" for day, value in enumerate(values))
        return f'<polygon points="{LEFT},{base} {points} {LEFT + WIDE},{base}" fill="{colour}"/>'

    def level(value: float, text: str) -> str:
        at = f'x1="{LEFT}" x2="{LEFT + WIDE}" y1="{up(value)}" y2="{up(value)}"'
        label = f'<text x="{LEFT - 4}" y="{up(value) + 4}" text-anchor="end">{text}</text>'
        return f'<line {at} stroke="#333" stroke-dasharray="4 4"/>{label}'

    title = f"{scenario.text}: highest day {is_.ratio:.2f} times the mean from day {is_.judged} on"
    yield f'<text x="{LEFT}" y="{base - HIGH - 8}">{title}</text>'
    yield area(requests, "#d8d8d8")
    yield area(load.served, "#3b6ea5")
    yield level(is_.mean, f"{is_.mean:.0f}")
    yield level(BOUND * is_.mean, f"x{BOUND}")
    at = across(is_.judged)
    yield f'<line x1="{at}" x2="{at}" y1="{base - HIGH}" y2="{base}" stroke="#333"/>'
    yield f'<text x="{LEFT}" y="{base + 16}">day 0</text>'
    yield f'<text x="{LEFT + WIDE}" y="{base + 16}" text-anchor="end">{days}</text>'


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench/renewals", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--devices", type=int, default=10_000, metavar="N", help="so many (10000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed, the same course (1)")
    parser.add_argument("--without-jitter", action="store_true", help="all devices of one age become due at once")
    parser.add_argument("--without-pacing", action="store_true", help="the server puts nobody off")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the curves as SVG, too")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the plots")
    args = parser.parse_args(arguments)
    if unknown := set(args.scenario) - set(names):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    drawn = []
    for scenario in SCENARIOS:
        if args.scenario and scenario.name not in args.scenario:
            continue
        load = run(
            scenario,
            devices=args.devices,
            seed=args.seed,
            jitter=not args.without_jitter,
            paced=not args.without_pacing,
        )
        is_ = figures(scenario, load)
        drawn.append((scenario, is_, load))
        if not args.json:
            print("\n".join(told(scenario, is_, load, devices=args.devices)), end="\n\n", flush=True)
    if args.json:
        print(json.dumps({"scenarios": [is_._asdict() for _, is_, _ in drawn]}))
    if args.picture is not None:
        args.picture.write_text(picture(drawn))
    return 0 if all(is_.within for _, is_, _ in drawn) else 1


if __name__ == "__main__":
    sys.exit(main())
