"""A vendor who keeps books, and devices that ask him: the real commands, requests signed by real keys.

books = Books(tmp_path)
order = books.order("--license", "kso.scan,seats=3")
asked = books.ask(order)
file = books.issue(Machine(1).request(asked))

web = books.web()
file = web.license_file(Machine(1).request(web.install_request(books.code(order, capsys))))
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from licd.device.fingerprint import ABSENT, FOUND, Reading, fingerprint, tag_key
from licd.license import code, document, install, trust
from licd.license.document import b64url_decode
from licd.license.install import InstallRequest, LicenseRequest
from licd.license.lines import LicenseFile
from licd.license.renewal import NO_USAGE, Answer, RenewalRequest, Usage, sign_renewal_request, verify_answer
from licd_vendor import issuing, keys, renewing, serve, store
from licd_vendor.issuing import Issued
from licd_vendor.load import Load
from licd_vendor.main import main

SOFTWARE = {"os": "debian", "os_version": "12", "architecture": "x86_64", "licd": "0.1.0"}
ISSUED = 1_790_000_000.0


class Machine:
    """A device: hardware of its own, and a key. `number` sets all its serials; cpu is the same for all."""

    def __init__(self, number: int, **changes: Sequence[str]) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.values: dict[str, Sequence[str]] = {
            "system_uuid": [f"uuid-{number}"],
            "board_serial": [f"board-{number}"],
            "product_serial": [f"product-{number}"],
            "chassis_serial": [],
            "disk": [f"disk-{number}"],
            "nic": [f"nic-{number}-a", f"nic-{number}-b"],
            "cpu": ["the usual one"],
            "machine_id": [f"os-{number}"],
        } | changes

    def changed(self, **changes: Sequence[str]) -> Machine:
        """The same with other hardware, under the same key."""
        other = Machine(0)
        other.key, other.values = self.key, self.values | changes
        return other

    def reimaged(self) -> Machine:
        """The same hardware with a new system, so with a new key."""
        other = self.changed(machine_id=["another system"])
        other.key = Ed25519PrivateKey.generate()
        return other

    def readings(self) -> tuple[Reading, ...]:
        return tuple(
            Reading(factor, FOUND if values else ABSENT, tuple(sorted(values)))
            for factor, values in self.values.items()
        )

    def request(
        self,
        asked: InstallRequest,
        *,
        key: Ed25519PrivateKey | None = None,
        unreadable: Iterable[str] = (),
        **changes: Any,
    ) -> LicenseRequest:
        """The license request of this machine, with the members that `changes` names changed."""
        tags: Mapping[str, Sequence[str]] = fingerprint(
            self.readings(), tag_key(asked.vendor, b64url_decode(asked.salt.encode())), asked.weights
        )
        members: dict[str, Any] = {
            "id": str(uuid4()),
            "vendor": asked.vendor,
            "install_request": asked.id,
            "issued": ISSUED,
            "fingerprint": {factor: each for factor, each in tags.items() if factor not in unreadable},
            "unreadable": [*unreadable],
            "software": SOFTWARE,
            "machine": {"kind": install.PHYSICAL, "name": None},
            "rehost": False,
        }
        return install.sign_license_request(key or self.key, **members | changes)

    def renewal(
        self,
        file: LicenseFile,
        *,
        key: Ed25519PrivateKey | None = None,
        unreadable: Iterable[str] = (),
        usage: Usage = NO_USAGE,
        **changes: Any,
    ) -> RenewalRequest:
        """The renewal request of this machine with this file in force, with these members changed."""
        assert file.device is not None
        tags: Mapping[str, Sequence[str]] = fingerprint(
            self.readings(), tag_key(file.vendor, b64url_decode(file.device.salt.encode())), file.device.weights
        )
        members: dict[str, Any] = {
            "id": str(uuid4()),
            "vendor": file.vendor,
            "issued": ISSUED,
            "fingerprint": {factor: each for factor, each in tags.items() if factor not in unreadable},
            "unreadable": [*unreadable],
            "file": file,
            "usage": usage,
        }
        return sign_renewal_request(key or self.key, **members | changes)


class Books:
    """The folder of a vendor with an order book, and what a person does there. Each method runs one command."""

    def __init__(self, folder: Path, *, database: str | None = None, secret: Sequence[str] = ()) -> None:
        self.folder = folder
        self.dir = folder / "acme"
        self.database: str | Path = database or self.dir / "vendor.db"
        self.options = ["--dir", str(self.dir), *(["--database", database] if database else [])]
        if not self.dir.exists():
            assert main(["init", str(self.dir), "--vendor", "acme", "--names", "kso.*", *secret]) == 0

    @property
    def profiles(self) -> dict[str, trust.VendorProfile]:
        return {"acme": trust.load_profile(self.dir / "profile")}

    def run(self, *arguments: str | Path | int) -> int:
        return main([*self.options, *map(str, arguments)])

    def json(self, capsys: pytest.CaptureFixture[str], *arguments: str | int) -> Any:
        capsys.readouterr()
        assert self.run(*arguments, "--json") == 0
        return json.loads(capsys.readouterr().out)

    def order(self, *options: str | int, customer: str = "c-1") -> int:
        """The number of a new order; with one plain license where none is named."""
        named = any(str(each) == "--license" or str(each).endswith(".json") for each in options)
        before = self.orders()
        licenses = () if named else ("--license", "kso.scan,seats=3")
        assert self.run("order", "new", "--customer", customer, *options, *licenses) == 0
        (number,) = set(self.orders()) - set(before)
        return number

    def orders(self) -> list[int]:
        if not (self.dir / "vendor.db").exists():
            return []
        with sqlite3.connect(self.dir / "vendor.db") as connection:
            return [row[0] for row in connection.execute("SELECT id FROM orders")]

    def ask(self, order: int, *options: str | int) -> InstallRequest:
        path = self.folder / f"{uuid4()}.licd"
        assert self.run("install-request", "new", order, "-o", path, *options) == 0
        return install.verify_install_request(path.read_bytes(), self.profiles, trusted_now=None)

    def issue_to(self, path: Path, request: LicenseRequest | bytes, *options: str | int) -> int:
        """The exit status of issue; the file is at `path` if it is 0."""
        sent = self.folder / f"{uuid4()}.request"
        sent.write_bytes(request if isinstance(request, bytes) else request.text)
        return self.run("issue", sent, "-o", path, *options)

    def issue(self, request: LicenseRequest | bytes, *options: str | int) -> LicenseFile:
        path = self.folder / f"{uuid4()}.licd"
        assert self.issue_to(path, request, *options) == 0
        return self.verified(path)

    def issue_at(self, now: float, request: LicenseRequest, *, rehost: int | None = None) -> Issued:
        """As `issue`, at another time: without the command line, which has only the machine's clock."""
        profile, key = self.profiles["acme"], keys.read_signer(self.dir, None, lambda _: None)
        with store.transaction(self.dir / "vendor.db", "acme") as session:
            issued = issuing.issue(session, profile, key, request, rehost=rehost, weak=False, many=False, now=now)
            assert issued.issue.document  # read before the session ends
            session.expunge_all()
        return issued

    def renew_at(
        self, now: float, request: RenewalRequest, *, rehost: int | None = None, load: Load | None = None
    ) -> renewing.Answer:
        """What a renewal request is answered with at this time."""
        return self.outcome_at(now, request, rehost=rehost, load=load).answer()

    def outcome_at(
        self, now: float, request: RenewalRequest, *, rehost: int | None = None, load: Load | None = None
    ) -> renewing.Outcome:
        profile, key = self.profiles["acme"], keys.read_signer(self.dir, None, lambda _: None)
        with store.transaction(self.dir / "vendor.db", "acme") as session:
            return renewing.renew(session, profile, key, request, now=now, rehost=rehost, load=load)

    def file_at(self, now: float, request: LicenseRequest, *, rehost: int | None = None) -> LicenseFile:
        (only,) = document.parse(self.issue_at(now, request, rehost=rehost).issue.document)
        return document.run(trust.verify(only, self.profiles, trusted_now=now, new=True))

    def renew(self, request: RenewalRequest, *options: str | int) -> bytes:
        """The answer by file."""
        sent, path = self.folder / f"{uuid4()}.request", self.folder / f"{uuid4()}.licd"
        sent.write_bytes(request.text)
        assert self.run("renew", sent, "-o", path, *options) == 0
        return path.read_bytes()

    def answer(self, data: bytes) -> Answer:
        """An answer that is no license file."""
        (only,) = document.parse(data)
        return verify_answer(only, self.profiles, trusted_now=None, new=True)

    def verified(self, path: Path) -> LicenseFile:
        return self.verify(path.read_bytes())

    def verify(self, data: bytes) -> LicenseFile:
        (only,) = document.parse(data)
        return document.run(trust.verify(only, self.profiles, trusted_now=None, new=True))

    def code(self, order: int, capsys: pytest.CaptureFixture[str], *options: str | int) -> str:
        """A new code, as a device sends it."""
        capsys.readouterr()
        assert self.run("code", "new", order, *options) == 0
        return code.read(capsys.readouterr().out)

    def web(self, *, behind_proxy: bool = False) -> Web:
        """The vendor's service, without a server around it."""
        self.log: list[str] = []
        key = keys.read_signer(self.dir, None, lambda _: None)
        app = serve.create_app(self.dir, self.database, key, behind_proxy=behind_proxy, access_log=self.log.append)
        return Web(self, app.test_client())

    def count(self, table: str) -> int:
        with sqlite3.connect(self.dir / "vendor.db") as connection:
            number: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return number

    def seqs(self, device: int = 1) -> list[int]:
        """The numbers of all files of a device."""
        with sqlite3.connect(self.dir / "vendor.db") as connection:
            rows = connection.execute("SELECT seq FROM issues WHERE device_id = ? ORDER BY seq", (device,))
            return [row[0] for row in rows]

    def dump(self) -> list[str]:
        """All that is in the store."""
        with sqlite3.connect(self.dir / "vendor.db") as connection:
            return list(connection.iterdump())


class Web:
    """A device at the vendor's service. What the service refuses is a Problem."""

    def __init__(self, books: Books, client: FlaskClient) -> None:
        self.books = books
        self.client = client

    def post(self, path: str, body: bytes | str, media_type: str | None = None, **more: Any) -> TestResponse:
        kind = {
            "/install-request": serve.CODE,
            "/license-file": serve.LICENSE_REQUEST,
            "/renewal": serve.RENEWAL_REQUEST,
        }.get(path)
        return self.client.post(path, data=body, content_type=media_type or kind, **more)

    def install_request(self, code: str, **more: Any) -> InstallRequest:
        answer = self.post("/install-request", code, **more)
        assert (answer.status_code, answer.content_type) == (200, serve.INSTALL_REQUEST), answer.text
        return install.verify_install_request(answer.data, self.books.profiles, trusted_now=None)

    def license_file(self, request: LicenseRequest) -> LicenseFile:
        answer = self.post("/license-file", request.text)
        assert (answer.status_code, answer.content_type) == (200, serve.LICENSE_FILE), answer.text
        return self.books.verify(answer.data)

    def renewal(self, request: RenewalRequest) -> bytes:
        answer = self.post("/renewal", request.text)
        assert (answer.status_code, answer.content_type) == (200, serve.RENEWAL_ANSWER), answer.text
        return bytes(answer.data)

    def refusal(self, request: LicenseRequest) -> str:
        return str(problem(self.post("/license-file", request.text))["name"])


def problem(answer: TestResponse) -> Any:
    """The problem details of an answer, which are whole and go with its status."""
    assert answer.content_type == "application/problem+json"
    value = json.loads(answer.data)
    assert list(value) == ["type", "title", "status", "detail", "name", "code", "next"]
    assert (value["status"], value["type"]) == (answer.status_code, f"urn:licd:error:{value['name']}")
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", value["name"])
    assert all(value[name].endswith(".") for name in ("title", "detail", "next"))
    return value


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The two lines on stderr."""
    error, hint = capsys.readouterr().err.splitlines()
    assert (error[:7], hint[:6]) == ("error: ", "hint: ")
    return f"{error}\n{hint}"
