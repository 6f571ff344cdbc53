"""Messages to people: lines on stderr, with the journal's priority prefixes where the journal reads them.

Silence means health. One line at start, one at stop, and what someone must act on.
"""

from __future__ import annotations

import contextlib
import os
import sys

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # syslog's levels


def _to_journal() -> bool:
    """stderr itself is the journal; by hand the prefixes would only be noise. Source: systemd.exec(5) JOURNAL_STREAM"""
    try:
        stderr = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stderr.st_dev}:{stderr.st_ino}"


_prefixed = _to_journal()


def write(level: int, text: str) -> None:
    if sys.stderr is None:  # closed before licd began: descriptor 2 is something else by now
        return
    start = f"<{level}>" if _prefixed else "licd: "
    data = "".join(f"{start}{line}\n" for line in text.splitlines()).encode("utf-8", "backslashreplace")
    with contextlib.suppress(OSError):  # the log's disk is full or its reader gone: no reason to stop serving
        # Not through sys.stderr: what it could not write it tries again at exit, and then the exit status is 120.
        while data:
            data = data[os.write(2, data) :]
