"""The vendor's server as it runs: real processes, real HTTP and TLS, a real PostgreSQL, and a kill at every step."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from licd.license import install
from licd.online import posting
from licd.online.failures import BUSY, PROBLEM, OnlineError
from licd_vendor import serve
from tests.support import postgres
from tests.support.books import Books, Machine
from tests.support.dying import Dying
from tests.support.https import web
from tests.support.postgres import needs_postgres
from tests.support.posting import forget_proxies
from tests.support.serving import Server, ask, gunicorn, serving

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def tls() -> tuple[str | Path, ...]:
    return ("--tls-cert", web().certificate, "--tls-key", web().key)


def activate(books: Books, url: str, made: str, machine: Machine, ca_file: Path | None = None) -> bytes:
    """The license file that a device gets by a code."""
    asked = ask(url, "/install-request", made, ca_file=ca_file)
    assert (asked.status, asked.headers["content-type"]) == (200, serve.INSTALL_REQUEST)
    request = machine.request(install.verify_install_request(asked.body, books.profiles, trusted_now=None))
    answer = ask(url, "/license-file", request.text, ca_file=ca_file)
    assert (answer.status, answer.headers["content-type"]) == (200, serve.LICENSE_FILE)
    return answer.body


# --- the two embedded servers ---------------------------------------------------------------------------------------


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, books: Books) -> Iterator[Server]:
    with serving(books, *(tls() if request.param == "https" else ())) as running:
        assert urlsplit(running.url).scheme == request.param
        yield running


def test_a_code_becomes_a_license_file_and_the_server_ends_cleanly(
    server: Server, books: Books, capsys: Capture
) -> None:
    made = books.code(books.order(), capsys)
    machine = Machine(1)
    data = activate(books, server.url, made, machine, ca_file=web().ca_file)
    assert books.verify(data).seq == 1
    assert activate(books, server.url, made, machine, ca_file=web().ca_file) == data
    health = ask(server.url, "/health", ca_file=web().ca_file)
    assert json.loads(health.body) == {"status": "ok", "vendor": "acme"}
    assert server.stop() == 0
    assert not [line for line in server.said if "Traceback" in line]


def test_bodies_over_the_limit_and_bodies_in_chunks_are_read_as_far_as_they_may_be(
    server: Server, books: Books, capsys: Capture
) -> None:
    made = books.code(books.order(), capsys)
    big = ask(server.url, "/license-file", b"x" * 1_000_000, ca_file=web().ca_file)
    assert (big.status, json.loads(big.body)["name"]) == (413, "DOCUMENT_TOO_LARGE")
    unread = ask(server.url, "/no", b"x" * 1_000_000, ca_file=web().ca_file)
    assert (unread.status, json.loads(unread.body)["name"]) == (404, "NOT_FOUND")
    with connected(server) as stream:
        head = f"POST /install-request HTTP/1.1\r\nHost: x\r\nContent-Type: {serve.CODE}\r\nConnection: close\r\n"
        chunks = f"{head}Transfer-Encoding: chunked\r\n\r\nB\r\n{made[:11]}\r\nB\r\n{made[11:]}\r\n0\r\n\r\n"
        stream.sendall(chunks.encode())
        assert read_all(stream).startswith(b"HTTP/1.1 200 ")


def test_clients_that_say_nothing_keep_nobody_waiting(server: Server) -> None:
    host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection((str(host), int(port or 0))))
        began = time.monotonic()
        assert ask(server.url, "/health", ca_file=web().ca_file).status == 200
        assert time.monotonic() - began < 5


def test_bytes_that_are_no_http_do_not_stop_it(server: Server) -> None:
    for junk in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"\x00" * 50_000, b"POST / HTTP/9.9\r\n\r\n", b""):
        host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
        with contextlib.suppress(OSError), socket.create_connection((str(host), int(port or 0)), 10) as stream:
            stream.sendall(junk)
            stream.shutdown(socket.SHUT_WR)
            read_all(stream)
    assert ask(server.url, "/health", ca_file=web().ca_file).status == 200
    assert not [line for line in server.said if "Traceback" in line]


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    parts = urlsplit(server.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10) as raw:
        if parts.scheme == "http":
            yield raw
        else:
            with ssl.create_default_context(cafile=web().ca_file).wrap_socket(raw, server_hostname="127.0.0.1") as safe:
                yield safe


def read_all(stream: socket.socket) -> bytes:
    data = b""
    while piece := stream.recv(65536):
        data += piece
    return data


# --- how it is started ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8443", "licd.example:1"])
def test_without_tls_it_serves_loopback_only(books: Books, address: str, capsys: Capture) -> None:
    assert books.run("serve", "--listen", address) == 1
    assert "in the clear" in capsys.readouterr().err


def test_half_of_tls_or_tls_behind_a_proxy_is_refused(books: Books, capsys: Capture) -> None:
    assert books.run("serve", "--tls-cert", web().certificate) == 1
    assert books.run("serve", *tls(), "--behind-proxy") == 1
    assert books.run("serve", "--tls-cert", web().key, "--tls-key", web().certificate) == 1
    said = capsys.readouterr().err
    assert "belong together" in said
    assert "the proxy speaks TLS" in said
    assert "cannot be used" in said


@pytest.mark.parametrize("address", ["8443", ":8443", "host:", "host:x", "host:65536", ""])
def test_an_address_to_listen_on_that_is_none_is_a_usage_error(books: Books, address: str) -> None:
    with pytest.raises(SystemExit) as ended:
        books.run("serve", "--listen", address)
    assert ended.value.code == 2


def test_a_port_that_is_taken_is_told_without_a_traceback(books: Books) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for options in ((), tls()):
            command = [sys.executable, "-m", "licd_vendor", *books.options, "serve", "--listen", address, *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
            assert done.returncode == 1
            assert done.stderr.startswith(f"error: {address} cannot be listened on: ")
            assert len(done.stderr.splitlines()) == 2


def test_behind_a_proxy_wrong_codes_count_for_whom_the_proxy_names(books: Books) -> None:
    books.order()
    with serving(books, "--behind-proxy", "--access-log", books.folder / "access.log") as server:
        for _ in range(10):
            assert ask(server.url, "/install-request", "wrong", X_Forwarded_For="6.6.6.6, 192.0.2.1").status == 404
        assert ask(server.url, "/install-request", "wrong", X_Forwarded_For="192.0.2.1").status == 429
        assert ask(server.url, "/install-request", "wrong", X_Forwarded_For="192.0.2.2").status == 404
    lines = (books.folder / "access.log").read_text().splitlines()
    assert [line.split()[1] for line in lines] == [*["192.0.2.1"] * 11, "192.0.2.2"]


def test_a_passphrase_opens_the_key_before_the_first_request(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "secret").write_text("a long one\n")
    secret = ("--passphrase-file", str(tmp_path / "secret"))
    books = Books(tmp_path, secret=secret)
    made = books.code(books.order(), capsys)
    with serving(books, *secret) as server:
        assert books.verify(activate(books, server.url, made, Machine(1))).seq == 1
    command = [sys.executable, "-m", "licd_vendor", *books.options, "serve", "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=30)
    assert (done.returncode, "is encrypted" in done.stderr) == (1, True)


@pytest.mark.parametrize("options", [(), tls()], ids=["http", "https"])
@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_it_listens_where_it_is_told(books: Books, host: str, options: tuple[str | Path, ...]) -> None:
    with serving(books, *options, "--listen", f"{host}:0") as server:
        assert server.url.partition("://")[2].startswith(f"{host}:")
        assert ask(server.url, "/health", ca_file=web().ca_file).status == 200
        assert server.stop(signal.SIGINT) == 0


def test_the_device_s_own_client_gets_documents_and_names_of_errors(
    books: Books, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_proxies(monkeypatch)
    made, ca_file = books.code(books.order(), capsys), str(web().ca_file)

    def sent(server: Server, code: str) -> bytes:
        url = f"{server.url}/install-request"
        return posting.post(url, code.encode(), serve.CODE, serve.INSTALL_REQUEST, ca_file=ca_file)

    with serving(books, *tls()) as server:
        assert install.verify_install_request(sent(server, made), books.profiles, trusted_now=None)
        for n in range(11):
            with pytest.raises(OnlineError) as failed:
                sent(server, "wrong")
            kind, name = (PROBLEM, "UNKNOWN_CODE") if n < 10 else (BUSY, "TOO_MANY_TRIES")
            assert (failed.value.kind, failed.value.data["name"]) == (kind, name)
        assert 0 < failed.value.data["seconds"] <= 600


# --- several processes, one database --------------------------------------------------------------------------------


@needs_postgres
def test_processes_on_one_postgresql_issue_nothing_twice_and_count_tries_together(
    tmp_path: Path, capsys: Capture
) -> None:
    with postgres.server() as address:
        books = Books(tmp_path, database=address)
        assert books.run("order", "new", "--customer", "c-1", "--license", "kso.a", "--devices", 3) == 0
        made = books.code(1, capsys, "--devices", 2)
        with serving(books) as one, gunicorn(books, 2) as two, ThreadPoolExecutor(8) as pool:
            urls = [one.url, two.url] * 6
            machines = [Machine(n) for n in (1, 2, 3, 4)]
            documents = list(pool.map(lambda url: ask(url, "/install-request", made).body, urls))
            assert len(set(documents)) == 1
            asked = install.verify_install_request(documents[0], books.profiles, trusted_now=None)
            # Each device by all servers at once, with several license requests; four devices, and two places.
            requests = [machine.request(asked) for machine in machines for _ in range(3)]
            answers = list(pool.map(lambda n: ask(urls[n % 2], "/license-file", requests[n % 12].text), range(24)))
            files = {answer.body for answer in answers if answer.status == 200}
            assert {answer.status for answer in answers} == {200, 409}
            assert len(files) == 2
            wrong = list(pool.map(lambda url: ask(url, "/install-request", "wrong").status, urls * 2))
            assert sorted(wrong) == [404] * 10 + [429] * 14
            assert (two.stop(), one.stop()) == (0, 0)
        rows = books.json(capsys, "history")["documents"]
        assert sorted((row["kind"], row["seq"] or 0) for row in rows) == [
            ("install-request", 0),
            ("license-file", 1),
            ("license-file", 1),
        ]


def test_two_processes_on_one_sqlite_file_issue_nothing_twice(books: Books, capsys: Capture) -> None:
    made = books.code(books.order(), capsys)
    machine = Machine(1)
    with serving(books) as one, serving(books) as two, ThreadPoolExecutor(4) as pool:
        files = list(pool.map(lambda url: activate(books, url, made, machine), [one.url, two.url] * 4))
    assert len(set(files)) == 1
    assert [row["kind"] for row in books.json(capsys, "history")["documents"]] == ["install-request", "license-file"]


@needs_postgres
def test_a_postgresql_that_was_away_is_503_until_it_is_back(tmp_path: Path, capsys: Capture) -> None:
    with postgres.restartable() as database:
        books = Books(tmp_path, database=database.address)
        assert books.run("order", "new", "--customer", "c-1", "--license", "kso.a") == 0
        made = books.code(1, capsys)
        with serving(books) as server:
            assert ask(server.url, "/health").status == 200
            database.stop()
            answer = ask(server.url, "/install-request", made)
            assert (answer.status, json.loads(answer.body)["name"]) == (503, "UNAVAILABLE")
            assert "retry-after" in answer.headers
            database.start()
            assert books.verify(activate(books, server.url, made, Machine(1))).seq == 1


# --- killed at every step -------------------------------------------------------------------------------------------


def test_killed_between_any_two_steps_it_has_issued_once_when_all_is_done(books: Books, capsys: Capture) -> None:
    number = books.order("--devices", 1000)
    machines = iter(Machine(n) for n in range(1000))
    with serving(books) as healthy, contextlib.closing(Dying(books)) as dying:
        steps = 0
        while True:
            made, machine = books.code(number, capsys), next(machines)
            url = dying.start(steps)
            try:
                activate(books, url, made, machine)
                break
            except (OSError, http.client.HTTPException):
                assert dying.ended() == -signal.SIGKILL
            data = activate(books, healthy.url, made, machine)
            assert activate(books, healthy.url, made, machine) == data
            with sqlite3.connect(books.dir / "vendor.db") as connection:
                issued = [
                    connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    for table in ("install_requests", "issues", "devices", "places")
                ]
            steps += 1
            assert issued == [steps] * 4
    assert steps > 20  # or it never came to the interesting ones
