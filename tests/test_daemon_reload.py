"""SIGHUP to the real licd: everything new comes in, or nothing does and status says why."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from licd.license.dates import timestamp
from licd.license.store import Store
from tests.support import pki
from tests.support.clients import refusal
from tests.support.daemon import Daemon
from tests.support.device import LINES, device, vendor
from tests.support.needs import needs_root
from tests.support.process import comes_to_rest
from tests.support.raw import Raw, connect_as, request

SETTINGS: dict[str, object] = {"socket_mode": "0666", "max_connections_per_user": 8}


@pytest.fixture
def licd() -> Iterator[Daemon]:
    with device(settings=SETTINGS) as licd:
        yield licd


def reload(licd: Daemon) -> None:
    """SIGHUP, until the answer of licd to systemd."""
    os.kill(licd.pid, signal.SIGHUP)
    licd.wait_for("RELOADING=1")
    licd.wait_for("READY=1")


def warnings(licd: Daemon) -> str:
    with Raw(licd.socket) as raw:
        return "\n".join(raw.call("server.status")["warnings"])


def test_a_reload_tells_systemd_when_it_began_and_that_it_is_over(licd: Daemon) -> None:
    before = time.monotonic_ns() // 1000
    os.kill(licd.pid, signal.SIGHUP)
    began, _, usec = licd.wait_for("RELOADING=1").partition("\nMONOTONIC_USEC=")
    assert began == "RELOADING=1"
    assert before <= int(usec) <= time.monotonic_ns() // 1000
    licd.wait_for("READY=1")
    assert comes_to_rest(licd.pid)


def test_a_reload_keeps_connections_and_leases(licd: Daemon) -> None:
    with Raw(licd.socket) as raw:
        lease = raw.call("seat.acquire", license="kso.scan", holder="till-1", on_close="release")["lease"]
        reload(licd)
        assert raw.call("seat.confirm", lease=lease)["lease"] == lease


@needs_root
def test_new_limits_are_in_force_after_a_reload(licd: Daemon) -> None:
    licd.configure(**SETTINGS | {"max_connections_per_user": 1, "max_ttl": 100})
    reload(licd)
    with connect_as(licd.socket, 51001) as first, connect_as(licd.socket, 51001) as second:
        assert second.goodbye() == "TOO_MANY_CONNECTIONS"
        assert first.refusal("seat.acquire", {"license": "kso.pos", "holder": "h", "ttl": 101}) == "BAD_PARAMS"
        assert first.call("server.hello")["limits"]["ttl_s"] == 100


def test_more_connections_than_before_find_descriptors_after_a_reload() -> None:
    few = SETTINGS | {"max_connections": 20}
    with device(settings=few, wrap=("prlimit", "--nofile=84:4096")) as licd:
        licd.configure(**few | {"max_connections": 300})
        reload(licd)
        assert resource.prlimit(licd.pid, resource.RLIMIT_NOFILE)[0] >= 300
        with contextlib.ExitStack() as stack:
            raws = [stack.enter_context(Raw(licd.socket, 3.0)) for _ in range(200)]
            for raw in raws:
                raw.send(request(1, "server.hello"))
            assert [raw.read()[:3] for raw in raws] == [[1, 1, None]] * 200


def test_a_new_vendor_profile_is_known_after_a_reload(licd: Daemon) -> None:
    other = pki.Vendor("beta", ("beta.*",), root={"days": 36500}, leaf={"days": 36500})
    document = other.license_file(lines=[{"name": "beta.scan", "seats": 1}])
    with Raw(licd.socket) as raw:
        assert raw.refusal("license.import", {"document": document}) == "UNTRUSTED_SIGNER"
        other.write_profile(licd.vendors)
        reload(licd)
        raw.call("license.import", document=document)
        assert raw.call("license.check", license="beta.scan")["valid"] is True


# --- reloads that come to nothing -----------------------------------------------------------------------------


def vanish(licd: Daemon) -> None:
    shutil.rmtree(licd.vendors / "acme")


def tamper(licd: Daemon) -> None:
    file = licd.state / "licenses" / "acme.licd"
    file.write_bytes(file.read_bytes().replace(b"kso.scan", b"kso.scam"))


def lose(licd: Daemon) -> None:
    (licd.state / "licenses" / "acme.licd").unlink()


def another_root(licd: Daemon) -> None:
    shutil.rmtree(licd.vendors / "acme")
    pki.Vendor(root={"days": 36500, "subject": "another root"}).write_profile(licd.vendors)


def clash(licd: Daemon) -> None:
    shutil.copytree(licd.vendors / "acme", licd.vendors / "acme2")


def no_vendors(licd: Daemon) -> None:
    shutil.rmtree(licd.vendors)
    licd.vendors.write_text("no folder")


def no_config(licd: Daemon) -> None:
    licd.config.unlink()


def garbage(licd: Daemon) -> None:
    licd.config.write_bytes(b"[licd]\nstate = \xff\xfe\n")


def key(name: str, value: object) -> Callable[[Daemon], None]:
    return lambda licd: licd.configure(**SETTINGS | {name: value})


REFUSED: dict[str, tuple[Callable[[Daemon], None], str]] = {
    "an unknown key": (key("max_conections", 5), "unknown key max_conections"),
    "a value out of bounds": (key("max_ttl", 1), "max_ttl must be"),
    "a group that does not exist": (key("admin_group", "no-such-group"), "no-such-group"),
    "no configuration file": (no_config, "licd.conf"),
    "a file that is not UTF-8": (garbage, "licd.conf"),
    "another state folder": (key("state", "/nowhere"), "state changes only with a restart"),
    "another socket": (key("socket", "/nowhere/licd.sock"), "socket changes only with a restart"),
    "another mode of the socket": (key("socket_mode", "0600"), "socket_mode changes only with a restart"),
    "another size of the journal": (key("journal_size", 1024 * 1024), "journal_size changes only with a restart"),
    "a vendor profile that is gone": (vanish, "would become invalid"),
    "a vendor profile with another root": (another_root, "would become invalid"),
    "a license file that was tampered with": (tamper, "would become invalid"),
    "a license file that is gone": (lose, "would become invalid"),
    "two profiles that claim one name": (clash, "acme2"),
    "a vendors folder that is none": (no_vendors, "vendor.d"),
}


@pytest.mark.parametrize(("change", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_come_in_is_kept_out_whole_and_the_reason_is_told(
    licd: Daemon, change: Callable[[Daemon], None], reason: str
) -> None:
    with Raw(licd.socket) as raw:
        lease = raw.call("seat.acquire", license="kso.scan", holder="till-1")["lease"]
        before = raw.call("license.list")
        change(licd)
        reload(licd)
        assert raw.call("license.list") == before
        assert raw.call("seat.confirm", lease=lease)["lease"] == lease
        assert raw.call("server.hello")["limits"]["ttl_s"] == 3600
    assert reason in warnings(licd)
    assert licd.log.count("the reload was refused") == 1
    assert "Traceback" not in licd.log
    assert comes_to_rest(licd.pid)


def test_the_next_good_reload_takes_the_complaint_back(licd: Daemon) -> None:
    licd.configure(**SETTINGS | {"max_ttl": "no number"})
    reload(licd)
    # Nothing else happens meanwhile that would be a reason to say it.
    licd.wait_for("STATUS=2 of 2 licenses valid, 0 of 3 seats held; the reload was refused", 3)
    licd.configure(**SETTINGS | {"max_ttl": 200})
    reload(licd)
    assert licd.wait_for("STATUS=", 3) == "STATUS=2 of 2 licenses valid, 0 of 3 seats held"
    assert warnings(licd) == ""
    assert licd.call("server.hello")["limits"]["ttl_s"] == 200


def test_an_invalid_license_does_not_stand_in_the_way_of_a_reload() -> None:
    old = {"name": "kso.old", "seats": 1, "not_before": "2026-06-01", "expires": "2026-07-01"}
    lines: list[dict[str, object]] = [old, {"name": "kso.pos", "license": "uncounted"}]
    with device(lines=lines) as licd:
        licd.configure(max_ttl=200)
        reload(licd)
        assert licd.call("server.hello")["limits"]["ttl_s"] == 200


def test_a_license_file_imported_before_is_not_lost_by_a_reload(licd: Daemon) -> None:
    with Raw(licd.socket) as raw:
        raw.call("license.import", document=vendor().license_file(seq=2, lines=[{"name": "kso.scan", "seats": 9}]))
        reload(licd)
        assert raw.call("server.status")["seats"]["total"] == 9
        assert raw.refusal("license.import", {"document": vendor().license_file(seq=1)}) == "OLDER_FILE"


def test_a_newer_license_file_put_into_the_state_folder_counts_like_an_imported_one(licd: Daemon) -> None:
    issued = time.time() + 40 * pki.DAY
    Store(licd.state / "licenses").replace("acme", vendor().license_file(seq=3, lines=LINES, issued=issued))
    reload(licd)
    with Raw(licd.socket) as raw:
        assert raw.call("license.export")["seq"] == 3
        assert raw.refusal("license.import", {"document": vendor().license_file(seq=2)}) == "OLDER_FILE"
        assert raw.call("server.status")["clock"]["trusted"] >= timestamp(issued)
    licd.kill()
    (licd.state / "licenses" / "acme.licd").unlink()
    licd.start()
    assert refusal(licd, "license.import", document=vendor().license_file(seq=2)).name == "OLDER_FILE"


def test_a_reload_in_the_middle_of_an_import_leaves_both_whole(licd: Daemon) -> None:
    document = vendor().license_file(seq=5, lines=[*LINES, *({"name": f"kso.n{n}"} for n in range(1_000))])
    with Raw(licd.socket, 30.0) as raw:
        raw.send(request(1, "license.import", {"document": document}))
        with Raw(licd.socket) as other:  # answered while the import is under way
            other.call("server.hello")
        reload(licd)
        assert raw.read()[2] is None or raw.call("license.import", document=document)
        assert raw.call("license.export")["seq"] == 5
    licd.stop()
    licd.start()
    assert licd.call("license.export")["seq"] == 5


def test_many_hangups_at_once_are_answered_and_end(licd: Daemon) -> None:
    for _ in range(50):
        os.kill(licd.pid, signal.SIGHUP)
    licd.wait_for("READY=1")
    while licd.hear(0.5) is not None:
        pass
    assert licd.call("server.hello")["server"] == "licd"
    assert comes_to_rest(licd.pid)
    assert licd.stop() == 0
