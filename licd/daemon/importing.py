"""The one import under way, verified in slices between the requests of others. What it brings: taking_in.py."""

from __future__ import annotations

from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any, NamedTuple

from licd.daemon.connection import Connection, Deferred
from licd.daemon.delivery import Outcome
from licd.rpc.errors import IMPORT_BUSY, Refused

SLICE_S = 0.003  # verification in one turn: other clients wait no longer than for a sync


class _UnderWay(NamedTuple):
    method: str
    connection: Connection
    msgid: int
    steps: Generator[None, None, Outcome]
    carry_out: Callable[[Outcome], dict[str, Any]]


class Importing:
    def __init__(self) -> None:
        self._import: _UnderWay | None = None
        self._displaced: Connection | None = None  # its `out` holds the refusal

    @property
    def busy(self) -> bool:
        """There is something for work() to do: the next turn must not wait."""
        return self._import is not None or self._displaced is not None

    @property
    def method(self) -> str:
        """What the import under way was begun by; empty if there is none."""
        return "" if self._import is None else self._import.method

    def check_free(self) -> None:
        """Errors: IMPORT_BUSY"""
        if self._import is not None:
            raise Refused(IMPORT_BUSY)

    def displace(self, method: str) -> None:
        """An import under way that was begun by this method is refused, and another may begin in its place."""
        if self._import is not None and self._import.method == method:
            self._displaced = self.give_up(Refused(IMPORT_BUSY))

    def begin(
        self,
        method: str,
        connection: Connection,
        msgid: int | None,
        steps: Generator[None, None, Outcome],
        carry_out: Callable[[Outcome], dict[str, Any]],
    ) -> Deferred:
        """To be raised: the answer comes in a later turn. It is carry_out's, once the steps are through.

        Errors: IMPORT_BUSY
        """
        self.check_free()
        assert msgid is not None
        self._import = _UnderWay(method, connection, msgid, steps, carry_out)
        return Deferred()

    def work(self) -> Connection | None:
        """One slice of the import under way; when it is through, the connection whose `out` now holds the answer.
        That of one that was displaced comes first.

        Errors: Refused, for give_up()
        """
        displaced, self._displaced = self._displaced, None
        if displaced is not None:
            return displaced
        under_way = self._import
        if under_way is None:
            return None
        until = perf_counter() + SLICE_S
        try:
            while perf_counter() < until:
                next(under_way.steps)
            return None
        except StopIteration as done:
            answer = under_way.carry_out(done.value)
        self._import = None
        under_way.connection.deferred -= 1
        under_way.connection.answer(under_way.msgid, answer)
        return under_way.connection

    def give_up(self, refused: Refused) -> Connection:
        """The import under way is refused; the connection whose `out` now holds the answer."""
        assert self._import is not None
        _, connection, msgid, _, _ = self._import
        self._import = None
        connection.deferred -= 1
        connection.refuse(msgid, refused.as_map())
        return connection
