"""A machine with the package installed, as a shop has it: a vendor's profile, and a license file in force.

Clients of the tests reach the socket from outside, through /proc: for licd they are root, with the pid 0.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from licd.rpc.client import Client, ClientError
from tests.support.deb import packages
from tests.support.device import vendor
from tests.support.nspawn import Machine

SOCKET = "/run/licd/licd.sock"
STATE = "/var/lib/licd"
SEATS = 5000


class Shop(Machine):
    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.install(packages().device)
        except BaseException:
            self.end()
            raise
        return self

    def install(self, package: Path) -> str:
        """What dpkg said."""
        self.put(package, "/root/licd.deb")
        # Without what other packages do about it: man-db would read all manual pages of the machine.
        return self.run("dpkg", "--no-triggers", "--install", "/root/licd.deb")

    def license(self, seq: int = 1, seats: int = SEATS) -> None:
        """The vendor's profile is there, and a license of so many seats in force."""
        if not self.path("/etc/licd/vendor.d/acme").exists():
            vendor().write_profile(self.path("/etc/licd/vendor.d"))
        self.reload()
        self.call("license.import", document=vendor().license_file(seq, [{"name": "kso.scan", "seats": seats}]))

    def client(self, timeout_s: float = 20.0) -> Client:
        return Client(self.path(SOCKET), timeout_s=timeout_s)

    def call(self, method: str, **params: Any) -> Any:
        with self.client() as client:
            return client.call(method, **params)

    def reload(self) -> None:
        """licd runs, and has taken in or refused what its files say."""
        self.systemctl("start", "licd.service")
        assert self.systemctl("reload", "licd.service") == ""
        # That does not wait for it. But the turn that answers this sees the signal, and the reload comes right after.
        self.call("server.status")

    @property
    def pid(self) -> int:
        """Of licd, inside; 0 if it does not run."""
        return int(self.show("licd.service", "MainPID")["MainPID"])

    @property
    def status(self) -> str:
        """The line of `systemctl status`."""
        return self.show("licd.service", "StatusText")["StatusText"]

    def leases(self) -> dict[str, str]:
        """Of all holders: the id of the lease."""
        found: dict[str, str] = {}
        after: int | None = None
        while True:
            page = self.call("seat.list", **({} if after is None else {"after": after}))
            found.update((row["holder"], row["lease"]) for row in page["leases"])
            after = page["next"]
            if after is None:
                return found

    def drop_in(self, unit: str, text: str) -> None:
        """These lines come last in the unit; "" takes them out again."""
        path = self.path(f"/run/systemd/system/{unit}.d/test.conf")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.systemctl("daemon-reload")

    def wait_until(self, true: Callable[[], object], timeout_s: float = 30.0) -> None:
        until = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < until, self.run("journalctl", "--no-pager", "--lines=30")
            time.sleep(0.05)


class Load:
    """Tills at work: each takes seats for one holder after another, and connects again when a connection ends.

    with Load(shop) as load: ...        afterwards load.granted is what was answered, load.errors all that was no answer
    """

    TILLS = 8

    def __init__(self, shop: Shop) -> None:
        self.granted: dict[str, str] = {}  # by holder, the lease
        self.errors: list[str] = []
        self._shop = shop
        self._over = threading.Event()
        self._tills = [threading.Thread(target=self._work, args=(till,)) for till in range(self.TILLS)]

    def __enter__(self) -> Self:
        for till in self._tills:
            till.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for till in self._tills:
            till.join()

    def goes_on(self, answers: int = 20) -> None:
        """So many more seats were granted."""
        wanted = len(self.granted) + answers
        self._shop.wait_until(lambda: len(self.granted) >= wanted or self.errors)
        assert not self.errors, self.errors

    def _work(self, till: int) -> None:
        """One till. A holder that no other Load has had: the leases of an earlier one may still be there."""
        with self._shop.client() as licd:
            while not self._over.is_set():
                holder = f"till-{till}-{time.monotonic_ns()}"
                try:
                    answer = licd.call("seat.acquire", license="kso.scan", holder=holder, ttl=600)
                except ClientError as error:
                    self.errors.append(repr(error))
                    return
                self.granted[holder] = answer["lease"]
                time.sleep(0.02)
