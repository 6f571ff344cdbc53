"""licd.daemon.log: lines on stderr, for the journal with its prefixes, and never a reason to stop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import licd

PROGRAM = "from licd.daemon import log; log.write({level}, {text!r}); print('alive')"


def written(
    text: str, level: int = 4, *, journal: bool | str = False, stderr: str = "{path}", path: Path
) -> tuple[str, str]:
    """What stands on stderr after the line was written by a process of its own, and what it says on stdout then.

    journal: whether stderr is the journal; a text is the journal's name itself
    """
    path.touch()
    file = path.stat()
    env = {key: value for key, value in os.environ.items() if key not in ("JOURNAL_STREAM", "PYTHONUNBUFFERED")}
    env["PYTHONPATH"] = str(Path(licd.__file__).parent.parent)
    if journal:
        env["JOURNAL_STREAM"] = journal if isinstance(journal, str) else f"{file.st_dev}:{file.st_ino}"
    program = PROGRAM.format(level=level, text=text)
    command = f'exec "$0" -c "$1" 2>{stderr.format(path=path)}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, program], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    return path.read_text(), done.stdout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


def test_by_hand_a_line_says_who_speaks(path: Path) -> None:
    assert written("the disk is full", path=path) == ("licd: the disk is full\n", "alive\n")


@pytest.mark.parametrize("level", [3, 4, 5, 6])
def test_for_the_journal_a_line_has_its_priority(path: Path, level: int) -> None:
    assert written("the disk is full", level, journal=True, path=path)[0] == f"<{level}>the disk is full\n"


def test_each_line_of_a_traceback_has_the_priority(path: Path) -> None:
    assert (
        written("fault\n  File x\nTypeError\n", 3, journal=True, path=path)[0]
        == "<3>fault\n<3>  File x\n<3>TypeError\n"
    )


@pytest.mark.parametrize("journal", ["1:1", "8:", "nonsense"])
def test_a_journal_that_is_not_this_stderr_gets_no_prefixes(path: Path, journal: str) -> None:
    assert written("started from a terminal of a desktop service", journal=journal, path=path)[0].startswith("licd: ")


def test_a_text_that_is_not_utf8_is_written_readably(path: Path) -> None:
    assert written("bad \udcff name", path=path)[0] == "licd: bad \\udcff name\n"


@pytest.mark.parametrize("stderr", ["/dev/full", "&-"], ids=["full", "closed"])
def test_a_log_that_cannot_be_written_is_no_reason_to_stop(path: Path, stderr: str) -> None:
    assert written("nobody hears this", stderr=stderr, path=path) == ("", "alive\n")


def test_a_log_whose_reader_has_gone_is_no_reason_to_stop() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    env["PYTHONPATH"] = str(Path(licd.__file__).parent.parent)
    program = PROGRAM.format(level=4, text="nobody hears this")
    done = subprocess.run([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, stderr=writer, check=False)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"alive\n")
