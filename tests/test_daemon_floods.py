"""Too much of everything, at the real licd: memory stays bounded, others are served, and afterwards it rests."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.device import device, grant, hurried
from tests.support.needs import needs_faketime, needs_root
from tests.support.process import comes_to_rest, resident_kib
from tests.support.raw import Bystander, Raw, connect_as, pack, request, user

PER_CONNECTION_KIB = 640  # the most that one client can make licd hold: answers, requests, and the room they grew in


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with device(settings={"socket_mode": "0666"}) as licd:
        yield licd


@contextlib.contextmanager
def nobody_notices(daemon: Daemon, growth_kib: int) -> Iterator[None]:
    """What happens within makes nobody wait, holds no more memory than that, and leaves licd idle."""
    other = Bystander(daemon.socket, daemon.pid)
    with Raw(daemon.socket) as raw:
        raw.call("server.status")
    Path(f"/proc/{daemon.pid}/clear_refs").write_text("5")  # the peak counts from here
    before = resident_kib(daemon.pid)
    try:
        with other.watching():
            yield
        assert resident_kib(daemon.pid, "VmHWM") < before + growth_kib
        assert comes_to_rest(daemon.pid), "licd is busy though nobody asks for anything"
    finally:
        other.close()


@contextlib.contextmanager
def many(daemon: Daemon, count: int) -> Iterator[list[Raw]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Raw(daemon.socket)) for _ in range(count)]


def in_background(action: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        with contextlib.suppress(OSError, EOFError):
            action()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


FLOODER = """
import select, socket, sys, time
path, count, seconds, data = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.stdin.buffer.read()
streams = [socket.socket(socket.AF_UNIX) for _ in range(count)]
for stream in streams:
    stream.connect(path)
    stream.setblocking(False)
left = dict.fromkeys(streams, data)
until = time.monotonic() + seconds
while time.monotonic() < until:
    for stream in select.select([], streams, [], 0.1)[1]:
        sent = stream.send(left[stream])
        left[stream] = left[stream][sent:] or data
"""


def flood(daemon: Daemon, clients: int, message: bytes, seconds: float) -> None:
    """A program of its own that sends the same again and again on all its connections, and reads nothing."""
    command = [sys.executable, "-c", FLOODER, str(daemon.socket), str(clients), str(seconds)]
    subprocess.run(command, input=message * (65536 // len(message)), check=True)


def eventually(condition: Callable[[], bool], within_s: float = 2.0) -> bool:
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


# --- requests -------------------------------------------------------------------------------------------------


def test_ten_thousand_requests_at_once_are_answered_in_order(daemon: Daemon) -> None:
    with nobody_notices(daemon, 8 * 1024), Raw(daemon.socket, 30.0) as raw:
        data = b"".join(request(n, "license.check", {"license": "kso.scan"}) for n in range(10_000))
        sender = in_background(partial(raw.send, data))
        for n in range(10_000):
            assert raw.read()[:3] == [1, n, None]
        sender.join()


def test_ten_thousand_acquires_at_once_are_all_carried_out_and_so_are_their_releases(daemon: Daemon) -> None:
    names = [{"license": "kso.pos", "holder": f"till-{n}"} for n in range(10_000)]
    with nobody_notices(daemon, 24 * 1024), Raw(daemon.socket, 30.0) as raw:
        for method in ("seat.acquire", "seat.release"):
            data = b"".join(request(n, method, name) for n, name in enumerate(names))
            sender = in_background(partial(raw.send, data))
            for n in range(10_000):
                assert raw.read()[:3] == [1, n, None]
            sender.join()
        assert raw.call("server.status")["leases"] == 1  # the bystander's


def test_a_flood_of_requests_whose_answers_are_all_read_holds_no_memory(daemon: Daemon) -> None:
    # Six bytes of request for 200 of answer: read faster than answered, they would pile up.
    with nobody_notices(daemon, 4 * 1024), Raw(daemon.socket) as raw:
        data, until, read = request(1, "x") * 10_000, time.monotonic() + 1.5, 0
        while time.monotonic() < until:
            readable, writable, _ = select.select([raw.stream], [raw.stream], [])
            if writable:
                raw.stream.send(data, socket.MSG_DONTWAIT)
            if readable:
                read += len(raw.stream.recv(1024 * 1024))
    assert read > 1024 * 1024


@pytest.mark.parametrize(
    "message",
    [
        pack([2, "no.such.method", [{"lease": "0" * 12}]]),
        request(1, "x"),
        pack([2, "seat.confirm", [{"leases": ["0" * 24] * 100}]]),
    ],
    ids=["notifications", "requests never read", "dear notifications"],
)
def test_sixty_clients_that_flood_hold_no_one_up(daemon: Daemon, message: bytes) -> None:
    with nobody_notices(daemon, 60 * PER_CONNECTION_KIB):
        flood(daemon, 60, message, 1.0)


def test_dear_requests_in_great_number_hold_no_one_up(daemon: Daemon) -> None:
    names = [{"license": "kso.pos", "holder": f"till-{n}"} for n in range(5_000)]
    with Raw(daemon.socket, 30.0) as raw:
        for method in ("seat.acquire", "seat.release"):
            sent = b"".join(request(1, method, name) for name in names)
            sender = in_background(partial(raw.send, sent))
            for _ in names:
                raw.read()
            sender.join()
            if method == "seat.acquire":
                with nobody_notices(daemon, 8 * 1024), Raw(daemon.socket) as flood:
                    # Each looks through all 5,000 leases, and finds none: half a millisecond for 24 bytes.
                    flood.send(request(1, "seat.list", {"holder": "none"}) * 2_000)
                    flood.end_sending()
                    assert len(flood.rest()) == 2_000


@needs_root
@pytest.mark.alone
def test_sixty_clients_of_one_user_with_dear_requests_take_no_more_of_a_turn_than_a_few() -> None:
    names = [{"license": "kso.pos", "holder": f"till-{n}"} for n in range(5_000)]
    with (
        device(settings={"socket_mode": "0666"}) as licd,
        Raw(licd.socket, 30.0) as raw,
        contextlib.ExitStack() as stack,
    ):
        sender = in_background(partial(raw.send, b"".join(request(1, "seat.acquire", name) for name in names)))
        for _ in names:
            raw.read()
        sender.join()
        flood = [stack.enter_context(connect_as(licd.socket, 51001)) for _ in range(60)]
        for each in flood:  # 24 bytes cost half a millisecond: 6 s of work altogether
            each.send(request(1, "seat.list", {"holder": "none"}) * 200)
        waits = []
        for _ in range(5):  # the flood lasts for longer
            began = time.monotonic()
            raw.call("server.hello")
            waits.append(time.monotonic() - began)
        # Two turns of 12 ms of that user's each; with 3 ms for each of its connections they would be 360 ms.
        assert statistics.median(waits) < 0.15, waits


def test_known_requests_take_no_more_of_a_turn_than_their_slice_however_dear_they_are() -> None:
    # Over capacity each lease costs a look at all older ones: nine of them are some milliseconds, of the turn's twelve.
    names = [{"license": "kso.scan", "holder": f"till-{n}", "ttl": 600} for n in range(9_900)]
    with (
        device(settings={"socket_mode": "0666"}, lines=[{"name": "kso.scan", "seats": 9_900}]) as licd,
        many(licd, 24) as clients,
    ):
        first = clients[0]
        sender = in_background(partial(first.send, b"".join(request(1, "seat.acquire", name) for name in names)))
        leases = [first.read()[3]["lease"] for _ in names]
        sender.join()
        grant(licd, [{"name": "kso.scan", "seats": 1}], seq=2)
        dear = {"leases": [leases[0], *leases[-8:]]}
        first.call("seat.confirm", **dear)
        for each in clients[1:]:
            each.call("server.hello")
        licd.pause()
        for each in clients:  # one each, in words that licd knows, and all there when the turn begins
            each.send(request(2, "seat.confirm", dear))
        licd.resume()
        # The oldest lease is in order, and its new deadline tells the turn.
        turns = Counter(each.read()[3]["results"][0]["deadline"] for each in clients)
        assert max(turns.values()) <= 5, turns


@needs_faketime
def test_a_thousand_confirms_that_waited_while_licd_was_stopped_lose_no_lease() -> None:
    with device(env=hurried(5)) as licd, Raw(licd.socket) as raw:
        names = [{"license": "kso.pos", "holder": f"till-{n}"} for n in range(1_000)]
        confirms = b"".join(request(1, "seat.confirm", name) for name in names)
        assert len(confirms) < 65536  # all of it is read in one turn
        for sent in (b"".join(request(1, "seat.acquire", name | {"ttl": 10}) for name in names), confirms):
            sender = in_background(partial(raw.send, sent))
            assert all(raw.read()[2] is None for _ in names)
            sender.join()
        confirmed = time.monotonic()
        time.sleep(0.5)
        licd.pause()
        raw.send(confirms)
        time.sleep(confirmed + 2.04 - time.monotonic())
        licd.resume()
        assert all(raw.read()[2] is None for _ in names)
        assert raw.call("server.status")["leases"] == 1_000


# --- silence --------------------------------------------------------------------------------------------------


def test_sixty_clients_that_never_read_are_paused_and_cost_a_bounded_memory(daemon: Daemon) -> None:
    data = request(1, "server.hello") * 100_000  # 40 MB of answers for each
    with many(daemon, 60) as raws, nobody_notices(daemon, 60 * PER_CONNECTION_KIB):
        sent = dict.fromkeys(raws, 0)
        while writable := select.select([], [raw.stream for raw in raws], [], 0.5)[1]:
            for raw in raws:
                if raw.stream in writable:
                    sent[raw] += raw.stream.send(data[sent[raw] :][:65536], socket.MSG_DONTWAIT)
        assert max(sent.values()) < len(data)


def test_a_client_that_reads_at_last_gets_every_answer(daemon: Daemon) -> None:
    with nobody_notices(daemon, 2 * PER_CONNECTION_KIB), Raw(daemon.socket) as raw:
        one = request(1, "server.hello")
        taken = raw.send_all_there_is_room_for(one * 100_000)
        asked = taken // len(one)
        for _ in range(asked):
            assert raw.read()[:3] == [1, 1, None]
        if taken % len(one):
            raw.send(one[taken % len(one) :])
            assert raw.read()[:3] == [1, 1, None]
        assert raw.call("server.hello")["server"] == "licd"


def test_a_client_that_never_read_and_hangs_up_frees_its_seats_at_once(daemon: Daemon) -> None:
    with nobody_notices(daemon, 2 * PER_CONNECTION_KIB):
        with Raw(daemon.socket) as raw:
            raw.call("seat.acquire", license="kso.scan", holder="mute", on_close="release")
            raw.send_all_there_is_room_for(request(1, "server.hello") * 100_000)
        with Raw(daemon.socket) as other:
            assert eventually(lambda: other.call("seat.list", license="kso.scan")["leases"] == [])


def test_sixty_halves_of_messages_cost_no_more_than_their_bytes_and_no_time(daemon: Daemon) -> None:
    half = request(1, "server.hello", {"x": "a" * 65_000})[:-1_000]
    with many(daemon, 60) as raws, nobody_notices(daemon, 60 * PER_CONNECTION_KIB // 2):
        for raw in raws:
            raw.send(half)


def test_sixty_halves_that_would_unfold_to_a_hundred_times_their_size_do_not(daemon: Daemon) -> None:
    half = b"\x94\x00\x01\xa1x\x91\xdc\x00\x7f" + (b"\xdc\x00\x7f" + b"\x80" * 127) * 126
    with many(daemon, 60) as raws, nobody_notices(daemon, 60 * PER_CONNECTION_KIB // 4):
        for raw in raws:
            raw.send(half)


# --- connections ----------------------------------------------------------------------------------------------


def test_two_thousand_clients_that_connect_and_leave_trouble_no_one(daemon: Daemon) -> None:
    with nobody_notices(daemon, 8 * 1024):
        for n in range(2_000):
            with Raw(daemon.socket) as raw:
                if n % 3 == 1:
                    raw.send(request(1, "server.hello"))  # and is gone before the answer
                elif n % 3 == 2:
                    raw.send(b"\x94\x00")
    with Raw(daemon.socket) as raw:
        assert eventually(lambda: raw.call("server.status")["connections"] == 1)


@pytest.fixture
def small() -> Iterator[Daemon]:
    with device(settings={"socket_mode": "0666", "max_connections": 20, "max_connections_per_user": 8}) as licd:
        yield licd


def crowd(licd: Daemon, uid: int, count: int) -> list[Raw]:
    """As many connections of this user, each of which has been answered."""
    made = []
    for _ in range(count):
        made.append(connect_as(licd.socket, uid))
        made[-1].call("server.hello")
    return made


@needs_root
def test_one_user_has_its_share_of_connections_and_no_more(small: Daemon) -> None:
    with nobody_notices(small, 8 * 1024):
        ours = crowd(small, 51001, 8)
        for _ in range(30):
            with connect_as(small.socket, 51001) as refused:
                assert refused.goodbye() == "TOO_MANY_CONNECTIONS"
        assert crowd(small, 51002, 1)[0].call("server.hello")["uid"] == 51002
        ours.pop().close()
        assert crowd(small, 51001, 1)[0].call("server.hello")["uid"] == 51001
    assert small.log.count("\n") == 1, "a refusal is not logged"


@needs_root
def test_all_users_together_have_their_limit_and_administrators_still_get_in(small: Daemon) -> None:
    with nobody_notices(small, 8 * 1024):  # one connection is the bystander's
        clients = crowd(small, 51001, 8) + crowd(small, 51002, 8) + crowd(small, 51003, 3)
        with connect_as(small.socket, 51003) as refused:
            assert refused.goodbye() == "TOO_MANY_CONNECTIONS"
        admins = [Raw(small.socket) for _ in range(16)]
        assert admins[-1].call("server.status")["connections"] == 36
        with Raw(small.socket) as refused:  # the spare ones are bounded too
            assert refused.goodbye() == "TOO_MANY_CONNECTIONS"
        assert all(raw.call("server.hello") for raw in clients + admins)
        for raw in clients + admins:
            raw.close()
    with Raw(small.socket) as raw:
        assert eventually(lambda: raw.call("server.status")["connections"] == 1)


@needs_root
def test_a_flood_of_refused_connections_holds_no_one_up(small: Daemon) -> None:
    with nobody_notices(small, 8 * 1024):
        ours = crowd(small, 51001, 8)
        with user(51001):
            for _ in range(1_500):
                Raw(small.socket).close()
        assert ours[0].call("server.hello")["server"] == "licd"


def leave_free(pid: int, count: int) -> None:
    """The process can open as many descriptors more as that."""
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    free = [number for number in range(max(used) + count + 2) if number not in used]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[count], 4096))


def test_out_of_descriptors_those_inside_are_served_and_those_outside_wait(small: Daemon) -> None:
    with nobody_notices(small, 8 * 1024):
        here = Raw(small.socket)
        lease = here.call("seat.acquire", license="kso.scan", holder="till-1")["lease"]
        assert eventually(lambda: here.call("server.status")["connections"] == 2)
        leave_free(small.pid, 1)
        last, waiting = Raw(small.socket), Raw(small.socket)
        assert last.call("server.hello")["server"] == "licd"
        waiting.send(request(1, "server.hello"))
        waiting.stream.settimeout(0.2)
        with pytest.raises(TimeoutError):
            waiting.read()
        assert here.call("seat.confirm", lease=lease)["lease"] == lease
        assert here.call("seat.release", lease=lease) == {"released": True}
        last.close()
        waiting.stream.settimeout(5)
        assert waiting.read()[:3] == [1, 1, None]
    assert small.log.count("cannot accept") == 1


def test_out_of_descriptors_without_any_client_it_recovers_by_itself(small: Daemon) -> None:
    with Raw(small.socket) as raw:
        raw.call("server.hello")
    assert comes_to_rest(small.pid)
    leave_free(small.pid, 0)
    with Raw(small.socket, 5.0) as waiting:
        waiting.send(request(1, "server.hello"))
        time.sleep(0.3)
        assert "cannot accept" in small.log
        assert comes_to_rest(small.pid), "licd is busy with a client that it cannot accept"
        leave_free(small.pid, 1)
        assert waiting.read()[:3] == [1, 1, None]


def test_a_hard_limit_of_descriptors_below_the_configured_connections_lowers_those() -> None:
    settings = {"socket_mode": "0666", "max_connections": 1000}
    with device(settings=settings, wrap=("prlimit", "--nofile=100:100")) as licd:
        assert "max_connections" in licd.log
        with contextlib.ExitStack() as stack:
            raws = [stack.enter_context(Raw(licd.socket)) for _ in range(60)]
            for raw in raws:
                with contextlib.suppress(BrokenPipeError):  # told to leave already
                    raw.send(request(1, "server.hello"))
            said = [raw.read()[0] for raw in raws]
        assert said.count(1) == 100 - 64 + 16  # administrators; the others were told to leave
        assert said.count(2) == 60 - said.count(1)


def test_violations_in_great_number_are_logged_once() -> None:
    with device(settings={"socket_mode": "0666"}) as licd:
        for _ in range(200):
            with Raw(licd.socket) as raw:
                raw.send(b"\xc1")
                raw.rest()
        lines = [line for line in licd.log.splitlines() if "closed a connection" in line]
        assert len(lines) == 1
        assert "uid" in lines[0]
