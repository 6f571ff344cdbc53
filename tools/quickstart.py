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
    """The daemon on its folder, and licd-cli talking to it."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        print("   $ licd --config licd.conf &", flush=True)
        self.process = subprocess.Popen([BIN / "licd", "--config", "licd.conf"], cwd=PLAY)
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
    step("The vendor makes its keys: a root certificate, a signing certificate, and a profile for devices")
    run("licd-vendor", "init", "vendor", "--vendor", "acme", "--names", "kso.*")
    (PLAY / "vendor.d").mkdir()
    shutil.copytree(PLAY / "vendor" / "profile", PLAY / "vendor.d" / "acme")
    check(
        (PLAY / "vendor.d" / "acme" / "vendor.conf").exists(), "the profile is installed on the device (vendor.d/acme)"
    )

    step("The vendor describes three licenses and signs a license file; every line has its own signature")
    today = datetime.datetime.now(datetime.UTC).date()
    description = {
        "seq": 1,
        "licenses": [
            {"name": "kso.scan", "title": "Scanner", "license": "counted", "seats": 3, "versions": "5.*",
             "expires": str(today + datetime.timedelta(days=365))},
            {"name": "kso.report", "title": "Reports", "license": "uncounted"},
            {"name": "kso.scales", "title": "Scales", "license": "counted", "seats": 1,
             "expires": str(today - datetime.timedelta(days=30))},
        ],
    }  # fmt: skip
    (PLAY / "licenses.json").write_text(json.dumps(description, indent=2) + "\n")
    run("licd-vendor", "sign", "vendor", "licenses.json", "-o", "licenses.licd")
    run("licd-vendor", "show", "licenses.licd", "--profile", "vendor.d/acme")


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
    shop = Shop(socket_path())
    try:
        vendor()
        step("licd starts on a folder of its own")
        (PLAY / "licd.conf").write_text(
            f"[licd]\nstate = {PLAY / 'state'}\nsocket = {shop.socket}\nvendors = {PLAY / 'vendor.d'}\n"
        )
        shop.start()
        step("The installer imports the license file")
        shop.cli("license", "import", "licenses.licd")
        shop.cli("licenses")
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
        if shop.process is not None and shop.process.poll() is None:
            shop.process.kill()
            shop.process.wait()
    print(f"""
All of it worked. The folder {PLAY} is yours to play with. Two commands go on from here, in two terminals:

    .venv/bin/licd --config play/licd.conf
    .venv/bin/licd-cli --socket {shop.socket} status
""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
