"""licd.daemon.loop: what ends the wait, on real descriptors, signals and time."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from licd.daemon.loop import HUNG_UP, MAX_SLEEP_S, READ, WRITE, Loop

NOBODY: tuple[list[Any], list[Any]] = ([], [])
LONG_S = 20.0  # a wait that should have ended by itself long before


@pytest.fixture
def loop() -> Iterator[Loop[Any]]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)}
    loop: Loop[Any] = Loop()
    yield loop
    loop.close()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def turn(loop: Loop[Any], timeout_s: float) -> int:
    """One wait with its callbacks; how many there were."""
    calls, peers = loop.wait(timeout_s)
    for callback, events in calls:
        callback(events)
    assert peers == NOBODY
    return len(calls)


def ignore(events: int) -> None:
    pass


# --- descriptors ---------------------------------------------------------------------------------------------


def test_a_source_that_is_ready_is_called_with_what_it_is_ready_for(
    loop: Loop[Any], ends: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[int] = []
    loop.watch(ends[0], READ, seen.append)
    assert turn(loop, 0) == 0
    ends[1].send(b"x")
    assert turn(loop, LONG_S) == 1
    loop.watch(ends[0], READ | WRITE, seen.append)
    turn(loop, LONG_S)
    assert seen == [READ, READ | WRITE]


def test_a_source_is_called_in_each_turn_as_long_as_it_is_ready(
    loop: Loop[Any], ends: tuple[socket.socket, socket.socket]
) -> None:
    loop.watch(ends[0], READ, ignore)
    ends[1].send(b"x")
    assert [turn(loop, LONG_S) for _ in range(3)] == [1, 1, 1]
    ends[0].recv(1)
    assert turn(loop, 0) == 0


def test_watching_again_changes_events_and_callback(loop: Loop[Any], ends: tuple[socket.socket, socket.socket]) -> None:
    first: list[int] = []
    second: list[int] = []
    loop.watch(ends[0], WRITE, first.append)
    loop.watch(ends[0], READ, second.append)
    assert turn(loop, 0) == 0  # writable, but nobody asks any more
    ends[1].send(b"x")
    turn(loop, LONG_S)
    assert (first, second) == ([], [READ])


def test_what_is_forgotten_is_called_no_more_and_may_be_watched_again(
    loop: Loop[Any], ends: tuple[socket.socket, socket.socket]
) -> None:
    loop.watch(ends[0], READ, ignore)
    ends[1].send(b"x")
    loop.forget(ends[0])
    assert turn(loop, 0) == 0
    loop.watch(ends[0], READ, ignore)
    assert turn(loop, 0) == 1


def test_forgetting_what_was_never_watched_or_is_closed_harms_nobody(
    loop: Loop[Any], ends: tuple[socket.socket, socket.socket]
) -> None:
    loop.forget(ends[0])
    loop.watch(ends[0], READ, ignore)
    loop.forget(ends[0])
    loop.forget(ends[0])
    ends[0].close()
    loop.forget(ends[0])
    assert turn(loop, 0) == 0


def test_a_descriptor_that_is_used_again_after_it_was_forgotten_belongs_to_its_new_owner(loop: Loop[Any]) -> None:
    first: list[int] = []
    second: list[int] = []
    numbers = set()
    for seen in (first, second):
        ours, theirs = socket.socketpair()
        numbers.add(ours.fileno())
        loop.watch(ours, READ, seen.append)
        theirs.send(b"x")
        turn(loop, LONG_S)
        loop.forget(ours)
        ours.close()
        theirs.close()
    assert len(numbers) == 1, "not the same descriptor: this proves nothing"
    assert (first, second) == ([READ], [READ])


def test_the_end_of_a_peer_makes_its_source_readable(
    loop: Loop[Any], ends: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[int] = []
    loop.watch(ends[0], READ, seen.append)
    ends[1].close()
    turn(loop, LONG_S)
    assert seen
    assert seen[0] & READ


# --- peers ---------------------------------------------------------------------------------------------------


class Source:
    """One end of a pair; the loop sets `events`."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.events = 0

    def fileno(self) -> int:
        return self.ours.fileno()

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def three(loop: Loop[Source]) -> Iterator[list[Source]]:
    sources = [Source() for _ in range(3)]
    yield sources
    for source in sources:
        source.close()


def test_peers_that_are_ready_come_out_together(loop: Loop[Source], three: list[Source]) -> None:
    for source in three:
        loop.watch_peer(source, READ)
    assert loop.wait(0) == ([], NOBODY)
    for source in three[1:]:
        source.theirs.send(b"x")
    calls, (others, readable) = loop.wait(LONG_S)
    assert not calls
    assert not others
    assert set(readable) == set(three[1:])
    assert set(loop.look()[1]) == set(three[1:])


def test_peers_that_are_ready_for_more_than_reading_come_apart_and_know_for_what(
    loop: Loop[Source], three: list[Source]
) -> None:
    loop.watch_peer(three[0], READ)
    loop.watch_peer(three[1], READ | WRITE)
    loop.watch_peer(three[2], READ | WRITE)
    for source in three[:2]:
        source.theirs.send(b"x")
    seen: list[int] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.watch(ours, WRITE, seen.append)
        calls, (others, readable) = loop.wait(LONG_S)
        assert len(calls) == 1
    assert readable == [three[0]]
    assert set(others) == set(three[1:])
    assert [source.events for source in three] == [0, READ | WRITE, WRITE]


def test_those_who_have_hung_up_come_first_whenever_they_did(loop: Loop[Source], three: list[Source]) -> None:
    for source in three:
        loop.watch_peer(source, READ)
        source.theirs.send(b"x")
    three[2].theirs.close()
    loop.watch_peer(three[0], READ | WRITE)
    _, (others, readable) = loop.wait(LONG_S)
    assert others == [three[2], three[0]]
    assert three[2].events & HUNG_UP
    assert three[2].events & READ  # its last words are still there
    assert readable == [three[1]]


def test_a_peer_that_says_it_sends_no_more_has_not_hung_up(loop: Loop[Source], three: list[Source]) -> None:
    loop.watch_peer(three[0], READ)
    three[0].theirs.shutdown(socket.SHUT_WR)
    _, (others, readable) = loop.wait(LONG_S)
    assert [*others, *readable] == [three[0]]
    assert not three[0].events & HUNG_UP


def test_a_number_that_was_a_peer_becomes_a_callback_and_the_other_way_round(
    loop: Loop[Source], three: list[Source]
) -> None:
    seen: list[int] = []
    three[0].theirs.send(b"x")
    loop.watch_peer(three[0], READ)
    loop.watch(three[0], READ, seen.append)
    calls, peers = loop.wait(LONG_S)
    assert (len(calls), peers) == (1, NOBODY)
    loop.watch_peer(three[0], READ)
    assert loop.wait(LONG_S) == ([], ([], [three[0]]))
    loop.forget(three[0])
    assert loop.wait(0) == ([], NOBODY)


# --- time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait_s", [0.0005, 0.02, 0.0501])
def test_a_deadline_ends_the_wait_and_never_before_its_time(loop: Loop[Any], wait_s: float) -> None:
    began = time.monotonic()
    assert loop.wait(wait_s) == ([], NOBODY)
    assert wait_s <= time.monotonic() - began < wait_s + 5


@pytest.mark.parametrize("wait_s", [0.0, -0.001, -1e9, float("-inf")])
def test_a_deadline_that_has_passed_does_not_wait(loop: Loop[Any], wait_s: float) -> None:
    began = time.monotonic()
    assert loop.wait(wait_s) == ([], NOBODY)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("wait_s", [25 * 86400.0, 1e12, float("inf")])
def test_a_deadline_in_weeks_or_never_does_not_overflow(
    loop: Loop[Any], ends: tuple[socket.socket, socket.socket], wait_s: float
) -> None:
    assert MAX_SLEEP_S < 2**31 / 1000  # epoll_wait(2): milliseconds in a 32-bit integer
    loop.watch(ends[0], READ, ignore)
    with_delay(lambda: ends[1].send(b"x"))
    assert turn(loop, wait_s) == 1


def with_delay(action: Callable[[], object]) -> None:
    timer = threading.Timer(0.02, action)
    timer.daemon = True
    timer.start()


def test_behind_a_dialogue_it_sleeps_and_does_not_look_on(
    loop: Loop[Any], ends: tuple[socket.socket, socket.socket]
) -> None:
    loop.watch(ends[0], READ, ignore)
    ends[1].send(b"x")
    turn(loop, LONG_S)  # no sleep at all: somebody speaks
    ends[0].recv(1)
    began, spent = time.monotonic(), time.process_time()
    for _ in range(2):
        assert turn(loop, 0.5) == 0
    assert time.monotonic() - began >= 1
    assert time.process_time() - spent < 0.2


def test_what_comes_in_a_dialogue_is_heard_at_once(loop: Loop[Any], ends: tuple[socket.socket, socket.socket]) -> None:
    loop.watch(ends[0], READ, ignore)
    for _ in range(100):
        ends[1].send(b"x")
        assert turn(loop, LONG_S) == 1
        ends[0].recv(1)
        assert turn(loop, 0) == 0


# --- signals -------------------------------------------------------------------------------------------------


def test_a_signal_ends_the_wait_and_is_handed_out_once(loop: Loop[Any]) -> None:
    loop.catch(signal.SIGTERM, signal.SIGHUP)
    with_delay(lambda: os.kill(os.getpid(), signal.SIGTERM))
    began = time.monotonic()
    turn(loop, LONG_S)
    assert time.monotonic() - began < LONG_S / 2
    assert loop.signals() == {signal.SIGTERM}
    assert loop.signals() == set()
    assert turn(loop, 0) == 0


def test_a_signal_that_came_before_the_wait_is_not_slept_over(loop: Loop[Any]) -> None:
    loop.catch(signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
    began = time.monotonic()
    turn(loop, LONG_S)
    assert time.monotonic() - began < LONG_S / 2
    assert loop.signals() == {signal.SIGHUP}


def test_signals_that_come_together_are_all_handed_out(loop: Loop[Any]) -> None:
    loop.catch(signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP):
        os.kill(os.getpid(), number)
    turn(loop, LONG_S)
    assert loop.signals() == {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


@pytest.mark.filterwarnings("error")  # what the interpreter writes to stderr when it cannot write to the socket
def test_a_storm_of_signals_is_one_and_leaves_the_loop_idle(loop: Loop[Any]) -> None:
    loop.catch(signal.SIGUSR1)
    for _ in range(5000):  # more than the wake-up socket holds
        os.kill(os.getpid(), signal.SIGUSR1)
    turns = 0
    while turn(loop, 0):
        turns += 1
        assert turns < 100
    assert loop.signals() == {signal.SIGUSR1}


def test_a_signal_does_not_cut_short_the_wait_for_a_descriptor_that_is_ready_too(
    loop: Loop[Any], ends: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[int] = []
    loop.watch(ends[0], READ, seen.append)
    loop.catch(signal.SIGHUP)
    ends[1].send(b"x")
    os.kill(os.getpid(), signal.SIGHUP)
    turn(loop, LONG_S)
    assert seen == [READ]
    assert loop.signals() == {signal.SIGHUP}


def test_a_closed_loop_lets_go_of_the_wake_up_descriptor(loop: Loop[Any]) -> None:
    other: Loop[Any] = Loop()
    other.catch(signal.SIGHUP)
    other.close()
    assert signal.set_wakeup_fd(-1) == -1
