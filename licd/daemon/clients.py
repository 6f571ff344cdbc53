"""The clients: who may come in, what they send, when their answers leave, and all that happens when one goes.

Between two commits nothing is sent but what tells nothing of this turn (State.prompt), and to those who are turned away
at the door.
"""

from __future__ import annotations

import errno
import socket
from time import perf_counter

from licd.daemon import log
from licd.daemon.connection import Connection
from licd.daemon.listener import Peer, group_id, overflow_uid, peer
from licd.daemon.loop import HUNG_UP, READ, WRITE, Loop
from licd.daemon.methods import ADMIN, COURIER
from licd.daemon.roles import roles
from licd.daemon.service import Service
from licd.daemon.state import State
from licd.license.document import MAX_DOCUMENT_BYTES
from licd.rpc import wire
from licd.rpc.errors import TOO_MANY_CONNECTIONS, Refused

MAX_MESSAGE_BYTES = 64 * 1024
MAX_DOCUMENT_MESSAGE_BYTES = MAX_DOCUMENT_BYTES + 4096  # of couriers and administrators: an answer, a delivery
COMPLAINT_INTERVAL_S = 60.0  # between two log lines about the violations of one uid: it may come back for ever
ACCEPT_AT_ONCE = 64  # connections accepted in one turn
ACCEPT_RETRY_S = 1.0  # after a lack of descriptors or memory
SLICE_S = 0.003  # of one turn for the requests of one client, however many it has sent and however dear they are
USER_SLICE_S = 0.012  # of one turn for all clients of one uid: turns stay short, however many connections it has
# Requests in a row of one uid that make do with one look at the clock, which takes a twentieth of a confirm: so many
# whose answers need not wait, a quarter of that of others. Over capacity, where they are dearest, the former take 4 ms
# with 10,000 leases.
CLOCK_EVERY = 8
STALE_S = 0.005  # what epoll told so long ago, a client's hanging up above all, is looked at again
MOST_LAST_WORDS = 256 * 1024  # bytes read at once of one who has hung up; a socket's buffer holds less by default
NOBODY = -1  # no uid
ADMIN_SPARE = 16  # connections beyond the limit that only administrators get: a flood must not lock them out


class Clients:
    def __init__(self, state: State, service: Service, loop: Loop[Connection], listener: socket.socket) -> None:
        self._state = state
        self._service = service
        self._loop = loop
        self._listener = listener
        self.know_groups()
        self.accept_at = float("inf")  # when to try again, while not accepting
        # Whole messages wait in them, and their peer has caught up; who waits longest comes first.
        self.paused: dict[Connection, None] = {}
        self._spent_s: dict[int, float] = {}  # in this turn, on the requests of each uid
        self._served, self._since_s = NOBODY, 0.0  # whose requests time is spent on now, and since when
        self._overflow_uid = overflow_uid()
        self._connections: set[Connection] = set()
        self._of_uid: dict[int, int] = {}
        self._touched: set[Connection] = set()  # in this turn: to be flushed, or ended
        # In this turn, of those with whom nothing else is going on: answers that wait for the commit, or need not.
        self._held: list[tuple[Connection, bytes]] = []
        self._prompt: list[tuple[Connection, bytes]] = []
        self._complained: dict[int, float] = {}  # when a violation of this uid was last logged
        self._accepting = False
        self._full_at = float("-inf")  # when it was last logged that nobody could be accepted
        self._knocking = False

    def know_groups(self) -> None:
        """Who comes from now on is administrator or courier by the groups of the configuration."""
        config = self._state.config
        self._admin_gid, self._courier_gid = group_id(config.admin_group), group_id(config.courier_group)

    def listen(self) -> None:
        self._accepting = True
        self.accept_at = float("inf")
        self._loop.watch(self._listener, READ, self._on_knock)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._listener.close()

    # --- the steps of a turn ---------------------------------------------------------------------------------

    def begin_turn(self) -> None:
        """Each user has its slice of time anew, and who waited for that is served first."""
        if self._state.now >= self.accept_at:
            self.listen()
        self._spent_s.clear()
        if self.paused:
            self._resume()

    def _resume(self) -> None:
        paused, self.paused = self.paused, {}
        for connection in paused:
            if self._spent_s.get(connection.uid, 0.0) < USER_SLICE_S:
                connection.look()
                self._serve(connection)
            else:
                self.paused[connection] = None

    def read(self, others: list[Connection], readable: list[Connection]) -> None:
        """All that can be read is read and handled; the answers wait.

        Those first who have hung up, new ones last: who comes may want the seats of one who went.
        others, readable: as Loop.wait() tells them apart
        """
        for connection in others:
            self._on_ready(connection)
        self._hear(readable)
        if self._knocking:
            self._accept()

    def _hear(self, readable: list[Connection]) -> None:
        """In the common case a connection sends one request that was heard before, and nothing else is going on."""
        answer_known, state = self._service.answer_known, self._state
        uid, left, has_time, stale = NOBODY, 0, False, False
        for connection in readable:
            if left <= 0 or connection.uid != uid:
                uid, left = connection.uid, CLOCK_EVERY
                has_time = self._charge(uid)
                stale = self._since_s - self._loop.seen_s > STALE_S
            left -= 1
            if stale:
                connection.look()
            data = connection.receive()
            quiet = connection.quiet
            if quiet and has_time:
                state.prompt = False
                answer = answer_known(connection, data)
                if answer is not None:
                    if state.prompt:
                        self._prompt.append((connection, answer))
                    else:
                        connection.quiet = False  # what it asks next must not overtake this answer
                        self._held.append((connection, answer))
                        left -= 3  # it may have been dearer
                    continue
            if data:
                connection.decoder.feed(data)
            self._serve(connection, data if quiet else b"")  # where not quiet, more may stand before it
            left = 0
        self._charge(NOBODY)

    def _charge(self, uid: int) -> bool:
        """The time from now on is spent on the requests of this uid (NOBODY: of none, which is not counted).

        True if the uid has any left in this turn.
        """
        now = perf_counter()
        self._spent_s[self._served] = self._spent_s.get(self._served, 0.0) + now - self._since_s
        self._served, self._since_s = uid, now
        return self._spent_s.get(uid, 0.0) < USER_SLICE_S

    def answered(self, connection: Connection) -> None:
        """An answer of an earlier turn's request stands in its `out`."""
        if connection in self._connections:
            self._touched.add(connection)
            if connection.over:
                self._goodbye(connection)

    def unheard(self) -> bool:
        """Somebody has sent whole messages that are not handled yet."""
        return bool(self.paused) or any(each.paused and not each.slow for each in self._touched)

    def let_prompt_answers_go(self) -> None:
        """The answers that need not wait for the commit leave."""
        self._send(self._prompt)

    def let_answers_go(self) -> bool:
        """What waited for the commit leaves. True if that ended leases: another commit is due."""
        late = False
        self._send(self._prompt)
        self._send(self._held)
        for connection in self._touched:
            connection.flush()
            late = self._let_go(connection) or late
        self._touched.clear()
        return late

    def _send(self, answers: list[tuple[Connection, bytes]]) -> None:
        """They leave, and who gets one whole is heard again. An empty one is that of an import: it comes later."""
        for connection, answer in answers:
            if connection.send(answer):
                connection.quiet = True
            else:
                self._touched.add(connection)
        answers.clear()

    # --- coming ----------------------------------------------------------------------------------------------

    def _on_knock(self, events: int) -> None:
        self._knocking = True

    def _accept(self) -> None:
        self._knocking = False
        for _ in range(ACCEPT_AT_ONCE):
            try:
                stream, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ECONNABORTED:
                    continue
                # Out of descriptors or memory: those who wait stay in the backlog until a connection ends, or the
                # want, which need not be of our making, is over.
                self._accepting = False
                self.accept_at = self._state.now + ACCEPT_RETRY_S
                self._loop.forget(self._listener)
                if self._state.now - self._full_at >= COMPLAINT_INTERVAL_S:
                    self._full_at = self._state.now
                    log.write(log.ERROR, f"cannot accept connections for now: {error.strerror}")
                return
            stream.setblocking(False)
            try:
                who = peer(stream)
            except OSError:
                stream.close()
                continue
            self._welcome(stream, who)

    def _welcome(self, stream: socket.socket, who: Peer) -> None:
        config = self._state.config
        allowed = roles(
            who.uid,
            who.gids,
            admin_gid=self._admin_gid,
            courier_gid=self._courier_gid,
            overflow_uid=self._overflow_uid,
        )
        admin = ADMIN in allowed
        most_bytes = MAX_DOCUMENT_MESSAGE_BYTES if COURIER in allowed else MAX_MESSAGE_BYTES
        connection = Connection(stream, who, allowed, most_bytes)
        most = config.max_connections + (ADMIN_SPARE if admin else 0)
        if not admin and self._of_uid.get(who.uid, 0) >= config.max_connections_per_user:
            most = config.max_connections_per_user
        elif len(self._connections) < most:
            self._connections.add(connection)
            self._of_uid[who.uid] = self._of_uid.get(who.uid, 0) + 1
            self._state.connections = len(self._connections)
            self._watch(connection, READ)
            connection.look()
            connection.events |= READ  # what it has sent already is in time
            self._on_ready(connection)
            return
        connection.say_goodbye(Refused(TOO_MANY_CONNECTIONS, limit=most))
        connection.flush()
        connection.close()

    # --- sending and receiving -----------------------------------------------------------------------------------

    def _on_ready(self, connection: Connection) -> None:
        if connection.events & ~WRITE:
            self._receive(connection)
            # Of one who is gone the end is heard now, behind its last words: who comes next may want its seats.
            while connection.hung_up and not connection.ended and connection.decoder.waiting < MOST_LAST_WORDS:
                self._receive(connection)
        self._serve(connection)

    def _receive(self, connection: Connection) -> None:
        data = connection.receive()
        if data:
            connection.decoder.feed(data)

    def _serve(self, connection: Connection, alone: bytes = b"") -> None:
        """alone: what the decoder has, if it is all from one read."""
        connection.quiet = False
        self._touched.add(connection)
        if not connection.violated:  # broken or not: what came before one left its answers unread, it said
            self._handle(connection, alone)
        if connection.over:  # now, not behind the others: one of them may ask for its seats
            self._goodbye(connection)

    def _handle(self, connection: Connection, alone: bytes) -> None:
        if not self._charge(connection.uid):
            connection.paused = True
            return
        if self._since_s - self._loop.seen_s > STALE_S:
            connection.look()
        until = self._since_s + SLICE_S
        try:
            for message in connection.messages():
                call = self._service.handle(connection, message)
                if alone and not connection.decoder.waiting and call is not None:
                    self._service.remember(alone, call)
                alone = b""
                if perf_counter() > until:
                    connection.paused = True
                    break
        except wire.Violation as violation:
            connection.violation(violation)
            self._complain(connection.peer, violation.reason)
        self._charge(NOBODY)

    def _complain(self, who: Peer, reason: str) -> None:
        last = self._complained.get(who.uid, float("-inf"))
        if self._state.now - last >= COMPLAINT_INTERVAL_S:
            self._complained[who.uid] = self._state.now
            log.write(log.WARNING, f"closed a connection of uid {who.uid}, pid {who.pid}: {reason}")

    def _let_go(self, connection: Connection) -> bool:
        """The answers leave, as far as the peer reads them; a connection that is over is closed behind the last one.

        True if it broke only now, and something it said last is on no record yet, or leases ended with it.
        """
        late = connection.broken and not connection.ended
        if late:
            self._hear_out(connection)
        if connection.over and (connection.broken or connection.violated or not connection.out):
            return self._close(connection) or late
        if connection.paused and not connection.slow:
            self.paused[connection] = None
        reading = not (connection.ended or connection.slow or connection.paused)
        self._watch(connection, reading * READ | bool(connection.out) * WRITE)
        connection.quiet = reading and not connection.out and not connection.decoder.waiting
        return late

    def _hear_out(self, connection: Connection) -> None:
        """What it said while its answer waited is heard, as far as one slice goes: nobody reads the answers."""
        connection.events |= READ | HUNG_UP
        self._on_ready(connection)

    def _watch(self, connection: Connection, events: int) -> None:
        if events == connection.watched:
            return
        connection.watched = events
        if events:
            self._loop.watch_peer(connection, events)
        else:
            self._loop.forget(connection)

    # --- going -----------------------------------------------------------------------------------------------

    def _goodbye(self, connection: Connection) -> None:
        """All that happens when a connection ends, once: its release leases are released, at once."""
        if connection.session.open:
            connection.session.open = False
            for event in self._state.ledger.decide_goodbye(connection.session):
                self._state.record(event)

    def _close(self, connection: Connection) -> bool:
        """True if it was not over before the commit: its leases end with the next frame."""
        late = connection.session.open
        self._goodbye(connection)
        self._loop.forget(connection)
        connection.close()
        self._connections.discard(connection)
        self.paused.pop(connection, None)
        self._state.connections = len(self._connections)
        left = self._of_uid[connection.uid] - 1
        if left:
            self._of_uid[connection.uid] = left
        else:
            del self._of_uid[connection.uid]
        if not self._accepting:
            self.listen()
        return late
