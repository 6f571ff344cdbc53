"""One client's connection: bytes in, messages out; answers in, bytes out. It knows no method and no seat.

Answers that wait here do so until the turn's records are synced; flush() lets them go. A reader that is too slow is not
read from until it has caught up, so what waits for it is bounded.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Any

from licd.daemon.listener import Peer
from licd.daemon.loop import HUNG_UP
from licd.rpc import wire
from licd.rpc.errors import BAD_MESSAGE, MESSAGE_TOO_LARGE, Refused
from licd.seats.pool import Session

READ_BYTES = 64 * 1024  # read from one client in one turn
MAX_WAITING_BYTES = 128 * 1024  # answers that wait for a slow reader; then it is not read from


class Deferred(Exception):
    """A handler's word that the answer comes in a later turn; whoever raised it has kept the msgid."""


class Connection:
    def __init__(self, stream: socket.socket, peer: Peer, roles: frozenset[str], max_message: int) -> None:
        self.stream = stream
        self.peer = peer
        self.uid = peer.uid
        self.roles = roles
        self.max_message = max_message
        self.session = Session(peer.uid, peer.pid)
        self.decoder = wire.Decoder(max_message)
        self.out = bytearray()
        self.deferred = 0  # requests whose answer comes in a later turn
        self.ended = False  # the peer sends no more
        self.broken = False  # nothing more can be sent either
        self.violated = False  # the peer broke the protocol: told once, then closed
        self.paused = False  # messages wait in the decoder, for the peer to read its answers or for the next turn
        self.watched = 0  # the events the loop watches for
        self.events = 0  # what it was ready for when look(), or the loop for more than reading, last saw it
        # Nothing is going on with it: not ended, broken, violated or paused, no answer waits, the decoder is empty; it
        # is watched for what it sends.
        self.quiet = False
        self._poll: select.poll | None = None

    def fileno(self) -> int:
        return self.stream.fileno()

    def receive(self) -> bytes:
        """What can be read now; it is to be fed to the decoder."""
        try:
            data = self.stream.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            self.ended = self.broken = True
            return b""
        if not data:
            self.ended = True
        return data

    def messages(self) -> Iterator[wire.Message]:
        """The whole messages received, as long as the peer reads its answers.

        Errors: wire.Violation
        """
        while not self.slow:
            message = next(self.decoder, None)
            if message is None:
                self.paused = False
                return
            yield message
        self.paused = True

    @property
    def slow(self) -> bool:
        """Answers wait for the peer to read; until then no more is read from it."""
        return len(self.out) > MAX_WAITING_BYTES

    @property
    def over(self) -> bool:
        """Nothing more will come of this connection but the answers still in `out`."""
        return self.broken or self.violated or (self.ended and not self.deferred and not self.paused)

    def look(self) -> None:
        """`events` are those of now, and not of the last wait."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.stream, 0)
        found = self._poll.poll(0)
        self.events = found[0][1] if found else 0

    @property
    def hung_up(self) -> bool:
        """The peer has closed its end altogether, not merely said that it sends no more: nobody waits for an answer."""
        return bool(self.events & HUNG_UP)

    def answer(self, msgid: int, result: Any) -> None:
        self.out += wire.encode_response(msgid, None, result)

    def refuse(self, msgid: int, error: dict[str, Any]) -> None:
        self.out += wire.encode_response(msgid, error, None)

    def violation(self, violation: wire.Violation) -> None:
        """The peer is told why, once; where its request cannot be named, by a notification."""
        self.violated = True
        if violation.too_large:
            refused = Refused(MESSAGE_TOO_LARGE, limit=self.max_message)
        else:
            refused = Refused(BAD_MESSAGE, reason=violation.reason)
        self.say_goodbye(refused, violation.msgid)

    def say_goodbye(self, refused: Refused, msgid: int | None = None) -> None:
        if msgid is not None:
            self.refuse(msgid, refused.as_map())
        else:
            self.out += wire.encode_notification(wire.GOODBYE, {"error": refused.as_map()})

    def send(self, answer: bytes) -> bool:
        """All of the answer is sent; False: what is not waits in `out`, or the peer is gone."""
        if self.out:
            self.out += answer
            return False
        try:
            sent = self.stream.send(answer, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._break()
            return False
        if sent == len(answer):
            return True
        self.out += answer[sent:]
        self.quiet = False
        return False

    def flush(self) -> None:
        """As much as the peer takes now is sent."""
        if not self.out:
            return
        try:
            sent = self.stream.send(self.out, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self._break()
            return
        del self.out[:sent]

    def _break(self) -> None:
        self.broken = True
        self.quiet = False
        self.out.clear()

    def close(self) -> None:
        self.stream.close()
