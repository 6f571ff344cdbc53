"""licd.daemon.importing: one import at a time, and who is displaced hears of it."""

from __future__ import annotations

import socket
from collections.abc import Generator, Iterator
from typing import Any

import msgpack
import pytest

from licd.daemon.connection import Connection, Deferred
from licd.daemon.delivery import Outcome
from licd.daemon.importing import Importing
from licd.daemon.listener import Peer
from licd.rpc.errors import IMPORT_BUSY, Refused


@pytest.fixture
def connection() -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, Peer(0, frozenset(), 1), frozenset(("any",)), 4096)
        connection.deferred = 1
        yield connection


def endless() -> Generator[None, None, Outcome]:
    while True:
        yield


def never(outcome: Outcome) -> dict[str, Any]:
    raise AssertionError("it never comes to its end")


def test_who_is_displaced_hears_of_it_though_nothing_begins_in_its_place(connection: Connection) -> None:
    importing = Importing()
    assert isinstance(importing.begin("renewal.report", connection, 7, endless(), never), Deferred)
    importing.displace("license.import")
    assert connection.deferred == 1  # that one is not in the way
    importing.displace("renewal.report")
    importing.check_free()
    assert importing.busy  # or nobody would call work()
    assert importing.work() is connection
    assert not importing.busy
    assert importing.work() is None
    assert connection.deferred == 0
    assert msgpack.unpackb(connection.out)[1:3] == [7, Refused(IMPORT_BUSY).as_map()]


def test_while_one_is_under_way_no_other_begins(connection: Connection) -> None:
    importing = Importing()
    importing.begin("license.import", connection, 7, endless(), never)
    importing.displace("renewal.report")
    with pytest.raises(Refused) as refused:
        importing.begin("renewal.report", connection, 8, endless(), never)
    assert refused.value.error is IMPORT_BUSY
    assert importing.method == "license.import"
