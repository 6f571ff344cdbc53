"""One device in the field: the real licd on a described machine, which boots again, is changed, and asks its vendor.

    site.install()                         install request, license request, license file, all in force
    site.boot("server: disks swapped")     stopped, changed, and started in another boot
    site.start("server: disks swapped")    the same within the boot

All that fingerprints are made of is that machine's: /sys by umockdev, /proc/cpuinfo, /etc/machine-id and the boot id by
mounts that only this process sees. So it needs root.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from licd.device.fingerprint import DEFAULT_SHARE, DEFAULT_WEIGHTS
from licd.license.dates import timestamp
from licd.license.document import b64url
from licd.license.install import LicenseRequest, verify_license_request
from licd.license.renewal import RenewalRequest
from tests.support import machines, pki
from tests.support.daemon import Daemon
from tests.support.needs import needs_root, needs_umockdev

NEEDS = [needs_root, needs_umockdev]

ACME, UMBRA = pki.Vendor(), pki.Vendor("umbra", ("umb.*",))
LINES: dict[str, list[dict[str, Any]]] = {
    "acme": [{"name": "kso.scales", "seats": 3}, {"name": "kso.camera", "license": "uncounted"}],
    "umbra": [{"name": "umb.pos", "seats": 1}],
}

_numbers = itertools.count(1)

# libfaketime and umockdev hang in each other's arms.
_SITECUSTOMIZE = """
import time

def later(clock, real=time.clock_gettime):
    with open({path!r}) as file:
        passed, wall = map(float, file.read().split())
    return real(clock) + passed + (wall if clock == time.CLOCK_REALTIME else 0)

time.clock_gettime = later
"""


class Asked:
    """What a vendor asks: its install request, and what it must remember of that for the license file."""

    def __init__(self, vendor: pki.Vendor = ACME, /, *, issued: float | None = None, **members: Any) -> None:
        self.vendor = vendor
        self.members = {
            "id": f"install-{next(_numbers)}",
            "issued": timestamp(time.time() if issued is None else issued),
            "salt": b64url(next(_numbers).to_bytes(16, "big")).decode(),
            "weights": DEFAULT_WEIGHTS,
            "share": DEFAULT_SHARE,
            **members,
        }
        self.document = vendor.install_request(**self.members)

    def bound_to(self, request: LicenseRequest | RenewalRequest, **changes: Any) -> dict[str, Any]:
        """What ties a license file to the device of this request."""
        asked = {name: self.members[name] for name in ("salt", "weights", "share")}
        return {"key": request.device, "fingerprint": dict(request.fingerprint), **asked, **changes}

    def file(
        self,
        request: LicenseRequest | RenewalRequest,
        seq: int = 1,
        lines: Iterable[Mapping[str, Any]] | None = None,
        /,
        *,
        device: Mapping[str, Any] | None = None,
        signer: pki.Vendor | None = None,
        **header: Any,
    ) -> bytes:
        """The license file that answers the request.

        device: changes to what it is bound to
        signer: the vendor by another certificate
        """
        members = {"device": self.bound_to(request, **(device or {})), "request": request.id, **header}
        wanted = LINES[self.vendor.vendor] if lines is None else lines
        return (signer or self.vendor).license_file(seq, wanted, issued=time.time(), header=members)


class Site(Daemon):
    """licd on a machine of tests/vectors/machines. The vendors' profiles are there; nothing is installed yet."""

    def __init__(
        self,
        folder: Path,
        machine: str = "server",
        *,
        vendors: Sequence[pki.Vendor] = (ACME,),
        settings: dict[str, object] | None = None,
        names: str | None = None,
    ) -> None:
        """names: a shell script that gives the machine a host name and addresses of its own"""
        super().__init__(folder, settings={"journal_size": 256 * 1024, **(settings or {})})
        self.machine = machine
        self.passed_s = self.ahead_s = 0.0
        self._passed = folder / "passed"
        self.elapse(0)
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(path=str(self._passed)))
        self.env["PYTHONPATH"] = os.pathsep.join([f"{folder}/site", *filter(None, [os.environ.get("PYTHONPATH")])])
        self.inside = ""  # a shell script that changes "$sys", before licd sees it
        self._names = names
        self._boot_id = folder / "boot_id"
        self._next_boot()
        for vendor in vendors:
            vendor.write_profile(self.vendors)

    # --- the machine -----------------------------------------------------------------------------------------

    def __enter__(self) -> Site:
        return self

    def _next_boot(self) -> None:
        self._boot_id.write_text(f"00000000-0000-4000-8000-{next(_numbers):012}\n")

    def start(self, *flags: str, wait: bool = True) -> Site:
        root = machines.folder(self.machine) / "root"
        mounts = {Path("/proc/sys/kernel/random/boot_id"): self._boot_id}
        mounts |= {Path("/") / name: root / name for name in ("proc/cpuinfo", "etc/machine-id")}
        script = "".join(f"mount --bind '{here}' '{there}' && " for there, here in mounts.items() if here.exists())
        enter: tuple[str, ...] = ("unshare", "--mount", "sh", "-c", script + 'exec "$@"', "sh")
        if self._names is not None:
            enter = ("unshare", "--uts", "--net", "--mount", "sh", "-c", f'{self._names}; {script} exec "$@"', "sh")
        self.wrap = (*enter, *machines.wrap(self.machine))
        if self.inside:
            self.wrap += ("sh", "-c", f'sys=$UMOCKDEV_DIR/sys; {self.inside}; exec "$@"', "sh")
        super().start(*flags, wait=wait)
        return self

    def elapse(self, seconds: float) -> None:
        """So much time passes on all clocks, whether it runs or not. licd sees it when it next wakes up."""
        self.passed_s += seconds
        fresh = self._passed.with_suffix(".new")
        fresh.write_text(f"{self.passed_s} {self.ahead_s}\n")
        fresh.rename(self._passed)

    def set_clock(self, ahead_s: float) -> None:
        """The wall clock is so far ahead of the right time."""
        self.ahead_s = ahead_s
        self.elapse(0)

    @property
    def now(self) -> float:
        return time.time() + self.passed_s

    def on(self, machine: str) -> Site:
        """Stopped, and started on this machine in the same boot: parts go away while it runs."""
        self.stop()
        self.machine = machine
        return self.start()

    def boot(self, machine: str | None = None, *, clean: bool = True) -> Site:
        """Another boot, on this machine."""
        if self.poll() is None and self.process is not None:
            self.stop() if clean else self.kill()
        self._next_boot()
        self.machine = machine or self.machine
        return self.start()

    # --- installation ----------------------------------------------------------------------------------------

    def ask(self, asked: Asked) -> Asked:
        """The install request is taken in."""
        self.call("install.import", document=asked.document)
        return asked

    def request(self, vendor: str | None = None) -> LicenseRequest:
        """The license request that it gives out."""
        answer = self.call("install.request", **({} if vendor is None else {"vendor": vendor}))
        return verify_license_request(answer["document"].encode())

    def install(self, vendor: pki.Vendor = ACME, seq: int = 1, **header: Any) -> Asked:
        """From the install request to licenses in force."""
        asked = self.ask(Asked(vendor))
        self.call("license.import", document=asked.file(self.request(vendor.vendor), seq, **header))
        return asked

    # --- what it says of itself ------------------------------------------------------------------------------

    def row(self, vendor: str = "acme") -> dict[str, Any]:
        """Of this vendor in server.status."""
        rows = self.call("server.status")["vendors"]
        return next(row for row in rows if row["vendor"] == vendor)

    def standing(self, vendor: str = "acme") -> str:
        standing: str = self.row(vendor)["device"]
        return standing

    def valid(self, license: str = "kso.scales") -> bool:
        valid: bool = self.call("license.check", license=license)["valid"]
        return valid

    def files(self, *, but: Sequence[str] = ("journal", "journal.next", "lock")) -> dict[str, bytes]:
        """Every file of the state folder, but for these, as it is on the disk."""
        paths = (path for path in self.state.rglob("*") if path.is_file() and path.name not in but)
        return {str(path.relative_to(self.state)): path.read_bytes() for path in paths}


def edited(document: bytes, old: bytes, new: bytes) -> bytes:
    """The document with a change behind its signature."""
    assert old in document
    return document.replace(old, new, 1)
