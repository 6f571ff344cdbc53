"""The vendor's server in the stories of tools/quickstart --online: licd-vendor serve on this host, over real TLS."""

from __future__ import annotations

import datetime
import ipaddress
import shlex
import signal
import socket
import subprocess
import time

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from quickstart import BIN, PLAY, Failed

HOST = "127.0.0.1"
VENDOR = ("licd-vendor", "--dir", "vendor")
START_S = 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def certificate() -> None:
    """tls.pem and tls.key for this host; the certificate is its own issuer, so it is also what --ca trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "licenses of acme, to play with")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .sign(key, SHA256())
    )
    (PLAY / "tls.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (PLAY / "tls.key").write_bytes(secret)


class Server:
    """licd-vendor serve."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        listen = f"{HOST}:{self.port}"
        words = [
            "serve",
            "--listen",
            listen,
            "--tls-cert",
            "tls.pem",
            "--tls-key",
            "tls.key",
            "--access-log",
            "access.log",
        ]
        print("   $", shlex.join([*VENDOR, *words]), "&", flush=True)
        self.process = subprocess.Popen([BIN / VENDOR[0], *VENDOR[1:], *words], cwd=PLAY)
        until = time.monotonic() + START_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, self.port)) == 0:
                    return
            if self.process.poll() is not None or time.monotonic() > until:
                raise Failed("licd-vendor serve did not start")
            time.sleep(0.05)

    def end(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
