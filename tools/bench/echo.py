"""A bare echo server: what Python's selectors and the kernel allow. It prints a line once it listens.

python echo.py SOCKET
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys

READ_BYTES = 64 * 1024


def main() -> None:
    selector = selectors.DefaultSelector()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(1024)
    selector.register(listener, selectors.EVENT_READ)
    print("listening", flush=True)
    while True:
        for key, _ in selector.select():
            stream = key.fileobj
            assert isinstance(stream, socket.socket)
            if stream is listener:
                stream, _ = listener.accept()
                selector.register(stream, selectors.EVENT_READ)
                continue
            data = stream.recv(READ_BYTES)
            if data:
                stream.send(data)
            else:
                selector.unregister(stream)
                stream.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
