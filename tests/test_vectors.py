"""The vectors for other readers of these documents, judged by licd."""

from __future__ import annotations

from pathlib import Path

import pytest

from licd.rpc.errors import CATALOGUE
from tests.support import vectors

PATHS = sorted(vectors.FOLDER.glob("*.licd"))


def expected(path: Path) -> str:
    return path.read_bytes().split(b"\n")[0].removeprefix(b"# expect: ").decode()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_each_vector_has_the_verdict_that_it_says(path: Path) -> None:
    assert vectors.verdict(path.read_bytes()) == expected(path)


def test_there_is_a_vector_for_each_name_of_a_broken_document() -> None:
    third = {error.name for error in CATALOGUE.values() if error.code // 10 == 3}
    assert {expected(path) for path in PATHS} == third - {"DOCUMENT_TOO_LARGE"} | {"WRONG_DOCUMENT", "ok"}
