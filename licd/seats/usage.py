"""How many seats of each license were held at once, day by day: what a renewal request tells the vendor. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date

from licd.seats.events import Used, encode

# Bounds of what is kept; the days that were put first go first.
MAX_DAYS = 100  # renewals are some 35 days apart, and one may fail for two months
MAX_NAMES = 256  # of one day; a device has a handful
MAX_NUMBERS = 4000  # 100 days of 40 licenses
MAX_BYTES = 64 * 1024  # as records: a quarter of the smallest journal, where every name is as long as may be


class Usage:
    """The peaks of the days on record."""

    def __init__(self) -> None:
        # In the order in which they were first put: after a clock that was ahead, the latest date is not the newest.
        self._days: dict[str, dict[str, int]] = {}
        self._bytes: dict[str, int] = {}

    def news(self, day: str, peaks: Mapping[str, int]) -> dict[str, int]:
        """What put() would take of these peaks: those above what is known of that day."""
        known = self._days.get(day, {})
        room = MAX_NAMES - len(known)
        found: dict[str, int] = {}
        for name, peak in peaks.items():
            if name in known:
                if peak > known[name]:
                    found[name] = peak
            elif peak > 0 and room > 0:
                found[name] = peak
                room -= 1
        return found

    def put(self, day: str, peaks: Mapping[str, int]) -> None:
        """At least so many seats were held at once on that day. Putting it again changes nothing."""
        news = self.news(day, peaks)
        if not news:
            return
        known = self._days.setdefault(day, {})
        known.update(news)
        self._bytes[day] = len(encode(Used(day, known)))
        for oldest in [each for each in self._days if each != day]:
            if self._within_bounds():
                break
            del self._days[oldest], self._bytes[oldest]

    def _within_bounds(self) -> bool:
        return (
            len(self._days) <= MAX_DAYS
            and sum(map(len, self._days.values())) <= MAX_NUMBERS
            and sum(self._bytes.values()) <= MAX_BYTES
        )

    def report(self, names: Collection[str], since: str | None, until: str) -> tuple[str | None, dict[str, list[int]]]:
        """The first day on record from `since` to `until`, and of each of these licenses that was used since the peak
        of every day up to `until`; (None, {}) if none was. At most the last MAX_DAYS days, and MAX_NAMES names.

        A day without a record is a day without use: 0. Later days than `until` are of a clock that was ahead.
        """
        days = {
            _number(day): peaks
            for day, peaks in self._days.items()
            if (since is None or since <= day) and day <= until and not peaks.keys().isdisjoint(names)
        }
        last = _number(until)
        days = {number: peaks for number, peaks in days.items() if number > last - MAX_DAYS}
        if not days:
            return None, {}
        first = min(days)
        used = [name for name in names if any(name in peaks for peaks in days.values())][:MAX_NAMES]
        return date.fromordinal(first).isoformat(), {
            name: [days.get(number, {}).get(name, 0) for number in range(first, last + 1)] for name in used
        }

    def events(self) -> Iterator[Used]:
        """What makes it again."""
        for day, peaks in self._days.items():
            yield Used(day, dict(peaks))


def _number(day: str) -> int:
    return date.fromisoformat(day).toordinal()
