"""What leaves the device, is logged or kept: no serial number, address or name, however it is written."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from licd.license.install import LicenseRequest
from tests.support import machines
from tests.support.clients import acquire, refusal
from tests.support.site import ACME, NEEDS, UMBRA, Asked, Site

pytestmark = [*NEEDS, pytest.mark.skipif(shutil.which("ip") is None, reason="needs ip, to have an address")]

HOST, USER, ADDRESS, ADDRESS6 = "till-frieda-4711", "frieda-mueller", "10.47.11.83", "2001:db8:47:11::8a3"
NAMES = f"""echo {HOST} > /proc/sys/kernel/hostname
ip address add {ADDRESS}/32 dev lo && ip link set lo up && ip address add {ADDRESS6}/128 dev lo nodad
export USER={USER} LOGNAME={USER} SUDO_USER={USER} HOSTNAME={HOST} true"""


def private_values() -> dict[str, str]:
    """All that names this very machine, as the kernel and udev spell it; the value is what it is."""
    folder = machines.folder("server")
    values = dict.fromkeys((HOST, USER, ADDRESS, ADDRESS6), "name or address")
    values[(folder / "root/etc/machine-id").read_text().strip()] = "machine id"
    for factor, found in machines.described("server")["readings"].items():
        values |= {value.partition(":")[2] if factor == "disk" else value: factor for value in found}
    sys = (folder / "machine.umockdev").read_text()
    for name in ("product_uuid", "serial", "board_serial", "ID_SERIAL", "ID_SERIAL_SHORT", "ID_WWN", "address"):
        for value in re.findall(rf"(?m)^[AE]: {name}=(.*?) *(?:\\n)?$", sys):
            values[value] = name
    del values["00:00:00:00:00:00"]  # of lo
    return values


PRIVATE = private_values()


# --- the search ----------------------------------------------------------------------------------------------


def spellings(value: str) -> set[str]:
    bare = re.sub(r"[-:._/\s]", "", value)
    found = {value, bare, value.replace(" ", "_"), value.replace(":", "-"), bare.removeprefix("0x")}
    if re.fullmatch(r"[0-9a-fA-F-]{32,36}", value):
        found |= {str(uuid.UUID(value)), str(uuid.UUID(bytes_le=uuid.UUID(value).bytes))}
    found |= {each.lower() for each in found} | {each.upper() for each in found}
    return found | {each[::-1] for each in found}


def octets(value: str) -> set[bytes]:
    """The same as bytes: its text, and what it means if it is a number in hexadecimal."""
    found = {each.encode() for each in spellings(value)}
    for each in spellings(value):
        if re.fullmatch(r"(?:[0-9a-fA-F]{2}){6,}", each):
            found.add(bytes.fromhex(each))
    return found


def base64s(data: bytes) -> set[bytes]:
    """What is in every base64 text that holds these bytes, at whichever of three places they begin."""
    found = set()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data + bytes(2))
        first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        inner = encoded[first:last]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def traces(value: str) -> set[bytes]:
    """Byte strings one of which stands wherever the value stands in one of these encodings."""
    found: set[bytes] = set()
    for data in octets(value):
        found |= {data, data.hex().encode(), data.hex().upper().encode()} | base64s(data)
        for digest in (hashlib.md5, hashlib.sha1, hashlib.sha256):
            found |= {digest(data).digest()[:8], digest(data).hexdigest()[:16].encode()}
    return found


TRACES = {value: traces(value) for value in PRIVATE}


def told_by(text: bytes) -> dict[str, str]:
    """The private values that this gives away, and what they are."""
    return {value: PRIVATE[value] for value, each in TRACES.items() if any(trace in text for trace in each)}


def ways_to_write(value: str) -> Iterator[bytes]:
    data = value.encode()
    yield json.dumps({"note": f"it is {value}."}).encode()
    yield value.upper().encode()
    yield value.lower().encode()
    yield value[::-1].encode()
    yield re.sub(r"[-:._ ]", "", value).encode()
    yield data.hex().encode()
    yield data.hex().upper().encode()
    for before in (b"", b"x", b"xy", b"xyz"):
        yield base64.b64encode(before + data + b"tail")
        yield base64.urlsafe_b64encode(before + data + b"tail").rstrip(b"=")
    yield hashlib.sha256(data).hexdigest().encode()
    bare = re.sub(r"[-:]", "", value)
    if re.fullmatch(r"(?:[0-9a-f]{2}){6,}", bare):
        yield b"in between " + bytes.fromhex(bare) + b" of other bytes"
        yield base64.urlsafe_b64encode(b"x" + bytes.fromhex(bare))


@pytest.mark.parametrize("value", PRIVATE)
def test_the_search_finds_each_value_however_it_is_written(value: str) -> None:
    for text in ways_to_write(value):
        assert value in told_by(text), text
    assert not told_by(b"kso.scales acme debian x86_64 " + ACME.install_request())


# --- a whole story -------------------------------------------------------------------------------------------


class Story(NamedTuple):
    answers: list[Any]
    requests: tuple[LicenseRequest, LicenseRequest]
    log: str
    state: dict[str, bytes]


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """Two vendors' installations on the server, and all that happens to it afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="licd-") as name,
        Site(Path(name), vendors=(ACME, UMBRA), names=NAMES) as site,
    ):
        answers: list[Any] = []

        def call(method: str, **params: Any) -> Any:
            answers.append(site.call(method, **params))
            return answers[-1]

        site.start()
        seen = Path(f"/proc/{site.pid}/environ").read_bytes()
        assert f"USER={USER}".encode() in seen  # the machine has all that it must not tell
        requests: list[LicenseRequest] = []
        state: dict[str, bytes] = {}
        for vendor in (ACME, UMBRA):
            asked = Asked(vendor)
            call("install.import", document=asked.document)
            call("install.request", vendor=vendor.vendor)
            requests.append(site.request(vendor.vendor))
            tags = {factor: ["000000"] for factor in requests[-1].fingerprint}
            elsewhere = asked.file(requests[-1], device={"fingerprint": tags})
            answers.append(refusal(site, "license.import", document=elsewhere).as_map())
            call("license.import", document=asked.file(requests[-1]))
        acquire(site, "till-1")
        for boot in ("server", "server: board and disks swapped", "container", "server"):
            site.boot(boot)
            for method in ("server.status", "server.hello", "license.list", "seat.list", "device.fingerprint"):
                call(method)
            call("device.fingerprint", without=["disk", "cpu"])
            call("license.check", license="kso.scales")
            call("install.request", vendor="acme")
            state |= {f"{boot}/{name}": data for name, data in site.files(but=()).items()}
        yield Story(answers, (requests[0], requests[1]), site.log, state)


def test_no_license_request_tells_a_private_value(story: Story) -> None:
    for request in story.requests:
        assert request.fingerprint.keys() == machines.described("server")["readings"].keys()  # it did look at them
        assert not told_by(request.text)


def test_no_line_of_the_log_tells_a_private_value(story: Story) -> None:
    assert "WRONG_DEVICE" in story.log
    assert not told_by(story.log.encode())


def test_no_file_of_the_state_folder_tells_a_private_value(story: Story) -> None:
    names = {name.partition("/")[2] for name in story.state}
    assert names >= {"journal", "device.key", "requests/acme.request.licd", "licenses/umbra.licd"}
    for name, data in story.state.items():
        assert not told_by(data), name


def test_no_answer_tells_a_private_value(story: Story) -> None:
    text = json.dumps(story.answers)
    assert "unreadable" in text
    assert not told_by(text.encode())


# --- two vendors ---------------------------------------------------------------------------------------------

COMMON = {
    *("licd", "type", "issued", "rehost", "unreadable"),
    *("software.os", "software.os_version", "software.architecture", "software.licd", "machine.kind", "machine.name"),
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a document, with where it stands; members of arrays stand where their array does."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each, path)
    else:
        yield path, value


def test_the_requests_of_one_device_to_two_vendors_share_nothing_but_what_is_common_to_many(story: Story) -> None:
    mine, theirs = (list(leaves(json.loads(request.text.partition(b"\t")[0]))) for request in story.requests)
    assert {path for path, _ in mine} >= COMMON - {"unreadable"}
    own = {(type(value), value) for path, value in mine if path not in COMMON}
    assert len(own) >= 12  # tags of eight factors, the key and three ids
    assert not own & {(type(value), value) for path, value in theirs if path not in COMMON}
    mine_signed, theirs_signed = (request.text.partition(b"\t")[2] for request in story.requests)
    assert mine_signed.rpartition(b".")[2] != theirs_signed.rpartition(b".")[2]
