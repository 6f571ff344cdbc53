"""The story that tools/quickstart plays, with the real commands. Each step is checked; the first that fails ends it."""

from __future__ import annotations

import datetime
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
PLAY = CHECKOUT / "play"
BIN = CHECKOUT / ".venv" / "bin"
MAX_SOCKET_PATH = 100  # sun_path holds 108 bytes


class Failed(Exception):
    """A step did not do what it says."""


def step(text: str) -> None:
    print(f"\n-- {text}", flush=True)


def check(true: bool, what: str) -> None:
    if not true:
        raise Failed(what)
    print(f"   ok: {what}", flush=True)


def run(*command: str | Path, status: int = 0) -> str:
    """The command's output; it must end with this status."""
    name, *arguments = map(str, command)
    print("   $", shlex.join([name, *arguments]), flush=True)
    done = subprocess.run([BIN / name, *arguments], cwd=PLAY, capture_output=True, text=True, check=False)
    for line in (done.stdout + done.stderr).splitlines():
        print("    ", line)
    if done.returncode != status:
        raise Failed(f"{name} ended with status {done.returncode} instead of {status}")
    return done.stdout


class Shop:
    """A device: the daemon on its folder, and licd-cli talking to it."""

    def __init__(self, socket: Path, state: str) -> None:
        self.socket = socket
        self.state = state
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["licd", "--config", "licd.conf", "--state", self.state, "--socket", str(self.socket)]
        print("   $", shlex.join(arguments), "&", flush=True)
        self.process = subprocess.Popen([BIN / "licd", *arguments[1:]], cwd=PLAY)
        until = time.monotonic() + 15
        while subprocess.run(
            [BIN / "licd-cli", "--socket", self.socket, "hello"], capture_output=True, check=False
        ).returncode:
            if self.process.poll() is not None or time.monotonic() > until:
                raise Failed("licd did not start")
            time.sleep(0.05)

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(15)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def cli(self, *arguments: str, status: int = 0) -> str:
        return run("licd-cli", "--socket", self.socket, *arguments, status=status)

    def ask(self, *arguments: str, status: int = 0) -> Any:
        """The same with --json, parsed."""
        return json.loads(self.cli("--json", *arguments, status=status))


def socket_path() -> Path:
    path = PLAY / "licd.sock"
    if len(str(path)) <= MAX_SOCKET_PATH:
        return path
    return Path(tempfile.mkdtemp(prefix="licd-play-")) / "licd.sock"


def vendor() -> None:
    """The vendor's side, before it knows the device."""
    step("The vendor makes its keys: a root certificate, a signing certificate, and a profile for devices")
    run("licd-vendor", "init", "vendor", "--vendor", "acme", "--names", "kso.*")
    (PLAY / "vendor.d").mkdir()
    shutil.copytree(PLAY / "vendor" / "profile", PLAY / "vendor.d" / "acme")
    check(
        (PLAY / "vendor.d" / "acme" / "vendor.conf").exists(), "the profile is installed on the device (vendor.d/acme)"
    )

    step("A customer orders three licenses; the vendor keeps the order and asks for the device")
    today = datetime.datetime.now(datetime.UTC).date()
    ordered = (
        f"kso.scan,seats=3,versions=5.*,expires={today + datetime.timedelta(days=365)}",
        "kso.report,uncounted",
        f"kso.scales,expires={today - datetime.timedelta(days=30)}",
    )
    licenses = [word for each in ordered for word in ("--license", each)]
    run("licd-vendor", "--dir", "vendor", "order", "new", "--customer", "shop-17", *licenses)
    order = str(json.loads(run("licd-vendor", "--dir", "vendor", "order", "list", "--json"))["orders"][0]["order"])
    run("licd-vendor", "--dir", "vendor", "install-request", "new", order, "-o", "install.licd")


def device(shop: Shop) -> None:
    """The installer's side: the install request goes in, the license request comes out."""
    step("The installer takes the install request in, looks at what this device would tell, and exports it")
    shop.cli("install-request", "import", "install.licd")
    shop.cli("fingerprint")
    shop.cli("license-request", "show")
    shop.cli("license-request", "export", "-o", "request.licd")
    again = shop.ask("license-request", "export", "-o", "request-again.licd")
    check(again["new"] is False, "asked again, licd gives out the same license request")
    check((PLAY / "request.licd").read_bytes() == (PLAY / "request-again.licd").read_bytes(), "the same, byte for byte")


def issue(shop: Shop) -> None:
    """Back at the vendor: the license file for this device."""
    step("The vendor answers the license request with a license file for this device; every line has its own signature")
    issue = ["licd-vendor", "--dir", "vendor", "issue", "request.licd", "-o", "licenses.licd"]
    if shop.ask("fingerprint")["weak"]:
        print("   This machine shows fewer than two strong factors of different kinds (a virtual machine or a")
        print(
            "   container, or licd may not read them): the vendor refuses that unless it is told to go on, with --weak."
        )
        run(*issue, status=1)
        check(not (PLAY / "licenses.licd").exists(), "refused as WEAK_FINGERPRINT, and nothing was issued")
        issue.append("--weak")
    run(*issue)
    issued = (PLAY / "licenses.licd").read_bytes()
    run(*issue)
    check(
        (PLAY / "licenses.licd").read_bytes() == issued, "the same request again gets the same file, not a second one"
    )
    run("licd-vendor", "show", "licenses.licd", "--profile", "vendor.d/acme")
    run("licd-vendor", "--dir", "vendor", "history")


def elsewhere(first: Shop) -> None:
    """Another device gets the same files."""
    step("The same license file on another device (one with another device key) is refused by name")
    other = Shop(first.socket.with_name("other.sock"), "other")
    try:
        other.start()
        refused = other.ask("license", "import", "licenses.licd", status=1)
        check(refused["error"]["name"] == "WRONG_DEVICE", "the other device is told WRONG_DEVICE")
        check(other.ask("licenses")["licenses"] == [], "and has no license")
        check(other.end(signal.SIGTERM) == 0, "it stopped with status 0")
    finally:
        other.kill()


def seats(shop: Shop) -> dict[str, str]:
    """Plays the Manager's part; the leases held at the end, by holder."""
    step("Three programs each acquire a seat of the three; the fourth is refused by name")
    leases = {}
    for holder in ("pos-1", "pos-2", "pos-3"):
        leases[holder] = shop.ask("acquire", "kso.scan", holder, "--version", "5.1", "--ttl", "600")["lease"]
    check(len(set(leases.values())) == 3, "three leases")
    refused = shop.ask("acquire", "kso.scan", "pos-4", "--version", "5.1", status=1)
    check(refused["error"]["name"] == "NO_SEAT_FREE", "the fourth is told NO_SEAT_FREE")

    step("A confirm keeps a seat, a release frees one, and the freed seat is acquired")
    check(shop.ask("confirm", leases["pos-1"])["lease"] == leases["pos-1"], "confirmed")
    check(shop.ask("release", leases.pop("pos-2"))["released"] is True, "released")
    leases["pos-4"] = shop.ask("acquire", "kso.scan", "pos-4", "--version", "5.1", "--ttl", "600")["lease"]

    step("The uncounted license has no limit; the expired one and an uncovered version are refused by name")
    shop.ask("acquire", "kso.report", "pos-1")
    expired = shop.ask("acquire", "kso.scales", "pos-1", status=1)
    check(expired["error"]["name"] == "LICENSE_EXPIRED", "the expired license is told LICENSE_EXPIRED")
    uncovered = shop.ask("acquire", "kso.scan", "pos-5", "--version", "6.0", status=1)
    check(uncovered["error"]["name"] == "VERSION_NOT_COVERED", "version 6.0 is told VERSION_NOT_COVERED")
    return leases


def main() -> int:
    if PLAY.exists():
        shutil.rmtree(PLAY)
    PLAY.mkdir()
    shop = Shop(socket_path(), "state")
    (PLAY / "licd.conf").write_text(
        f"[licd]\nstate = {PLAY / 'state'}\nsocket = {shop.socket}\nvendors = {PLAY / 'vendor.d'}\n"
    )
    try:
        vendor()
        step("On the device licd starts, on a folder of its own, and makes its device key")
        shop.start()
        device(shop)
        issue(shop)
        step("The installer imports the license file: the licenses are active")
        shop.cli("license", "import", "licenses.licd")
        shop.cli("licenses")
        standing = shop.ask("fingerprint")["vendors"][0]["standing"]
        check(standing == "same", "the file is bound to this device, and this is the one")
        shop.cli("fingerprint")
        elsewhere(shop)
        leases = seats(shop)

        step("The power fails: kill -9. After the restart the same leases are there, with the same ids")
        shop.end(signal.SIGKILL)
        shop.start()
        held = {row["holder"]: row["lease"] for row in shop.ask("leases", "--license", "kso.scan")["leases"]}
        check(held == leases, "nothing acknowledged was lost, nothing else was kept")
        for lease in held.values():
            shop.ask("release", lease)

        step("A tidy end: SIGTERM")
        check(shop.end(signal.SIGTERM) == 0, "licd stopped with status 0")
    except Failed as failed:
        print(f"\nFAILED: {failed}", file=sys.stderr)
        return 1
    finally:
        shop.kill()
    print(f"""
All of it worked. The folder {PLAY} is yours to play with. Two commands go on from here, in two terminals:

    .venv/bin/licd --config play/licd.conf
    .venv/bin/licd-cli --socket {shop.socket} status
""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
