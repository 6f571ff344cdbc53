"""License files as verification would return them, for tests of what they are worth at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

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
