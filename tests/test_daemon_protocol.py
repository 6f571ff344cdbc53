"""What no proper client sends arrives at the real licd: the sender is told, and nobody else notices."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.support import pki
from tests.support.daemon import Daemon
from tests.support.needs import needs_nvim, needs_root
from tests.support.process import comes_to_rest, resident_kib
from tests.support.raw import Bystander, Raw, connect_as, pack, request

CLIENT_UID = 51001
GROWTH_KIB = 8 * 1024  # over the memory of an idle licd, in any test of this file


@pytest.fixture(scope="module")
def vendor() -> pki.Vendor:
    return pki.Vendor(root={"days": 36500}, leaf={"days": 36500})


@pytest.fixture(scope="module")
def daemon(vendor: pki.Vendor) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="licd-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Daemon(folder, settings={"socket_mode": "0666"}) as licd:
            vendor.write_profile(licd.vendors)
            licd.start()
            lines: list[dict[str, Any]] = [
                {"name": "kso.scan", "seats": 3},
                {"name": "kso.pos", "license": "uncounted"},
            ]
            licd.call("license.import", document=vendor.license_file(lines=lines))
            yield licd


@pytest.fixture(scope="module")
def idle_kib(daemon: Daemon) -> int:
    with Raw(daemon.socket) as raw:  # what the first client needs is not what a test is to be blamed for
        raw.call("server.status")
    return resident_kib(daemon.pid)


@pytest.fixture(scope="module")
def bystander(daemon: Daemon) -> Iterator[Bystander]:
    other = Bystander(daemon.socket, daemon.pid)
    yield other
    other.close()


@pytest.fixture(autouse=True)
def _nobody_else_notices(daemon: Daemon, bystander: Bystander, idle_kib: int) -> Iterator[None]:
    with bystander.watching():
        yield
    assert comes_to_rest(daemon.pid), "licd is busy though nobody asks for anything"
    assert resident_kib(daemon.pid, "VmHWM") < idle_kib + GROWTH_KIB


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[Raw]:
    with Raw(daemon.socket) as connection:
        yield connection


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Raw]:
    """Not an administrator: only small messages are allowed."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    with connect_as(daemon.socket, CLIENT_UID) as connection:
        yield connection


# --- bytes that are no message --------------------------------------------------------------------------------

NO_MESSAGE = {
    "a byte that MessagePack reserves": b"\xc1",
    "an array that claims four gigabytes": b"\xdd\xff\xff\xff\xff",
    "a map that claims four gigabytes": b"\xdf\xff\xff\xff\xff",
    "an array of 65535": b"\xdc\xff\xff",
    "params that claim four gigabytes": b"\x94\x00\x01\xa1x\xdd\xff\xff\xff\xff",
    "named arguments that claim four gigabytes": b"\x94\x00\x01\xa1x\x91\xdf\xff\xff\xff\xff",
    "an extension that claims four gigabytes": b"\x94\x00\x01\xa1x\x91\xc9\xff\xff\xff\xff\x05",
    "arrays nested 10,000 deep": b"\x91" * 10_000,
    "maps nested 10,000 deep": b"\x81\x01" * 10_000,
    "params nested 10,000 deep": b"\x94\x00\x01\xa1x" + b"\x91" * 10_000,
    "a list as the key of a map": b"\x94\x00\x01\xacserver.hello\x91\x81\x91\x01\x01",
    "an integer": pack(7),
    "a string": pack("server.hello"),
    "a map": pack({0: 1}),
    "nil": pack(None),
    "an empty array": pack([]),
    "a request of three": pack([0, 1, "server.hello"]),
    "a request of five": pack([0, 1, "server.hello", [], None]),
    "a notification of two": pack([2, "seat.confirm"]),
    "a notification of four": pack([2, "seat.confirm", [], []]),
    "an unknown type": pack([3, 1, "server.hello", []]),
    "a negative type": pack([-1, 1, "server.hello", []]),
    "true for the type": pack([True, "server.hello", []]),
    "false for the type": pack([False, 1, "server.hello", []]),
    "a fraction for the type": pack([0.0, 1, "server.hello", []]),
    "a msgid below the range": pack([0, -1, "server.hello", []]),
    "a msgid above the range": pack([0, 2**32, "server.hello", []]),
    "a msgid far above the range": pack([0, 2**64 - 1, "server.hello", []]),
    "true for the msgid": pack([0, True, "server.hello", []]),
    "a fraction for the msgid": pack([0, 1.0, "server.hello", []]),
    "a string for the msgid": pack([0, "1", "server.hello", []]),
    "nil for the msgid": pack([0, None, "server.hello", []]),
    "a response": pack([1, 1, None, {}]),
    "a response with an error": pack([1, 1, {"code": 90}, None]),
    "a notification whose method is an integer": pack([2, 5, []]),
}


@pytest.mark.parametrize("data", NO_MESSAGE.values(), ids=NO_MESSAGE.keys())
def test_what_is_no_message_is_told_as_bad_message_once_and_closed(raw: Raw, data: bytes) -> None:
    raw.send(data)
    assert raw.goodbye() == "BAD_MESSAGE"


@pytest.mark.parametrize("method", [7, None, True, 1.5, b"server.hello", ["server.hello"], {"a": 1}])
def test_a_method_that_is_no_string_is_answered_under_its_msgid_and_closed(raw: Raw, method: Any) -> None:
    raw.send(pack([0, 4711, method, []]))
    ((kind, msgid, error, result),) = raw.rest()
    assert (kind, msgid, error["name"], result) == (1, 4711, "BAD_MESSAGE", None)


def test_what_came_before_a_violation_is_answered_and_what_comes_after_is_not_carried_out(
    raw: Raw, daemon: Daemon
) -> None:
    wish = {"license": "kso.pos", "on_close": "keep"}
    before = request(1, "seat.acquire", wish | {"holder": "before"})
    after = request(2, "seat.acquire", wish | {"holder": "after"})
    raw.send(before + b"\xc1" + after)
    answer, goodbye = raw.rest()
    assert answer[:3] == [1, 1, None]
    assert goodbye[2][0]["error"]["name"] == "BAD_MESSAGE"
    with Raw(daemon.socket) as other:
        holders = [lease["holder"] for lease in other.call("seat.list", license="kso.pos")["leases"]]
        assert "before" in holders
        assert "after" not in holders
        other.call("seat.release", lease=answer[3]["lease"])


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_end_in_a_closed_connection_and_nothing_else(daemon: Daemon, seed: int) -> None:
    chance = random.Random(seed)
    for size in (1, 2, 7, 40, 300, 4000, 70_000):
        with Raw(daemon.socket) as raw:
            raw.send_all_there_is_room_for(chance.randbytes(size))
            raw.end_sending()
            for message in raw.rest():
                assert message[:2] == [2, "server.goodbye"]


@pytest.mark.parametrize("seed", range(4))
def test_a_proper_request_with_one_byte_changed_is_answered_or_told(daemon: Daemon, seed: int) -> None:
    chance = random.Random(seed)
    proper = request(9, "seat.acquire", {"license": "kso.none", "holder": "till-1", "seats": 2, "ttl": 60})
    for _ in range(40):
        data = bytearray(proper)
        data[chance.randrange(len(data))] = chance.randrange(256)
        with Raw(daemon.socket) as raw:
            raw.send(data)
            raw.end_sending()
            names = [(message[2][0]["error"] if message[0] == 2 else message[2])["name"] for message in raw.rest()]
            assert len(names) <= 2  # where the byte made the message shorter, its tail is another one
            assert "INTERNAL" not in names


# --- messages that say nothing useful: the connection lives ---------------------------------------------------

NOT_UTF8 = os.fsdecode(b"\xff\xfe\x00blob")
BAD_PARAMS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "an extension type": ("license.check", ({"license": msgpack.ExtType(5, b"abc")},)),
    "a timestamp": ("license.check", ({"license": msgpack.Timestamp(2**33, 7)},)),
    "a value that is not UTF-8": ("license.check", ({"license": NOT_UTF8},)),
    "a holder that is not UTF-8": ("seat.acquire", ({"license": "kso.scan", "holder": NOT_UTF8},)),
    "a holder with a control character": ("seat.acquire", ({"license": "kso.scan", "holder": "a\x1b[31m"},)),
    "a name that is not UTF-8": ("license.check", ({"license": "kso.scan", NOT_UTF8: 1},)),
    "an integer above 2^63": ("seat.acquire", ({"license": "kso.scan", "holder": "h", "seats": 2**63},)),
    "the largest integer": ("seat.list", ({"after": 2**64 - 1},)),
    "the smallest integer": ("seat.list", ({"after": -(2**63)},)),
    "true for a number": ("seat.acquire", ({"license": "kso.scan", "holder": "h", "seats": True},)),
    "false for a number": ("seat.acquire", ({"license": "kso.scan", "holder": "h", "wait": False},)),
    "a fraction for a number": ("seat.acquire", ({"license": "kso.scan", "holder": "h", "seats": 1.0},)),
    "a number for a boolean": ("license.import", ({"document": b"{}", "dry_run": 1},)),
    "bytes for a string": ("license.check", ({"license": b"kso.scan"},)),
    "a number for bytes": ("license.import", ({"document": 5},)),
    "a number as a name": ("license.check", ({"license": "kso.scan", 5: 1},)),
    "nil as a name": ("license.check", ({"license": "kso.scan", None: 1},)),
    "an unknown name": ("license.check", ({"license": "kso.scan", "seat": 1},)),
    "a missing argument": ("license.check", ({},)),
    "no arguments at all": ("license.check", ()),
    "nil for an argument without a default": ("license.check", ({"license": None},)),
    "arguments without a map": ("license.check", ("kso.scan",)),
    "two maps": ("license.check", ({"license": "kso.scan"}, {})),
    "an array in params": ("license.check", (["kso.scan"],)),
    "nil in params": ("license.check", (None,)),
    "too many leases": ("seat.confirm", ({"leases": ["0" * 24] * 101},)),
    "no leases": ("seat.confirm", ({"leases": []},)),
    "a lease id in capitals": ("seat.confirm", ({"lease": "A" * 24},)),
    "a lease named twice over": ("seat.confirm", ({"lease": "a" * 24, "license": "kso.scan", "holder": "h"},)),
    "half a name of a lease": ("seat.confirm", ({"license": "kso.scan"},)),
    "a wait": ("seat.acquire", ({"license": "kso.scan", "holder": "h", "wait": 5},)),
    "a ttl too short": ("seat.acquire", ({"license": "kso.scan", "holder": "h", "ttl": 9},)),
    "a ttl over the configured one": ("seat.acquire", ({"license": "kso.scan", "holder": "h", "ttl": 3601},)),
    "a license with a path in it": ("license.check", ({"license": "../kso"},)),
    "a name with a newline behind it": ("license.check", ({"license": "kso.scan\n"},)),
    "a holder of 129 characters": ("seat.acquire", ({"license": "kso.scan", "holder": "h" * 129},)),
}


@pytest.mark.parametrize(("method", "params"), BAD_PARAMS.values(), ids=BAD_PARAMS.keys())
def test_bad_arguments_are_bad_params_take_no_seat_and_the_connection_lives(
    raw: Raw, method: str, params: tuple[Any, ...]
) -> None:
    assert raw.refusal(method, *params) == "BAD_PARAMS"
    assert raw.call("seat.list", license="kso.scan")["leases"] == []


@pytest.mark.parametrize("params", [None, 5, "kso.scan", {"license": "kso.scan"}, b"", True])
def test_params_that_are_no_array_are_bad_params_and_the_connection_lives(raw: Raw, params: Any) -> None:
    raw.send(pack([0, 3, "license.check", params]))
    assert raw.read()[2]["name"] == "BAD_PARAMS"
    assert raw.call("server.hello")["server"] == "licd"


@pytest.mark.parametrize("method", ["", "server", "server.", "Server.hello", "server.hello ", "__init__", NOT_UTF8])
def test_an_unknown_method_is_refused_by_name_and_the_connection_lives(raw: Raw, method: str) -> None:
    assert raw.refusal(method, {}) == "NO_SUCH_METHOD"
    assert raw.call("server.hello")["server"] == "licd"


@pytest.mark.parametrize("msgid", [0, 1, 127, 128, 2**16, 2**31, 2**32 - 1])
def test_every_msgid_of_32_bits_comes_back_with_its_answer(raw: Raw, msgid: int) -> None:
    raw.send(request(msgid, "server.hello"))
    assert raw.read()[:3] == [1, msgid, None]


def test_one_msgid_used_twice_gets_two_answers(raw: Raw) -> None:
    raw.send(request(5, "server.hello") + request(5, "seat.list", {}))
    assert [raw.read()[:3], raw.read()[:3]] == [[1, 5, None], [1, 5, None]]


# --- pieces ---------------------------------------------------------------------------------------------------


def test_a_message_in_one_byte_pieces_is_answered(raw: Raw) -> None:
    for byte in request(1, "license.check", {"license": "kso.scan"}):
        raw.send(bytes([byte]))
    assert raw.read()[3]["valid"] is True


def test_two_messages_are_answered_wherever_they_are_cut(raw: Raw) -> None:
    data = request(1, "server.hello") + request(2, "license.check", {"license": "kso.scan"})
    for at in range(1, len(data)):
        raw.send(data[:at])
        raw.send(data[at:])
        assert [raw.read()[1], raw.read()[1]] == [1, 2]


def test_half_a_message_and_then_silence_is_waited_for(raw: Raw) -> None:
    data = request(1, "license.check", {"license": "kso.scan"})
    raw.send(data[:20])
    raw.stream.settimeout(0.2)
    with pytest.raises(TimeoutError):
        raw.read()
    raw.stream.settimeout(10)
    raw.send(data[20:])
    assert raw.read()[3]["valid"] is True


def test_half_a_message_and_then_the_end_is_closed_without_a_word(raw: Raw) -> None:
    raw.send(request(1, "server.hello")[:-3])
    raw.end_sending()
    assert raw.rest() == []


def test_whoever_ends_sending_still_gets_all_answers(raw: Raw) -> None:
    raw.send(b"".join(request(n, "server.hello") for n in range(2_000)))
    raw.end_sending()
    assert [message[1] for message in raw.rest()] == list(range(2_000))


def test_an_import_is_answered_also_to_one_who_has_ended_sending(raw: Raw, vendor: pki.Vendor) -> None:
    document = vendor.license_file(seq=9, lines=[{"name": f"kso.n{n}"} for n in range(300)])
    raw.send(request(1, "license.import", {"document": document, "dry_run": True}) + request(2, "server.hello"))
    raw.end_sending()
    assert {message[1]: message[2] for message in raw.rest()} == {1: None, 2: None}


# --- size -----------------------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    """A request of just this size, refused as BAD_PARAMS if it is read at all."""
    bare = len(request(1, "server.hello", {"x": "a" * 60_000}))
    return request(1, "server.hello", {"x": "a" * (60_000 + size - bare)})


def test_a_client_may_send_a_message_of_64_kib(client: Raw) -> None:
    client.send(padded(64 * 1024))
    assert client.read()[2]["name"] == "BAD_PARAMS"
    assert client.call("server.hello")["limits"]["message_bytes"] == 64 * 1024


def test_a_byte_more_is_message_too_large_and_closed(client: Raw) -> None:
    client.send(padded(64 * 1024 + 1))
    assert client.goodbye() == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("first", [40, 300, 70_000])
def test_a_document_from_a_client_is_too_large_in_whatever_pieces_it_comes(client: Raw, first: int) -> None:
    data = request(1, "license.import", {"document": b"x" * 1024 * 1024})
    client.send(data[:first])
    client.stream.settimeout(0.1)
    said: list[Any] = []
    try:
        said = client.rest()  # it may have been told already
    except TimeoutError:
        client.stream.settimeout(10)
        client.send_all_there_is_room_for(data[first : first + 70_000])
        said = client.rest()
    assert [message[2][0]["error"]["name"] for message in said] == ["MESSAGE_TOO_LARGE"]


@pytest.mark.parametrize("header", [b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"], ids=["string", "bytes"])
def test_a_string_that_claims_four_gigabytes_is_too_large_when_the_limit_has_come(client: Raw, header: bytes) -> None:
    client.send(b"\x94\x00\x01\xa1x\x91" + header)
    client.send_all_there_is_room_for(bytes(64 * 1024))
    assert client.goodbye() == "MESSAGE_TOO_LARGE"


@needs_root
def test_an_administrator_may_send_a_document_of_a_megabyte(raw: Raw) -> None:
    limit = raw.call("server.hello")["limits"]["message_bytes"]
    assert limit > 1024 * 1024
    assert raw.refusal("license.import", {"document": b"#" * (1024 * 1024 + 1)}) == "DOCUMENT_TOO_LARGE"
    assert raw.refusal("license.import", {"document": b"#" * 1024 * 1024}) in ("BAD_DOCUMENT", "DAMAGED_DOCUMENT")
    raw.send(b"\x94\x00\x01\xa1x\x91\xc6" + limit.to_bytes(4, "big") + bytes(limit))
    assert raw.goodbye() == "MESSAGE_TOO_LARGE"


# --- notifications --------------------------------------------------------------------------------------------


def test_confirm_and_release_are_carried_out_as_notifications_and_not_answered(raw: Raw) -> None:
    lease = raw.call("seat.acquire", license="kso.scan", holder="till-1")
    raw.send(pack([2, "seat.confirm", [{"lease": lease["lease"]}]]))
    (row,) = raw.call("seat.list", license="kso.scan")["leases"]
    assert row["lease"] == lease["lease"]
    assert raw.call("seat.confirm", lease=lease["lease"])["deadline"] > lease["deadline"]
    raw.send(pack([2, "seat.release", [{"license": "kso.scan", "holder": "till-1"}]]))
    assert raw.call("seat.list", license="kso.scan")["leases"] == []


@pytest.mark.parametrize(
    "message",
    [
        [2, "seat.acquire", [{"license": "kso.scan", "holder": "till-1"}]],
        [2, "license.import", [{"document": b"{}"}]],
        [2, "server.status", []],
        [2, "no.such.method", []],
        [2, "nvim_error_event", [0, "text"]],
        [2, "server.goodbye", []],
        [2, NOT_UTF8, None],
        [2, "seat.release", [{"lease": "0" * 24}]],
        [2, "seat.confirm", [{"lease": "0" * 24}]],
        [2, "seat.confirm", "nonsense"],
        [2, "seat.confirm", [{"lease": NOT_UTF8}]],
    ],
)
def test_other_notifications_change_nothing_and_are_not_answered(raw: Raw, message: list[Any]) -> None:
    raw.send(pack(message))
    assert raw.call("seat.list", license="kso.scan")["leases"] == []


# --- a client of somebody else's ------------------------------------------------------------------------------

NEOVIM = """
let licd = sockconnect('pipe', '{socket}', {{'rpc': v:true}})
let said = []
call add(said, rpcrequest(licd, 'server.hello').server)
let lease = rpcrequest(licd, 'seat.acquire', {{'license': 'kso.scan', 'holder': 'nvim'}})
call add(said, lease.holder)
try
  call rpcrequest(licd, 'seat.acquire', {{'license': 'kso.scan', 'holder': 0zFF00FE}})
catch
  call add(said, 'refused')
endtry
try
  call rpcrequest(licd, 'no.such.method')
catch
  call add(said, 'refused')
endtry
call rpcnotify(licd, 'seat.confirm', {{'lease': lease.lease}})
call add(said, rpcrequest(licd, 'seat.confirm', {{'lease': lease.lease}}).lease ==# lease.lease)
call add(said, rpcrequest(licd, 'seat.release', {{'lease': lease.lease}}).released)
call writefile([json_encode(said)], '{result}')
qa!
"""


@needs_nvim
def test_neovim_acquires_confirms_releases_and_survives_its_own_blob(daemon: Daemon, tmp_path: Path) -> None:
    script, result = tmp_path / "x.vim", tmp_path / "said.json"
    script.write_text(NEOVIM.format(socket=daemon.socket, result=result))
    nvim = ["nvim", "--headless", "--clean", "-u", "NONE", "-i", "NONE", "-n", "-S", str(script)]
    done = subprocess.run(["timeout", "20", *nvim], capture_output=True, text=True, check=False)
    assert result.exists(), done.stderr
    assert result.read_text() == '["licd", "nvim", "refused", "refused", 1, true]\n'
