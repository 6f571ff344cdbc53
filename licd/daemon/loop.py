"""What the process waits for: descriptors, signals, and the time of the next deadline. No policy.

epoll(7) itself and not `selectors`, which does not tell that a peer has hung up (a system call for each that is ready
would), and takes 0.7 us for each.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable
from time import perf_counter
from typing import Generic, Protocol, TypeVar

READ, WRITE, HUNG_UP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP
# To fall asleep and be woken takes more time, of the client and of the processor, than to look for so long whether the
# next request comes: two clients that confirm have 90,000 answers a second instead of 33,000, at 11 us of the processor
# each instead of 20. Only in a dialogue, which is where the last sleep was a nap: who asks now and then costs nothing.
LINGER_S, NAP_S = 0.00003, 0.0001
MAX_SLEEP_S = 24 * 86400  # select() and epoll overflow at 25 days


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Peer(HasFileno, Protocol):
    events: int
    """READ, WRITE, HUNG_UP and others of epoll_ctl(2), as the last wait found that found more than READ."""


Callback = Callable[[int], None]
P = TypeVar("P", bound=Peer)
Ready = tuple[list[P], list[P]]


class Loop(Generic[P]):
    """Watches two kinds of sources: few with a callback each, and many peers, which come out together."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._in_dialogue = False
        self.seen_s = 0.0  # when what was ready was last asked for, on perf_counter()
        self._callbacks: dict[int, Callback] = {}
        self._peers: dict[int, P] = {}
        self._wake_out, self._wake_in = socket.socketpair()
        for end in (self._wake_out, self._wake_in):
            end.setblocking(False)
        self._signals: set[int] = set()
        self.watch(self._wake_out, READ, self._on_wake)

    def watch(self, source: HasFileno, events: int, callback: Callback) -> None:
        """wait() returns the callback each time the source is ready. Watching again changes both."""
        self._peers.pop(source.fileno(), None)
        self._callbacks[source.fileno()] = callback
        self._ask(source.fileno(), events)

    def watch_peer(self, peer: P, events: int) -> None:
        """wait() returns the peer each time it is ready. Watching again changes `events`."""
        self._callbacks.pop(peer.fileno(), None)
        self._peers[peer.fileno()] = peer
        self._ask(peer.fileno(), events)

    def _ask(self, number: int, events: int) -> None:
        try:
            self._epoll.register(number, events)
        except FileExistsError:
            self._epoll.modify(number, events)

    def forget(self, source: HasFileno) -> None:
        number = source.fileno()
        if self._callbacks.pop(number, None) or self._peers.pop(number, None):
            with contextlib.suppress(OSError):  # it was closed, and its number is that of another file now
                self._epoll.unregister(number)

    def catch(self, *signals: signal.Signals) -> None:
        """These signals end the wait and are handed out by signals(), instead of interrupting anything."""
        signal.set_wakeup_fd(self._wake_in.fileno(), warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, lambda number, frame: self._signals.add(number))

    def wait(self, timeout_s: float) -> tuple[list[tuple[Callback, int]], Ready[P]]:
        """What is ready now, or after at most timeout_s (infinity: for ever): callbacks to call, and peers.

        Shape:  of peers two lists, (others, readable): who is ready for READ alone is readable; of the others those
                come first that have hung up (epoll(7) has an order of its own)
        """
        found = self._linger() if self._in_dialogue and timeout_s > LINGER_S else []
        if not found:
            asleep_at = perf_counter()
            found = self._epoll.poll(max(0.0, min(timeout_s, MAX_SLEEP_S)))
            self._in_dialogue = perf_counter() - asleep_at < NAP_S
        if not found:
            # A wait that a stop signal interrupted (signal(7)) and whose time is over comes back with nothing, whatever
            # is ready.
            found = self._epoll.poll(0)
        self.seen_s = perf_counter()
        return self._sorted(found)

    def _linger(self) -> list[tuple[int, int]]:
        """What is ready, or becomes so soon."""
        until = perf_counter() + LINGER_S
        while not (found := self._epoll.poll(0)) and perf_counter() < until:
            os.sched_yield()  # where there is one processor only, the client needs it
        return found

    def look(self) -> Ready[P]:
        """The peers that are ready now."""
        self.seen_s = perf_counter()
        _, peers = self._sorted(self._epoll.poll(0))
        return peers

    def _sorted(self, found: list[tuple[int, int]]) -> tuple[list[tuple[Callback, int]], Ready[P]]:
        peers = self._peers
        readable = [peers[number] for number, events in found if events == READ and number in peers]
        calls: list[tuple[Callback, int]] = []
        gone: list[P] = []
        others: list[P] = []
        if len(readable) < len(found):
            for number, events in found:
                peer = peers.get(number)
                if peer is None:
                    calls.append((self._callbacks[number], events))
                elif events != READ:
                    peer.events = events
                    (gone if events & HUNG_UP else others).append(peer)
        return calls, (gone + others, readable)

    def signals(self) -> set[int]:
        """The signals caught since the last call."""
        caught = self._signals
        if caught:
            self._signals = set()
        return caught

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        self._epoll.close()
        self._wake_in.close()
        self._wake_out.close()

    def _on_wake(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_out.recv(4096)
