"""Arguments that several commands of licd-vendor take, and commands whose modules are imported only when they run."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable

from licd.license.lines import an_id
from licd_vendor.keys import Failure

_MOST = 2**31 - 1  # what every database has as an integer
_EXTRA = {"sqlalchemy": "SQLAlchemy", "flask": "Flask", "waitress": "waitress", "cheroot": "cheroot"}


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def an_id_argument(text: str) -> str:
    try:
        return str(an_id(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def number(least: int, most: int = _MOST) -> Callable[[str], int]:
    def check(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text[:10]) <= most and len(text) <= 10:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a number from {least}" + (f" to {most}" if most < _MOST else ""))

    return check


def later(name: str, module: str = "desk") -> Callable[[argparse.Namespace], int]:
    """The function of this module with this name, imported when it is called."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            command: Callable[[argparse.Namespace], int]
            command = getattr(importlib.import_module(f"licd_vendor.{module}"), name)
            return command(arguments)
        except ModuleNotFoundError as error:
            missing = _EXTRA.get((error.name or "").partition(".")[0])
            if missing is None:
                raise
            hint = "Install it: pip install 'licd[vendor]'. Without work: init, sign, show, signer and withdraw."
            raise Failure(f"This command needs {missing}, which is not installed.", hint) from None

    return run
