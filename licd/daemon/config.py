"""licd.conf: every key, its default and its bounds. An unknown key or section is refused with its line."""

from __future__ import annotations

import configparser
import grp
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from licd.seats.journal import MIN_BYTES

DEFAULT_PATH = Path("/etc/licd/licd.conf")
SECTION = "licd"

MIN_TTL_S = 10  # a shorter lease would expire in an ordinary pause of its holder
MAX_TTL_S = 7 * 86400  # what max_ttl may allow; a seat that a dead holder keeps for longer is as good as lost


class ConfigError(Exception):
    """The configuration cannot be used; the message names file, line and what to do. A restart would not help."""


class Config(NamedTuple):
    """The daemon's configuration. Sizes are bytes, times seconds. Each field is a key of licd.conf(5)."""

    state: Path = Path("/var/lib/licd")
    socket: Path = Path("/run/licd/licd.sock")
    socket_mode: int = 0o660
    socket_group: str | None = None
    admin_group: str | None = None
    courier_group: str | None = None  # its members only take renewals to the vendor: they can take no seats
    vendors: Path = Path("/etc/licd/vendor.d")
    journal_size: int = 4 * 1024 * 1024  # of each of two files: some 10,000 acquires between two compactions
    max_ttl: int = 3600  # a dead holder must not keep its seat past the hour
    max_leases: int = 200_000  # some 200 MiB of memory
    max_connections: int = 1024
    max_connections_per_user: int = 64  # root and administrators are not counted


def _path(value: str) -> Path:
    # A control character is no accident of a path but a sign of a second key, indented: configparser joins the lines.
    if not value.isprintable() or not Path(value).is_absolute():
        raise ValueError("must be an absolute path on one line; the next key begins at the start of its line")
    return Path(value)


def _mode(value: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError("must be an octal mode such as 0660")
    return int(value, 8)


def _group(value: str) -> str:
    try:
        grp.getgrnam(value)
    except KeyError:
        raise ValueError(f"names a group that does not exist: {value}; create it (groupadd {value})") from None
    return value


def _integer(least: int, most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if re.fullmatch(r"[0-9]{1,12}", value) and least <= int(value) <= most:
            return int(value)
        raise ValueError(f"must be an integer from {least} to {most}")

    return read


READERS: dict[str, Callable[[str], Any]] = {
    "state": _path,
    "socket": _path,
    "socket_mode": _mode,
    "socket_group": _group,
    "admin_group": _group,
    "courier_group": _group,
    "vendors": _path,
    "journal_size": _integer(MIN_BYTES, 1024 * 1024 * 1024),
    "max_ttl": _integer(MIN_TTL_S, MAX_TTL_S),
    "max_leases": _integer(1, 2_000_000),
    "max_connections": _integer(8, 100_000),
    "max_connections_per_user": _integer(1, 100_000),
}
assert set(READERS) == set(Config._fields)


def load(path: Path | None, flags: Mapping[str, Path | None], environment: Mapping[str, str]) -> Config:
    """The configuration: a flag wins over the file, the file over systemd's environment, that over the default.

    path None: /etc/licd/licd.conf, which may be missing; a file that was named must exist.
    Errors: ConfigError
    """
    values: dict[str, Any] = {}
    if environment.get("STATE_DIRECTORY"):  # systemd gives a list; ours is the first
        values["state"] = Path(environment["STATE_DIRECTORY"].split(":")[0])
    if environment.get("RUNTIME_DIRECTORY"):
        values["socket"] = Path(environment["RUNTIME_DIRECTORY"].split(":")[0]) / "licd.sock"
    values.update(_read(path or DEFAULT_PATH, may_be_missing=path is None))
    for key, value in flags.items():
        if value is not None:
            values[key] = Path(os.path.abspath(value))
    return Config(**values)


def _read(path: Path, *, may_be_missing: bool) -> dict[str, Any]:
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        text = path.read_text(encoding="utf-8")
        parser.read_string(text, str(path))
    except OSError as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            return {}
        raise ConfigError(f"{path}: {error.strerror}; check the path given with --config") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(f"{path} is not an INI file: {reason}") from None
    values: dict[str, Any] = {}
    for section in parser.sections():
        if section != SECTION:
            line = _line(text, rf"\[{re.escape(section)}\]")
            raise ConfigError(f"{path}:{line}: unknown section [{section}]; the only one is [{SECTION}]")
        for key, value in parser.items(section):
            line = _line(text, rf"{re.escape(key)}[ \t]*[=:]")
            reader = READERS.get(key)
            if reader is None:
                raise ConfigError(f"{path}:{line}: unknown key {key}; the keys are in licd.conf(5)")
            try:
                values[key] = reader(value)
            except ValueError as error:
                raise ConfigError(f"{path}:{line}: {key} {error}") from None
    couriers = values.get("courier_group")
    for key in ("socket_group", "admin_group"):
        if couriers is not None and values.get(key) == couriers:
            line = _line(text, "courier_group[ \\t]*[=:]")
            raise ConfigError(f"{path}:{line}: courier_group must be another group than {key}; couriers take no seats")
    return values


def _line(text: str, pattern: str) -> int:
    """The number of the line that starts with the pattern; configparser does not keep it."""
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(rf"[ \t]*{pattern}", line, re.IGNORECASE):
            return number
    return 0
