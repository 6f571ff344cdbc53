"""What the process waits for: descriptors, signals, and the time of the next deadline. No policy."""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
from collections.abc import Callable
from typing import Protocol

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
MAX_SLEEP_S = 24 * 86400  # select() and epoll overflow at 25 days


class HasFileno(Protocol):
    def fileno(self) -> int: ...


Callback = Callable[[int], None]


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = socket.socketpair()
        for end in (self._wake_out, self._wake_in):
            end.setblocking(False)
        self._signals: set[int] = set()
        self.watch(self._wake_out, READ, self._on_wake)

    def watch(self, source: HasFileno, events: int, callback: Callback) -> None:
        """callback(events) is called in each turn in which the source is ready. Watching again changes `events`."""
        try:
            self._selector.modify(source, events, callback)
        except KeyError:
            self._selector.register(source, events, callback)

    def forget(self, source: HasFileno) -> None:
        with contextlib.suppress(KeyError, ValueError):  # never watched; closed already
            self._selector.unregister(source)

    def catch(self, *signals: signal.Signals) -> None:
        """These signals end the wait and are handed out by wait(), instead of interrupting anything."""
        signal.set_wakeup_fd(self._wake_in.fileno(), warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, lambda number, frame: self._signals.add(number))

    def wait(self, timeout_s: float) -> list[tuple[Callback, int]]:
        """What is ready now, or after at most timeout_s (infinity: for ever)."""
        ready = self._selector.select(max(0.0, min(timeout_s, MAX_SLEEP_S)))
        if not ready:
            # A wait that a stop signal interrupted (signal(7)) and whose time is over comes back with nothing, whatever
            # is ready.
            ready = self._selector.select(0)
        return [(key.data, events) for key, events in ready]

    def signals(self) -> set[int]:
        """The signals caught since the last call."""
        caught, self._signals = self._signals, set()
        return caught

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def _on_wake(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_out.recv(4096)
