"""Completion in the real bash, zsh and fish, with the real licd."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from licd.cli.completion_shells import SHELLS
from tests.support.cli import LICENSES
from tests.support.daemon import Daemon
from tests.support.device import device
from tests.support.shells import Shell, environment

ODD = 'till 2 $HOME\'s "x!"'
HOLDERS = ("till-1", ODD, "a:b=c", "Касса", "z'")


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"needs {name}")


INTERACTIVE = [pytest.param(name, marks=needs(name)) for name in ("bash", "zsh")]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with device(lines=LICENSES) as licd, licd.client() as client:
        for holder in HOLDERS:
            client.call("seat.acquire", license="kso.camera", holder=holder, ttl=3600)
        yield licd


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "my file.lic").write_text("")
    (folder / "sock").write_text("")
    return folder


@pytest.fixture(scope="module")
def env(daemon: Daemon, home: Path) -> dict[str, str]:
    return environment(home, LICD_SOCKET=str(daemon.socket))


@pytest.fixture(scope="module")
def shells(home: Path, env: dict[str, str]) -> Iterator[dict[str, Shell]]:
    with contextlib.ExitStack() as stack:
        names = [name for name in ("bash", "zsh") if shutil.which(name) is not None]
        yield {name: stack.enter_context(Shell(name, home, env)) for name in names}


# --- bash and zsh on a terminal: the line that TAB makes is run, so that the shell's own quoting is judged ----------


@pytest.mark.parametrize("name", INTERACTIVE)
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("stat", ["status"]),
        ("license sh", ["license", "show"]),
        ("renew --du", ["renew", "--due"]),
        ("leases --license kso.c", ["leases", "--license", "kso.camera"]),
        ("leases --license=kso.c", ["leases", "--license=kso.camera"]),
        ("leases --holder till\\ ", ["leases", "--holder", ODD]),
        ("leases --holder 'till ", ["leases", "--holder", ODD]),
        ('leases --holder "till ', ["leases", "--holder", ODD]),
        ("leases --holder=till\\ ", ["leases", f"--holder={ODD}"]),
        ("leases --holder a:", ["leases", "--holder", "a:b=c"]),
        ("leases --holder=a:b", ["leases", "--holder=a:b=c"]),
        ("leases --holder К", ["leases", "--holder", "Касса"]),
        ("leases --holder 'z", ["leases", "--holder", "z'"]),
        ("release -- z", ["release", "--", "z"]),
        ("license import my", ["license", "import", "my file.lic"]),
        ("license import --socket=s", ["license", "import", "--socket=sock"]),
        ("--socket /nonexistent leases --license kso.c", ["--socket", "/nonexistent", "leases", "--license", "kso.c"]),
        ("leases --license zzz", ["leases", "--license", "zzz"]),
        ("zzz", ["zzz"]),
        ("zzz s", ["zzz", "s"]),
    ],
)
def test_tab_makes_the_line_that_is_meant(shells: dict[str, Shell], name: str, typed: str, meant: list[str]) -> None:
    assert shells[name].words(f"licd-cli {typed}") == ["licd-cli", *meant]


@pytest.mark.parametrize("name", INTERACTIVE)
def test_after_a_second_tab_it_is_told_what_the_candidates_are(shells: dict[str, Shell], name: str) -> None:
    shown = shells[name].tab("licd-cli license", 2)
    assert "import, export, show or check licenses" in shown
    assert "status" not in shown


# --- bash without a terminal, and with its package ------------------------------------------------------------------


def replies(env: dict[str, str], line: str, end: str, setup: str = "source <(licd-cli completion bash)") -> list[str]:
    """What the completion function leaves in COMPREPLY, called as bash does."""
    script = f"""{setup}
        COMP_LINE=$1 COMP_POINT=${{#1}} COMP_TYPE=9
        read -ra COMP_WORDS <<<"$1"; COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        compopt() {{ echo "compopt $*"; }}
        _licd_cli licd-cli "$2" ""
        printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(
        ["bash", "-c", script, "bash", line, end], env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@needs("bash")
def test_the_function_of_bash_answers_to_its_variables(env: dict[str, str]) -> None:
    assert replies(env, "licd-cli stat", "stat") == ["status"]
    assert replies(env, "licd-cli license show kso.", "kso.") == ["kso.camera", "kso.old", "kso.scales"]
    assert replies(env, "licd-cli license import x", "x") == ["compopt", "-o", "default"]
    assert replies(env, "licd-cli zzz", "zzz") == []


@pytest.mark.skipif(not Path("/usr/share/bash-completion/bash_completion").exists(), reason="needs bash-completion")
def test_behind_sudo_it_is_the_same(home: Path, env: dict[str, str]) -> None:
    with Shell("bash", home, env) as shell:
        shell.run("source /usr/share/bash-completion/bash_completion", "done")
        assert shell.tab("sudo licd-cli stat").startswith("us")
        assert shell.tab("sudo licd-cli leases --holder 'till ").startswith("2 $HOME")
        assert shell.tab("sudo licd-cli zzz") == ""


# --- fish: it says itself what it would offer -----------------------------------------------------------------------


def in_fish(env: dict[str, str], home: Path, line: str) -> list[str]:
    script = "licd-cli completion fish | source; complete -C $argv[1]"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script, line], env=env, cwd=home, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@needs("fish")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("stat", ["status\thealth, counts, clock and warnings"]),
        ("leases --holder a:", ["a:b=c\tkso.camera"]),
        ("leases --holder 'till ", [f"{ODD}\tkso.camera"]),
        ("leases --holder till\\ ", [f"{ODD}\tkso.camera"]),
        ("leases --license=kso.c", ["--license=kso.camera\tvalid"]),
        ("renew --du", ["--due\tonly what is due, as a timer does: silent if nothing is"]),
        ("license import m", ["my file.lic"]),
        ("license import --socket=m", ["--socket=my file.lic"]),
        ("--socket /nonexistent leases --license ", []),
        ("leases --license zzz", []),
        ("zzz", []),
    ],
)
def test_fish_offers_what_is_meant(env: dict[str, str], home: Path, line: str, offered: list[str]) -> None:
    assert in_fish(env, home, f"licd-cli {line}") == offered


# --- all ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in SHELLS])
def test_the_script_is_without_a_mistake_of_syntax(tmp_path: Path, name: str) -> None:
    script = tmp_path / "script"
    script.write_text(SHELLS[name].script)
    done = subprocess.run([name, "-n", script], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    script.write_text(SHELLS[name].script + "\nif (((\n")
    assert subprocess.run([name, "-n", script], capture_output=True, check=False).returncode != 0


@needs("shellcheck")
def test_shellcheck_finds_nothing_in_the_script_of_bash(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(SHELLS["bash"].script)
    done = subprocess.run(["shellcheck", "--shell=bash", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)
