"""What a test needs of the machine: where that is missing, the test is skipped and says what."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.support import nspawn
from tests.support.clocks import LIBFAKETIME


def _why_no_strace() -> str | None:
    if shutil.which("strace") is None:
        return "needs strace"
    traced = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"strace may not trace here: {traced.stderr.strip()}" if traced.returncode else None


def why_no_packages() -> str | None:
    programs = {"dpkg-buildpackage": "dpkg-dev", "dh": "debhelper", "lintian": "lintian"}
    missing = [package for program, package in programs.items() if shutil.which(program) is None]
    if missing:
        return f"needs {', '.join(missing)}, to build Debian packages"
    asked = "import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 11))"
    if subprocess.run(["/usr/bin/python3", "-c", asked], capture_output=True, check=False).returncode:
        return "needs Debian 12 with python3-venv, which the packages are for"
    return None


_no_packages = why_no_packages()
_no_strace = _why_no_strace()

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users, or to mount")
needs_strace = pytest.mark.skipif(_no_strace is not None, reason=str(_no_strace))
needs_faketime = pytest.mark.skipif(LIBFAKETIME is None, reason="needs faketime")
needs_nvim = pytest.mark.skipif(shutil.which("nvim") is None, reason="needs nvim, a MessagePack-RPC client in C")
needs_umockdev = pytest.mark.skipif(shutil.which("umockdev-run") is None, reason="needs umockdev, to be other machines")
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-tmpfiles") is None or shutil.which("systemd-id128") is None, reason="needs systemd's programs"
)
_no_container = nspawn.why_not()
needs_container = pytest.mark.skipif(_no_container is not None, reason=str(_no_container))
needs_debhelper = pytest.mark.skipif(_no_packages is not None, reason=str(_no_packages))
