"""What the manual shows is so: its sessions are run, its bytes are sent, its answers and files are looked for."""

from __future__ import annotations

import json
import re
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licd.device.fingerprint import DEFAULT_SHARE, DEFAULT_WEIGHTS, FOUND, Reading, fingerprint, tag_key
from licd.license import document, install, trust
from licd.license.binding import Binding
from licd.license.dates import day, later, timestamp
from licd.license.install import sign_license_request, verify_install_request, verify_license_request
from licd.license.lines import LicenseFile
from licd.license.renewal import RenewalRequest, sign_renewal_request, verify_answer, verify_renewal_request
from licd.rpc.client import CallError
from tests.support import machines, mdoc, pki, transcript
from tests.support.daemon import Daemon
from tests.support.mdoc import MAN, items, section, source, subsections
from tests.support.needs import needs_nvim, needs_root, needs_umockdev
from tests.support.transcript import CHECKOUT, masked

README = CHECKOUT / "README.md"
RPC = source("licd-rpc.7")
SESSIONS = [CHECKOUT / page for page in transcript.SESSIONS]


@pytest.fixture(scope="module")
def shop() -> Iterator[Daemon]:
    """A daemon with the licenses of the manual in force."""
    vendor = pki.Vendor()
    grants: list[dict[str, Any]] = [
        {"name": "kso.scan", "title": "Scanner", "seats": 3, "versions": "5.*", "expires": "2099-12-31"},
        {"name": "kso.report", "title": "Reports", "license": "uncounted"},
    ]
    with tempfile.TemporaryDirectory(prefix="licd-") as folder, Daemon(Path(folder)) as daemon:
        vendor.write_profile(daemon.vendors)
        daemon.start()
        daemon.call("license.import", document=vendor.license_file(seq=1, lines=grants))
        yield daemon


# --- sessions -----------------------------------------------------------------------------------------------


def played_pages() -> list[Any]:
    on_server = [needs_root, needs_umockdev]
    return [
        pytest.param(page, id=page.name, marks=on_server if page.name in transcript.ON_SERVER else ())
        for page in SESSIONS
    ]


@pytest.mark.parametrize("page", played_pages())
def test_the_sessions_of_a_page_print_what_it_shows(page: Path) -> None:
    played = transcript.play_page(page)
    assert played
    shown = "".join(f"$ {step.command}{step.output}" for step, _ in played)
    printed = "".join(f"$ {step.command}{output}" for step, output in played)
    assert masked(printed).splitlines() == masked(shown).splitlines()


@pytest.mark.parametrize("page", sorted(MAN.iterdir()), ids=lambda page: page.name)
def test_no_session_of_the_manual_is_left_out(page: Path) -> None:
    everywhere = [block for block in mdoc.displays(source(page.name)) if re.search(r"(?m)^\$ ", block)]
    assert everywhere == transcript.blocks(page) or not everywhere
    assert bool(everywhere) == (page in SESSIONS)


def test_the_commands_that_the_readme_names_are_there() -> None:
    commands = re.findall(r"(?ms)^```sh\n(.*?)^```$", README.read_text("utf-8"))
    words = [line.split() for block in commands for line in block.splitlines()]
    assert ["tools/quickstart"] in words
    on_a_device = "".join(mdoc.displays(section(source("licd.8"), "INSTALLATION"))).splitlines()  # and played as such
    for command, *arguments in words:
        if " ".join([command, *arguments]) in on_a_device:
            continue
        path = CHECKOUT / command
        assert command == ".venv/bin/python" or (path.is_file() and path.stat().st_mode & 0o111)
        for argument in arguments:
            if "/" in argument:
                assert (CHECKOUT / argument).exists()


def test_every_folder_in_the_readme_is_there_and_every_package_is_in_it() -> None:
    rows = re.findall(r"(?m)^\| `(\S+?)/` \|", README.read_text("utf-8"))
    assert all((CHECKOUT / row).is_dir() for row in rows)
    packages = {f"licd/{path.parent.name}" for path in (CHECKOUT / "licd").glob("*/__init__.py")}
    assert packages <= set(rows)


def test_the_readme_shows_what_the_simulation_of_renewals_prints() -> None:
    (shown,) = re.findall(r"(?ms)^```text\n(.*?)^```$", README.read_text("utf-8"))
    command = [sys.executable, str(CHECKOUT / "tools/bench/renewals_report.py"), "down"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert printed.strip("\n") == shown.strip("\n")


# --- the exchange in bytes ----------------------------------------------------------------------------------


def dumps(text: str) -> list[bytes]:
    """The byte dumps of a page: hexadecimal pairs, two blanks, what they mean."""
    found = []
    for block in re.split(r"(?m)^(?:```.*|\.Bd.*|\.Ed|)$", text):
        rows = [re.match(r" *((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  |$)", line) for line in block.strip("\n").splitlines()]
        if rows and all(rows):
            found.append(bytes.fromhex("".join(row[1] for row in rows if row)))
    return found


def test_readme_and_manual_show_the_same_bytes() -> None:
    assert len(dumps(README.read_text("utf-8"))) == 2
    assert dumps(README.read_text("utf-8")) == dumps("\n".join(RPC))
    assert f"It sends {len(dumps(README.read_text('utf-8'))[0])} bytes:" in RPC


def test_the_bytes_of_the_manual_get_the_response_of_the_manual(shop: Daemon) -> None:
    request, shown = dumps("\n".join(RPC))
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(shop.socket))
        stream.sendall(request)
        answered = stream.recv(65536)
    assert len(answered) == len(shown)
    kind, msgid, error, expected = msgpack.unpackb(shown)
    real = msgpack.unpackb(answered)
    assert real[:3] == [kind, msgid, error]
    assert list(real[3]) == list(expected)
    for member, value in expected.items():
        assert type(real[3][member]) is type(value)
        if member not in ("lease", "deadline"):
            assert real[3][member] == value
    assert shop.call("seat.release", lease=real[3]["lease"]) == {"released": True}


def test_what_the_dump_says_beside_its_bytes_is_what_they_are() -> None:
    rows: list[tuple[bytes, str]] = []
    for line in RPC:
        row = re.match(r" *((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  +(\S.*))?$", line)
        if row and row[2]:
            rows.append((bytes.fromhex(row[1]), row[2]))
        elif row:
            rows[-1] = (rows[-1][0] + bytes.fromhex(row[1]), rows[-1][1])
    texts = {data[1:].decode(): note.split('"')[1] for data, note in rows if note.startswith('"')}
    assert len(texts) >= 12
    assert all(data == note for data, note in texts.items())
    numbers = [(data, note.partition(" ")[0]) for data, note in rows if re.match(r"\d", note)]
    assert all(str(msgpack.unpackb(data)) == note.rstrip(":") for data, note in numbers)


def readme_code(language: str) -> str:
    (code,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", README.read_text("utf-8"))
    return str(code)


def test_the_readme_s_python_gets_a_lease(shop: Daemon) -> None:
    code = readme_code("python").replace("/run/licd/licd.sock", str(shop.socket))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert shop.call("seat.release", lease=done.stdout.strip()) == {"released": True}


@needs_nvim
@pytest.mark.parametrize("page", ["README.md", "licd-rpc.7"])
def test_neovim_gets_a_lease_as_shown(shop: Daemon, page: str, tmp_path: Path) -> None:
    if page == "README.md":
        code = readme_code("vim")
    else:
        (code,) = (each for each in mdoc.displays(RPC) if "sockconnect" in each)
    script = tmp_path / "script.vim"
    script.write_text(code.replace("/run/licd/licd.sock", str(shop.socket)) + "qa!\n")
    done = subprocess.run(
        ["timeout", "20", "nvim", "--headless", "--clean", "-u", "NONE", "-i", "NONE", "-n", "-S", script],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    found = re.search(r"[0-9a-f]{24}", done.stdout + done.stderr)
    assert found is not None, done.stdout + done.stderr
    assert shop.call("seat.release", lease=found[0]) == {"released": True}


# --- results ------------------------------------------------------------------------------------------------

# Maps or nil that the manual describes as one.
WAS = {"was", "will_be", "reason", "error", "last", "refused", "refusal"}


def paths(value: Any, at: str = "") -> Iterator[str]:
    """The members of an answer, as licd-rpc(7) names them."""
    if isinstance(value, dict) and at.rpartition(".")[2] not in WAS:
        for name, each in value.items():
            yield from paths(each, f"{at}.{name}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for each in value:
            yield from paths(each, f"{at}[]")
    else:
        yield at


def answers(shop: Daemon) -> dict[str, list[Any]]:
    with shop.client() as client:
        request = client.call("install.request")
        lease = client.call("seat.acquire", license="kso.scan", holder="pos", version="5.1")
        ids = [lease["lease"], "0" * 24]
        text = client.call("license.export")["document"]
        return {
            "server.hello": [client.call("server.hello")],
            "server.status": [client.call("server.status")],
            "seat.acquire": [lease],
            "seat.confirm": [client.call("seat.confirm", lease=ids[0]), client.call("seat.confirm", leases=ids)],
            "seat.list": [client.call("seat.list")],
            "license.check": [client.call("license.check", license="kso.scan")],
            "license.list": [client.call("license.list")],
            "license.import": [client.call("license.import", document=text, dry_run=True)],
            "license.export": [client.call("license.export")],
            "seat.release": [client.call("seat.release", lease=ids[0])],
            "install.import": [client.call("install.import", document=VENDOR.install_request(weights=DEFAULT_WEIGHTS))],
            "install.request": [request],
            "device.fingerprint": [client.call("device.fingerprint", without=["disk"])],
            "renewal.plan": [client.call("renewal.plan")],
            "renewal.request": [client.call("renewal.request")],
            "renewal.report": [client.call("renewal.report", document=bound_file(shop, seq=2))],
        }


VENDOR = pki.Vendor()


@pytest.fixture(scope="module")
def server() -> Iterator[Daemon]:
    """A daemon on the machine `server`, with a license file in force that is bound to it."""
    with (
        tempfile.TemporaryDirectory(prefix="licd-") as folder,
        Daemon(Path(folder), wrap=machines.wrap("server")) as daemon,
    ):
        VENDOR.write_profile(daemon.vendors)
        daemon.start()
        daemon.call("install.import", document=VENDOR.install_request(weights=DEFAULT_WEIGHTS))
        daemon.call("license.import", document=bound_file(daemon, seq=1))
        yield daemon


def bound_file(daemon: Daemon, **more: Any) -> bytes:
    """The license file that answers the daemon's license request."""
    request = verify_license_request(daemon.call("install.request")["document"].encode())
    device = {
        "key": request.device,
        "salt": document.b64url(bytes(range(16))).decode(),
        "fingerprint": request.fingerprint,
        "weights": DEFAULT_WEIGHTS,
        "share": 50,
    }
    grants = [{"name": "kso.scan", "seats": 3, "versions": "5.*"}]
    return VENDOR.license_file(lines=grants, header={"device": device, "request": request.id}, **more)


@needs_umockdev
def test_the_manual_lists_exactly_the_members_of_every_result(server: Daemon) -> None:
    real = {method: {path for each in given for path in paths(each)} for method, given in answers(server).items()}
    files = {path for path in real["license.import"] if path.startswith("files[]")}  # described there
    assert files < real["renewal.report"]
    real["renewal.report"] = real["renewal.report"] - files | {"files"}
    sections = subsections(section(RPC, "METHODS"))
    assert {name: {i.head for i in items(body) if i.macro == "Va"} for name, body in sections.items()} == real


def test_the_maps_of_a_plan_have_the_members_that_the_manual_lists(tmp_path: Path) -> None:
    vendor = pki.Vendor()
    with Daemon(tmp_path) as daemon:
        vendor.write_profile(daemon.vendors)
        daemon.start()
        daemon.call("license.import", document=vendor.license_file())
        request = verify_renewal_request(daemon.call("renewal.request")["document"].encode())
        now = timestamp(time.time())
        reported = daemon.call("renewal.report", document=vendor.refusal(request, issued=now))
        (row,) = daemon.call("renewal.plan")["vendors"]
    assert row["refused"] == reported["refusal"]
    entries = {item.head: item for item in items(subsections(section(RPC, "METHODS"))["renewal.plan"])}
    for member in ("last", "refused"):
        first = " ".join(entries[f"vendors[].{member}"].lines).partition(" :")[0]
        assert row[member].keys() == set(re.findall(r"Va (\w+)", first)), member


@needs_umockdev
def test_what_if_tells_what_would_be_and_changes_nothing_as_the_manual_says(server: Daemon) -> None:
    now = server.call("device.fingerprint")
    then = server.call("device.fingerprint", without=["disk", "nic", "board"])
    assert {name for name in then if then[name] != now.get(name)} == {"without", "weak", "vendors"}
    (row,) = then["vendors"]
    assert (row["standing"], row["until"]) == ("copy", None)
    assert server.call("device.fingerprint") == now


def test_an_error_on_the_wire_has_the_members_that_the_manual_lists(shop: Daemon) -> None:
    with shop.client() as client, pytest.raises(CallError) as raised:
        client.call("seat.acquire", license="kso.none", holder="pos")
    listed = {item.head for item in items(section(RPC, "ERROR CATALOGUE")) if item.macro == "Va"}
    assert listed == raised.value.as_map().keys()
    assert raised.value.data.keys() == {"license", "next", "who"}


# --- files --------------------------------------------------------------------------------------------------


def test_the_manual_lists_every_file_that_licd_leaves_in_its_state_folder(tmp_path: Path) -> None:
    vendor, gone = pki.Vendor("vendor"), pki.Vendor().leaf.certificate
    with Daemon(tmp_path) as daemon:
        vendor.write_profile(daemon.vendors)
        daemon.start()
        for seq in (1, 2):
            daemon.call("license.import", document=vendor.license_file(seq=seq))
            daemon.call("install.import", document=vendor.install_request(id=f"asked-{seq}"))
            assert daemon.call("install.request")["new"]
            assert daemon.call("renewal.request")["new"]
        for seq in (1, 2):
            request = verify_renewal_request(daemon.call("renewal.request")["document"].encode())
            answer = vendor.unchanged(request, issued=timestamp(time.time()))
            daemon.call("renewal.report", document=answer + vendor.withdrawn((gone, False), seq=seq))
        assert daemon.call("renewal.request")["new"]
        daemon.kill()
        journal = daemon.state / "journal"
        data = bytearray(journal.read_bytes())
        data[50] ^= 1
        journal.write_bytes(data)
        daemon.start()
        for _ in range(3):  # the next journal is made in the turns after the start
            daemon.call("server.status")
        found = {str(path.relative_to(daemon.state)) for path in daemon.state.rglob("*") if path.is_file()}
        mode = stat.S_IMODE((daemon.state / "device.key").stat().st_mode)
    entries = {item.head: item for item in items(section(source("licd.8"), "FILES"))}
    heads = list(entries)
    prefix = "/var/lib/licd/"
    listed = {head.removeprefix(prefix) for head in heads if head.startswith(prefix) and head != prefix}
    assert {name.replace("VENDOR", "vendor") for name in listed} == found
    assert f"Mode {mode:04o}." in entries[f"{prefix}device.key"].lines


# --- documents ----------------------------------------------------------------------------------------------


DOCUMENTS = [re.sub(r"\n +", "", block) for block in mdoc.displays(section(source("licd-license.5"), "EXAMPLES"))]
INSTALL_REQUEST, LICENSE_REQUEST, DEVICE_HEADER, LICENSE_FILE, VENDOR_HEADER = (each.encode() for each in DOCUMENTS[:5])
RENEWAL_REQUEST, UNCHANGED, REFUSAL = (each.encode() for each in DOCUMENTS[5:8])
# That of RFC 8037, appendix A.1.
DEVICE_KEY = Ed25519PrivateKey.from_private_bytes(
    document.b64url_decode(b"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
)


def test_the_install_request_of_the_manual_is_one(tmp_path: Path) -> None:
    VENDOR.write_profile(tmp_path)
    data = VENDOR.raw_line(INSTALL_REQUEST.strip(), document.INSTALL_REQUEST)
    request = verify_install_request(data, trust.load_profiles(tmp_path), trusted_now=None)
    assert request.weights == DEFAULT_WEIGHTS
    assert request.share == DEFAULT_SHARE


def test_the_license_request_of_the_manual_is_one_with_the_header_shown() -> None:
    data = pki.signed_line(LICENSE_REQUEST.strip(), json.loads(DEVICE_HEADER), DEVICE_KEY.sign)
    request = verify_license_request(data)
    header = document.device_header(document.LICENSE_REQUEST, request.device)
    assert json.loads(DEVICE_HEADER) == header
    assert list(json.loads(DEVICE_HEADER)) == list(header)
    said = {name: value for name, value in request._asdict().items() if name not in ("device", "text")}
    made = sign_license_request(DEVICE_KEY, **said)
    assert made.text.partition(b"\t")[0] == LICENSE_REQUEST.strip()


def test_the_tags_of_the_manual_are_those_of_a_server_under_the_salt_shown() -> None:
    readings = machines.described("server")["readings"]
    found = [Reading(factor, FOUND, tuple(values)) for factor, values in readings.items()]
    asked = json.loads(INSTALL_REQUEST)
    key = tag_key(asked["vendor"], document.b64url_decode(asked["salt"].encode()))
    assert json.loads(LICENSE_REQUEST)["fingerprint"] == fingerprint(found, key, DEFAULT_WEIGHTS)


def test_the_license_file_of_the_manual_is_one_and_answers_the_license_request(tmp_path: Path) -> None:
    file = license_file(tmp_path)
    assert [line.name for line in file.lines] == ["kso.scan", "kso.report"]
    asked, request = json.loads(INSTALL_REQUEST), json.loads(LICENSE_REQUEST)
    bound = Binding(request["device"], asked["salt"], request["fingerprint"], asked["weights"], asked["share"])
    assert (file.device, file.request, request["install_request"]) == (bound, request["id"], asked["id"])


def license_file(folder: Path) -> LicenseFile:
    """That of the manual, signed; its vendor's profile is in the folder."""
    kinds = [document.LICENSE_FILE, document.LICENSE, document.LICENSE]
    payloads = LICENSE_FILE.splitlines()
    data = b"".join(VENDOR.raw_line(each, kind) for each, kind in zip(payloads, kinds, strict=True))
    VENDOR.write_profile(folder)
    (only,) = document.parse(data)
    return document.run(trust.verify(only, trust.load_profiles(folder), trusted_now=None, new=True))


def renewal_request(file: LicenseFile) -> RenewalRequest:
    """That of the manual, signed; but for the digest, which is that of a file with new signatures."""
    payload, digests = re.subn(rb'(?<="digest":")[0-9a-f]{64}', file.digest.encode(), RENEWAL_REQUEST.strip())
    assert digests == 1
    header = document.device_header(document.RENEWAL_REQUEST, install.public_key(DEVICE_KEY))
    return verify_renewal_request(pki.signed_line(payload, header, DEVICE_KEY.sign) + file.text)


def test_the_renewal_request_of_the_manual_is_one_and_a_device_would_write_it_so(tmp_path: Path) -> None:
    file = license_file(tmp_path)
    request = renewal_request(file)
    assert request.fingerprint != json.loads(LICENSE_REQUEST)["fingerprint"]  # "with another network card"
    made = sign_renewal_request(
        DEVICE_KEY,
        id=request.id,
        vendor=request.vendor,
        issued=request.issued,
        fingerprint=request.fingerprint,
        unreadable=request.unreadable,
        file=file,
        usage=request.usage,
    )
    assert made.text == request.text
    peaks = request.usage.peaks.values()
    assert {later(request.usage.since or "", len(each) - 1) for each in peaks} == {day(request.issued)}


@pytest.mark.parametrize(
    ("payload", "kind"), [(UNCHANGED, document.UNCHANGED), (REFUSAL, document.REFUSAL)], ids=["unchanged", "refusal"]
)
def test_an_answer_of_the_manual_is_one_to_that_request(tmp_path: Path, payload: bytes, kind: str) -> None:
    request = renewal_request(license_file(tmp_path))
    (only,) = document.parse(VENDOR.raw_line(payload.strip(), kind))
    answer = verify_answer(only, trust.load_profiles(tmp_path), trusted_now=None, new=True)
    assert answer.kind == kind
    about = (request.id, request.device, request.file, request.seq)
    assert (answer.request, answer.device, answer.file, answer.seq) == about
    assert (answer.reason is None) == (kind == document.UNCHANGED)


def test_the_signature_header_of_the_manual_is_one() -> None:
    header = json.loads(VENDOR_HEADER)
    real = VENDOR.protected(document.LICENSE)
    assert {**header, "x5t#S256": ""} == {**real, "x5t#S256": ""}
    assert len(header["x5t#S256"]) == len(real["x5t#S256"])


def test_the_shortened_line_of_the_manual_is_of_the_form_of_a_real_one() -> None:
    (shown,) = mdoc.displays(section(source("licd-license.5"), "FORM"))
    pieces = re.fullmatch(r".*<TAB>([\w-]+)\.\.\.([\w-]+)\.\.([\w-]+)\.\.\.([\w-]+)\n", shown)
    assert pieces is not None
    first, last, begin, end = pieces.groups()
    real = document.b64url(document.write_json(pki.Vendor().protected(document.LICENSE))).decode()
    assert (real[: len(first)], real[-len(last) :]) == (first, last)
    signature = document.b64url_decode(begin.encode() + b"A" * (86 - len(begin + end)) + end.encode())
    assert len(signature) == 64
    assert signature[:1] != b"\x30"  # how DER begins
