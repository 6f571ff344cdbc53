"""A TLS server on loopback that answers as it is told, and the certificates it shows.

    with Server(answer(200, b"...", DOCUMENT)) as server:
        posting.post(f"{server.url}/license-file", ..., ca_file=server.ca_file)

Each connection is for the next script; after the last one comes silence.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.once import share
from tests.support.pki import usage

needs_tinyproxy = pytest.mark.skipif(shutil.which("tinyproxy") is None, reason="needs tinyproxy, a real proxy")


class Request(NamedTuple):
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


Script = Callable[[socket.socket, Request], None]


class Web:
    """An authority for web servers, and a certificate of its own for 127.0.0.1 and localhost, but for the changes."""

    def __init__(self, *, begins_days: float = -1, days: float = 30, host: str | None = None) -> None:
        now = datetime.now(UTC)
        self._ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"web CA {time.monotonic_ns()}")])
        ca = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._ca_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=3650))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(True, 0), critical=True)
            .add_extension(usage("key_cert_sign"), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._ca_key.public_key()), critical=False)
            .sign(self._ca_key, SHA256())
        )
        here: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
        begins = now + timedelta(days=begins_days)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host or "localhost")]))
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)] if host else here), critical=False)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key()), critical=False
            )
            .sign(self._ca_key, SHA256())
        )
        folder = Path(tempfile.mkdtemp(dir=share()))  # gone with the test run
        self.ca_file, self.certificate, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        self.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


@cache
def web() -> Web:
    """The usual one; a certificate with changes is made by the test that needs it."""
    return Web()


class Server:
    """Listens on 127.0.0.1 (or as told) at a free port.

    `asked` holds every request that arrived; tls=False speaks plain HTTP, tls=None leaves all bytes to the scripts.
    """

    def __init__(
        self, *scripts: Script, tls: Web | bool | None = True, address: str = "127.0.0.1", always: bool = False
    ) -> None:
        self.web = tls if isinstance(tls, Web) else web()
        self.asked: list[Request] = []
        self.connections = 0
        self._tls = tls
        self._always = always
        self._scripts: Iterator[Script] = iter(scripts)
        self._last = scripts[-1] if scripts else silence
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        self.streams: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> str:
        return str(self.web.ca_file)

    def play(self, *scripts: Script) -> None:
        """These are next: for scripts that name the server's own port."""
        self._scripts = iter(scripts)

    def _run(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.streams.append(stream)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        stream = raw
        with contextlib.suppress(OSError, ValueError):  # the client hung up, or did not like the certificate
            if self._tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.web.certificate, self.web.key)
                stream = context.wrap_socket(raw, server_side=True)
                self.streams.append(stream)
            request = Request("", "", {}, b"") if self._tls is None else _read(stream)
            self.asked.append(request)
            next(self._scripts, self._last if self._always else silence)(stream, request)

    def close(self) -> None:
        self._listener.close()
        for stream in self.streams:
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(stream: socket.socket) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        more = stream.recv(65536)
        if not more:
            raise ValueError("no request")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += stream.recv(65536)
    return Request(method, target, headers, body)


# --- scripts -------------------------------------------------------------------------------------------------


def head(status: int, type: str | None = None, **headers: Any) -> bytes:
    lines = [f"HTTP/1.1 {status} so it is", *([f"Content-Type: {type}"] if type else [])]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def answer(status: int, body: bytes = b"", type: str | None = None, **headers: Any) -> Script:
    """A whole answer. Content_Length=... and the like are headers."""
    return say(head(status, type, **{"Content_Length": len(body), **headers}) + body)


def say(data: bytes) -> Script:
    """These bytes, and the end of the connection, with TLS's own goodbye if there is TLS."""

    def script(stream: socket.socket, request: Request) -> None:
        stream.sendall(data)
        if isinstance(stream, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                stream.unwrap()
        stream.close()

    return script


def cut(data: bytes) -> Script:
    """These bytes, and the end of the connection as if a cable was pulled out of a switch that still answers."""

    def script(stream: socket.socket, request: Request) -> None:
        stream.sendall(data)
        socket.socket.shutdown(stream, socket.SHUT_RDWR)

    return script


def drip(data: bytes, pause_s: float) -> Script:
    """Byte after byte, so that something comes all the time and nothing gets ready."""

    def script(stream: socket.socket, request: Request) -> None:
        for byte in data:
            stream.sendall(bytes([byte]))
            time.sleep(pause_s)

    return script


def silence(stream: socket.socket, request: Request) -> None:
    with contextlib.suppress(OSError):
        select.select([stream], [], [], 30)


# --- a proxy -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def tinyproxy(folder: Path, *settings: str) -> Iterator[int]:
    """The port of Debian's tinyproxy, running on loopback; its log is FOLDER/proxy.log."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    config = folder / "proxy.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", f'LogFile "{folder}/proxy.log"', "LogLevel Connect", *settings]
    config.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(["tinyproxy", "-d", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < until, "tinyproxy did not start"
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)
