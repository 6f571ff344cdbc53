"""licd with a journal of the smallest size, which is soon compacted, and two license files for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support import clients, pki
from tests.support.daemon import Daemon

ACME, OTHER = pki.Vendor(), pki.Vendor("other", ("pos.*",))
FILES = {
    seq: ACME.license_file(
        seq, [{"name": "kso.scales", "seats": 3 + seq}, {"name": "kso.camera", "license": "uncounted"}]
    )
    for seq in (1, 2)
}
SMALL = 256 * 1024  # bytes: the smallest journal


def started(folder: Path, **settings: object) -> Daemon:
    """With the first license file in force."""
    daemon = Daemon(folder, settings={"journal_size": SMALL, **settings})
    ACME.write_profile(daemon.vendors)
    OTHER.write_profile(daemon.vendors)
    daemon.start()
    daemon.call("license.import", document=FILES[1])
    return daemon


def acquire(who: Any, holder: str, license: str = "kso.camera", **params: Any) -> str:
    """The id of the lease; of seats without number unless told."""
    return clients.acquire(who, holder, license, **params)
