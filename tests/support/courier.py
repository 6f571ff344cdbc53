"""licd-cli renew between a scripted licd and a scripted vendor's server.

with Server(FINE) as server, Licd(folder, [row(url=server.url)], report("unchanged")) as there:
    done = renew(run, there, "--due")
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from licd.cli.renew_commands import RENEWAL_ANSWER
from licd.rpc import wire
from tests.support import peer as licd
from tests.support import pki
from tests.support.cli import Done, Run
from tests.support.https import Server, answer
from tests.support.peer import Peer

ISSUED, SOON, LATER = "2026-10-22T10:00:00Z", "2026-11-24T18:00:00Z", "2026-12-28T10:00:00Z"
NOWHERE = "https://127.0.0.1:1"
ACME, UMBRA = pki.Vendor(), pki.Vendor("umbra", ("umb.*",))
ANSWER, OF_UMBRA = ACME.unchanged(), UMBRA.unchanged()
FINE = answer(200, ANSWER, RENEWAL_ANSWER)

CHANGE = {"license": "kso.scan", "change": "changed", "less": False,
          "was": {"state": "valid", "total": 2}, "will_be": {"state": "valid", "total": 3}}  # fmt: skip


def row(vendor: str = "acme", /, **changes: Any) -> dict[str, Any]:
    """Of renewal.plan."""
    return {"vendor": vendor, "url": NOWHERE, "ca": None, "in_force": True, "seq": 3, "need": "required",
            "issued": ISSUED, "due": SOON, "next": SOON, "is_due": True, "why": "due", "failures": 0,
            "last": None, "hard_stop": None, "overdue": [], "refused": None, "request": None} | changes  # fmt: skip


def report(outcome: str, /, **changes: Any) -> dict[str, Any]:
    """What licd answers to a document, or to a failure."""
    return {"vendor": "acme", "outcome": outcome, "files": [], "others": 0, "withdrawn": None, "refusal": None,
            "next": SOON if outcome == "noted" else LATER} | changes  # fmt: skip


def renewed(*changes: dict[str, Any]) -> dict[str, Any]:
    return report("renewed", files=[{"vendor": "acme", "seq": 4, "in_force": "new", "changes": list(changes)}])


REFUSED = report("refused", refusal={"reason": "The order was suspended: not paid.", "stops": "2026-11-26"})
BAD = {"code": 33, "name": "BAD_SIGNATURE", "message": "The signature of line 1 is bad.", "data": {"next": "Look."}}
FULL = {"code": 50, "name": "STORAGE_FULL", "message": "The disk is full.", "data": {"next": "Free space."}}


class Licd(Peer):
    """Knows these vendors, gives each a request, and answers each document with the next report (a map: refused).

    What is called beside renewal.* is the test's failure: a courier may call nothing else.
    """

    def __init__(self, folder: Path, rows: list[dict[str, Any]], *reports: Any, notes: Any = None) -> None:
        self.path = f"{folder}/s"
        self._rows = {each["vendor"]: each for each in rows}
        self._reports, self._notes = iter(reports), notes or report("noted")
        self.documents: list[bytes] = []
        self.failures: list[dict[str, Any]] = []
        super().__init__(self.path, *[self._play] * 100)

    def _play(self, stream: socket.socket, request: wire.Request) -> None:
        named = request.params[0] if request.params else {}
        result: Any = {"vendors": list(self._rows.values())}
        if request.method == "renewal.request":
            known = self._rows.get(named["vendor"] if named else "acme", {})
            result = known.get("made") or {"vendor": known.get("vendor"), "id": "renewal-1", "issued": SOON,
                      "document": f"the request of {known.get('vendor')}\n", "new": True,
                      "seq": known.get("seq"), "url": known.get("url"), "ca": known.get("ca")}  # fmt: skip
        elif request.method == "renewal.report" and "document" in named:
            self.documents.append(named["document"])
            result = next(self._reports)
        elif request.method == "renewal.report":
            self.failures.append(named)
            result = self._notes
        (licd.refuse if isinstance(result, dict) and "code" in result else licd.answer)(result)(stream, request)

    @property
    def methods(self) -> set[str]:
        return {method for _, method, _ in self.asked}


def renew(run: Run, there: Licd, *words: object) -> Done:
    done = run("renew", *words, "--socket", there.path)
    assert there.methods <= {"renewal.plan", "renewal.request", "renewal.report"}
    return done


def told(run: Run, folder: Path, result: Any, *words: object) -> Done:
    with Server(FINE) as server, Licd(folder, [row(url=server.url)], result) as there:
        return renew(run, there, *words)
