"""licd-cli activate without a code: a person at a terminal is asked for it, and nobody else."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from pathlib import Path

import pytest

from licd.cli import problems
from tests.support.activating import (
    GROUPED,
    IN_FORCE,
    MISTYPED,
    SYMBOLS,
    Both,
)
from tests.support.cli import ENVIRONMENT, command
from tests.support.posting import surroundings


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(monkeypatch)


class Terminal:
    """A command line at a terminal of its own, of which stdin and stderr are; stdout goes elsewhere."""

    def __init__(self, *words: object) -> None:
        self._ours, theirs = os.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command(*words)],
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
            env={**ENVIRONMENT, **os.environ},
        )
        os.close(theirs)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        """Behind what was waited for before."""
        until = time.monotonic() + 20
        while text not in self.seen:
            assert select.select([self._ours], [], [], max(0.0, until - time.monotonic()))[0], self.seen
            try:
                more = os.read(self._ours, 4096)
            except OSError:  # the other end is closed
                more = b""
            assert more, f"it ended without {text!r}: {self.seen}"
            self.seen += more.decode(errors="replace").replace("\r\n", "\n")
        self.seen = self.seen.partition(text)[2]

    def type(self, text: str | bytes) -> None:
        os.write(self._ours, text if isinstance(text, bytes) else text.encode())

    def end(self) -> tuple[int, str]:
        """The exit status, and what went to stdout."""
        try:
            out, _ = self._process.communicate(timeout=20)
            return self._process.returncode, out.decode()
        finally:
            self._process.kill()
            os.close(self._ours)


PROMPT = "The code, 16 symbols and 6: "


def test_without_a_code_a_terminal_is_asked_until_there_is_one(folder: Path) -> None:
    with Both(folder) as both:
        terminal = Terminal("activate", "--json", "--socket", both.socket)
        terminal.wait_for(PROMPT)
        terminal.type("\n")
        terminal.wait_for("That is no code: nothing was typed")
        terminal.wait_for(PROMPT)
        terminal.type(b"\xff\xfe\n")
        terminal.wait_for("That is no code: 2 symbols were read")
        terminal.wait_for(PROMPT)
        for no in ("\n", "n\n", "what?\n"):
            terminal.type(f"{MISTYPED}\n")
            terminal.wait_for("That is no code: one symbol is wrong: ")
            terminal.wait_for(f"Did you mean {GROUPED}? [y/N] ")
            assert both.server.connections == 0
            terminal.type(no)
            terminal.wait_for(PROMPT)
        terminal.type(f"{MISTYPED}\n")
        terminal.wait_for("[y/N] ")
        terminal.type("Y\n")
        terminal.wait_for("1/4 ")
        status, out = terminal.end()
        assert (status, json.loads(out)) == (problems.DONE, IN_FORCE)
        assert both.server.asked[0].body == SYMBOLS.encode()


@pytest.mark.parametrize(("key", "status"), [("\x04", problems.USAGE), ("\x03", problems.INTERRUPTED)])
def test_who_gives_up_at_the_prompt_has_asked_nobody(folder: Path, key: str, status: int) -> None:
    with Both(folder) as both:
        terminal = Terminal("activate", "--socket", both.socket)
        terminal.wait_for(PROMPT)
        terminal.type(key)
        assert terminal.end() == (status, "")
        assert both.methods == []


def test_without_a_terminal_nobody_is_asked_for_a_code(folder: Path) -> None:
    with Both(folder) as both:
        words = command("activate", "--socket", both.socket)
        for said in (GROUPED.encode(), b""):
            done = subprocess.run(words, capture_output=True, check=False, timeout=20, input=said)
            assert done.returncode == problems.USAGE
            assert done.stderr.startswith(b"error: There is no terminal to ask for the code. (NO_TERMINAL)\nhint: ")
        closed = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *words], capture_output=True, check=False)
        assert (closed.returncode, b"(NO_TERMINAL)" in closed.stderr) == (problems.USAGE, True)
        assert both.methods == []
