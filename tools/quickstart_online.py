"""The story of tools/quickstart --online: the same over the network, by install request and by code, over real TLS."""

from __future__ import annotations

import datetime
import ipaddress
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from quickstart import BIN, PLAY, Failed, Shop, check, run, socket_path, step

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


def vendor(port: int) -> None:
    step("The vendor makes its keys and profile, now with an address, and a TLS certificate for its server")
    url = f"https://{HOST}:{port}"
    run("licd-vendor", "init", "vendor", "--vendor", "acme", "--names", "kso.*", "--url", url)
    shutil.copytree(PLAY / "vendor" / "profile", PLAY / "vendor.d" / "acme")
    certificate()


def order(customer: str, shop: Shop) -> str:
    """The number of a new order."""
    words = [
        "order",
        "new",
        "--customer",
        customer,
        "--license",
        "kso.scan,seats=3",
        "--license",
        "kso.report,uncounted",
    ]
    if shop.ask("fingerprint")["weak"]:
        print("   This machine shows fewer than two strong factors of different kinds: the order has to allow that.")
        words.append("--allow-weak")
    found = re.match(r"order (\d+):", run(*VENDOR, *words))
    if found is None:
        raise Failed("order new did not say the order's number")
    return found[1]


def by_install_request(shop: Shop) -> None:
    number = order("shop-17", shop)
    run(*VENDOR, "install-request", "new", number, "-o", "install.licd")
    step("The installer has the install request as a file; one command does the rest")
    shop.cli("activate", "--install-request", "install.licd", "--ca", "tls.pem")
    shop.cli("licenses")
    check(shop.ask("fingerprint")["vendors"][0]["standing"] == "same", "the licenses are bound to this device")
    step("The same command again changes nothing: whatever interrupts it, it can be run again")
    shop.cli("activate", "--install-request", "install.licd", "--ca", "tls.pem")


def by_code(first: Shop) -> Shop:
    step("Another customer gets a code, 16 + 6, to be read out on the telephone")
    shop = Shop(first.socket.with_name("other.sock"), "other")
    shop.start()
    number = order("shop-18", shop)
    printed = run(*VENDOR, "code", "new", number)
    found = re.search(r"\b((?:[A-Z0-9]{4}-){3}[A-Z0-9]{4}) ([A-Z0-9]{3}-[A-Z0-9]{3})\b", printed)
    if found is None:
        raise Failed("code new printed no code")
    code, control = found.groups()
    step("On another device the installer mistypes one symbol: nothing is sent, and what was meant is proposed")
    wrong = ("2" if code[0] != "2" else "3") + code[1:]
    error = shop.ask("activate", wrong, control, "--ca", "tls.pem", status=2)["error"]
    check(f"{code} {control}" in error["data"]["next"], "the right code is proposed, and not taken by itself")
    step("With the right code, in any case and with any blanks, the licenses come")
    shop.cli("activate", code.replace("-", " ").lower(), control.lower(), "--ca", "tls.pem")
    check(len(shop.ask("licenses")["licenses"]) == 2, "both licenses are active")
    return shop


def main() -> int:
    if PLAY.exists():
        shutil.rmtree(PLAY)
    (PLAY / "vendor.d").mkdir(parents=True)
    server = Server(free_port())
    shop = Shop(socket_path(), "state")
    other: Shop | None = None
    (PLAY / "licd.conf").write_text(
        f"[licd]\nstate = {PLAY / 'state'}\nsocket = {shop.socket}\nvendors = {PLAY / 'vendor.d'}\n"
    )
    try:
        vendor(server.port)
        server.start()
        step("On the device licd starts; it has no network itself: licd-cli asks the vendor's server for it")
        shop.start()
        by_install_request(shop)
        other = by_code(shop)
        step("What the vendor has on record, and what its server wrote of all this")
        issued = run(*VENDOR, "history")
        check(len(re.findall("license file|license-file", issued)) == 2, "two license files were issued, no more")
        print("     " + (PLAY / "access.log").read_text().rstrip().replace("\n", "\n     "))
        step("A tidy end: SIGTERM")
        check(server.end() == 0, "licd-vendor serve stopped with status 0")
        check(shop.end(signal.SIGTERM) == 0 and other.end(signal.SIGTERM) == 0, "both licd stopped with status 0")
    except Failed as failed:
        print(f"\nFAILED: {failed}", file=sys.stderr)
        return 1
    finally:
        for each in (server, shop, other):
            if each is not None:
                each.kill()
    print(f"\nAll of it worked. The folder {Path(PLAY)} is yours to play with.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
