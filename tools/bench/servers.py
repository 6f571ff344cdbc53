"""The servers that are measured, each a process of its own on one core, with a Unix socket and files in a folder."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from machine import Cores

from licd.rpc.client import Client
from tests.support.daemon import Daemon

LICENSE = "kso.scan"
SEATS = 100_000
MAX_CONNECTIONS = 4096
START_S = 15.0
STOP_S = 20.0
VENDOR = Path(sys.executable).with_name("licd-vendor")
SCRIPT = Path(__file__).with_name("seat.lua")


class NoStart(Exception):
    """A server did not start; the message has what it said."""


def make_license(folder: Path, seats: int) -> None:
    """folder/profile and folder/licenses.licd: a vendor made by licd-vendor, and a license of so many seats, signed."""
    description = {"seq": 1, "licenses": [{"name": LICENSE, "seats": seats, "renewal": {"need": "none"}}]}
    order = folder / "order.json"
    order.write_text(json.dumps(description))
    made = folder / "vendor"
    for words in (
        ["init", str(made), "--vendor", "acme", "--names", "kso.*"],
        ["sign", str(made), str(order), "-o", str(folder / "licenses.licd")],
    ):
        done = subprocess.run([VENDOR, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoStart(f"licd-vendor {words[0]}: {done.stderr}")
    shutil.copytree(made / "profile", folder / "profile")


class Licd:
    """The real licd with a signed license in force. `settings` become licd.conf, `wrap` goes before its command."""

    def __init__(
        self, folder: Path, licenses: Path, where: Cores, *, wrap: Sequence[str] = (), **settings: object
    ) -> None:
        folder.mkdir()
        self.daemon = Daemon(
            folder,
            settings={"max_connections": MAX_CONNECTIONS, **settings},
            wrap=("taskset", "-c", str(where.server), *wrap),
        )
        shutil.copytree(licenses / "profile", self.daemon.vendors / "acme")
        self._document = (licenses / "licenses.licd").read_bytes()
        self.socket = self.daemon.socket

    @property
    def pid(self) -> int:
        return self.daemon.pid

    def call(self, method: str, **params: Any) -> Any:
        return self.daemon.call(method, **params)

    def client(self) -> Client:
        return self.daemon.client()

    def __enter__(self) -> Licd:
        try:
            self.daemon.start()
            self.call("license.import", document=self._document)
        except AssertionError as error:
            self.daemon.__exit__()
            raise NoStart(str(error)) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self.daemon.poll() is None:
            self.daemon.stop(STOP_S)
        self.daemon.__exit__()


class _Process:
    """A server that is one command, and is there once connect() works."""

    def __init__(self, folder: Path, command: Sequence[str], where: Cores) -> None:
        folder.mkdir()
        self.folder = folder
        self.socket = folder / "socket"
        self._command = ["taskset", "-c", str(where.server), *command]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        log = self.folder / "log"
        with log.open("wb") as said:
            self._process = subprocess.Popen(self._command, cwd=self.folder, stdout=said, stderr=said)
        until = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__()
                raise NoStart(f"{self._command[3]} did not start:\n{log.read_text()}")
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Echo(_Process):
    def __init__(self, folder: Path, where: Cores) -> None:
        program = Path(__file__).with_name("echo.py")
        super().__init__(folder, [sys.executable, str(program), str(folder / "socket")], where)


class Redis(_Process):
    """Debian's redis-server: an answer leaves only after what it tells is on the disk, as with licd."""

    def __init__(self, folder: Path, where: Cores) -> None:
        options = {
            "port": "0",
            "unixsocket": str(folder / "socket"),
            "maxclients": str(MAX_CONNECTIONS),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "dir": str(folder),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        super().__init__(folder, ["redis-server", *words], where)

    def ask(self, *words: str | bytes) -> bytes:
        """The reply's first line, or the string it holds."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self.socket))
            stream.sendall(command(*words))
            reply = b""
            while not reply.endswith(b"\r\n"):
                reply += stream.recv(65536)
        return reply.split(b"\r\n")[1] if reply.startswith(b"$") else reply[:-2]

    def load_script(self) -> str:
        """The digest by which EVALSHA calls seat.lua."""
        return self.ask("SCRIPT", "LOAD", SCRIPT.read_bytes()).decode()


def command(*words: str | bytes) -> bytes:
    """A Redis command, as its protocol has it."""
    parts = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def write_bytes(pid: int) -> int:
    """What this process has caused to be written to disks: proc(5), io."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes"):
            return int(line.split()[1])
    raise AssertionError("the kernel counts no I/O of processes")


def set_file_limit() -> None:
    """This process and those it starts may open as many files as the kernel lets them."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
