"""What systemd is told. Without NOTIFY_SOCKET nobody listens and nothing happens.

Telling never holds up the loop: where nobody empties the socket, a STATUS= or WATCHDOG=1 is dropped, and only what
systemd must not miss (READY=1, RELOADING=1, STOPPING=1) is waited for, for a while.
"""

from __future__ import annotations

import os
import time

import sdnotify

PATIENCE_S = 5.0  # for systemd to read what it must not miss


class Notifier:
    def __init__(self) -> None:
        self._systemd = sdnotify.SystemdNotifier()
        self._status = ""
        self.watchdog_s = _watchdog_s()

    def ready(self) -> None:
        self._say("READY=1", PATIENCE_S)

    def starting(self, more_s: float) -> None:
        """The start may take so much longer from now on."""
        self._say(f"EXTEND_TIMEOUT_USEC={int(more_s * 1e6)}", 0.0)

    def reloading(self) -> None:
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", PATIENCE_S)

    def stopping(self) -> None:
        self._say("STOPPING=1", PATIENCE_S)

    def alive(self) -> None:
        self._say("WATCHDOG=1", 0.0)

    def status(self, text: str) -> None:
        """The line of `systemctl status`. Saying it again costs nothing."""
        if text != self._status:
            self._status = text
            line = text.replace("\n", " ")  # a line of its own would be another variable
            # sd_notify(3) wants UTF-8; sdnotify encodes as Latin-1, and says nothing where it cannot.
            self._say(f"STATUS={line}".encode("utf-8", "replace").decode("latin-1"), 0.0)

    def _say(self, message: str, patience_s: float) -> None:
        if self._systemd.socket is not None:
            self._systemd.socket.settimeout(patience_s)
            self._systemd.notify(message)


def _watchdog_s() -> float | None:
    """How often to ping: half of what systemd waits; None if it does not."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return int(usec) / 2e6 if usec.isdecimal() and int(usec) and pid == str(os.getpid()) else None
