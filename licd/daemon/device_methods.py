"""device.*: what this device shows of itself, and how near it is to being another one. No factor's value is told."""

from __future__ import annotations

from typing import Any

from licd.daemon.connection import Connection
from licd.daemon.recognition import explain, factor_rows, kind_of
from licd.daemon.state import State
from licd.device import machine
from licd.device.fingerprint import FACTORS, FOUND, LEAST_STRONG, STRONG, Tags, strong_kinds, without
from licd.license.dates import FOREVER, day
from licd.license.lines import LicenseFile
from licd.license.terms import ANY_DEVICE, SAME, Standing
from licd.rpc.errors import BAD_PARAMS, Refused


class DeviceMethods:
    def __init__(self, state: State) -> None:
        self._state = state

    def fingerprint(self, connection: Connection, msgid: int | None, without: tuple[str, ...] | None) -> dict[str, Any]:
        """Factors, readable or not, and for each vendor's file what of its binding is kept and how much may be lost."""
        state = self._state
        gone = without or ()
        state.device.look_again()
        readings = state.device.readings
        left = _without({reading.factor: reading.values for reading in readings if reading.state == FOUND}, gone)
        state.recognize()
        state.judge()
        answer: dict[str, Any] = {
            "machine": machine.machine()._asdict(),
            "key": state.device.identity is not None,
            "factors": [
                {
                    "factor": reading.factor,
                    "kind": FACTORS[reading.factor],
                    "strength": "strong" if FACTORS[reading.factor] in STRONG else "weak",
                    "state": reading.state,
                    "count": len(reading.values),
                    "note": reading.note,
                }
                for reading in readings
            ],
            "weak": len(strong_kinds(left)) < LEAST_STRONG,
            "vendors": [self._vendor(file, gone) for file in state.installed.files.values()],
        }
        return answer | ({} if without is None else {"without": gone})

    def _vendor(self, file: LicenseFile, gone: tuple[str, ...]) -> dict[str, Any]:
        standing = self._state.installed.standings.get(file.vendor, ANY_DEVICE)
        row = {
            "vendor": file.vendor,
            "bound": file.device is not None,
            "standing": standing.kind,
            "until": last_day(standing),
            "reason": standing.reason,
            "factors": [],
            "share": None,
            "weight": None,
            "changes_left": None,
            "breaking": None,
        }
        if file.device is None:
            return row
        device, bound = self._state.device, file.device
        found = device.compare(file.vendor, bound, gone)
        if gone:  # as it would be in another boot, and from which day on nobody knows
            kind = kind_of(found, own_key=device.has_key(bound, file.vendor))
            row |= {"standing": kind, "until": None, "reason": None if kind == SAME else explain(found)}
        elif standing.kind == SAME and not found.ok:
            row["reason"] = "it was the same earlier in this boot; that holds until the next"
        return row | {
            "factors": factor_rows(found),
            "share": found.share,
            "weight": {"bound": found.bound, "kept": found.kept, "needed": found.needed},
            "changes_left": found.changes_left,
            "breaking": list(found.breaking),
        }


def last_day(standing: Standing) -> str | None:
    """The day on which the grace of a changed device ends; None where nothing ends, or has no grace."""
    return day(standing.until) if -FOREVER < standing.until < FOREVER else None


def _without(tags: Tags, gone: tuple[str, ...]) -> Tags:
    try:
        return without(tags, gone)
    except KeyError as error:
        known = ", ".join(dict.fromkeys([*FACTORS.values(), *FACTORS]))  # some kinds have but one factor, of their name
        raise Refused(BAD_PARAMS, reason=f"without names {error.args[0]}; known are {known}") from None
