"""The client against a peer that loses, cuts, delays and garbles its answers, over a real Unix socket."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from licd.rpc import client as module
from licd.rpc import wire
from licd.rpc.client import CallError, Client, ProtocolError, TimedOut, Unreachable, Unsendable
from tests.support.needs import needs_root
from tests.support.peer import Peer, Script, answer, hang_up, refuse, say, silence


@pytest.fixture
def path(folder: Path) -> str:
    return f"{folder}/s"


@pytest.fixture
def peer(path: str) -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def start(*scripts: Script) -> Peer:
        peers.append(Peer(path, *scripts))
        return peers[-1]

    yield start
    for each in peers:
        each.close()


# --- answers -------------------------------------------------------------------------------------------------


def test_the_result_is_returned_and_the_arguments_arrive_as_one_map(path: str, peer: Callable[..., Peer]) -> None:
    there = peer(answer({"lease": "ab"}))
    with Client(path) as licd:
        assert licd.call("seat.acquire", license="kso.pos", seats=2, document=b"\x00\xff") == {"lease": "ab"}
    assert there.asked == [(1, "seat.acquire", [{"license": "kso.pos", "seats": 2, "document": b"\x00\xff"}])]


def test_calls_share_one_connection_and_carry_different_msgids(path: str, peer: Callable[..., Peer]) -> None:
    seen: list[int] = []

    def echo(stream: socket.socket, request: wire.Request) -> None:
        seen.append(request.msgid)
        answer(len(seen))(stream, request)

    there = peer(echo, echo, echo)
    with Client(path) as licd:
        assert [licd.call("m") for _ in range(3)] == [1, 2, 3]
    assert {number for number, _, _ in there.asked} == {1}
    assert len(set(seen)) == 3


def test_an_answer_of_a_megabyte_in_small_pieces_arrives_whole(path: str, peer: Callable[..., Peer]) -> None:
    def dribble(stream: socket.socket, request: wire.Request) -> None:
        data = wire.encode_response(request.msgid, None, "x" * 1_000_000)
        for at in range(0, len(data), 50_001):
            stream.sendall(data[at : at + 50_001])

    peer(dribble)
    with Client(path) as licd:
        assert licd.call("m") == "x" * 1_000_000


def test_a_list_of_thousands_of_licenses_arrives(path: str, peer: Callable[..., Peer]) -> None:
    peer(answer([{"n": n} for n in range(8000)]))
    with Client(path) as licd:
        assert len(licd.call("license.list")) == 8000


def test_an_answer_in_one_byte_pieces_arrives_whole(path: str, peer: Callable[..., Peer]) -> None:
    def dribble(stream: socket.socket, request: wire.Request) -> None:
        for byte in wire.encode_response(request.msgid, None, {"a": [1, "two"]}):
            stream.sendall(bytes((byte,)))

    peer(dribble)
    with Client(path) as licd:
        assert licd.call("m") == {"a": [1, "two"]}


def test_notifications_and_answers_to_other_msgids_are_skipped(path: str, peer: Callable[..., Peer]) -> None:
    def noisy(stream: socket.socket, request: wire.Request) -> None:
        stream.sendall(
            wire.encode_notification("events.lost", {"lease": "ab"})
            + wire.encode_response(request.msgid + 1, None, "another's")
            + wire.encode_response(request.msgid, None, "mine")
            + wire.encode_notification("events.lost", {"lease": "cd"})
        )

    peer(noisy, noisy)
    with Client(path) as licd:
        assert licd.call("m") == "mine"
        assert licd.call("m") == "mine"


# --- refusals ------------------------------------------------------------------------------------------------


def test_a_refusal_has_code_name_message_and_data_also_where_the_code_is_unknown_here(
    path: str, peer: Callable[..., Peer]
) -> None:
    error = {"code": 777, "name": "FROM_THE_FUTURE", "message": "Not so.", "data": {"next": "Wait."}, "more": 1}
    peer(refuse(error), answer("on"))
    with Client(path) as licd:
        with pytest.raises(CallError) as caught:
            licd.call("m")
        assert (caught.value.code, caught.value.name) == (777, "FROM_THE_FUTURE")
        assert (caught.value.message, caught.value.data) == ("Not so.", {"next": "Wait."})
        assert licd.call("m") == "on"  # a refusal is an answer: the connection lives


def test_a_refusal_without_message_and_data_is_still_a_refusal(path: str, peer: Callable[..., Peer]) -> None:
    peer(refuse({"code": 40, "name": "NO_SEAT_FREE"}))
    with Client(path) as licd, pytest.raises(CallError) as caught:
        licd.call("m")
    assert caught.value.as_map() == {"code": 40, "name": "NO_SEAT_FREE", "message": "NO_SEAT_FREE", "data": {}}


@pytest.mark.parametrize("error", ["no", 7, [], {}, {"code": "40", "name": "X"}, {"code": True, "name": "X"}])
def test_an_error_that_is_no_map_of_code_and_name_is_a_protocol_error(
    path: str, peer: Callable[..., Peer], error: Any
) -> None:
    peer(refuse(error))
    with Client(path) as licd, pytest.raises(ProtocolError):
        licd.call("m")


def test_a_goodbye_says_why_the_connection_is_refused_and_is_not_asked_again(
    path: str, peer: Callable[..., Peer]
) -> None:
    error = {"code": 15, "name": "TOO_MANY_CONNECTIONS", "message": "Too many.", "data": {}}

    def goodbye(stream: socket.socket, request: wire.Request) -> None:
        stream.sendall(wire.encode_notification("server.goodbye", {"error": error}))
        stream.close()

    there = peer(goodbye, answer("never"))
    with Client(path) as licd, pytest.raises(CallError) as caught:
        licd.call("m")
    assert caught.value.name == "TOO_MANY_CONNECTIONS"
    assert len(there.asked) == 1


def test_a_goodbye_is_heard_though_the_peer_closed_before_it_read_a_large_request(path: str) -> None:
    error = {"code": 14, "name": "MESSAGE_TOO_LARGE", "message": "Too large.", "data": {}}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            stream, _ = listener.accept()
            stream.recv(1000)
            stream.sendall(wire.encode_notification("server.goodbye", {"error": error}))
            stream.close()

        threading.Thread(target=serve, daemon=True).start()
        with Client(path) as licd, pytest.raises(CallError) as caught:
            licd.call("license.import", document=bytes(4_000_000))
    assert caught.value.name == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("params", [[], [{}], [{"error": "x"}], {"error": {}}, None])
def test_a_goodbye_without_a_reason_is_a_protocol_error(path: str, peer: Callable[..., Peer], params: Any) -> None:
    peer(say(msgpack.packb([2, "server.goodbye", params])))
    with Client(path) as licd, pytest.raises(ProtocolError):
        licd.call("m")


# --- lost answers --------------------------------------------------------------------------------------------


def test_a_lost_answer_is_asked_for_once_more_on_a_new_connection(path: str, peer: Callable[..., Peer]) -> None:
    there = peer(hang_up, answer("again"))
    with Client(path) as licd:
        assert licd.call("seat.acquire", license="a") == "again"
    assert there.asked == [(1, "seat.acquire", [{"license": "a"}]), (2, "seat.acquire", [{"license": "a"}])]


def test_an_answer_cut_in_the_middle_is_asked_for_once_more(path: str, peer: Callable[..., Peer]) -> None:
    def cut(stream: socket.socket, request: wire.Request) -> None:
        stream.sendall(wire.encode_response(request.msgid, None, "x" * 100)[:50])
        stream.shutdown(socket.SHUT_RDWR)

    peer(cut, answer("whole"), answer("next"))
    with Client(path) as licd:
        assert licd.call("m") == "whole"
        assert licd.call("m") == "next"


def test_a_connection_that_died_while_idle_is_replaced(path: str, peer: Callable[..., Peer]) -> None:
    dead = threading.Event()

    def last(stream: socket.socket, request: wire.Request) -> None:
        answer("first")(stream, request)
        stream.shutdown(socket.SHUT_RDWR)
        dead.set()

    there = peer(last, answer("second"))
    with Client(path) as licd:
        assert licd.call("m") == "first"
        assert dead.wait(10)
        assert licd.call("m") == "second"
    assert [number for number, _, _ in there.asked] == [1, 2]


def test_a_second_loss_is_unreachable_and_there_is_no_third_try(path: str, peer: Callable[..., Peer]) -> None:
    there = peer(hang_up, hang_up, answer("never"))
    with Client(path) as licd, pytest.raises(Unreachable) as caught:
        licd.call("m")
    assert caught.value.reason == module.LOST
    assert len(there.asked) == 2


def test_without_retry_the_first_loss_is_unreachable(path: str, peer: Callable[..., Peer]) -> None:
    there = peer(hang_up, answer("never"))
    with Client(path, retry=False) as licd, pytest.raises(Unreachable) as caught:
        licd.call("m")
    assert caught.value.reason == module.LOST
    assert len(there.asked) == 1


def test_a_refusal_is_not_asked_again(path: str, peer: Callable[..., Peer]) -> None:
    there = peer(refuse({"code": 40, "name": "NO_SEAT_FREE"}), answer("never"))
    with Client(path) as licd, pytest.raises(CallError):
        licd.call("m")
    assert len(there.asked) == 1


# --- time ----------------------------------------------------------------------------------------------------


def test_silence_ends_in_a_timeout_that_names_method_and_time(path: str, peer: Callable[..., Peer]) -> None:
    there = peer(silence)
    began = time.monotonic()
    with Client(path, timeout_s=0.2) as licd, pytest.raises(TimedOut) as caught:
        licd.call("seat.confirm")
    assert 0.15 < time.monotonic() - began < 1.5
    assert (caught.value.method, caught.value.timeout_s) == ("seat.confirm", 0.2)
    assert len(there.asked) == 1  # a timeout is the caller's to judge


def test_a_late_answer_is_never_taken_for_the_next_ones(path: str, peer: Callable[..., Peer]) -> None:
    late = threading.Event()

    def delayed(stream: socket.socket, request: wire.Request) -> None:
        late.wait(5)
        answer("late")(stream, request)

    there = peer(delayed, answer("prompt"))
    with Client(path, timeout_s=0.2) as licd:
        with pytest.raises(TimedOut):
            licd.call("m")
        late.set()
        licd.timeout_s = 5.0
        assert licd.call("m") == "prompt"
    assert [number for number, _, _ in there.asked] == [1, 2]


def test_an_interrupted_wait_leaves_no_answer_behind_for_the_next_call(path: str, peer: Callable[..., Peer]) -> None:
    def interrupted(stream: socket.socket, request: wire.Request) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)
        answer("stale")(stream, request)

    class Interrupt(BaseException):
        pass

    def handler(number: int, frame: Any) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        there = peer(interrupted, answer("fresh"))
        with Client(path) as licd:
            with pytest.raises(Interrupt):
                licd.call("m")
            assert licd.call("m") == "fresh"
        assert [number for number, _, _ in there.asked] == [1, 2]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_timeout_holds_for_the_whole_call_however_often_something_arrives(
    path: str, peer: Callable[..., Peer]
) -> None:
    def chatter(stream: socket.socket, request: wire.Request) -> None:
        for _ in range(100):
            stream.sendall(wire.encode_notification("n", {}))
            time.sleep(0.05)

    peer(chatter)
    began = time.monotonic()
    with Client(path, timeout_s=0.3) as licd, pytest.raises(TimedOut):
        licd.call("m")
    assert time.monotonic() - began < 2


def test_a_peer_that_reads_nothing_of_a_large_request_is_a_timeout(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()  # the kernel accepts; nobody ever reads
        with Client(path, timeout_s=0.2) as licd, pytest.raises(TimedOut):
            licd.call("m", document=bytes(4_000_000))


def test_a_full_backlog_is_waited_for_and_ends_in_a_timeout(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as filler:
            filler.connect(path)
            began = time.monotonic()
            with Client(path, timeout_s=0.3) as licd, pytest.raises(TimedOut):
                licd.call("m")
            assert time.monotonic() - began > 0.2

            def make_room() -> None:
                time.sleep(0.2)
                listener.accept()
                stream, _ = listener.accept()
                (message,) = _decoded(stream.recv(65536))
                assert isinstance(message, wire.Request)
                answer("at last")(stream, message)

            threading.Thread(target=make_room, daemon=True).start()
            with Client(path, timeout_s=5) as licd:
                assert licd.call("m") == "at last"


def _decoded(data: bytes) -> list[wire.Message]:
    decoder = wire.Decoder(1 << 20)
    decoder.feed(data)
    return list(decoder)


# --- not the protocol ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xc1",
        b"\x94\x01\x80",  # a response whose msgid is a map
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 3000,
        b"\x00",
        b"\x95\x01\x01\xc0\xc0\xc0",
    ],
)
def test_garbage_is_a_protocol_error_and_the_next_call_starts_clean(
    path: str, peer: Callable[..., Peer], garbage: bytes
) -> None:
    def end(stream: socket.socket, request: wire.Request) -> None:
        stream.sendall(garbage + b"\x80\x80\x80")

    peer(end, answer("clean"))
    with Client(path, timeout_s=5) as licd:
        with pytest.raises(ProtocolError):
            licd.call("m")
        assert licd.call("m") == "clean"


@pytest.mark.parametrize("header", [b"", b"\x94\x01\x01\xc0\xc6\xff\xff\xff\xff"])
def test_an_answer_larger_than_the_limit_is_a_protocol_error_before_all_of_it_is_there(
    path: str, peer: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch, header: bytes
) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 10_000)
    peer(say(header + bytes(10_001)) if header else answer("x" * 10_001))
    with Client(path) as licd, pytest.raises(ProtocolError):
        licd.call("m")


def test_a_request_from_the_server_is_a_protocol_error(path: str, peer: Callable[..., Peer]) -> None:
    peer(say(wire.encode_request(1, "m", {})))
    with Client(path) as licd, pytest.raises(ProtocolError):
        licd.call("m")


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, object(), {1, 2}, 1j])
def test_what_messagepack_cannot_carry_is_unsendable_and_nothing_is_sent(
    path: str, peer: Callable[..., Peer], value: Any
) -> None:
    there = peer(answer("later"))
    with Client(path) as licd:
        with pytest.raises(Unsendable):
            licd.call("m", value=value)
        assert licd.call("m") == "later"
    assert len(there.asked) == 1


def test_an_argument_nested_without_end_is_unsendable(path: str) -> None:
    value: list[Any] = []
    value.append(value)
    with Client(path) as licd, pytest.raises(Unsendable):
        licd.call("m", value=value)


# --- unreachable ---------------------------------------------------------------------------------------------


def test_a_missing_socket_is_unreachable_as_no_socket(path: str) -> None:
    for missing in (path, f"{path}/deeper"):
        with Client(missing) as licd, pytest.raises(Unreachable) as caught:
            licd.call("m")
        assert (caught.value.reason, caught.value.path) == (module.NO_SOCKET, missing)


def test_a_dead_socket_and_a_plain_file_are_unreachable_as_not_listening(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(path)
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    with Client(path) as licd, pytest.raises(Unreachable) as caught:
        licd.call("m")
    assert caught.value.reason == module.NOT_LISTENING


def test_a_datagram_socket_and_an_endless_path_are_unreachable_as_not_usable(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(path)
        for bad in (path, "/" + "x" * 200):
            with Client(bad) as licd, pytest.raises(Unreachable) as caught:
                licd.call("m")
            assert caught.value.reason == module.NOT_USABLE


def test_a_peer_that_died_for_good_is_not_listening_at_the_second_try(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()

    def die() -> None:
        stream, _ = listener.accept()
        stream.recv(1000)
        listener.close()
        stream.close()

    threading.Thread(target=die, daemon=True).start()
    with Client(path) as licd, pytest.raises(Unreachable) as caught:
        licd.call("m")
    assert caught.value.reason == module.NOT_LISTENING


@needs_root
def test_a_socket_without_permission_is_unreachable_as_denied(path: str, peer: Callable[..., Peer]) -> None:
    peer()
    os.chmod(path, 0o600)
    os.chmod(Path(path).parent, 0o755)
    # Another uid needs a process of its own; all of it is imported before it gives root up.
    script = f"""
import os
from licd.rpc.client import Client, DENIED, Unreachable
os.setgroups([]); os.setgid(12345); os.setuid(12345)
try:
    Client({path!r}).call("m")
except Unreachable as error:
    assert error.reason == DENIED, error.reason
    print("denied")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "denied\n", done.stderr


def test_a_closed_client_connects_anew_when_it_is_asked_again(path: str, peer: Callable[..., Peer]) -> None:
    there = peer(answer(1), answer(2))
    licd = Client(path)
    assert licd.call("m") == 1
    licd.close()
    licd.close()
    assert licd.call("m") == 2
    licd.close()
    assert [number for number, _, _ in there.asked] == [1, 2]


def test_msgids_wrap_within_32_bits(path: str, peer: Callable[..., Peer]) -> None:
    peer(answer(1), answer(2))
    with Client(path) as licd:
        licd._msgid = wire.MAX_MSGID - 1
        assert [licd.call("m"), licd.call("m")] == [1, 2]
        assert licd._msgid == 1
