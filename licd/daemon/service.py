"""How a message becomes an answer: the method is looked up, role and arguments are checked, the handler runs.

Three kinds of failure are kept apart. Refused: an answer by name; the connection lives, nothing is logged. Violation:
not the protocol; told and logged once, closed. Fault: a bug of ours; answered INTERNAL, its traceback logged once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import licd
from licd.daemon import log, methods
from licd.daemon.connection import Connection, Deferred
from licd.daemon.device_methods import DeviceMethods
from licd.daemon.importing import Importing
from licd.daemon.install_methods import InstallMethods
from licd.daemon.license_methods import LicenseMethods
from licd.daemon.methods import ADMIN, ANY, CLIENT, COURIER, TABLE
from licd.daemon.renewal_methods import RenewalMethods
from licd.daemon.seat_methods import SeatMethods
from licd.daemon.state import State
from licd.license.dates import timestamp
from licd.license.document import MAX_DOCUMENT_BYTES
from licd.rpc import wire
from licd.rpc.errors import INTERNAL, NO_SUCH_METHOD, NOT_PERMITTED, PEER_UNKNOWN, Refused
from licd.seats.journal import JournalFailed

T = TypeVar("T")

PROTOCOL = 1  # of licd-rpc(7); it counts up when a client written for the old one would fail


KNOWN_BYTES, MAX_KNOWN = 256, 1024  # of requests remembered, twice: below 2 MiB with their arguments


class Call(NamedTuple):
    """A request whose arguments are checked. What it may do is decided when it is carried out."""

    method: str
    who: str
    handler: Callable[..., Any]
    arguments: tuple[Any, ...]


class FaultAfterChange(Exception):
    """A bug struck after state had changed: what is in memory can no longer be trusted to be whole."""


class Service:
    def __init__(self, state: State) -> None:
        self._state = state
        self._importing = Importing()
        self.licenses = LicenseMethods(state, self._importing)
        owners = {
            "server": self,
            "seat": SeatMethods(state),
            "license": self.licenses,
            "install": InstallMethods(state),
            "renewal": RenewalMethods(state, self._importing),
            "device": DeviceMethods(state),
        }
        self._handlers: dict[str, Callable[..., Any]] = {
            method.name: getattr(owners[method.name.partition(".")[0]], method.handler) for method in methods.METHODS
        }
        # By all of a request but its msgid: clients say the same over and over. In `_older` is what was heard before
        # `_known` was full; what is not heard again until it is full once more is forgotten.
        self._known: dict[bytes, Call] = {}
        self._older: dict[bytes, Call] = {}
        self._faults: set[str] = set()  # places already logged

    def handle(self, connection: Connection, message: wire.Message) -> Call | None:
        """The message is carried out, and its answer, if it wants one, stands in the connection's `out`.

        Returns the call that it was, if it was a well-formed request.
        Errors: wire.Violation, JournalFailed, FaultAfterChange
        """
        if type(message) is wire.Request:
            try:
                call = self._call_of(connection, message.method, message.params)
            except Refused as refused:
                connection.refuse(message.msgid, refused.as_map())
                return None
            connection.out += self._answer(connection, message.msgid, call)
            return call
        if type(message) is wire.Notification:
            row = TABLE.get(message.method)
            if row is not None and row.notification:
                with contextlib.suppress(Refused):  # nobody asked for an answer
                    call = self._call_of(connection, message.method, message.params)
                    self._guarded(call.method, lambda: call.handler(connection, None, *call.arguments))
            return None
        raise wire.Violation("a response to a request that was never sent")

    def answer_known(self, connection: Connection, data: bytes) -> bytes | None:
        """The answer to the data, if they are one request that was heard before, but for its msgid; None if not.

        Measured: a quarter less processor time for a confirm, for nothing is unpacked and checked again.
        Errors: JournalFailed, FaultAfterChange
        """
        end = wire.MSGID_ENDS.get(data[:3])
        if end is None:
            return None
        call = self._known.get(data[end:]) or self._recall(data[end:])
        if call is None or call.who not in connection.roles:
            return None
        return self._answer(connection, data[2] if end == 3 else int.from_bytes(data[3:end]), call)

    def remember(self, data: bytes, call: Call) -> None:
        """The data were this call, whole and alone."""
        end = wire.MSGID_ENDS.get(data[:3])
        if end is not None and len(data) - end <= KNOWN_BYTES:
            self._keep(data[end:], call)

    def _recall(self, rest: bytes) -> Call | None:
        call = self._older.pop(rest, None)
        if call is not None:
            self._keep(rest, call)
        return call

    def _keep(self, rest: bytes, call: Call) -> None:
        if len(self._known) >= MAX_KNOWN:
            self._older, self._known = self._known, {}
        self._known[rest] = call

    def _answer(self, connection: Connection, msgid: int, call: Call) -> bytes:
        """Empty, if the answer comes in a later turn."""
        method, _, handler, arguments = call
        changes = self._state.changes
        try:
            return wire.pack((wire.RESPONSE, msgid, None, handler(connection, msgid, *arguments)))
        except Refused as refused:
            error = refused
        except Deferred:
            connection.deferred += 1
            return b""
        except JournalFailed:
            raise
        except Exception as bug:  # of ours, in one request: it must not end the shop's other sessions
            error = self._fault(method, bug, changes)
        return wire.encode_response(msgid, error.as_map(), None)

    def _call_of(self, connection: Connection, method: str, params: Any) -> Call:
        row = TABLE.get(method)
        if row is None:
            raise Refused(NO_SUCH_METHOD, method=method[:64])
        if row.who not in connection.roles:
            if not connection.roles - {ANY}:
                raise Refused(PEER_UNKNOWN, uid=connection.peer.uid)
            raise Refused(NOT_PERMITTED, method=method, needs=row.who)
        return Call(method, row.who, self._handlers[method], row.arguments(params))

    @property
    def busy(self) -> bool:
        """An import is under way: the next turn must not wait."""
        return self._importing.busy

    def work(self) -> Connection | None:
        """One slice of the import under way; the connection that its answer now waits in, if it is through."""
        if not self._importing.busy:
            return None
        try:
            return self._guarded(self._importing.method, self._importing.work)
        except Refused as refused:
            return self._importing.give_up(refused)

    def _guarded(self, method: str, action: Callable[[], T]) -> T:
        changes = self._state.changes
        try:
            return action()
        except (Refused, Deferred, JournalFailed):
            raise
        except Exception as error:
            raise self._fault(method, error, changes) from None

    def _fault(self, method: str, error: Exception, changes: int) -> Refused:
        """What a bug in one request is answered with, which must not end the shop's other sessions.

        changes: State.changes before it. Errors: FaultAfterChange
        """
        self._log_fault(method, error)
        if self._state.changes != changes:
            raise FaultAfterChange(method) from error
        return Refused(INTERNAL, method=method)

    def _log_fault(self, method: str, error: Exception) -> None:
        import traceback  # noqa: PLC0415  # a start would pay for what it hopefully never needs

        place = str([(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)])
        if place not in self._faults and len(self._faults) < 100:
            self._faults.add(place)
            text = "".join(traceback.format_exception(error))
            log.write(log.ERROR, f"fault in {method}; please report it\n{text}")

    # --- server.* --------------------------------------------------------------------------------------------

    def hello(self, connection: Connection, msgid: int | None) -> dict[str, Any]:
        """Who is speaking, and what this peer may do."""
        return {
            "server": "licd",
            "version": licd.__version__,
            "protocol": PROTOCOL,
            "uid": connection.peer.uid,
            "pid": connection.peer.pid,
            "roles": [role for role in (CLIENT, COURIER, ADMIN) if role in connection.roles],
            "methods": [name for name, row in TABLE.items() if row.who in connection.roles],
            "limits": {
                "message_bytes": connection.max_message,
                "document_bytes": MAX_DOCUMENT_BYTES,
                "ttl_s": self._state.config.max_ttl,
                "confirms": methods.MAX_CONFIRMS,
            },
        }

    def status(self, connection: Connection, msgid: int | None) -> dict[str, Any]:
        """Health, counts, clock and warnings."""
        state = self._state
        warnings = state.warnings()
        valid, licenses = state.license_counts()
        held, total = state.seat_counts()
        return {
            "health": "warning" if warnings else "ok",
            "warnings": warnings,
            "version": licd.__version__,
            "pid": os.getpid(),
            "uptime_s": int(state.now - state.started),
            "clock": {
                "trusted": timestamp(state.trusted),
                "wall": timestamp(state.wall),
                "state": str(state.clock.state),
                "confirmed": state.clock.confirmed,
            },
            "licenses": {"valid": valid, "total": licenses},
            "seats": {"held": held, "total": total},
            "leases": len(state.ledger.leases),
            "connections": state.connections,
            "journal": {
                "writable": state.journal.writable,
                "bytes": state.journal.bytes_used,
                "allocated": state.journal.bytes_allocated,
            },
            "vendors": self.licenses.vendors(),
        }
