"""licd.daemon.connection: bytes in, messages out, on a real socket pair; and what a slow or broken peer costs."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from licd.daemon.connection import MAX_WAITING_BYTES, READ_BYTES, Connection
from licd.daemon.listener import Peer
from licd.rpc import wire
from licd.rpc.errors import LEASE_UNKNOWN, TOO_MANY_CONNECTIONS, Refused

LIMIT = 64 * 1024
HELLO = wire.encode_request(7, "server.hello", {})
ASKED = wire.Request(7, "server.hello", [{}])


class Pair:
    """A connection, and the socket of its peer."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.peer.settimeout(5)
        self.connection = Connection(ours, Peer(1000, frozenset((100,)), 4242), frozenset(("any",)), LIMIT)

    def hear(self) -> list[list[Any]]:
        """All that has been sent to the peer, as plain msgpack reads it."""
        unpacker = msgpack.Unpacker()
        self.peer.setblocking(False)
        try:
            while data := self.peer.recv(1 << 20):
                unpacker.feed(data)
        except BlockingIOError:
            pass
        return list(unpacker)


def receive(pair: Pair) -> None:
    """What can be read is with the decoder."""
    pair.connection.decoder.feed(pair.connection.receive())


def hung_up(pair: Pair) -> bool:
    pair.connection.look()
    return pair.connection.hung_up


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.peer.close()
    pair.connection.close()


# --- in ------------------------------------------------------------------------------------------------------


def test_one_byte_pieces_come_out_as_the_message_they_are(pair: Pair) -> None:
    for at in range(len(HELLO)):
        assert list(pair.connection.messages()) == []
        pair.peer.send(HELLO[at : at + 1])
        receive(pair)
    assert list(pair.connection.messages()) == [ASKED]
    assert list(pair.connection.messages()) == []


def test_pipelined_messages_all_come_out_of_one_read(pair: Pair) -> None:
    pair.peer.send(HELLO * 100)
    receive(pair)
    assert list(pair.connection.messages()) == [ASKED] * 100
    assert not pair.connection.paused


def test_reading_when_nothing_is_there_changes_nothing(pair: Pair) -> None:
    receive(pair)
    assert list(pair.connection.messages()) == []
    assert not pair.connection.ended
    assert not pair.connection.over


def test_one_read_takes_no_more_than_its_share_of_a_turn(pair: Pair) -> None:
    pair.peer.setblocking(False)
    sent = pair.peer.send(HELLO * 5000)
    assert sent > READ_BYTES
    receive(pair)
    assert pair.connection.decoder.waiting == READ_BYTES
    assert len(list(pair.connection.messages())) == READ_BYTES // len(HELLO)


def test_what_the_peer_said_before_it_closed_is_still_read(pair: Pair) -> None:
    pair.peer.send(HELLO)
    pair.peer.close()
    receive(pair)
    assert list(pair.connection.messages()) == [ASKED]
    assert not pair.connection.ended
    receive(pair)
    assert pair.connection.ended
    assert pair.connection.over


def test_a_peer_that_left_its_answers_unread_is_gone_for_good(pair: Pair) -> None:
    pair.connection.answer(7, "unread")
    pair.connection.flush()
    pair.peer.close()
    receive(pair)
    assert pair.connection.ended
    assert pair.connection.broken
    assert pair.connection.over


# --- ends ----------------------------------------------------------------------------------------------------


def test_a_peer_that_only_says_that_it_sends_no_more_has_not_hung_up(pair: Pair) -> None:
    assert not hung_up(pair)
    pair.peer.send(HELLO)
    pair.peer.shutdown(socket.SHUT_WR)
    receive(pair)
    receive(pair)
    assert pair.connection.ended
    assert not hung_up(pair)
    pair.connection.answer(7, "still here")
    pair.connection.flush()
    assert pair.hear() == [[1, 7, None, "still here"]]


@pytest.mark.parametrize("unread", [False, True])
def test_a_peer_that_has_closed_has_hung_up_even_if_it_is_not_read_yet(pair: Pair, unread: bool) -> None:
    assert not hung_up(pair)
    if unread:
        pair.connection.answer(7, "unread")
        pair.connection.flush()
    pair.peer.send(HELLO)
    pair.peer.close()
    assert hung_up(pair)
    receive(pair)
    assert list(pair.connection.messages()) == [ASKED]
    assert hung_up(pair)


def test_a_peer_whose_process_died_has_hung_up(pair: Pair) -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
    pair.peer.close()
    try:
        assert not hung_up(pair)  # the child has the other copy
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert hung_up(pair)


def test_a_peer_that_has_shut_both_directions_has_hung_up(pair: Pair) -> None:
    pair.peer.shutdown(socket.SHUT_RDWR)
    assert hung_up(pair)


def test_a_connection_is_not_over_while_an_answer_is_still_to_come(pair: Pair) -> None:
    pair.connection.deferred = 1
    pair.peer.shutdown(socket.SHUT_WR)
    receive(pair)
    assert pair.connection.ended
    assert not pair.connection.over
    pair.connection.deferred = 0
    assert pair.connection.over


# --- out -----------------------------------------------------------------------------------------------------


def test_nothing_leaves_before_flush(pair: Pair) -> None:
    pair.connection.answer(1, {"lease": "x"})
    pair.connection.refuse(2, Refused(LEASE_UNKNOWN).as_map())
    assert pair.hear() == []
    pair.connection.flush()
    assert pair.hear() == [[1, 1, None, {"lease": "x"}], [1, 2, Refused(LEASE_UNKNOWN).as_map(), None]]
    assert not pair.connection.out


def test_flushing_nothing_harms_nobody(pair: Pair) -> None:
    pair.connection.flush()
    assert pair.hear() == []
    pair.peer.close()
    pair.connection.flush()


def test_what_a_slow_reader_does_not_take_now_comes_later_unharmed(pair: Pair) -> None:
    for msgid in range(1000):
        pair.connection.answer(msgid, "x" * 1000)
    heard: list[list[Any]] = []
    unpacker = msgpack.Unpacker()
    pair.connection.flush()
    assert pair.connection.out, "a socket that takes a megabyte at once proves nothing"
    while pair.connection.out or len(heard) < 1000:
        unpacker.feed(pair.peer.recv(50_000))
        heard.extend(unpacker)
        pair.connection.flush()
    assert heard == [[1, msgid, None, "x" * 1000] for msgid in range(1000)]


def test_flushing_to_a_peer_that_takes_nothing_now_loses_nothing(pair: Pair) -> None:
    pair.connection.answer(1, "x" * 1_000_000)
    for _ in range(10):
        pair.connection.flush()
    left = len(pair.connection.out)
    assert 0 < left < 1_000_000
    pair.connection.flush()
    assert len(pair.connection.out) == left
    assert not pair.connection.broken


def test_flushing_to_a_peer_that_is_gone_breaks_the_connection_and_drops_the_answers(pair: Pair) -> None:
    pair.peer.close()
    pair.connection.answer(1, "nobody reads this")
    pair.connection.flush()
    assert pair.connection.broken
    assert pair.connection.over
    assert not pair.connection.out


def serve(connection: Connection, answer: str) -> int:
    """Every message there is gets the answer; how many there were."""
    count = 0
    for message in connection.messages():
        assert isinstance(message, wire.Request)
        connection.answer(message.msgid, answer)
        count += 1
    return count


def test_a_client_that_never_reads_is_served_only_up_to_a_bound(pair: Pair) -> None:
    pair.peer.setblocking(False)
    pair.peer.send(HELLO * 3000)
    receive(pair)
    answer = "x" * 30_000
    most = MAX_WAITING_BYTES + len(answer) + 20  # the answer that goes over the bound is the last
    for _ in range(50):
        serve(pair.connection, answer)
        assert len(pair.connection.out) <= most
        assert pair.connection.paused
        assert pair.connection.slow
        pair.connection.flush()
    assert pair.connection.decoder.waiting > 0


def test_not_one_more_message_is_taken_from_a_slow_reader_however_often_it_is_asked(pair: Pair) -> None:
    pair.peer.send(HELLO * 100)
    receive(pair)
    assert serve(pair.connection, "x" * (MAX_WAITING_BYTES + 1)) == 1
    for _ in range(10):
        assert serve(pair.connection, "more") == 0
    assert pair.connection.paused


def test_a_slow_reader_that_catches_up_gets_every_answer_in_order(pair: Pair) -> None:
    count = 200
    pair.peer.send(b"".join(wire.encode_request(msgid, "m", {}) for msgid in range(count)))
    receive(pair)
    unpacker = msgpack.Unpacker()
    heard: list[int] = []
    answer = "x" * 10_000
    serve(pair.connection, answer)
    assert pair.connection.paused
    while len(heard) < count:
        pair.connection.flush()
        unpacker.feed(pair.peer.recv(1 << 20))
        heard.extend(msgid for _, msgid, _, _ in unpacker)
        serve(pair.connection, answer)
    assert heard == list(range(count))
    assert not pair.connection.paused


def test_a_peer_that_asked_and_then_sends_no_more_is_not_over_before_it_is_served(pair: Pair) -> None:
    pair.peer.send(HELLO * 2)
    pair.peer.shutdown(socket.SHUT_WR)
    receive(pair)
    receive(pair)
    assert serve(pair.connection, "x" * (MAX_WAITING_BYTES + 1)) == 1
    assert pair.connection.ended
    assert not pair.connection.over
    while pair.connection.slow:
        pair.connection.flush()
        pair.hear()
    assert serve(pair.connection, "last") == 1
    assert pair.connection.over


# --- violations ----------------------------------------------------------------------------------------------


def broken_by(pair: Pair, data: bytes) -> list[list[Any]]:
    """What the peer hears after it sent this."""
    pair.peer.send(data)
    receive(pair)
    with pytest.raises(wire.Violation) as caught:
        list(pair.connection.messages())
    pair.connection.violation(caught.value)
    assert pair.connection.violated
    assert pair.connection.over
    pair.connection.flush()
    return pair.hear()


def test_a_violation_is_told_once_by_a_notification(pair: Pair) -> None:
    ((kind, method, (params,)),) = broken_by(pair, b"\xc1")
    assert (kind, method) == (2, "server.goodbye")
    assert params["error"]["name"] == "BAD_MESSAGE"
    assert params["error"]["data"]["next"]


def test_a_violation_whose_request_is_known_is_told_as_its_answer(pair: Pair) -> None:
    ((kind, msgid, error, result),) = broken_by(pair, msgpack.packb([0, 77, 5, []]))
    assert (kind, msgid, result) == (1, 77, None)
    assert error["name"] == "BAD_MESSAGE"


def test_a_message_over_the_limit_is_told_with_the_limit(pair: Pair) -> None:
    pair.peer.send(b"\x94\x00\x01\xa1m\xc6\x7f\xff\xff\xff" + b"x" * READ_BYTES)
    receive(pair)
    assert list(pair.connection.messages()) == []
    ((_, _, (params,)),) = broken_by(pair, b"x" * 100)
    assert params["error"]["name"] == "MESSAGE_TOO_LARGE"
    assert params["error"]["data"]["limit"] == LIMIT


def test_what_was_asked_before_a_violation_is_answered_before_it_is_told(pair: Pair) -> None:
    pair.peer.send(HELLO + b"\xc1")
    receive(pair)
    with pytest.raises(wire.Violation) as caught:
        serve(pair.connection, "welcome")
    pair.connection.violation(caught.value)
    pair.connection.flush()
    assert [answer[:2] for answer in pair.hear()] == [[1, 7], [2, "server.goodbye"]]


def test_a_goodbye_says_why(pair: Pair) -> None:
    refused = Refused(TOO_MANY_CONNECTIONS, limit=64)
    pair.connection.say_goodbye(refused)
    pair.connection.flush()
    assert pair.hear() == [[2, "server.goodbye", [{"error": refused.as_map()}]]]


def test_a_connection_knows_its_peer() -> None:
    pair = Pair()
    assert pair.connection.fileno() == pair.connection.stream.fileno()
    assert (pair.connection.session.uid, pair.connection.session.pid) == (1000, 4242)
    pair.connection.close()
    assert pair.connection.fileno() == -1
    assert pair.peer.recv(10) == b""
    pair.peer.close()
