"""Interactive shells on a terminal, with the completion that licd-cli prints for them, and a key TAB."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

START = {
    "bash": ("bash", "--noprofile", "--norc", "-i"),
    "zsh": ("zsh", "-f", "-i"),
}
SETUP = {
    "bash": "bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; source <(licd-cli completion bash)",
    "zsh": "unsetopt beep; autoload -Uz compinit; compinit -u -D; unset zle_bracketed_paste; LISTMAX=9999; "
    "source <(licd-cli completion zsh)",
}
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r|\x07")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """With this checkout's licd-cli in the PATH, and a home of its own."""
    program = folder / "bin" / "licd-cli"
    if not program.exists():
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m licd.cli.main "$@"\n')
        program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    path = f"{program.parent}:/usr/bin:/bin:/usr/sbin:/sbin"
    return kept | {"PATH": path, "HOME": str(folder), "TERM": "xterm", "LANG": "C.UTF-8", **more}


class Shell:
    """One that waits for a key."""

    PROMPT = "ready> "

    def __init__(self, name: str, folder: Path, env: Mapping[str, str]) -> None:
        program = shutil.which(name)
        assert program is not None
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(program, START[name], {**env, "PS1": self.PROMPT, "COLUMNS": "150", "LINES": "60"})
        try:
            self._write("stty rows 60 cols 150\n")
            # Spelled so that the echo of the line is not taken for what it prints.
            show = """show_words() { printf 'be''gin'; printf '|%s' "$@"; printf '|e''nd'; }"""
            self.run(f"{show}; PROMPT='{self.PROMPT}'; {SETUP[name]}", "setup")
        except BaseException:
            self.end()
            raise

    def tab(self, line: str, times: int = 1) -> str:
        """What the terminal shows for this line and TAB. The line is thrown away."""
        self._write(line)
        self._read_until(line[-1])
        shown = ""
        for _ in range(times):
            self._write("\t")
            shown += self._read_quiet()
        self._write("\x15\x0b")
        self._read_quiet(0.05)
        return shown

    def words(self, line: str) -> list[str]:
        """The words that the shell would give to the command, once TAB has been pressed. The command is not run."""
        # Behind TAB: to the begin of the line, where a function's name takes the place of the command's.
        self._write(f"{line}\t\x01show_words \x05\n")
        text = self._read_until("|end")
        return text.rpartition("begin|")[2].partition("|end")[0].split("|")

    def run(self, line: str, mark: str) -> None:
        self._write(f"{line}; echo {mark[0]}''{mark[1:]}\n")
        self._read_until(f"{mark}\n")
        self._read_quiet(0.1)

    def _write(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read_quiet(self, quiet_s: float = 0.35) -> str:
        """What comes until nothing has come for so long: a completion takes a tenth of a second."""
        data = b""
        first = True
        while select.select([self._terminal], [], [], 1.2 if first and quiet_s > 0.1 else quiet_s)[0]:
            data += os.read(self._terminal, 65536)
            first = False
        return ESCAPES.sub("", data.decode("utf-8", "replace"))

    def _read_until(self, mark: str) -> str:
        text, until = "", time.monotonic() + 10
        while mark not in ESCAPES.sub("", text):
            assert select.select([self._terminal], [], [], max(0, until - time.monotonic()))[0], text
            text += os.read(self._terminal, 65536).decode("utf-8", "replace")
        return ESCAPES.sub("", text)

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._terminal)
