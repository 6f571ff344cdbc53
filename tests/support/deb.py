"""The Debian packages, built once for all tests of a run."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.once import once

ROOT = Path(__file__).parent.parent.parent


class Packages(NamedTuple):
    device: Path
    vendor: Path


@functools.cache
def packages() -> Packages:
    """As tools/build-deb makes them from this checkout."""
    return _in(once("packages", build))


def _in(folder: Path) -> Packages:
    (device,), (vendor,) = folder.glob("licd_*.deb"), folder.glob("licd-vendor_*.deb")
    return Packages(device, vendor)


def _copy(folder: Path) -> None:
    others = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "play", "tests")
    shutil.copytree(ROOT, folder, ignore=others, dirs_exist_ok=True)


def build(folder: Path) -> Packages:
    """All builds of a run are of one state of this checkout, whoever edits it meanwhile."""
    program = once("source", _copy) / "tools" / "build-deb"
    done = subprocess.run([program, "--fast", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return _in(folder)


def unpacked(package: Path, folder: Path) -> Path:
    """Its files, and DEBIAN/ with what dpkg reads."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    return folder


@functools.cache
def next_version() -> Path:
    """The device's package once more, as the version 99 to upgrade to: licd says that it is that."""
    return once("next", _build_next) / "licd.deb"


def _build_next(target: Path) -> None:
    folder = unpacked(packages().device, target / "files")
    control = folder / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 99."))
    module = folder / "usr/lib/licd/licd/__init__.py"
    module.write_text(module.read_text().replace('__version__ = "', '__version__ = "99.'))
    for compiled in module.parent.glob("__pycache__/__init__.*.pyc"):
        compiled.unlink()
    subprocess.run(
        ["dpkg-deb", "-Zgzip", "-z1", "--build", folder, target / "licd.deb"], check=True, capture_output=True
    )
