"""license.*: check, list, import, export."""

from __future__ import annotations

from typing import Any

from licd.daemon.connection import Connection
from licd.daemon.delivery import Outcome, steps
from licd.daemon.device_methods import last_day
from licd.daemon.importing import Importing
from licd.daemon.state import State, warnings_of
from licd.daemon.taking_in import carry_out, file_rows, reserve
from licd.license.dates import timestamp
from licd.license.terms import ANY_DEVICE, Verdict
from licd.rpc.errors import BAD_PARAMS, NO_SUCH_LICENSE, NOT_IN_FORCE, Refused


class LicenseMethods:
    def __init__(self, state: State, importing: Importing) -> None:
        self._state = state
        self._importing = importing

    def check_license(
        self, connection: Connection, msgid: int | None, license: str, version: str | None
    ) -> dict[str, Any]:
        """Whether an acquire for this version would find the license in order; takes no seat."""
        verdict = self._state.installed.verdicts.names.get(license)
        self._state.prompt = self._state.settled_rank >= 0
        if verdict is None:
            refusal: Refused | None = Refused(NO_SUCH_LICENSE, license=license)
            return _checked(license, None, refusal)
        return _checked(license, verdict, verdict.refusal(version))

    def list_licenses(self, connection: Connection, msgid: int | None) -> dict[str, Any]:
        """Every license name, in alphabetical order, with what is held of it."""
        verdicts = self._state.installed.verdicts.names
        return {"licenses": [self._row(verdicts[name]) for name in sorted(verdicts)]}

    def import_license(
        self, connection: Connection, msgid: int | None, document: bytes, dry_run: bool
    ) -> dict[str, Any]:
        """A delivery comes into force whole or not at all; verified in slices, so the answer comes later."""
        self._importing.displace("renewal.report")  # a courier asks again, and could keep this one out for ever
        self._importing.check_free()
        if not dry_run:
            reserve(self._state)
        raise self._importing.begin(
            "license.import",
            connection,
            msgid,
            steps(self._state, document),
            lambda outcome: self._finish(outcome, dry_run=dry_run),
        )

    def _finish(self, outcome: Outcome, *, dry_run: bool) -> dict[str, Any]:
        if not dry_run:
            carry_out(self._state, outcome)
        return {
            "files": file_rows(outcome),
            "others": outcome.others,
            "dry_run": dry_run,
            "withdrawn": outcome.withdrawn and outcome.withdrawn[1].seq,
        }

    def export_license(self, connection: Connection, msgid: int | None, vendor: str | None) -> dict[str, Any]:
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
                    "ca": profile.ca,
                    "in_force": file is not None,
                    "seq": None if file is None else file.seq,
                    "issued": None if file is None else timestamp(file.issued),
                    "problem": installed.problems.get(profile.vendor),
                    "device": standing.kind if file is not None else None,
                    "device_until": last_day(standing),
                }
            )
        return rows

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
