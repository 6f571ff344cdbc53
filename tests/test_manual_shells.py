"""The lines of licd-cli(1) COMPLETION, in the real shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from licd.cli.completion_names import LICD_MAY_TAKE_S
from licd.cli.completion_shells import SHELLS
from tests.support import mdoc
from tests.support.mdoc import section, source, text
from tests.support.shells import environment

COMPLETION = section(source("licd-cli.1"), "COMPLETION")
LINES = dict(zip(("bash", "zsh", "fish"), mdoc.displays(COMPLETION), strict=True))
# Before that line, and after it: what shows that the words of licd-cli are completed.
AROUND = {
    "bash": ("", "complete -p licd-cli"),
    "zsh": ("autoload -Uz compinit; compinit -D", "print -- $_comps[licd-cli]"),
    "fish": ("", "complete -C 'licd-cli licen'"),
}
SHOWN = {"bash": "complete -F _licd_cli licd-cli", "zsh": "_licd_cli", "fish": "licenses"}


def test_the_manual_has_a_line_for_every_shell() -> None:
    assert LINES.keys() == SHELLS.keys()
    assert LICD_MAY_TAKE_S == 0.5
    assert "for at most half a second" in text(COMPLETION)


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"needs {name}"))
        for name in SHELLS
    ],
)
def test_with_the_line_of_the_manual_a_shell_completes_and_without_it_does_not(shell: str, tmp_path: Path) -> None:
    before, after = AROUND[shell]

    def printed(line: str) -> str:
        return subprocess.run(
            [shell, "-c", f"{before}\n{line}\n{after}"],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=30,
        ).stdout

    assert SHOWN[shell] in printed(LINES[shell])
    assert SHOWN[shell] not in printed("")
