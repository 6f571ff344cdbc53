"""What reaches the screen: tables for people, JSON for programs, errors for both.

Text from licd may be anything that a vendor or a client once chose. For people every value goes through shown(); JSON
leaves in ASCII.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from licd.cli.problems import CANNOT_WRITE, Failure, Problem


def shown(value: Any) -> str:
    """One line that is safe on a terminal: control and invisible characters are escapes, None is "-"."""
    if value is None:
        return "-"
    if type(value) is bool:
        return "yes" if value else "no"
    text = value if type(value) is str else str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if unicodedata.category(character) == "Zs":  # a no-break space is a space; a line separator is not
        return " "
    return character.encode("unicode_escape").decode("ascii")


class _Shown(dict[str, Any]):
    """Values for a sentence. What an older licd did not send is "-"."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__({key: shown(value) for key, value in values.items()})

    def __missing__(self, key: str) -> str:
        return "-"


def fill(sentence: str, /, **values: Any) -> str:
    """A sentence with its values. Sentences are whole format strings, so that they can be translated."""
    return sentence.format_map(_Shown(values))


def say(sentence: str, /, **values: Any) -> None:
    print(fill(sentence, **values))


def warn(sentence: str, /, **values: Any) -> None:
    print(f"warning: {fill(sentence, **values)}", file=sys.stderr)


def hint(sentence: str, /, **values: Any) -> None:
    print(f"hint: {fill(sentence, **values)}", file=sys.stderr)


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns for people; a column of numbers only is flush right."""
    values = [list(row) for row in rows]
    cells = [[shown(value) for value in row] for row in values]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    right = [
        bool(values) and all(type(value) is int for value in column)
        for column in (zip(*values, strict=True) if values else [()] * len(headings))
    ]
    for line in (headings, *cells):
        padded = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        )
        print("  ".join(padded).rstrip())


def pairs(rows: Iterable[tuple[str, Any]]) -> None:
    """Label and value, one pair a line."""
    lines = [(shown(label), shown(value)) for label, value in rows]
    width = max(len(label) for label, _ in lines)
    for label, value in lines:
        print(f"{label.ljust(width)}  {value}")


def span(seconds: Any) -> str:
    """A length of time, to the precision that people use."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return "-"
    whole = max(0, round(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def print_json(value: Any) -> None:
    print(json.dumps(_plain(value), indent=2, allow_nan=False))


def print_readable(value: Any) -> None:
    """JSON for people: other alphabets stay legible."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    print("\n".join(map(shown, text.split("\n"))))


def _plain(value: Any) -> Any:
    """The value with everything that MessagePack has and JSON has not as text."""
    if isinstance(value, dict):
        return {key if type(key) is str else shown(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def print_failure(failure: Failure, *, as_json: bool) -> None:
    """A sentence and what to do next on stderr; for programs also the whole error as the answer on stdout."""
    complain(failure.error)
    if as_json:
        print_json({"error": failure.error})


def complain(error: Mapping[str, Any]) -> None:
    """The error of a map as on the wire; what a stranger's map lacks is left out."""
    sys.stdout.flush()  # what went well comes first, also in a file that takes both
    print(f"error: {shown(error.get('message'))} ({shown(error.get('name'))})", file=sys.stderr)
    data = error.get("data")
    if not isinstance(data, dict):
        return
    for each in _maps(data.get("factors")):  # why it is not this device
        print(fill("  {factor} (weight {weight}): {state}", **each), file=sys.stderr)
    if data.get("next") is not None:
        hint("{next}", next=data["next"])


def _maps(value: Any) -> Iterable[dict[str, Any]]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()


def print_document(text: str) -> None:
    """A document to stdout, byte for byte unless a terminal reads it."""
    if sys.stdout.isatty():
        for line in text.splitlines():
            print("\t".join(map(shown, line.split("\t"))))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def write_document(path: str, text: str) -> None:
    """Errors: Problem CANNOT_WRITE"""
    try:
        with open(path, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise Problem(CANNOT_WRITE, file=path, reason=error.strerror) from None


def prepare() -> None:
    """Both streams can be written: what their encoding lacks becomes escapes, and closed ones (>&-) swallow it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  it lives as long as the process
        with contextlib.suppress(AttributeError):  # no TextIOWrapper: whoever put it there knows its encoding
            getattr(sys, name).reconfigure(errors="backslashreplace")


def abandon() -> None:
    """Nobody reads stdout any more: the interpreter's last flush must not complain about it."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
