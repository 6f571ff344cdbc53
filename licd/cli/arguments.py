"""What the command line gives: files, and the arguments of `call`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn

from licd.cli.problems import BAD_USAGE, CANNOT_READ, Problem
from licd.license.document import MAX_DOCUMENT_BYTES
from licd.rpc.errors import DOCUMENT_TOO_LARGE, Refused


def read(file: str) -> bytes:
    """The bytes of the file; of standard input for "-".

    Errors: Problem CANNOT_READ, Refused DOCUMENT_TOO_LARGE
    """
    try:
        with open(0 if file == "-" else file, "rb", closefd=file != "-") as stream:
            data = stream.read(MAX_DOCUMENT_BYTES + 1)  # and no more: /dev/zero has no end
    except OSError as error:
        raise Problem(CANNOT_READ, file=file, reason=error.strerror) from None
    if len(data) > MAX_DOCUMENT_BYTES:
        raise Refused(DOCUMENT_TOO_LARGE, reason=f"{file} has more than {MAX_DOCUMENT_BYTES} bytes")
    return data


def parse(pairs: Iterable[str]) -> dict[str, Any]:
    """The named arguments of one call, from words like seats=2, license=kso.pos, document=@FILE.

    Errors: Problem BAD_USAGE, and those of read()
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals):
            _refuse(f"{pair} is not an argument: write key=value, or key=@FILE")
        if key in values:
            _refuse(f"{key} is given twice")
        values[key] = read(text[1:]) if text.startswith("@") else _value(text)
    return values


def _value(text: str) -> Any:
    """JSON if it is JSON, else the text itself.

    Numbers are only integers that MessagePack can carry: no method takes a fraction, and a version 5.2 or a lease id
    of digits around one "e" must not become one.
    """
    try:
        return json.loads(text, parse_int=_integer, parse_float=_no_number, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def _integer(text: str) -> int:
    value = int(text)
    if -(2**63) <= value < 2**64:
        return value
    return _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _refuse(reason: str) -> NoReturn:
    raise Problem(BAD_USAGE, reason=reason, command="licd-cli call")
