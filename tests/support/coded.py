"""An activation code for tests, and the other implementation's word on what is one."""

from __future__ import annotations

import pytest
from bech32m import codecs as theirs  # type: ignore[import-untyped]  # it is annotated, but has no py.typed
from hypothesis import strategies as st

from licd.license import code
from licd.license.code import Unreadable

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
SECRET = bytes.fromhex("8e5fb44d7102c9b4de62")
CODE = "3e0mgnt3qtymfhnzrtnk6v"
# Where on paper each symbol stands.
PRINTED = [
    f"(group {number}, symbol {inside})"
    for number, group in enumerate(code.grouped(CODE).replace(" ", "-").split("-"), 1)
    for inside in range(1, len(group) + 1)
]
SECRETS = st.binary(min_size=10, max_size=10)


def valid(symbols: str, part: str = "licd") -> bool:
    """What the other implementation says."""
    try:
        return bool(theirs.bech32_decode(f"{part}1{symbols}")[2] == theirs.Encoding.BECH32M)
    except theirs.DecodeError:
        return False


def refused(text: str) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        code.read(text)
    assert str(caught.value) == caught.value.reason
    return caught.value
