"""The embedded servers: waitress for plain HTTP, cheroot where it is to speak TLS itself.

waitress takes slow clients best, for it reads a request whole before a thread is busy with it; but it has no TLS, and
a socket wrapped with ssl given to it stalls, because its loop does not know of the handshake. cheroot is the other WSGI
server in pure Python that is kept well, with TLS of its own. gunicorn has TLS too, but is a family of processes with
signals of its own; it is for who needs more than one, and then there is a reverse proxy anyway.
"""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import waitress
from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter
from flask import Flask

from licd import __version__
from licd_vendor.keys import Failure
from licd_vendor.serve import MAX_BODY_BYTES

THREADS = 8  # signing takes milliseconds; with SQLite one writes at a time anyway
TLS_THREADS = 32  # in cheroot also a slow client has one
IDLE_S = 10  # a client that sends nothing
MAX_HEAD_BYTES = 16 * 1024
READ_BYTES = MAX_BODY_BYTES + 64 * 1024  # what is a little over is told so by the service, in its own words


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    app: Flask, host: str, port: int, tls: tuple[Path, Path] | None, ready: Callable[[int], None], *, proxied: bool
) -> None:
    """Serves until SIGTERM or SIGINT; what is being answered then is answered.

    tls: certificate chain and key
    ready: is called with the port once it listens
    Errors: Failure
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        if tls is None:
            _plain(app, host, port, ready, proxied=proxied)
        else:
            _secured(app, host, port, tls, ready)
    except OSError as error:  # of the listening socket; what concerns one client stays with that
        reason = f"{host}:{port} cannot be listened on: {error.strerror or error}."
        raise Failure(reason, "Give another address with --listen.") from None


def _stop(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)


def _plain(app: Flask, host: str, port: int, ready: Callable[[int], None], *, proxied: bool) -> None:
    server: Any = waitress.create_server(
        app,
        host=host,
        port=port,
        threads=THREADS,
        channel_timeout=IDLE_S,
        max_request_header_size=MAX_HEAD_BYTES,
        max_request_body_size=READ_BYTES,
        clear_untrusted_proxy_headers=not proxied,
        ident=None,
    )
    ports = {each[1] for each in getattr(server, "effective_listen", [(host, getattr(server, "effective_port", port))])}
    ready(ports.pop())
    try:
        server.run()  # ends on SystemExit, with its threads
    finally:
        server.close()


class _LateHandshake(BuiltinSSLAdapter):
    """cheroot shakes hands where it accepts: one client that says nothing would keep all others waiting.

    So it is left to the first read, which a thread of the pool does, within the server's timeout.
    """

    def wrap(self, sock: Any) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        wrapped = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return wrapped, {"wsgi.url_scheme": "https", "HTTPS": "on"}


def _secured(app: Flask, host: str, port: int, tls: tuple[Path, Path], ready: Callable[[int], None]) -> None:
    certificate, key = tls
    server = wsgi.Server((host, port), app, numthreads=TLS_THREADS, server_name="licd-vendor", timeout=IDLE_S)
    server.max_request_header_size = MAX_HEAD_BYTES
    server.max_request_body_size = READ_BYTES
    server.error_log = _only_faults  # type: ignore[method-assign]  # cheroot's manual: "override this"
    try:
        server.ssl_adapter = _LateHandshake(str(certificate), str(key))
    except (OSError, ssl.SSLError) as error:
        reason = f"The TLS certificate or key cannot be used: {error.strerror or error}."
        raise Failure(reason, "Give --tls-cert the chain and --tls-key its key, both as PEM.") from None
    server.prepare()
    ready(server.bind_addr[1])
    with contextlib.suppress(SystemExit, KeyboardInterrupt):
        server.serve()
    server.stop()


def _only_faults(msg: str = "", level: int = 20, traceback: bool = False) -> None:
    """Clients that hang up or speak no TLS are no news."""
    if level >= 40:
        print(f"licd-vendor {__version__}: {msg}", file=sys.stderr, flush=True)
