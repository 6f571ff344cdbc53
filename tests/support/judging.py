"""License files as verification would return them, for tests of what they are worth at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from licd.license import document
from licd.license.lines import LicenseFile, check_whole, read_header, read_line
from tests.support import pki


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOW = at("2026-06-15T12:00:00")


def file(*lines: Mapping[str, Any], vendor: str = "acme", **header: Any) -> LicenseFile:
    """A license file as verification would return it; terms do not look at signatures."""
    signer = pki.Vendor(vendor)
    (only,) = document.parse(signer.license_file(lines=lines, header=header))
    head = read_header(only.records[0])
    read = tuple(read_line(record, head, n) for n, record in enumerate(only.records[1:], 1))
    check_whole(only.records[0], read)
    return LicenseFile(
        head.file, vendor, head.vendor, head.device, head.seq, head.request, head.issued, head.renewal,
        head.device_grace_days, read, only.text, "", 0.0, head.x,
    )  # fmt: skip


DATES = st.none() | st.integers(0, 60).map(lambda days: (datetime(2026, 6, 1) + timedelta(days)).strftime("%Y-%m-%d"))


@st.composite
def any_lines(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Lines of one license file, of two names, some of which replace others."""
    lines = []
    for n in range(draw(st.integers(1, 5))):
        begin, end = draw(DATES), draw(DATES)
        if begin is not None and end is not None and end < begin:
            begin, end = end, begin
        replaces = draw(st.none() | st.integers(0, n - 1)) if n else None
        lines.append(
            {
                "id": f"l{n}",
                "name": draw(st.sampled_from(["kso.a", "kso.b"])),
                "seats": draw(st.integers(1, 9)),
                "not_before": begin,
                "expires": end,
                "grace_days": draw(st.integers(0, 5)),
                "replaces": None if replaces is None else f"l{replaces}",
            }
        )
    return lines
