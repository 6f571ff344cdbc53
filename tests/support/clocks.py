"""Clocks of a licd that tests set: the wall clock by libfaketime, uptime by a module that its Python imports at start.

The kernel has one wall clock for everybody, and no way to move CLOCK_BOOTTIME of a process that runs.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from licd.daemon.server import THOROUGH_S
from tests.support.daemon import Daemon
from tests.support.pki import Vendor

LIBFAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)

_SITECUSTOMIZE = """
import time

def shifted(clock, real=time.clock_gettime):
    with open({path!r}) as file:
        boot, monotonic = map(float, file.read().split())
    return real(clock) + {{time.CLOCK_BOOTTIME: boot, time.CLOCK_MONOTONIC: monotonic}}.get(clock, 0.0)

time.clock_gettime = shifted
"""


class Clocks:
    """The clocks of a licd that is started with `env`. They may be set before it starts and while it runs."""

    def __init__(self, folder: Path) -> None:
        site = folder / "site"
        site.mkdir()
        self._wall = folder / "wall"
        self._uptime = folder / "uptime"
        self._boot_s = self._monotonic_s = 0.0
        (site / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(path=str(self._uptime)))
        self.offset_s = 0.0
        self._write()
        self.env = {
            "LD_PRELOAD": str(LIBFAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._wall),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }

    @property
    def wall(self) -> float:
        return time.time() + self.offset_s

    def set_wall(self, moment: float) -> None:
        """Somebody sets the clock."""
        self.offset_s = moment - time.time()
        self._write()

    def elapse(self, seconds: float) -> None:
        """So much time passes while the machine runs. licd sees it when it next wakes up."""
        self._boot_s += seconds
        self._monotonic_s += seconds
        self.offset_s += seconds
        self._write()

    def suspend(self, seconds: float) -> None:
        """The machine sleeps for so long."""
        self._boot_s += seconds
        self.offset_s += seconds
        self._write()

    def _write(self) -> None:
        time.sleep(5 * THOROUGH_S)  # licd is at rest, and sees both clocks move at once
        for path, text in (
            (self._wall, f"{self.offset_s:+.3f}\n"),
            (self._uptime, f"{self._boot_s} {self._monotonic_s}\n"),
        ):
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").rename(path)
        time.sleep(5 * THOROUGH_S)  # the kernel would tell licd that the clock was set; so it looks only then


class Clocked(Daemon):
    """licd with clocks of its own, which begin at this moment, and the profile of one vendor."""

    def __init__(self, folder: Path, vendor: Vendor, moment: float) -> None:
        self.clocks = Clocks(folder)
        self.clocks.set_wall(moment)
        super().__init__(folder, settings={"journal_size": 256 * 1024}, env=self.clocks.env)
        vendor.write_profile(self.vendors)
        self._client = self.client()

    def call(self, method: str, **params: Any) -> Any:
        # Always on one connection: the end of another would be a turn, perhaps between the setting of two clocks.
        return self._client.call(method, **params)

    def __exit__(self, *error: Any) -> None:
        self._client.close()
        super().__exit__(*error)
