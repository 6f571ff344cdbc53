"""licd-cli and the real licd: its seats, and `call`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from licd.cli import problems
from tests.support.cli import LICENSES, Run, as_other_user, runner
from tests.support.daemon import Daemon
from tests.support.device import device, vendor
from tests.support.needs import needs_root
from tests.support.peer import Peer, answer


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with device(lines=LICENSES) as licd:
        yield licd


def test_leases_are_fetched_page_after_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = Peer(
        f"{folder}/s",
        answer({"leases": [{"lease": "a"}], "next": 7}),
        answer({"leases": [{"lease": "b"}], "next": 9}),
        answer({"leases": [{"lease": "c"}], "next": None}),
    )
    try:
        done = runner(capsys)("leases", "--holder", "till", "--json", "--socket", f"{folder}/s")
        assert [row["lease"] for row in done.value["leases"]] == ["a", "b", "c"]
        asked = [params[0] for _, _, params in there.asked]
        assert asked == [{"holder": "till"}, {"holder": "till", "after": 7}, {"holder": "till", "after": 9}]
    finally:
        there.close()


def acquired(licd_cli: Run, holder: str, *words: str) -> str:
    done = licd_cli("acquire", "kso.scales", holder, "--version", "5.1", "--json", *words)
    assert done.status == 0, done.err
    return str(done.value["lease"])


def test_acquire_shows_the_lease_and_until_when_to_confirm(licd_cli: Run) -> None:
    done = licd_cli("acquire", "kso.scales", "till-1", "--version", "5.1", "--ttl", "90", "--seats", "2")
    assert (done.status, done.err) == (0, "")
    assert re.search(r"^lease +[0-9a-f]{24}$", done.out, re.MULTILINE)
    assert re.search(r"^seats +2$", done.out, re.MULTILINE)
    assert re.search(r"^confirm within +1 min 30 s$", done.out, re.MULTILINE)
    assert acquired(licd_cli, "till-1") in done.out  # the same holder, the same lease


def test_a_seat_too_many_is_refused_by_name(licd_cli: Run) -> None:
    acquired(licd_cli, "till-1", "--seats", "3")
    done = licd_cli("acquire", "kso.scales", "till-2", "--version", "5.1")
    assert (done.status, done.out) == (problems.REFUSED, "")
    assert re.fullmatch(r"error: All seats of kso\.scales are taken: 3 of 3\. \(NO_SEAT_FREE\)\nhint: .*\n", done.err)


def test_confirm_by_lease_by_holder_and_of_many(licd_cli: Run) -> None:
    one, two = acquired(licd_cli, "till-1"), acquired(licd_cli, "till-2")
    by_lease = licd_cli("confirm", one)
    assert by_lease.status == 0
    assert re.fullmatch(rf"{one} is confirmed for (1 min|5\d s)\n", by_lease.out)
    assert licd_cli("confirm", "--license", "kso.scales", "--holder", "till-2", "--json").value["lease"] == two
    both = licd_cli("confirm", one, "--json", two)
    assert [row["lease"] for row in both.value["results"]] == [one, two]


def test_of_many_confirmed_the_lost_one_is_named_and_the_status_is_1(licd_cli: Run) -> None:
    lease, lost = acquired(licd_cli, "till-1"), "0" * 24
    done = licd_cli("confirm", lease, lost)
    assert done.status == problems.REFUSED
    assert done.out.startswith(f"{lease} is confirmed for ")
    assert re.fullmatch(rf"error: {lost}: .* \(LEASE_UNKNOWN\)\nhint: .*\n", done.err)


def test_more_leases_than_one_confirm_takes_are_confirmed_in_parts(licd_cli: Run) -> None:
    lease = acquired(licd_cli, "till-1")
    done = licd_cli("confirm", *[lease] * 201, "--json")
    assert done.status == 0
    assert len(done.value["results"]) == 201


def test_release_frees_the_seats_and_the_second_time_is_no_error(licd_cli: Run) -> None:
    one, two = acquired(licd_cli, "till-1"), acquired(licd_cli, "till-2", "--seats", "2")
    assert licd_cli("release", one) == (0, "The lease is released.\n", "")
    again = licd_cli("release", one)
    assert (again.status, again.err) == (0, "")
    assert again.out.startswith("There was no such lease")
    by_holder = licd_cli("release", "--license", "kso.scales", "--holder", "till-2", "--json", "--reason", "end of day")
    assert by_holder.value == {"released": True}
    assert licd_cli("leases").out == "No leases.\n"
    assert licd_cli("release", two).status == 0


def test_leases_are_a_table_of_who_holds_what(licd_cli: Run) -> None:
    lease = acquired(licd_cli, "касса 1", "--seats", "2")
    lines = licd_cli("leases").out.splitlines()
    assert lines[0].split()[:6] == ["LEASE", "LICENSE", "HOLDER", "SEATS", "UID", "PID"]
    assert len(lines) == 2
    assert re.match(rf"{lease} +kso\.scales +касса 1 +2 +{os.getuid()} +{os.getpid()} ", lines[1])
    assert licd_cli("leases", "--license", "kso.camera").out == "No leases.\n"
    assert len(licd_cli("leases", "--holder", "касса 1", "--json").value["leases"]) == 1


def test_more_leases_than_one_page_holds_are_all_listed(licd_cli: Run, daemon: Daemon) -> None:
    with daemon.client() as client:
        for n in range(230):
            client.call("seat.acquire", license="kso.camera", holder=f"h{n}")
    rows = licd_cli("leases", "--json").value["leases"]
    assert {row["holder"] for row in rows} == {f"h{n}" for n in range(230)}
    assert len(rows) == 230


def test_call_reaches_any_method_and_shows_its_answer(licd_cli: Run) -> None:
    done = licd_cli("call", "seat.acquire", "license=kso.scales", "holder=касса", "version=5.2", "seats=2")
    assert done.status == 0
    assert json.loads(done.out)["holder"] == "касса"
    assert "касса" in done.out
    refused = licd_cli("call", "no.such", "x=1")
    assert refused.status == problems.REFUSED
    assert "error: There is no method no.such. (NO_SUCH_METHOD)\nhint: " in refused.err


def test_a_wrong_argument_is_refused_by_licd_in_its_own_words(licd_cli: Run) -> None:
    for words in (["confirm", "nonsense"], ["acquire", "KSO", "till"], ["acquire", "kso.scales", "a", "--ttl", "1"]):
        done = licd_cli(*words)
        assert (done.status, done.out) == (problems.REFUSED, "")
        assert "(BAD_PARAMS)\nhint: " in done.err


def test_an_argument_nested_deep_is_refused_without_a_traceback(licd_cli: Run) -> None:
    done = licd_cli("call", "server.hello", "key=" + "[" * 500 + "]" * 500)
    assert done.status == problems.REFUSED
    assert re.fullmatch(r"error: .* \([A-Z_]+\)\nhint: .*\n", done.err)


@needs_root
def test_another_user_sees_and_touches_only_its_own() -> None:
    with device(lines=LICENSES, settings={"socket_mode": "0666"}) as daemon:
        lease = daemon.call("seat.acquire", license="kso.scales", holder="till", version="5.1")["lease"]
        document = vendor().license_file(seq=1, lines=LICENSES)
        socket = ("--socket", daemon.socket)
        assert as_other_user("leases", *socket) == (0, "No leases.\n", "")
        cases = [
            ("NOT_OWNER", as_other_user("release", lease, *socket)),
            ("NOT_PERMITTED", as_other_user("license", "import", "-", *socket, document=document)),
            # licd hangs up before it has read this; its reason must be heard all the same.
            ("MESSAGE_TOO_LARGE", as_other_user("license", "import", "-", *socket, document=b"#" * 1_000_000)),
        ]
        for name, done in cases:
            assert (done.status, done.out) == (problems.REFUSED, ""), done
            assert re.fullmatch(rf"error: .* \({name}\)\nhint: .*\n", done.err), done
        assert daemon.call("server.status")["leases"] == 1


def test_after_a_kill_the_client_asks_the_next_licd_and_finds_its_lease(daemon: Daemon, licd_cli: Run) -> None:
    with daemon.client() as client:
        lease = client.call("seat.acquire", license="kso.scales", holder="till-1", version="5.1")["lease"]
        daemon.restart()
        assert client.call("seat.confirm", lease=lease)["lease"] == lease
