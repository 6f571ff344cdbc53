"""licd.rpc.errors: the catalogue is whole, and every refusal in licd fills its sentence."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgpack
import pytest

import licd
from licd.rpc import errors, wire
from licd.rpc.errors import CATALOGUE, Error, Refused

ROWS = list(CATALOGUE.values())
NAMES = [row.name for row in ROWS]
each_row = pytest.mark.parametrize("row", ROWS, ids=NAMES)


def fields(sentence: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(sentence) if field is not None}


def test_every_error_is_in_the_catalogue_once_under_its_own_name() -> None:
    rows = {name: value for name, value in vars(errors).items() if isinstance(value, Error)}
    assert rows == CATALOGUE
    assert len({row.code for row in ROWS}) == len(ROWS)


@each_row
def test_a_code_has_two_digits_of_which_the_first_says_who_can_help(row: Error) -> None:
    assert row.code // 10 in (1, 2, 3, 4, 5, 6, 7, 9)


@each_row
def test_an_error_says_in_sentences_what_is_wrong_and_what_to_do_next_and_who_must(row: Error) -> None:
    assert row.message.endswith(".")
    assert row.next.endswith(".")
    assert row.who in ("developer", "installer", "vendor", "administrator")
    assert (row.message + row.next).isprintable()
    assert "{" not in row.next  # only the first sentence is filled


@each_row
def test_the_data_of_a_refusal_never_hides_what_to_do_next(row: Error) -> None:
    assert not fields(row.message) & {"next", "who"}
    assert all(field.isidentifier() for field in fields(row.message))


@each_row
def test_a_refusal_stands_on_the_wire_as_licd_rpc_has_it(row: Error) -> None:
    data = {field: f"<{field}>" for field in fields(row.message)}
    as_map = Refused(row, **data).as_map()
    assert as_map == {
        "code": row.code,
        "name": row.name,
        "message": row.message.format(**data),
        "data": {**data, "next": row.next, "who": row.who},
    }
    assert msgpack.unpackb(wire.encode_response(1, as_map, None)) == [1, 1, as_map, None]


def test_a_refusal_fills_its_sentence_and_shows_its_name() -> None:
    refused = Refused(errors.NO_SEAT_FREE, license="kso.scales", used=3, total=3)
    assert refused.message == "All seats of kso.scales are taken: 3 of 3."
    assert str(refused) == "NO_SEAT_FREE: All seats of kso.scales are taken: 3 of 3."
    assert refused.error is errors.NO_SEAT_FREE


def test_braces_in_the_data_stay_what_they_are() -> None:
    assert Refused(errors.BAD_PARAMS, reason="{license} {0} {").message == "{license} {0} {."


class Raised(NamedTuple):
    place: str
    error: str
    data: frozenset[str]


def refusals() -> Iterator[Raised]:
    """Every `Refused(NAME, field=...)` in the source of licd."""
    root = Path(licd.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Name | ast.Attribute)):
                continue
            callee = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            name = first.attr if isinstance(first, ast.Attribute) else first.id
            names = [keyword.arg for keyword in node.keywords]
            if callee == "Refused" and name in CATALOGUE and None not in names:
                place = f"{path.relative_to(root)}:{node.lineno}"
                yield Raised(place, name, frozenset(name for name in names if name is not None))


REFUSALS = list(refusals())


def test_the_search_for_refusals_finds_them() -> None:
    assert {"BAD_PARAMS", "NO_SUCH_METHOD", "NO_SUCH_LICENSE"} <= {raised.error for raised in REFUSALS}


@pytest.mark.parametrize("raised", REFUSALS, ids=[raised.place for raised in REFUSALS])
def test_every_refusal_in_licd_fills_its_whole_sentence(raised: Raised) -> None:
    missing = fields(CATALOGUE[raised.error].message) - raised.data
    assert not missing, f"{raised.place}: {raised.error} without {missing}"
