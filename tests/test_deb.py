"""The Debian packages as files, the wheel and the source: what is in them. Installed and running: test_systemd*.py."""

from __future__ import annotations

import configparser
import hashlib
import marshal
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from types import CodeType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import licd
from licd.cli.completion_shells import SHELLS
from tests.support.deb import ROOT, build, packages, unpacked
from tests.support.needs import needs_debhelper
from tests.support.once import share

DEBIAN = ROOT / "tools" / "debian"
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
NAMES = ("licd", "licd-vendor")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What is in each package."""
    folder = tmp_path_factory.mktemp("deb")
    return {name: unpacked(package, folder / name) for name, package in zip(NAMES, packages(), strict=True)}


# --- the packages --------------------------------------------------------------------------------------------------


@needs_debhelper
def test_lintian_finds_nothing_but_what_is_argued() -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", *packages()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    for name in NAMES:
        argued = re.findall(rf"^{name}: (\S+)", (DEBIAN / f"{name}.lintian-overrides").read_text(), re.MULTILINE)
        assert argued == ["unstripped-binary-or-object", "package-installs-python-pycache-dir"]


@needs_debhelper
def test_the_same_source_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "venv.py").write_text("raise SystemExit('a foreign module')\n")
    (share() / "source/licd/.main.py.swp").write_text("an editor keeps that\n")
    before = os.umask(0o077)
    try:
        again = build(tmp_path / "another" / "place")
    finally:
        os.umask(before)
    assert [digest(package) for package in again] == [digest(package) for package in packages()]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@needs_debhelper
def test_of_all_files_an_administrator_keeps_the_configuration(trees: dict[str, Path]) -> None:
    assert (trees["licd"] / "DEBIAN/conffiles").read_text().split() == ["/etc/licd/licd.conf"]
    assert not (trees["licd-vendor"] / "DEBIAN/conffiles").exists()
    assert (trees["licd"] / "etc/licd/vendor.d").is_dir()


@needs_debhelper
@pytest.mark.parametrize(("name", "command"), [("licd", "licd"), ("licd", "licd-cli"), ("licd-vendor", "licd-vendor")])
def test_a_command_starts_an_isolated_python(trees: dict[str, Path], name: str, command: str) -> None:
    program = trees[name] / "usr/bin" / command
    assert program.read_text().startswith("#!/usr/bin/python3 -IS\n")
    assert program.stat().st_mode & 0o777 == 0o755


@needs_debhelper
def test_the_shells_find_their_completion(trees: dict[str, Path]) -> None:
    share = trees["licd"] / "usr/share"
    found = {
        "bash": share / "bash-completion/completions/licd-cli",
        "zsh": share / "zsh/vendor-completions/_licd-cli",
        "fish": share / "fish/vendor_completions.d/licd-cli.fish",
    }
    assert {name: path.read_text() for name, path in found.items()} == {
        name: shell.script for name, shell in SHELLS.items()
    }


@needs_debhelper
@pytest.mark.parametrize("name", NAMES)
def test_every_module_is_compiled_for_good(trees: dict[str, Path], name: str) -> None:
    """No start compiles, compares time stamps or reads sources; and tracebacks name the files that are installed."""
    private = trees[name] / "usr/lib" / name
    sources = [path for path in private.rglob("*.py") if path.stat().st_size]
    assert len(sources) > 100
    for source in sources:
        data = Path(cache_from_source(str(source))).read_bytes()
        assert data[:4] == MAGIC_NUMBER
        assert int.from_bytes(data[4:8], "little") == 0b01  # PEP 552: by hash, unchecked
        code = marshal.loads(data[16:])
        assert isinstance(code, CodeType)
        assert code.co_filename == f"/{source.relative_to(trees[name])}"


@needs_debhelper
def test_no_file_may_be_changed_by_anybody_but_root(trees: dict[str, Path]) -> None:
    for tree in trees.values():
        for path in tree.rglob("*"):
            assert not path.stat().st_mode & 0o022, path


# --- what they run with ---------------------------------------------------------------------------------------------


def required(*sections: tuple[str, str]) -> list[Requirement]:
    return [Requirement(line) for section in sections for line in SETUP[section[0]][section[1]].split()]


@needs_debhelper
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("licd", [("options", "install_requires")]),
        ("licd-vendor", [("options", "install_requires"), ("options.extras_require", "vendor")]),
    ],
)
def test_all_that_is_required_is_there_in_a_version_that_fits(
    trees: dict[str, Path], name: str, wanted: list[tuple[str, str]]
) -> None:
    there: dict[str, Distribution] = {
        canonicalize_name(each.name): each for each in distributions(path=[str(trees[name] / "usr/lib" / name)])
    }
    open_ = required(*wanted)
    seen = set()
    while open_:
        requirement = open_.pop()
        key = canonicalize_name(requirement.name)
        assert key in there, requirement
        assert requirement.specifier.contains(there[key].version), requirement
        if key not in seen:
            seen.add(key)
            further = [Requirement(text) for text in there[key].requires or ()]
            open_ += [each for each in further if each.marker is None or each.marker.evaluate({"extra": ""})]


@pytest.mark.parametrize("name", ["build", "device", "vendor"])
def test_every_requirement_is_pinned_with_its_hash(name: str) -> None:
    text = (DEBIAN / f"requirements-{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+( +--hash=sha256:[0-9a-f]{64})+ *", line), line


def test_the_package_has_the_version_of_the_program() -> None:
    first = (DEBIAN / "changelog").read_text().splitlines()[0]
    assert first.startswith(f"licd ({licd.__version__}) ")
    assert SETUP["metadata"]["version"] == licd.__version__


# --- wheel and source -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source as it is published, unpacked."""
    folder = tmp_path_factory.mktemp("source")
    copy = folder / "copy"
    copy.mkdir()
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / name, copy)
    for name in ("licd", "tools/vendor"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    make = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", make, folder], cwd=copy, check=True, capture_output=True)
    shutil.rmtree(copy)
    (archive,) = folder.glob("licd-*.tar.gz")
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", folder], check=True)
    return folder / archive.name.removesuffix(".tar.gz")


def test_a_wheel_of_the_source_installs_into_an_empty_environment_and_runs(source: Path, tmp_path: Path) -> None:
    quiet = ("--quiet", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "--wheel-dir", tmp_path, source], check=True
    )
    (wheel,) = tmp_path.glob("licd-*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    commands = tmp_path / "venv/bin"
    # From another folder than this one, where pip finds the licd of the checkout and calls it installed.
    subprocess.run([commands / "python", "-m", "pip", "install", *quiet, wheel], cwd=tmp_path, check=True)
    environment = {"PATH": "/usr/bin:/bin"}
    for command in ("licd", "licd-cli", "licd-vendor"):
        done = subprocess.run(
            [commands / command, "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{command} {licd.__version__}\n"
