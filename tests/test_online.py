"""One document to the vendor's server and one back, over real TLS: where it goes, how long it takes, who is trusted."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import licd
from licd.online import failures, posting
from licd.online.failures import OnlineError
from tests.support.https import Script, Server, Web, answer, drip, head, say, silence, web
from tests.support.needs import needs_root
from tests.support.posting import CODE, FINE, PROBLEM_TYPE, REQUEST, fails, fails_with, forget_proxies, post, within


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


# --- what is sent, and what comes back -----------------------------------------------------------------------


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_the_document_that_was_asked_for_comes_back_as_it_was_sent(tls: bool, address: str) -> None:
    document = bytes(range(256)) * 100
    with Server(answer(200, document, f"{REQUEST}; charset=us-ascii"), tls=tls) as server:
        assert post(f"{server.url.replace('127.0.0.1', address)}/p/x", body=b"\0\xff\r\n") == document
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == ("POST", "/p/x", b"\0\xff\r\n")


def test_a_request_tells_nothing_of_the_device_but_the_version_of_licd_cli() -> None:
    with Server(FINE) as server:
        post(f"{server.url}/x")
    assert server.asked[0].headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": f"licd-cli/{licd.__version__}",
        "accept": f"{REQUEST}, {PROBLEM_TYPE}",
        "accept-encoding": "identity",
        "content-type": CODE,
        "content-length": "6",
        "connection": "close",
    }


@pytest.mark.parametrize(
    "sent",
    [
        head(200, REQUEST, Transfer_Encoding="chunked") + b"5\r\na doc\r\n5\r\nument\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + head(200, REQUEST, Content_Length=10) + b"a document",
        head(200, REQUEST, Content_Length=10) + b"a document and what does not belong to it",
    ],
    ids=["chunked", "after 100", "with a tail"],
)
def test_a_document_is_whole_in_every_form_that_http_has(sent: bytes) -> None:
    with Server(say(sent)) as server:
        assert post(f"{server.url}/x") == b"a document"


_TWO_ADDRESSES = """
import sys
from licd.online import posting
print(posting.post(sys.argv[1], b"", "a/b", sys.argv[3], ca_file=sys.argv[2]))
"""


@needs_root
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_one_address_of_a_name_may_be_dead_if_another_answers(tmp_path: Path, address: str) -> None:
    with Server(FINE, tls=Web(host="two.example"), address=address) as server:
        arguments = f"https://two.example:{server.port}/x", server.ca_file, REQUEST
        done = with_file(
            tmp_path, "/etc/hosts", "127.0.0.1 two.example\n127.0.0.2 two.example\n", _TWO_ADDRESSES, *arguments
        )
    assert done == "b'a document'\n"


def with_file(folder: Path, path: str, content: str, script: str, *arguments: str) -> str:
    """What the Python script says where this is the content of that file of the system."""
    (folder / "content").write_text(content)
    mount = f'mount --bind "{folder}/content" {path} && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", script, *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


# --- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://192.0.2.1/x", "http:// is for this device alone"),
        ("http://licenses.acme.example/x", "http:// is for this device alone"),
        ("http://localhost.acme.example/x", "http:// is for this device alone"),
        ("http://127.0.0.1.acme.example/x", "http:// is for this device alone"),
        ("http://0.0.0.0/x", "http:// is for this device alone"),
        ("http://2130706433/x", "http:// is for this device alone"),
        ("http://127.0.0.1@acme.example/x", "more than a host"),
        ("https://user:secret@acme.example/x", "more than a host"),
        ("https://acme.example/x?a=b", "more than a host"),
        ("https://acme.example/x#a", "more than a host"),
        ("https:///x", "does not begin with https://"),
        ("ftp://acme.example/x", "does not begin with https://"),
        ("file:///etc/passwd", "does not begin with https://"),
        ("acme.example/x", "does not begin with https://"),
        ("", "characters"),
        ("https://acme.example/x y", "characters"),
        ("https://acme.example/x\r\nHost: b", "characters"),
        ("https://аcme.example/", "characters"),
        ("https://acme.example:99999/", "cannot be read"),
        ("https://acme.example:port/", "cannot be read"),
        ("https://[::1/", "cannot be read"),
        (f"https://{'a' * 2000}/", "characters"),
    ],
)
def test_an_address_that_is_no_plain_https_is_refused_before_anything_is_sent(url: str, reason: str) -> None:
    error = fails(url)
    assert error.kind == failures.NOT_HTTPS
    assert reason in error.data["reason"]
    assert "secret" not in str(error.data)


def test_a_name_without_an_address_is_no_answer() -> None:
    for name in ("no-such-name.invalid", f"{'a' * 70}.example"):
        error = fails(f"https://{name}/x")
        assert (error.kind, error.data["host"]) == (failures.NO_ANSWER, name)
        assert "address is not found" in error.data["reason"]


def test_a_port_where_nobody_listens_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = fails(f"https://127.0.0.1:{port}/x")
    assert (error.kind, error.data) == (
        failures.NO_ANSWER,
        {"host": f"127.0.0.1:{port}", "reason": "Connection refused"},
    )


# --- time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "tls"),
    [
        (silence, True),
        (silence, None),  # it takes the connection and never begins with TLS
        (drip(b"HTTP/1.1 200 OK\r\n" * 100, 0.05), True),
        (drip(head(200, REQUEST, Content_Length=1000) + b"x" * 1000, 0.05), True),
        (drip(head(200, REQUEST) + b"x" * 1000, 0.05), False),
        (drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.01), True),
    ],
    ids=["silent", "no TLS", "head by drops", "body by drops", "body by drops without TLS", "100 for ever"],
)
def test_a_server_that_stalls_or_drips_is_no_answer_at_the_deadline(script: Script, tls: bool | None) -> None:
    with Server(script, tls=tls) as server:
        url = f"https://127.0.0.1:{server.port}/x" if tls is None else f"{server.url}/x"
        error = within(2.0, lambda: fails(url, timeout_s=0.5))
    assert (error.kind, error.data["reason"]) == (failures.NO_ANSWER, "there was no answer in time")


@pytest.mark.alone
def test_silence_ends_at_half_of_the_time_and_drops_at_the_whole() -> None:
    began = time.monotonic()
    fails_with(silence, timeout_s=1.0)
    silent = time.monotonic() - began
    fails_with(drip(b"HTTP/1.1 200 OK\r\n" * 100, 0.05), timeout_s=1.0)
    assert 0.5 <= silent < 0.9
    assert time.monotonic() - began - silent >= 1.0


@pytest.mark.alone
def test_silence_after_drops_does_not_outlast_the_deadline_either() -> None:
    def tire(stream: socket.socket, request: Any) -> None:
        drip(b"HTTP/1.1 200 OK\r\n", 0.05)(stream, request)  # for 0.85 s
        silence(stream, request)

    began = time.monotonic()
    fails_with(tire, timeout_s=1.0)
    assert 0.9 <= time.monotonic() - began < 1.25


def test_a_server_that_reads_nothing_is_no_answer_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        error = within(2.0, lambda: fails(url, body=bytes(32 << 20), timeout_s=0.5))
    assert error.kind == failures.NO_ANSWER


_SILENT_DNS = """
import socket, sys
from licd.online import failures, posting
try:
    posting.post("https://licenses.acme.example/x", b"", "a/b", "a/b", timeout_s=1.0)
except failures.OnlineError as error:
    print(error.kind, error.data["reason"])
"""


@needs_root
def test_a_silent_name_service_is_no_answer_and_does_not_outlast_the_deadline(tmp_path: Path) -> None:
    config = "nameserver 127.0.0.99\noptions timeout:20 attempts:1\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.99", 53))
        done = within(8.0, lambda: with_file(tmp_path, "/etc/resolv.conf", config, _SILENT_DNS))
        assert silent.recv(512, socket.MSG_DONTWAIT), "nobody asked this name server"
    assert done == "no answer the name service (DNS) did not answer in time\n"


def test_an_interrupt_ends_it_at_once() -> None:
    script = (
        "import sys; from licd.online import posting\n"
        "print('on', flush=True); posting.post(sys.argv[1], b'', 'a/b', 'a/b', ca_file=sys.argv[2], timeout_s=60)"
    )
    with Server(silence) as server:
        words = [sys.executable, "-c", script, f"{server.url}/x", server.ca_file]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + 10
        while not server.asked and time.monotonic() < until:
            time.sleep(0.01)
        assert server.asked
        process.send_signal(2)
        assert within(5, lambda: process.wait(20)) == -2
        process.stdout.close()


# --- TLS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"begins_days": -40, "days": 30}, "certificate has ended, by the clock of this device"),
        ({"begins_days": 2}, "certificate begins later, by the clock of this device"),
        ({"host": "portal.example"}, "certificate is for another host"),
    ],
)
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_certificate_of_no_use_is_refused_before_anything_is_sent(
    changes: dict[str, Any], reason: str, name: str
) -> None:
    with Server(FINE, tls=Web(**changes)) as server:
        error = fails(f"https://{name}:{server.port}/x", server.ca_file)
        assert error.kind == failures.UNTRUSTED
        assert reason in error.data["reason"]
        assert server.asked == []


def test_a_certificate_holds_for_the_name_that_was_asked_for_only() -> None:
    with Server(FINE, FINE, tls=Web(host="localhost")) as server:
        assert fails(f"{server.url}/x", server.ca_file).kind == failures.UNTRUSTED
        assert post(f"https://localhost:{server.port}/x", server.ca_file) == b"a document"


def test_a_certificate_of_an_unknown_issuer_is_refused_before_anything_is_sent() -> None:
    with Server(FINE, tls=Web()) as server:
        for ca_file in (str(web().ca_file), None):
            with pytest.raises(OnlineError) as caught:
                posting.post(f"{server.url}/x", b"", CODE, REQUEST, ca_file=ca_file, timeout_s=10)
            assert caught.value.kind == failures.UNTRUSTED
            assert "whoever issued its certificate is not known here" in caught.value.data["reason"]
        assert server.asked == []


def test_the_system_s_trust_store_counts_where_no_ca_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(web().ca_file))  # where OpenSSL looks for it
    with Server(FINE) as server:
        assert posting.post(f"{server.url}/x", b"", CODE, REQUEST) == b"a document"


def test_the_system_s_trust_store_does_not_count_where_a_ca_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(web().ca_file))
    with Server(FINE) as server:
        assert fails(f"{server.url}/x", str(Web().ca_file)).kind == failures.UNTRUSTED


def test_what_does_not_speak_tls_is_untrusted() -> None:
    with Server(say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), tls=None) as server:
        error = fails(f"https://127.0.0.1:{server.port}/x")
    assert (error.kind, error.data["reason"]) == (failures.UNTRUSTED, "it does not speak TLS")


def test_a_ca_file_that_is_none_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_text("no certificate")
    with Server(FINE) as server:
        for file, reason in [
            (tmp_path / "none", "No such file or directory"),
            (garbage, "there is no certificate (PEM) in it"),
            (Path("/dev/null"), "there is no certificate (PEM) in it"),
        ]:
            error = fails(f"{server.url}/x", str(file))
            assert (error.kind, error.data["file"]) == (failures.BAD_CA_FILE, str(file))
            assert error.data["reason"] == reason
        assert server.connections == 0


# --- the daemon ----------------------------------------------------------------------------------------------


def test_the_daemon_and_the_other_commands_load_nothing_of_it() -> None:
    script = (
        "import sys; import licd.daemon.main, licd.cli.main\n"
        "heavy = {'licd.online.connection', 'licd.online.posting', 'ssl', 'http.client', 'urllib.request'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
