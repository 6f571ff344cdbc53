"""The load generator, tools/bench/load.c: what it takes for a reply, what for an error, and what it counts."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from licd.rpc import wire

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "tools" / "bench"
ERROR_STATUS = 3

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc, to compile the load generator")

Answer = Callable[[socket.socket, bytes], None]  # to one request


@pytest.fixture(scope="module")
def load() -> Path:
    """The program, as the tools make it."""
    code = "import loading; print(loading.generator())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCH, env={"PYTHONPATH": f"{BENCH}:{ROOT}"}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return Path(done.stdout.strip())


class Server:
    """Answers each request as it is told; a request is what arrives in one read."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path = path
        self.asked: list[bytes] = []
        self.asked_by: list[list[bytes]] = []  # each connection
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        mine: list[bytes] = []
        self.asked_by.append(mine)
        with stream, contextlib.suppress(OSError):  # the load generator ends at once at an error
            while request := stream.recv(65536):
                mine.append(request)
                self.asked.append(request)
                self._answer(stream, request)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Loading:
    def __init__(self, folder: Path, program: Path) -> None:
        self._folder = folder
        self._program = program
        self.server: Server | None = None

    def answers(self, answer: Answer) -> Server:
        self.server = Server(self._folder / "socket", answer)
        return self.server

    def template(self, name: str, request: bytes, expect: bytes = b"") -> str:
        (self._folder / name).write_bytes(request)
        if expect:
            (self._folder / f"{name}.expect").write_bytes(expect)
        return str(self._folder / name)

    def run(self, *templates: str, options: tuple[str, ...] = (), connections: int = 1, status: int = 0) -> Any:
        """What it prints."""
        command = [str(self._program), *options, str(self._folder / "socket"), str(connections), "0.1", *templates]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def loading(folder: Path, load: Path) -> Iterator[Loading]:
    loading = Loading(folder, load)
    yield loading
    if loading.server is not None:
        loading.server.close()


def says(reply: bytes) -> Answer:
    return lambda stream, request: stream.sendall(reply)


def in_pieces(reply: bytes) -> Answer:
    def answer(stream: socket.socket, request: bytes) -> None:
        for n in range(len(reply)):
            stream.sendall(reply[n : n + 1])

    return answer


ASK = wire.encode_request(1, "any.method", {})
RESULT = {"a": [1, -1, 300, 2**40, None, True, 1.5, b"x" * 300, "y" * 40], "b": {"c": "d"}}


@pytest.mark.parametrize("msgid", [1, 127, 128, 2**31])
def test_a_response_is_no_error_whatever_its_msgid_and_result(loading: Loading, msgid: int) -> None:
    loading.answers(says(wire.encode_response(msgid, None, RESULT)))
    assert loading.run(loading.template("ask", ASK))["count"] > 0


@pytest.mark.parametrize("msgid", [1, 128, 2**31])
def test_an_error_response_ends_it_and_is_shown(loading: Loading, msgid: int) -> None:
    reply = wire.encode_response(msgid, {"name": "NO_SEAT_FREE"}, None)
    loading.answers(says(reply))
    said = loading.run(loading.template("ask", ASK), status=ERROR_STATUS)["error"]
    assert Path(said["template"]).name == "ask"
    assert msgpack.unpackb(bytes.fromhex(said["reply"]))[2] == {"name": "NO_SEAT_FREE"}


def test_a_response_that_arrives_in_pieces_is_one_reply(loading: Loading) -> None:
    server = loading.answers(in_pieces(wire.encode_response(1, None, RESULT)))
    said = loading.run(loading.template("ask", ASK))
    assert said["asked"] == len(server.asked)


def test_a_response_without_what_is_expected_is_an_error(loading: Loading) -> None:
    loading.answers(says(wire.encode_response(1, None, {"released": False})))
    expected = msgpack.packb("released")
    assert loading.run(loading.template("ask", ASK, expected + b"\xc2"))["count"] > 0
    assert loading.run(loading.template("not", ASK, expected + b"\xc3"), status=ERROR_STATUS)["error"]


def test_a_second_reply_that_nobody_asked_for_is_an_error(loading: Loading) -> None:
    loading.answers(says(wire.encode_response(1, None, 1) + wire.encode_notification("server.goodbye", {})))
    assert loading.run(loading.template("ask", ASK), status=ERROR_STATUS)["error"]


@pytest.mark.parametrize("reply", [b"+OK\r\n", b":1\r\n", b"$5\r\na\r\nbc\r\n", b"$0\r\n\r\n"])
def test_a_redis_reply_is_read_whole(loading: Loading, reply: bytes) -> None:
    server = loading.answers(in_pieces(reply))
    assert loading.run(loading.template("ask", b"*1\r\n$4\r\nPING\r\n"))["asked"] == len(server.asked)


@pytest.mark.parametrize("reply", [b"-ERR no such script\r\n", b"$-1\r\n", b"?\r\n"])
def test_a_redis_error_or_nil_is_an_error(loading: Loading, reply: bytes) -> None:
    loading.answers(says(reply))
    said = loading.run(loading.template("ask", b"*1\r\n$4\r\nPING\r\n"), status=ERROR_STATUS)["error"]
    assert bytes.fromhex(said["reply"]) == reply


def test_an_echo_must_come_back_unchanged(loading: Loading) -> None:
    loading.answers(lambda stream, request: stream.sendall(request.replace(b"00000001", b"00000002")))
    echo = "=" + loading.template("ask", ASK + b"########")
    assert loading.run(echo)["count"] > 0
    assert loading.run(echo, connections=2, status=ERROR_STATUS)["error"]


def test_what_comes_before_and_after_is_sent_once_a_connection_and_not_counted(loading: Loading) -> None:
    server = loading.answers(says(wire.encode_response(1, None, 1)))
    requests = {name: wire.encode_request(1, name, {"holder": "########"}) for name in ("before", "ask", "after")}
    before, ask, after = (loading.template(name, request) for name, request in requests.items())
    said = loading.run(f"{ask}*3", options=("-b", before, "-a", after), connections=3)
    assert set(said["templates"]) == {"ask"}
    assert said["asked"] == len(server.asked)
    for name in ("before", "after"):
        sent = [request for request in server.asked if name.encode() in request]
        assert sorted(sent) == [requests[name].replace(b"########", b"%08d" % n) for n in range(3)]


def test_spread_connections_begin_at_different_places_of_the_round(loading: Loading) -> None:
    server = loading.answers(says(wire.encode_response(1, None, 1)))
    words = [f"{loading.template(name, wire.encode_request(1, name, {}))}*2" for name in ("one", "two")]
    loading.run(*words, options=("-s",), connections=4)
    first = [wire.Decoder(1000) for _ in range(4)]
    for decoder, requests in zip(first, server.asked_by, strict=True):
        decoder.feed(requests[0])
    assert sorted(next(decoder).method for decoder in first) == ["one", "one", "two", "two"]  # type: ignore[union-attr]


def test_a_paced_connection_asks_no_more_often_than_told(loading: Loading) -> None:
    loading.answers(says(wire.encode_response(1, None, 1)))
    said = loading.run(loading.template("ask", ASK), options=("-i", "10000"))
    assert 0 < said["count"] <= 11
