"""seat.*: acquire, confirm, release, list. Each judges the license, lets the ledger decide, then records and holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

from licd.daemon.connection import Connection
from licd.daemon.methods import ADMIN
from licd.daemon.peer_units import unit_of
from licd.daemon.state import State, warnings_of
from licd.license.dates import timestamp
from licd.license.terms import Verdict, Verdicts
from licd.rpc.errors import BAD_PARAMS, LEASE_UNKNOWN, NO_SUCH_LICENSE, TOO_MANY_LEASES, VERSION_NOT_COVERED, Refused
from licd.seats.ledger import Grant
from licd.seats.pool import Lease, Session

# Of one Acquired record: its texts are at most 24 + 64 + 4 * 128 + 7 + 120 + 100 bytes, numbers and headers below 80.
RECORD_BYTES = 1024


class SeatMethods:
    def __init__(self, state: State) -> None:
        self._state = state
        self._new_ids = _new_ids()
        self._judged: Verdicts | None = None
        # The licenses that every version may have now, and the warnings that go with them: of the verdicts last seen.
        self._open: dict[str, list[str]] = {}

    def acquire(
        self, connection: Connection, msgid: int | None, license: str, holder: str, seats: int,
        version: str | None, ttl: int, wait: int, on_close: str,
    ) -> dict[str, Any]:  # fmt: skip
        """A lease, or why not. The same (license, uid, holder) gets the same lease back."""
        state = self._state
        if connection.hung_up:
            raise Refused(LEASE_UNKNOWN)  # nobody is there to hold it, or to read this
        if ttl > state.config.max_ttl:
            raise Refused(BAD_PARAMS, reason=f"ttl is at most {state.config.max_ttl} s on this device")
        if state.installed.verdicts is not self._judged:  # asked here and in _confirm(): a call costs 1 % of a request
            self._look_at_verdicts()
        warnings = self._open.get(license)
        if warnings is None:
            warnings = warnings_of(self._verdict(license, version))
        session = connection.session
        if session.unit is None:
            _know_unit(session)
        wish = (license, holder, seats, ttl, on_close, version)
        grant = state.ledger.decide_acquire(wish, session, next(self._new_ids), int(state.trusted), state.now)
        lease = self._carry_out(session, grant)
        return {
            "lease": lease.id,
            "license": license,
            "holder": holder,
            "seats": seats,
            "ttl": ttl,
            "deadline": lease.deadline,
            "warnings": warnings,
        }

    def confirm(
        self, connection: Connection, msgid: int | None, lease: str | None, license: str | None,
        holder: str | None, leases: tuple[str, ...] | None,
    ) -> dict[str, Any]:  # fmt: skip
        """The new deadline; of many leases, each answered for itself."""
        if leases is not None:
            if lease is not None or license is not None or holder is not None:
                raise Refused(BAD_PARAMS, reason="leases goes alone, without lease, license or holder")
            results = [self._confirm_one(connection, id) for id in leases]
            self._state.prompt = False  # one of them may wait for the commit
            return {"results": results}
        found = self._find(connection, lease, license, holder)
        return self._confirm(connection, found, by_holder=holder is not None)

    def release(
        self, connection: Connection, msgid: int | None, lease: str | None, license: str | None,
        holder: str | None, reason: str | None,
    ) -> dict[str, Any]:  # fmt: skip
        """released true, or false where it was gone already."""
        state = self._state
        try:
            found = self._find(connection, lease, license, holder)
        except Refused as refused:
            if refused.error is LEASE_UNKNOWN:
                return {"released": False}
            raise
        event = state.ledger.decide_release(found, connection.session, reason, admin=ADMIN in connection.roles)
        if not found.live:
            state.ledger.forget(found)
            return {"released": False}
        state.record(event)
        return {"released": True}

    def list_seats(
        self, connection: Connection, msgid: int | None, license: str | None, holder: str | None,
        after: int, limit: int,
    ) -> dict[str, Any]:  # fmt: skip
        """The leases of the peer's own uid, of all uids for an admin, oldest first, a page at a time."""
        state = self._state
        admin = ADMIN in connection.roles
        uid = connection.uid
        pool = state.ledger.leases if license is None else state.ledger.pool(license).leases
        rows = (
            lease
            for lease in pool.values()  # in the order of rank
            if lease.rank > after and (admin or lease.uid == uid) and (holder is None or lease.holder == holder)
        )
        page = list(islice(rows, limit))
        return {
            "leases": [self._row(lease) for lease in page],
            "next": page[-1].rank if next(rows, None) is not None else None,
        }

    # --- parts -----------------------------------------------------------------------------------------------

    def _look_at_verdicts(self) -> None:
        """_open is as the newest verdicts say."""
        self._judged = self._state.installed.verdicts
        self._open = {
            name: warnings_of(verdict)
            for name, verdict in self._judged.names.items()
            if verdict.counts and all(versions is None for versions, _ in verdict.grants)
        }

    def _verdict(self, license: str, version: str | None) -> Verdict:
        verdict = self._state.installed.verdicts.names.get(license)
        if verdict is None:
            raise Refused(NO_SUCH_LICENSE, license=license)
        refusal = verdict.refusal(version)
        if refusal is not None:
            raise refusal
        return verdict

    def _find(self, connection: Connection, id: str | None, license: str | None, holder: str | None) -> Lease:
        """The lease meant. Errors: BAD_PARAMS, LEASE_UNKNOWN"""
        state = self._state
        if id is None:
            last = connection.session.lease  # mostly that one is meant, and it is of this uid
            if last is not None and last.holder == holder and last.license == license and last.live:
                return last
            if license is not None and holder is not None:
                return state.ledger.find_holder(license, connection.uid, holder, state.now)
        elif license is None and holder is None:
            return state.ledger.find(id, state.now)
        raise Refused(BAD_PARAMS, reason="name the lease either by lease, or by license and holder")

    def _confirm(self, connection: Connection, lease: Lease, *, by_holder: bool) -> dict[str, Any]:
        state = self._state
        session = connection.session
        if lease.uid == session.uid:
            if not lease.live:  # a revival is an acquire: judged anew
                if connection.hung_up:
                    raise Refused(LEASE_UNKNOWN)
                self._verdict(lease.license, lease.version)
                if session.unit is None:
                    _know_unit(session)
            else:
                if state.installed.verdicts is not self._judged:
                    self._look_at_verdicts()
                if lease.license not in self._open:
                    self._check_version(lease)
        grant = state.ledger.decide_confirm(lease, session, state.now, by_holder=by_holder)
        if grant[1] is None:
            state.ledger.hold(lease, session, grant[2], state.now)
        else:
            lease = self._carry_out(session, grant)
        state.prompt = lease.rank < state.settled_rank
        return {"lease": lease.id, "deadline": lease.deadline}

    def _check_version(self, lease: Lease) -> None:
        """A renewed file may cover other versions, as it may grant fewer seats: then the lease ends at its deadline.

        A license that ended altogether has no seats, which the ledger answers.
        Errors: VERSION_NOT_COVERED
        """
        verdict = self._state.installed.verdicts.names.get(lease.license)
        refusal = None if verdict is None else verdict.refusal(lease.version)
        if refusal is not None and refusal.error is VERSION_NOT_COVERED:
            raise refusal

    def _confirm_one(self, connection: Connection, id: str) -> dict[str, Any]:
        try:
            return self._confirm(connection, self._state.ledger.find(id, self._state.now), by_holder=False)
        except Refused as refused:
            return {"lease": id, "error": refused.as_map()}

    def _carry_out(self, session: Session, grant: Grant) -> Lease:
        """The grant is recorded, if there is anything to record, and the lease held by this connection."""
        state = self._state
        ledger = state.ledger
        lease, event, deadline = grant
        if event is not None:
            if lease is None and len(ledger.leases) >= state.config.max_leases:
                raise Refused(TOO_MANY_LEASES, limit=state.config.max_leases)
            if lease is None or event.seats >= lease.seats:  # shrinking always works, also on a full disk
                state.journal.reserve(RECORD_BYTES)
            state.record(event)
            lease = ledger.leases[event.lease]
        assert lease is not None
        ledger.hold(lease, session, deadline, state.now)
        return lease

    def _row(self, lease: Lease) -> dict[str, Any]:
        now = self._state.now
        return {
            "lease": lease.id,
            "license": lease.license,
            "holder": lease.holder,
            "uid": lease.uid,
            "pid": lease.pid,
            "unit": lease.unit or None,
            "seats": lease.seats,
            "version": lease.version,
            "on_close": lease.on_close,
            "ttl": lease.ttl_s,
            "since": timestamp(lease.since),
            "confirmed_s": int(now - lease.confirmed),
            "expires_s": max(0, int(lease.deadline - now)),
        }


def _know_unit(session: Session) -> None:
    """To be asked once for each session, while its unit is None: it takes some milliseconds."""
    session.unit = unit_of(session.pid) or ""


def _new_ids() -> Iterator[str]:
    """Lease ids, 24 hexadecimal digits each. The kernel is asked for many at once."""
    while True:
        digits = os.urandom(12 * 64).hex()
        for at in range(0, len(digits), 24):
            yield digits[at : at + 24]
