"""The Debian packages, built once for all tests of a run."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent

_folder = tempfile.TemporaryDirectory(prefix="licd-deb-")


class Packages(NamedTuple):
    device: Path
    vendor: Path


@functools.cache
def packages() -> Packages:
    """As tools/build-deb makes them from this checkout."""
    return build(Path(_folder.name) / "built")


@functools.cache
def _source() -> Path:
    """A copy of this checkout: all builds of a run are of one state, whoever edits it meanwhile."""
    others = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "play", "tests")
    return shutil.copytree(ROOT, Path(_folder.name) / "source", ignore=others)


def build(folder: Path) -> Packages:
    program = _source() / "tools" / "build-deb"
    done = subprocess.run([program, "--fast", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (device,), (vendor,) = folder.glob("licd_*.deb"), folder.glob("licd-vendor_*.deb")
    return Packages(device, vendor)


def unpacked(package: Path, folder: Path) -> Path:
    """Its files, and DEBIAN/ with what dpkg reads."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    return folder


@functools.cache
def next_version() -> Path:
    """The device's package once more, as the version 99 to upgrade to: licd says that it is that."""
    folder = unpacked(packages().device, Path(_folder.name) / "next")
    control = folder / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 99."))
    module = folder / "usr/lib/licd/licd/__init__.py"
    module.write_text(module.read_text().replace('__version__ = "', '__version__ = "99.'))
    for compiled in module.parent.glob("__pycache__/__init__.*.pyc"):
        compiled.unlink()
    target = Path(_folder.name) / "next.deb"
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--build", folder, target], check=True, capture_output=True)
    return target
