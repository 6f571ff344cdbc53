"""license.*: check, list, import, export."""

from __future__ import annotations

from collections.abc import Generator
from time import perf_counter
from typing import Any, NamedTuple

from licd.daemon import log
from licd.daemon.connection import Connection, Deferred
from licd.daemon.device_methods import last_day
from licd.daemon.installed import Outcome
from licd.daemon.state import State, refusal_of, warnings_of
from licd.license.dates import timestamp
from licd.license.lines import LicenseFile
from licd.license.terms import ANY_DEVICE, Verdict
from licd.rpc.errors import (
    BAD_PARAMS,
    IMPORT_BUSY,
    NO_SUCH_LICENSE,
    NOT_IN_FORCE,
    Refused,
)
from licd.seats.events import Accepted

SLICE_S = 0.003  # verification in one turn: other clients wait no longer than for a sync
ACCEPTED_BYTES = 256  # of one Accepted record: vendor, seq, digest


class _Import(NamedTuple):
    connection: Connection
    msgid: int
    steps: Generator[None, None, Outcome]
    dry_run: bool


class LicenseMethods:
    def __init__(self, state: State) -> None:
        self._state = state
        self._import: _Import | None = None

    @property
    def busy(self) -> bool:
        """An import is under way: the next turn must not wait."""
        return self._import is not None

    def check_license(
        self, connection: Connection, msgid: int | None, *, license: str, version: str | None
    ) -> dict[str, Any]:
        """Whether an acquire for this version would find the license in order; takes no seat."""
        verdict = self._state.installed.verdicts.names.get(license)
        if verdict is None:
            refusal: Refused | None = Refused(NO_SUCH_LICENSE, license=license)
            return _checked(license, None, refusal)
        return _checked(license, verdict, verdict.refusal(version))

    def list_licenses(self, connection: Connection, msgid: int | None) -> dict[str, Any]:
        """Every license name, in alphabetical order, with what is held of it."""
        verdicts = self._state.installed.verdicts.names
        return {"licenses": [self._row(verdicts[name]) for name in sorted(verdicts)]}

    def import_license(
        self, connection: Connection, msgid: int | None, *, document: bytes, dry_run: bool
    ) -> dict[str, Any]:
        """A delivery comes into force whole or not at all; verified in slices, so the answer comes later."""
        state = self._state
        if self._import is not None:
            raise Refused(IMPORT_BUSY)
        if not dry_run:
            state.journal.reserve(ACCEPTED_BYTES)
        assert msgid is not None
        steps = state.installed.import_steps(
            document,
            state.ledger.accepted,
            state.trusted,
            clock_confirmed=state.clock.confirmed,
            device=state.device,
            open_request=self._open_request,
        )
        self._import = _Import(connection, msgid, steps, dry_run)
        raise Deferred

    def export_license(self, connection: Connection, msgid: int | None, *, vendor: str | None) -> dict[str, Any]:
        """The license file in force, verbatim. vendor may be left out where there is one only."""
        files = self._state.installed.files
        if vendor is None and len(files) == 1:
            vendor = next(iter(files))
        if vendor is None and files:
            raise Refused(BAD_PARAMS, reason=f"vendor is missing; there are files of {', '.join(sorted(files))}")
        file = None if vendor is None else files.get(vendor)
        if file is None:
            raise Refused(NOT_IN_FORCE, vendor=vendor or "any vendor")
        return {"vendor": file.vendor, "seq": file.seq, "document": file.text.decode("ascii")}

    def vendors(self) -> list[dict[str, Any]]:
        """One row a vendor profile, for server.status."""
        installed = self._state.installed
        rows = []
        for profile in installed.profiles.values():
            file = installed.files.get(profile.vendor)
            standing = installed.standings.get(profile.vendor, ANY_DEVICE)
            rows.append(
                {
                    "vendor": profile.vendor,
                    "url": profile.url,
                    "in_force": file is not None,
                    "seq": None if file is None else file.seq,
                    "issued": None if file is None else timestamp(file.issued),
                    "problem": installed.problems.get(profile.vendor),
                    "device": standing.kind if file is not None else None,
                    "device_until": last_day(standing),
                }
            )
        return rows

    def work(self) -> Connection | None:
        """One slice of the import under way; when it is through, the connection whose `out` now holds the answer.

        Errors: Refused, for give_up()
        """
        if self._import is None:
            return None
        connection = self._import.connection
        until = perf_counter() + SLICE_S
        try:
            while perf_counter() < until:
                next(self._import.steps)
            return None
        except StopIteration as done:
            self._finish(done.value)
        return connection

    def give_up(self, refused: Refused) -> Connection:
        """The import under way is refused; the connection whose `out` now holds the answer."""
        assert self._import is not None
        connection = self._import.connection
        self._answer(refused)
        return connection

    def _finish(self, outcome: Outcome) -> None:
        assert self._import is not None
        if not (self._import.dry_run or outcome.already):
            self._put_in_force(outcome)
        self._answer(
            {
                "files": [
                    {
                        "vendor": outcome.file.vendor,
                        "seq": outcome.file.seq,
                        "in_force": "already" if outcome.already else "new",
                        "changes": outcome.changes,
                    }
                ],
                "others": outcome.others,
                "dry_run": self._import.dry_run,
            }
        )

    def _put_in_force(self, outcome: Outcome) -> None:
        # The file first, then the journal: after a crash between the two the file is simply newer than the record.
        state = self._state
        state.journal.reserve(ACCEPTED_BYTES)
        try:
            state.installed.put_in_force(outcome.file)
        except OSError as error:
            raise refusal_of(error) from None
        self._tell_clock(outcome.file)
        state.record(Accepted(outcome.file.vendor, outcome.file.seq, outcome.file.digest))
        state.recognize()
        state.judge()
        log.write(log.NOTICE, f"license file {outcome.file.vendor} seq {outcome.file.seq} is in force")

    def _tell_clock(self, file: LicenseFile) -> None:
        """A file is never older than it says; one that answers a request of this boot is also no younger."""
        state = self._state
        id, asked_at = state.asked.get(file.vendor, (None, 0.0))
        if id is None or file.request != id:
            state.clock.floor(file.issued, state.wall, state.now)
        else:
            del state.asked[file.vendor]
            state.clock.confirm(file.issued, state.wall, state.now, asked_s=state.now - asked_at)
        state.tell_time(state.now, state.wall)

    def _open_request(self, vendor: str) -> str | None:
        request = self._state.requests.license_request(vendor)
        return None if request is None else request.id

    def _answer(self, result: dict[str, Any] | Refused) -> None:
        assert self._import is not None
        connection, msgid = self._import.connection, self._import.msgid
        self._import = None
        connection.deferred -= 1
        if isinstance(result, Refused):
            connection.refuse(msgid, result.as_map())
        else:
            connection.answer(msgid, result)

    def _row(self, verdict: Verdict) -> dict[str, Any]:
        return {
            "license": verdict.name,
            "title": verdict.title,
            "vendor": verdict.vendor,
            "type": verdict.license,
            "state": verdict.state,
            "total": verdict.total,
            "held": self._state.ledger.pool(verdict.name).held,
            "not_before": verdict.not_before,
            "expires": verdict.expires,
            "grace_until": verdict.grace_until,
            "versions": verdict.versions,
            "lines": verdict.lines_as_maps(),
        }


def _checked(license: str, verdict: Verdict | None, refusal: Refused | None) -> dict[str, Any]:
    return {
        "license": license,
        "valid": refusal is None,
        "type": verdict and verdict.license,
        "state": verdict and verdict.state,
        "expires": verdict and verdict.expires,
        "reason": refusal and refusal.as_map(),
        "warnings": [] if verdict is None else warnings_of(verdict),
    }
