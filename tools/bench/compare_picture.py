"""Draws what compare has measured as SVG: a column a workload, above requests a second, below the 99th percentile.

Both scales are logarithmic, for one connection and 256 lie far apart. The colours go with a light and a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from loading import WORKLOADS

WIDE, HIGH = 270, 190  # of a plot
LEFT, TOP, BETWEEN, BELOW = 70, 92, 66, 78
MARK = 4.5
NAMES = {"licd": "licd", "redis": "Redis, appendfsync always", "echo": "bare echo server"}
STYLE = """
  text { font: 12px sans-serif; fill: #333 }
  .title { font-weight: bold; font-size: 13px }
  .small { font-size: 11px; fill: #666 }
  .grid { stroke: #8888; stroke-width: .5 }
  .licd { stroke: #2f7fc1; fill: #2f7fc1 }
  .redis { stroke: #d2552c; fill: #d2552c }
  .echo { stroke: #8a8a8a; fill: #8a8a8a }
  polyline.licd, polyline.redis, polyline.echo { fill: none; stroke-width: 2 }
  polyline.echo { stroke-dasharray: 5 4 }
  @media (prefers-color-scheme: dark) { text { fill: #ccc } .small { fill: #aaa } }
"""

Rows = Mapping[str, Mapping[str, float]]  # by connections


class Plot(NamedTuple):
    """Where a plot is, and what its lower and upper end are, powers of ten."""

    left: float
    top: float
    low: int
    high: int
    places: int

    def x(self, n: int) -> float:
        return round(self.left + WIDE * (n + 0.5) / self.places, 1)

    def y(self, value: float) -> float:
        part = (math.log10(max(value, 1e-9)) - self.low) / (self.high - self.low)
        return round(self.top + HIGH * (1 - min(max(part, 0), 1)), 1)


def picture(figures: Mapping[str, Rows], about: Sequence[str]) -> str:
    """An SVG document."""
    columns = [(workload, figures[workload.name]) for workload in WORKLOADS if workload.name in figures]
    lower = TOP + HIGH + BELOW + 34
    width = LEFT + len(columns) * (WIDE + BETWEEN)
    height = lower + HIGH + 54 + 15 * len(about)
    speeds = {server: server for server in NAMES}
    waits = {"licd": "licd_p99_us", "redis": "redis_p99_us"}
    speed_ends = _ends(figures, speeds.values())
    wait_ends = _ends(figures, waits.values())
    body = [f'<text class="title" x="{LEFT}" y="22">licd beside Redis and a bare echo server</text>', *_legend()]
    for n, (workload, rows) in enumerate(columns):
        left = LEFT + n * (WIDE + BETWEEN)
        body.append(f'<text class="title" x="{left}" y="{TOP - 26}">{escape(workload.name)}</text>')
        body.append(f'<text class="small" x="{left}" y="{TOP - 11}">{escape(workload.title)}</text>')
        plot = Plot(left, TOP, *speed_ends, len(rows))
        body += _plot(plot, rows, speeds, "requests a second")
        body += _ratios(plot, rows)
        body += _plot(Plot(left, lower, *wait_ends, len(rows)), rows, waits, "99 % of replies within, us")
    for n, line in enumerate(about):
        body.append(f'<text class="small" x="{LEFT}" y="{height - 15 * (len(about) - n) + 6}">{escape(line)}</text>')
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    lines = "\n".join(body)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<style>{STYLE}</style>\n{lines}\n</svg>\n'


def _ends(figures: Mapping[str, Rows], keys: Collection[str]) -> tuple[int, int]:
    """The powers of ten around all these figures."""
    values = [value for rows in figures.values() for row in rows.values() for key, value in row.items() if key in keys]
    low, high = math.floor(math.log10(max(min(values), 1))), math.ceil(math.log10(max(*values, 10)))
    return low, max(high, low + 1)


def _legend() -> Iterator[str]:
    x = LEFT
    for server, name in NAMES.items():
        yield _mark(server, x + MARK, 40)
        yield f'<text x="{x + 14}" y="44">{escape(name)}</text>'
        x += 40 + 7 * len(name)


def _mark(server: str, x: float, y: float) -> str:
    """A shape of its own each: colours alone do not tell them apart for everybody."""
    if server == "licd":
        return f'<circle class="licd" cx="{x}" cy="{y}" r="{MARK}"/>'
    if server == "redis":
        return f'<rect class="redis" x="{x - 4}" y="{y - 4}" width="8" height="8"/>'
    return f'<polygon class="echo" points="{x},{y - 5} {x + 5},{y + 4} {x - 5},{y + 4}"/>'


def _plot(plot: Plot, rows: Rows, series: Mapping[str, str], what: str) -> Iterator[str]:
    for power in range(plot.low, plot.high + 1):
        y = plot.y(10**power)
        yield f'<line class="grid" x1="{plot.left}" x2="{plot.left + WIDE}" y1="{y}" y2="{y}"/>'
        yield f'<text class="small" x="{plot.left - 6}" y="{y + 4}" text-anchor="end">{10**power:,}</text>'
    for n, connections in enumerate(rows):
        yield f'<text x="{plot.x(n)}" y="{plot.top + HIGH + 16}" text-anchor="middle">{connections}</text>'
    yield f'<text class="small" x="{plot.left}" y="{plot.top + HIGH + 32}">{what}, by connections</text>'
    for server, key in reversed(list(series.items())):  # licd on top
        points = [(plot.x(n), plot.y(row[key])) for n, row in enumerate(rows.values())]
        yield f'<polyline class="{server}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>'
        for (x, y), row in zip(points, rows.values(), strict=True):
            yield f"<g><title>{escape(NAMES[server])}: {row[key]:,.0f}</title>{_mark(server, x, y)}</g>"


def _ratios(plot: Plot, rows: Rows) -> Iterator[str]:
    y = plot.top + HIGH + 50
    yield f'<text class="small" x="{plot.left - 6}" y="{y}" text-anchor="end">x Redis:</text>'
    for n, row in enumerate(rows.values()):
        yield f'<text x="{plot.x(n)}" y="{y}" text-anchor="middle">{row["licd"] / row["redis"]:.2f}</text>'
