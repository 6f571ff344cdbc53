"""The units of systemd/, as their lines say."""

from __future__ import annotations

import configparser

from tests.support.transcript import CHECKOUT

UNITS = CHECKOUT / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    """Of a directive that stands several times, the last line."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser's manual says
    parser.read(UNITS / name)
    return parser
