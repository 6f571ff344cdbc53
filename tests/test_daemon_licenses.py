"""License files on the real process: imports, what they change, and what happens when a date passes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from licd.license import document
from licd.license.dates import begin_of, end_of
from tests.support import pki
from tests.support.clients import Pipeline, Program, refusal, wait_until
from tests.support.clocks import Clocks
from tests.support.daemon import Daemon
from tests.support.needs import needs_faketime, needs_strace
from tests.support.process import comes_to_rest, wake_ups
from tests.support.strace import injected

ACME, OTHER, STRANGER = pki.Vendor(), pki.Vendor("other", ("pos.*",)), pki.Vendor("acme", leaf={"subject": "thief"})
STRANGER.root = pki.authority("another root")
STRANGER.leaf = pki.signer(STRANGER.root, subject="thief")

TODAY = time.strftime("%Y-%m-%d", time.gmtime())


LINES: list[dict[str, Any]] = [
    {"name": "kso.scales", "seats": 3, "expires": "2030-12-31"},
    {"name": "kso.camera", "license": "uncounted"},
    {"name": "kso.pay", "seats": 2, "versions": ">=4,<6"},
]
BINDING = {
    "key": document.b64url(bytes(32)).decode(),
    "salt": document.b64url(bytes(16)).decode(),
    "fingerprint": {"uuid": ["0a1b2c"]},
    "weights": {"uuid": 10},
    "share": 50,
}


@pytest.fixture
def shop(folder: Path) -> Iterator[Daemon]:
    with prepared(folder) as daemon:
        yield daemon.start()


def prepared(folder: Path, **options: Any) -> Daemon:
    daemon = Daemon(folder, settings={"socket_mode": "0666"}, **options)
    ACME.write_profile(daemon.vendors)
    OTHER.write_profile(daemon.vendors)
    return daemon


def grant(daemon: Daemon, data: bytes, **params: Any) -> Mapping[str, Any]:
    """The one row of the import's answer."""
    (row,) = daemon.call("license.import", document=data, **params)["files"]
    found: Mapping[str, Any] = row
    return found


def snapshot(daemon: Daemon) -> tuple[object, ...]:
    """All that an import could change."""
    files = daemon.state / "licenses"
    stored = [(path.name, path.read_bytes(), path.stat()) for path in sorted(files.glob("*"))] if files.exists() else []
    status = daemon.call("server.status")
    return stored, status["journal"]["bytes"], status["vendors"], daemon.call("license.list")


def totals(daemon: Daemon) -> dict[str, int | None]:
    return {row["license"]: row["total"] for row in daemon.call("license.list")["licenses"]}


# --- what an import does -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [bytes, bytes.decode])
def test_an_imported_file_is_in_force_at_once_and_after_a_kill(shop: Daemon, form: Any) -> None:
    data = ACME.license_file(1, LINES)
    assert grant(shop, form(data))["in_force"] == "new"
    assert totals(shop) == {"kso.scales": 3, "kso.camera": None, "kso.pay": 2}
    shop.restart()
    assert totals(shop) == {"kso.scales": 3, "kso.camera": None, "kso.pay": 2}
    exported = shop.call("license.export")
    assert (exported["vendor"], exported["seq"], exported["document"].encode()) == ("acme", 1, data)


def test_the_file_before_is_kept_as_the_previous_one(shop: Daemon) -> None:
    first, second = ACME.license_file(1, LINES), ACME.license_file(2, LINES[:1])
    grant(shop, first)
    grant(shop, second)
    folder = shop.state / "licenses"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "acme.licd": second,
        "acme.licd.previous": first,
    }


def test_a_dry_run_changes_nothing_and_says_where_there_is_less(shop: Daemon) -> None:
    grant(shop, ACME.license_file(1, [*LINES, {"name": "kso.gone"}]))
    before = snapshot(shop)
    new: list[dict[str, Any]] = [
        {"name": "kso.scales", "seats": 5, "expires": "2029-12-31"},  # more seats, but they end sooner
        {"name": "kso.camera", "license": "counted", "seats": 100},
        {"name": "kso.pay", "seats": 2, "versions": ">=4,<5"},
        {"name": "kso.new"},
    ]
    row = grant(shop, ACME.license_file(2, new), dry_run=True)
    changes = {each["license"]: (each["change"], each["less"]) for each in row["changes"]}
    assert changes == {
        "kso.camera": ("changed", True),
        "kso.gone": ("removed", True),
        "kso.new": ("added", False),
        "kso.pay": ("changed", True),
        "kso.scales": ("changed", True),
    }
    assert snapshot(shop) == before
    (scales,) = [each for each in row["changes"] if each["license"] == "kso.scales"]
    assert (scales["was"]["total"], scales["will_be"]["total"]) == (3, 5)
    assert (scales["was"]["expires"], scales["will_be"]["expires"]) == ("2030-12-31", "2029-12-31")


def test_the_same_file_again_is_a_success_that_writes_nothing(shop: Daemon) -> None:
    data = ACME.license_file(1, LINES)
    grant(shop, data)
    before = snapshot(shop)
    for again in (data, b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"), b"# a comment\n" + data.replace(b"\t", b"   ")):
        assert grant(shop, again)["in_force"] == "already"
    assert snapshot(shop) == before


@needs_faketime
def test_the_same_file_again_is_nothing_new_however_long_its_signer_has_retired(folder: Path) -> None:
    vendor = pki.Vendor(root=ACME.root, leaf={"days": 200})
    data = vendor.license_file(1, LINES)
    clocks = Clocks(folder)
    clocks.set_wall(pki.NOW)
    with prepared(folder, env=clocks.env) as shop:
        shop.start()
        grant(shop, data)
        clocks.elapse(400 * pki.DAY)
        assert grant(shop, data)["in_force"] == "already"
        assert refusal(shop, "license.import", document=vendor.license_file(2, LINES)).name == "SIGNER_RETIRED"
        (shop.state / "licenses" / "acme.licd").unlink()  # a bad sector; status says: import it again
        shop.restart()
        assert grant(shop, data)["in_force"] == "new"


def test_what_is_exported_is_the_file_in_force_when_it_is_imported(shop: Daemon) -> None:
    grant(shop, ACME.license_file(1, LINES).replace(b"\n", b"\r\n"))
    exported = shop.call("license.export", vendor="acme")["document"]
    assert grant(shop, exported)["in_force"] == "already"
    assert refusal(shop, "license.export", vendor="other").name == "NOT_IN_FORCE"


def test_a_lower_seq_is_refused_and_the_same_seq_with_other_content_too(shop: Daemon) -> None:
    grant(shop, ACME.license_file(5, LINES))
    before = snapshot(shop)
    for dry_run in (False, True):
        error = refusal(shop, "license.import", document=ACME.license_file(4, LINES), dry_run=dry_run)
        assert (error.name, error.data["seq"], error.data["in_force"]) == ("OLDER_FILE", 4, 5)
        other = ACME.license_file(5, LINES[:1])
        assert refusal(shop, "license.import", document=other, dry_run=dry_run).name == "SEQ_CONFLICT"
    assert snapshot(shop) == before
    shop.restart()
    assert refusal(shop, "license.import", document=ACME.license_file(4, LINES)).name == "OLDER_FILE"


def broken_signature(data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join([*lines[:-1], lines[-1].replace(b'"seats":2', b'"seats":9')])


REFUSED = {
    "BAD_SIGNATURE": broken_signature(ACME.license_file(2, LINES)),
    "LINES_DO_NOT_FIT": b"".join(ACME.license_lines(2, LINES)[:2] + ACME.license_lines(2, LINES)[3:]),
    "FOREIGN_NAME": ACME.license_file(2, [*LINES, {"name": "pos.till"}]),
    "UNTRUSTED_SIGNER": STRANGER.license_file(2, LINES),
    "BAD_DOCUMENT": ACME.license_file(2, [*LINES, {"name": "kso.x", "seats": -1}]),
    "WRONG_DEVICE": ACME.license_file(2, LINES, header={"device": BINDING}),
    "DOCUMENT_TOO_LARGE": ACME.license_file(2, LINES) + b"#" * document.MAX_DOCUMENT_BYTES,
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_import_changes_nothing(shop: Daemon, name: str) -> None:
    grant(shop, ACME.license_file(1, LINES))
    grant(shop, OTHER.license_file(1, [{"name": "pos.till"}]))
    before = snapshot(shop)
    assert refusal(shop, "license.import", document=REFUSED[name]).name == name
    assert refusal(shop, "license.import", document=REFUSED[name], dry_run=True).name == name
    assert snapshot(shop) == before
    grant(shop, ACME.license_file(2, LINES[:1]))  # its number was not used up


def test_a_delivery_is_searched_for_the_file_for_this_device(shop: Daemon) -> None:
    delivery = [
        ACME.license_file(7, [{"name": "kso.scales", "seats": 7}], header={"device": BINDING}),
        ACME.license_file(2, [{"name": "kso.scales", "seats": 2}]),
        ACME.license_file(9, [{"name": "kso.scales", "seats": 9}], header={"device": BINDING}),
    ]
    answer = shop.call("license.import", document=b"".join(delivery))
    assert [(row["seq"], row["in_force"]) for row in answer["files"]] == [(2, "new")]
    assert answer["others"] == 2
    assert totals(shop) == {"kso.scales": 2}
    assert shop.call("license.export")["document"].encode() == delivery[1]
    assert shop.restart().call("license.export")["document"].encode() == delivery[1]


def test_a_delivery_with_one_bad_file_is_refused_whole(shop: Daemon) -> None:
    bad = broken_signature(ACME.license_file(3, LINES, header={"device": BINDING}))
    error = refusal(shop, "license.import", document=ACME.license_file(2, LINES) + bad)
    assert error.name == "BAD_SIGNATURE"
    assert totals(shop) == {}


def test_two_vendors_never_touch_each_other(shop: Daemon) -> None:
    grant(shop, ACME.license_file(5, LINES))
    grant(shop, OTHER.license_file(1, [{"name": "pos.till", "seats": 2}]))
    before = shop.call("license.export", vendor="acme")
    grant(shop, OTHER.license_file(2, [{"name": "pos.till", "seats": 4}]))
    assert shop.call("license.export", vendor="acme") == before
    assert totals(shop)["pos.till"] == 4
    mixed = ACME.license_file(6, LINES) + OTHER.license_file(3, [{"name": "pos.till"}])
    assert refusal(shop, "license.import", document=mixed).name == "BAD_DOCUMENT"
    assert refusal(shop, "license.export").name == "BAD_PARAMS"  # which one?
    assert [(row["vendor"], row["seq"]) for row in shop.call("server.status")["vendors"]] == [("acme", 5), ("other", 2)]


def test_lines_of_one_name_add_up_while_they_count(shop: Daemon) -> None:
    lines = [
        {"name": "kso.sum", "seats": 1},
        {"name": "kso.sum", "seats": 2, "expires": "9998-12-31"},
        {"name": "kso.sum", "seats": 4, "expires": "2026-02-01"},
        {"name": "kso.sum", "seats": 8, "expires": "2026-02-01", "grace_days": 365},
        {"name": "kso.sum", "seats": 16, "not_before": "9000-01-01"},
        {"name": "kso.sum", "seats": 32, "id": "old"},
        {"name": "kso.sum", "seats": 64, "replaces": "old"},
    ]
    if TODAY > "2027-01-25":
        pytest.skip("the line in its grace has ended")
    grant(shop, ACME.license_file(1, lines))
    assert totals(shop) == {"kso.sum": 1 + 2 + 8 + 64}
    shop.call("seat.acquire", license="kso.sum", holder="a", seats=75)
    assert refusal(shop, "seat.acquire", license="kso.sum", holder="b").name == "NO_SEAT_FREE"


def test_an_uncounted_line_for_one_version_frees_no_seats_of_another(shop: Daemon) -> None:
    versions: list[dict[str, Any]] = [
        {"name": "kso.till", "license": "uncounted", "versions": "4.*"},
        {"name": "kso.till", "seats": 2, "versions": "5.*"},
    ]
    grant(shop, ACME.license_file(1, versions))
    for n in range(4):
        shop.call("seat.acquire", license="kso.till", holder=f"old-{n}", version="4.1")
    for n in range(2):
        shop.call("seat.acquire", license="kso.till", holder=f"new-{n}", version="5.1")
    error = refusal(shop, "seat.acquire", license="kso.till", holder="new-2", version="5.1")
    assert (error.name, error.data["used"], error.data["total"]) == ("NO_SEAT_FREE", 2, 2)


def test_only_an_administrator_imports_and_exports(shop: Daemon) -> None:
    grant(shop, ACME.license_file(1, LINES))
    with Program(shop.socket, 4001) as till:
        assert refusal(till, "license.import", document=ACME.license_file(2, LINES)).name == "NOT_PERMITTED"
        assert refusal(till, "license.import", document=b"", dry_run=True).name == "NOT_PERMITTED"
        assert refusal(till, "license.export").name == "NOT_PERMITTED"
        assert len(till.call("license.list")["licenses"]) == 3
    assert totals(shop)["kso.scales"] == 3


# --- a crash in the middle -----------------------------------------------------------------------------------


@needs_strace
@pytest.mark.parametrize(
    "moment", ["fsync:when=1", "link:when=1", "rename:when=1", "rename:when=2", "fdatasync:when=1"]
)
def test_a_kill_in_the_middle_of_an_import_leaves_one_whole_file_in_force(shop: Daemon, moment: str) -> None:
    old, new = ACME.license_file(1, LINES), ACME.license_file(2, LINES[:1])
    grant(shop, old)
    call, _, when = moment.partition(":")
    with injected(shop, f"{call}:signal=KILL:{when}"), Pipeline(shop.socket) as admin:
        admin.ask("license.import", document=new)
        admin.drain()
        assert admin.answers == {}
    assert shop.process is not None
    assert shop.process.wait(5) == -signal.SIGKILL
    shop.start()
    assert shop.call("license.export")["document"].encode() in (old, new)
    assert shop.call("server.status")["warnings"] == []
    grant(shop, new)
    assert shop.call("license.export")["document"].encode() == new
    assert (shop.state / "licenses" / "acme.licd.previous").read_bytes() == old
    assert len(list((shop.state / "licenses").iterdir())) == 2


# --- a large file --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> bytes:
    """As many lines as a document may have, of 1,000 names."""
    lines = [{"name": f"kso.n{n % 1000}", "seats": 1, "expires": "2030-12-31"} for n in range(1999)]
    return ACME.license_file(1, lines)


@pytest.mark.alone
def test_a_large_import_keeps_no_other_client_waiting(shop: Daemon, large: bytes) -> None:
    grant(shop, OTHER.license_file(1, [{"name": "pos.till", "license": "uncounted"}]))
    longest = min(longest_wait(shop, large, f"till-{attempt}") for attempt in range(3))  # one may meet a busy disk
    assert longest < 1 / 4  # some 30 ms of 300; a busy machine stretches both
    assert len(totals(shop)) == 1001


def longest_wait(shop: Daemon, document: bytes, holder: str) -> float:
    """Of clients that acquire while the document is imported, as a share of the time that this takes."""
    with Pipeline(shop.socket) as admin, shop.client() as client:
        client.call("server.hello")
        asked = admin.ask("license.import", document=document)
        reader = threading.Thread(target=admin.answer, args=(asked,))
        reader.start()
        started = time.perf_counter()
        waits: list[float] = []
        while reader.is_alive():
            began = time.perf_counter()
            client.call("seat.acquire", license="pos.till", holder=f"{holder}-{len(waits)}")
            waits.append(time.perf_counter() - began)
        reader.join()
        took = time.perf_counter() - started
        assert admin.answer(asked)["files"][0]["in_force"] in ("new", "already")
    assert len(waits) > 20  # there was something to be kept waiting by
    return max(waits) / took


def test_there_is_one_import_at_a_time_and_the_next_one_after_it(shop: Daemon, large: bytes) -> None:
    with Pipeline(shop.socket) as first, Pipeline(shop.socket) as second:
        one = first.ask("license.import", document=large)
        assert first.answer(first.ask("server.hello"))["server"] == "licd"  # it goes on being served meanwhile
        for dry_run in (False, True):
            two = second.ask("license.import", document=OTHER.license_file(1, [{"name": "pos.x"}]), dry_run=dry_run)
            second.receive()
            assert second.answers[two].error["name"] == "IMPORT_BUSY"
        assert first.answer(one)["files"][0]["in_force"] == "new"
    grant(shop, OTHER.license_file(1, [{"name": "pos.x"}]))
    assert totals(shop)["pos.x"] == 1


def test_an_import_whose_administrator_hung_up_comes_in_or_not_and_blocks_nobody(shop: Daemon, large: bytes) -> None:
    with Pipeline(shop.socket) as admin:
        admin.ask("license.import", document=large)
        admin.answer(admin.ask("server.hello"))  # it has begun
    wait_until(lambda: totals(shop) != {}, "the import of the one who hung up")
    wait_until(lambda: shop.call("server.status")["connections"] == 1, "the end of its connection")
    grant(shop, OTHER.license_file(1, [{"name": "pos.x"}]))
    assert comes_to_rest(shop.pid)


# --- the clock and the dates ---------------------------------------------------------------------------------


@needs_strace
def test_a_file_issued_in_the_future_is_refused_only_by_a_confirmed_clock(folder: Path) -> None:
    ahead = ACME.license_file(1, LINES, issued=time.time() + 25 * 3600)
    soon = ACME.license_file(1, LINES, issued=time.time() + 23 * 3600)
    # adjtimex(2) answers with a struct of zeros: no STA_UNSYNC.
    confirmed = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=clock_adjtime,adjtimex",
                 "-e", "inject=clock_adjtime,adjtimex:retval=0")  # fmt: skip
    with prepared(folder, wrap=confirmed) as shop:
        shop.start()
        assert shop.call("server.status")["clock"]["confirmed"] is True
        assert refusal(shop, "license.import", document=ahead).name == "ISSUED_IN_FUTURE"
        assert refusal(shop, "license.import", document=ahead, dry_run=True).name == "ISSUED_IN_FUTURE"
        assert grant(shop, soon, dry_run=True)["in_force"] == "new"
        shop.kill()
        shop.wrap = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=clock_adjtime,adjtimex:error=EPERM")
        shop.start()
        assert shop.call("server.status")["clock"]["confirmed"] is False
        grant(shop, ahead)


@needs_faketime
def test_a_license_ends_the_moment_its_date_has_passed_without_polling(folder: Path) -> None:
    end = end_of("2027-03-31")
    clocks = Clocks(folder)
    clocks.set_wall(end - 4)
    with prepared(folder, env=clocks.env) as shop:
        shop.start()
        began = time.monotonic()
        grant(shop, ACME.license_file(1, [{"name": "kso.scales", "seats": 3, "expires": "2027-03-31"}]))
        with shop.client() as client:
            lease = client.call("seat.acquire", license="kso.scales", holder="a")["lease"]
            time.sleep(1.5)  # STATUS= has gone out
            before = wake_ups(shop.pid)
            time.sleep(max(0.0, began + 3 - time.monotonic()))
            assert wake_ups(shop.pid) == before
            shop.notified.clear()
            shop.wait_for("0 of 1 licenses valid")  # nobody asked: the deadline of the loop
            assert end - 0.1 < clocks.wall < end + 0.5
            error = refusal(client, "seat.acquire", license="kso.scales", holder="b")
            assert (error.name, error.data["expires"]) == ("LICENSE_EXPIRED", "2027-03-31")
            assert refusal(client, "seat.confirm", lease=lease).name == "SEATS_WITHDRAWN"
            assert client.call("license.check", license="kso.scales")["valid"] is False


@needs_faketime
def test_a_license_begins_and_another_ends_with_the_wall_clock(folder: Path) -> None:
    clocks = Clocks(folder)
    lines: list[dict[str, Any]] = [
        {"name": "kso.ends", "expires": "2027-03-31", "grace_days": 2},
        {"name": "kso.begins", "not_before": "2027-04-02"},
    ]
    begin, end, over = begin_of("2027-04-02"), end_of("2027-03-31"), end_of("2027-04-02")
    assert begin < end  # a day begins in the far east before the one before it ends in the far west
    clocks.set_wall(begin - 3600)
    with prepared(folder, env=clocks.env) as shop:
        shop.start()
        grant(shop, ACME.license_file(1, lines))
        seen = []
        # In steps of less than a day, which no clock needs a confirmation for.
        for moment in (begin - 1, begin + 1, end - 1, end + 1, end + 72_000, over - 72_000, over - 1, over + 1):
            clocks.set_wall(moment)
            rows = {row["license"]: row["state"] for row in shop.call("license.list")["licenses"]}
            seen.append(f"{rows['kso.ends']}, {rows['kso.begins']}")
        assert seen == [
            "valid, not_yet_valid",
            *["valid, valid"] * 2,
            *["grace, valid"] * 4,
            "expired, valid",
        ]


@needs_faketime
def test_a_date_that_passed_during_a_stall_counts_for_the_first_request_after_it(folder: Path) -> None:
    end = end_of("2027-03-31")
    clocks = Clocks(folder)
    clocks.set_wall(end - 1.5)
    with prepared(folder, env=clocks.env) as shop, Pipeline(shop.start().socket) as till:
        grant(shop, ACME.license_file(1, [{"name": "kso.scales", "seats": 3, "expires": "2027-03-31"}]))
        till.answer(till.ask("seat.acquire", license="kso.scales", holder="a"))
        shop.pause()
        asked = till.ask("seat.acquire", license="kso.scales", holder="b")
        time.sleep(1.8)
        shop.resume()
        till.receive()
        assert till.answers[asked].error["name"] == "LICENSE_EXPIRED"
