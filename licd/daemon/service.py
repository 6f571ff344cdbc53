"""How a message becomes an answer: the method is looked up, role and arguments are checked, the handler runs.

Three kinds of failure are kept apart. Refused: an answer by name; the connection lives, nothing is logged. Violation:
not the protocol; told and logged once, closed. Fault: a bug of ours; answered INTERNAL, its traceback logged once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, TypeVar

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
        self._faults: set[str] = set()  # places already logged

    def handle(self, connection: Connection, message: wire.Message) -> None:
        """The message is carried out, and its answer, if it wants one, stands in the connection's `out`.

        Errors: wire.Violation, JournalFailed, FaultAfterChange
        """
        if type(message) is wire.Request:
            try:
                result = self._call(connection, message.msgid, message.method, message.params)
            except Refused as refused:
                connection.refuse(message.msgid, refused.as_map())
            except Deferred:
                connection.deferred += 1
            else:
                connection.answer(message.msgid, result)
        elif type(message) is wire.Notification:
            row = TABLE.get(message.method)
            if row is not None and row.notification:
                with contextlib.suppress(Refused):  # nobody asked for an answer
                    self._call(connection, None, message.method, message.params)
        else:
            raise wire.Violation("a response to a request that was never sent")

    def _call(self, connection: Connection, msgid: int | None, method: str, params: Any) -> Any:
        row = TABLE.get(method)
        if row is None:
            raise Refused(NO_SUCH_METHOD, method=method[:64])
        if row.who not in connection.roles:
            if not connection.roles - {ANY}:
                raise Refused(PEER_UNKNOWN, uid=connection.peer.uid)
            raise Refused(NOT_PERMITTED, method=method, needs=row.who)
        arguments = row.arguments(params)
        return self._guarded(method, lambda: self._handlers[method](connection, msgid, **arguments))

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
        except Exception as error:  # a bug in one request must not end the shop's other sessions
            self._log_fault(method, error)
            if self._state.changes != changes:
                raise FaultAfterChange(method) from error
            raise Refused(INTERNAL, method=method) from None

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
