"""The real licd process on a folder of its own, with a notify socket that hears what systemd would hear."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from licd.rpc.client import Client

START_S = 15.0


class Daemon:
    """licd --state FOLDER/state --vendors FOLDER/vendor.d, listening on FOLDER/licd.sock.

    `wrap` goes before the command (faketime, strace, unshare ...); `settings` become licd.conf.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: dict[str, object] | None = None,
        wrap: Sequence[str] = (),
        env: dict[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.vendors = folder / "vendor.d"
        self.vendors.mkdir(exist_ok=True)
        self.config = folder / "licd.conf"
        self.socket = folder / "licd.sock"
        self.wrap = tuple(wrap)
        self.env = env or {}
        self.user = user
        self.process: subprocess.Popen[str] | None = None
        self.notified: list[str] = []
        self.ready_s = 0.0  # from exec to READY=1
        # A path of its own: sun_path holds 108 bytes, and pytest's folders are long.
        self._notify_folder = tempfile.TemporaryDirectory(prefix="licd-")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(f"{self._notify_folder.name}/notify")
        os.chmod(self._notify_folder.name, 0o755)
        os.chmod(f"{self._notify_folder.name}/notify", 0o666)
        self.configure(**(settings or {}))

    def configure(self, **settings: object) -> None:
        values = {"vendors": self.vendors, "state": self.state, "socket": self.socket, **settings}
        self.config.write_text("[licd]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))

    def start(self, *flags: str, wait: bool = True) -> Daemon:
        """The process runs, and has said READY=1 unless wait is False."""
        env = {**os.environ, **self.env, "NOTIFY_SOCKET": f"{self._notify_folder.name}/notify"}
        self.log_path = self.folder / "licd.log"
        began = time.monotonic()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrap, sys.executable, "-m", "licd.daemon.main", "--config", str(self.config), *flags],
                env=env,
                stderr=log,
                text=True,
                user=self.user,
            )
        if wait:
            self.wait_for("READY=1")
            self.ready_s = time.monotonic() - began
        return self

    def hear(self, timeout_s: float) -> str | None:
        """The next message to systemd; None if none comes in time."""
        if not select.select([self._notify], [], [], timeout_s)[0]:
            return None
        message = self._notify.recv(4096).decode()
        self.notified.append(message)
        return message

    def wait_for(self, text: str, timeout_s: float = START_S) -> str:
        """The message to systemd that holds the text.

        Errors: AssertionError with licd's log, if it ends or stays silent
        """
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            message = self.hear(0.05)
            if message is not None and text in message:
                return message
            if message is None and self.process is not None and self.process.poll() is not None:
                break
        raise AssertionError(f"licd never said {text}; exit status {self.poll()}; its log:\n{self.log}")

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def pid(self) -> int:
        """Of licd itself: umockdev-run starts it as a child and only waits for it."""
        assert self.process is not None
        pid = self.process.pid
        if "umockdev-run" in self.wrap:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return int(children[0]) if children else pid
        return pid

    def poll(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def client(self, timeout_s: float = 10.0) -> Client:
        return Client(self.socket, timeout_s=timeout_s)

    def call(self, method: str, **params: Any) -> Any:
        with self.client() as client:
            return client.call(method, **params)

    def kill(self) -> None:
        """kill -9, as a power cut would leave it but for the page cache."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: it does nothing until resume(), and sees what happened meanwhile all at once."""
        os.kill(self.pid, signal.SIGSTOP)
        until = time.monotonic() + START_S
        # The signal takes its time: what comes next must not be seen before.
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "Tt":  # t: under strace
            assert time.monotonic() < until, "licd did not stop"
            time.sleep(0.001)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(timeout_s)

    def restart(self) -> Daemon:
        self.kill()
        return self.start()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._notify.close()
        self._notify_folder.cleanup()
