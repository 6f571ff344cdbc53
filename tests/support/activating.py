"""licd-cli activate between a scripted licd and a scripted vendor's server.

with Both(folder) as both:
    done = activate(run, both, SYMBOLS)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from licd.cli.activate_commands import INSTALL_REQUEST, LICENSE_FILE
from licd.license import code
from tests.support import peer as licd
from tests.support.cli import Done, Run
from tests.support.https import Script, Server, answer
from tests.support.peer import Peer

SYMBOLS = code.encode(bytes(range(10)))
GROUPED = code.grouped(SYMBOLS)
MISTYPED = ("Z" if GROUPED[0] != "Z" else "Q") + GROUPED[1:]

MADE = {
    "vendor": "acme",
    "id": "lr-1",
    "document": "the license request\n",
    "rehost": False,
    "weak": False,
    "strong": ["board", "disk"],
    "unreadable": [],
}
IN_FORCE = {"files": [{"vendor": "acme", "seq": 7, "in_force": "now", "changes": []}], "others": 0, "dry_run": False}
ASKED = answer(200, b"an install request", INSTALL_REQUEST)
FILE = answer(200, b"a license file", LICENSE_FILE)


def vendors(*rows: tuple[str, str | None]) -> dict[str, Any]:
    return {"vendors": [{"vendor": vendor, "url": url} for vendor, url in rows]}


def taken(url: str | None) -> dict[str, Any]:
    return {"vendor": "acme", "id": "ir-1", "state": "open", "url": url}


class Both:
    """A scripted licd and a scripted vendor's server, both willing unless told otherwise."""

    def __init__(self, folder: Path, *scripts: Script, made: dict[str, Any] = MADE, path: str = "") -> None:
        self.server = Server(*(scripts or (ASKED, FILE)))
        url = f"{self.server.url}{path}"
        self.socket = f"{folder}/s"
        self.licd = Peer(
            self.socket,
            licd.answer(vendors(("acme", url), ("other", None))),
            licd.answer(taken(url)),
            licd.answer(made),
            licd.answer(IN_FORCE),
        )

    @property
    def methods(self) -> list[str]:
        return [method for _, method, _ in self.licd.asked]

    def __enter__(self) -> Both:
        return self

    def __exit__(self, *_: object) -> None:
        self.licd.close()
        self.server.close()


def activate(run: Run, both: Both, *words: object) -> Done:
    return run("activate", *words, "--socket", both.socket)
