"""A small MessagePack-RPC peer that answers as it is told: for what the real licd never does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, Self

from licd.rpc import wire

Script = Callable[[socket.socket, wire.Request], None]


class Peer:
    """Listens on `path`. Each request is handed to the next script; after the last one comes silence.

    `asked` holds (number of the connection, method, params) of every request that arrived.
    """

    def __init__(self, path: str, *scripts: Script) -> None:
        self.asked: list[tuple[int, str, Any]] = []
        self._scripts = iter(scripts)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._streams: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        number = 0
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            self._streams.append(stream)
            threading.Thread(target=self._serve, args=(stream, number), daemon=True).start()

    def _serve(self, stream: socket.socket, number: int) -> None:
        decoder = wire.Decoder(2 << 20)
        try:
            while data := stream.recv(65536):
                decoder.feed(data)
                for message in decoder:
                    assert isinstance(message, wire.Request)
                    self.asked.append((number, message.method, message.params))
                    next(self._scripts, silence)(stream, message)
        except OSError:
            pass

    def close(self) -> None:
        self._listener.close()
        for stream in self._streams:
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answer(result: Any) -> Script:
    return lambda stream, request: stream.sendall(wire.encode_response(request.msgid, None, result))


def refuse(error: Any) -> Script:
    return lambda stream, request: stream.sendall(wire.encode_response(request.msgid, error, None))


def say(data: bytes) -> Script:
    return lambda stream, request: stream.sendall(data)


def hang_up(stream: socket.socket, request: wire.Request) -> None:
    stream.shutdown(socket.SHUT_RDWR)


def silence(stream: socket.socket, request: wire.Request) -> None:
    pass
