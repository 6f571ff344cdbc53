"""The activation code: BIP-350's own vectors, another implementation, every slip of the finger."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest
from bech32m import codecs as theirs  # type: ignore[import-untyped]  # it is annotated, but has no py.typed
from hypothesis import given
from hypothesis import strategies as st

from licd.license import code
from tests.support.coded import ALPHABET, CODE, PRINTED, SECRET, SECRETS, refused, valid

# --- the checksum -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vector",
    [
        "A1LQFN3A",
        "a1lqfn3a",
        "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
        "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
        "11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8",
        "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
        "?1v759aa",
    ],
)
def test_every_valid_vector_of_bip_350_fits_and_its_checksum_is_computed_alike(vector: str) -> None:
    part, _, symbols = vector.lower().rpartition("1")
    assert code.fits(part, symbols)
    assert code.checksum(part, symbols[:-6]) == symbols[-6:]


@pytest.mark.parametrize(
    ("part", "symbols"),
    [
        pytest.param("y", "b0jsk6g", id="invalid data character b"),
        pytest.param("lt", "igcx5c0", id="invalid data character i"),
        pytest.param("in", "muywd", id="too short checksum"),
        pytest.param("mm", "crxm3i", id="invalid character i in checksum"),
        pytest.param("au", "s5cgom", id="invalid character o in checksum"),
        pytest.param("m", "vuxwez", id="checksum calculated with the upper-case form of the part"),
        pytest.param("bc", "p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", id="Bech32, not Bech32m"),
    ],
)
def test_an_invalid_vector_of_bip_350_does_not_fit_where_the_symbols_are_what_is_wrong(part: str, symbols: str) -> None:
    assert not code.fits(part, symbols)


@pytest.mark.parametrize(
    ("part", "symbols"),
    [
        pytest.param("\x20", "xj0phk", id="character 0x20 out of range"),
        pytest.param("\x7f", "g6xzxy", id="character 0x7F out of range"),
        pytest.param("\x80", "vctc34", id="character 0x80 out of range"),
        pytest.param(
            "an84characterslonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber1",
            "d6pts4",
            id="length",
        ),
        pytest.param("", "qyrz8wqd2c9m", id="empty"),
        pytest.param("", "6plkw9", id="empty, one symbol less"),
        pytest.param("", "p2gdwpf", id="empty, one symbol more"),
    ],
)
def test_of_an_invalid_vector_whose_human_readable_part_is_what_is_wrong_the_checksum_fits(
    part: str, symbols: str
) -> None:
    """licd's own part never changes, so what BIP-350 asks of parts is not asked; the checksums are vectors still."""
    assert code.fits(part, symbols)


@given(SECRETS)
def test_a_code_is_what_the_other_implementation_writes(secret: bytes) -> None:
    data = theirs.convertbits(secret, 8, 5, False)
    assert "licd1" + code.encode(secret) == theirs.bech32_encode("licd", data, theirs.Encoding.BECH32M)


@given(st.text(ALPHABET, min_size=16, max_size=16))
def test_what_the_other_implementation_writes_is_decoded_to_its_bytes(data: str) -> None:
    values = bytes(map(ALPHABET.index, data))
    written = theirs.bech32_encode("licd", values, theirs.Encoding.BECH32M).removeprefix("licd1")
    assert code.decode(written) == bytes(theirs.convertbits(values, 5, 8, False))


# --- a code and its secret ----------------------------------------------------------------------------------


def test_a_code_never_changes_its_form() -> None:
    """Codes are printed on paper: a later licd reads what an earlier one wrote."""
    assert code.encode(SECRET) == CODE
    assert code.decode(CODE) == SECRET
    assert code.grouped(CODE) == "3E0M-GNT3-QTYM-FHNZ RTN-K6V"


@given(SECRETS)
def test_a_secret_comes_back_from_its_code_printed_or_not(secret: bytes) -> None:
    written = code.encode(secret)
    assert len(written) == 22
    assert written.isascii()
    assert code.decode(written) == secret
    assert code.read(code.grouped(written)) == written
    assert len(code.grouped(written).split()) == 2  # as two words of a shell


@pytest.mark.parametrize("length", [0, 9, 11])
def test_a_secret_of_another_length_is_no_secret(length: int) -> None:
    with pytest.raises(ValueError, match=f"not {length}"):
        code.encode(bytes(length))


@pytest.mark.parametrize(
    "symbols", ["", CODE[:-1], CODE + "q", CODE.upper(), code.grouped(CODE), "licd1" + CODE, "q" * 22, "é" * 22]
)
def test_decode_takes_nothing_but_the_exact_symbols(symbols: str) -> None:
    with pytest.raises(ValueError, match="not a code"):
        code.decode(symbols)


@pytest.mark.parametrize("length", [14, 15, 17, 18])
def test_symbols_that_fit_but_are_too_few_or_too_many_are_no_code(length: int) -> None:
    symbols = CODE[:length] + code.checksum("licd", CODE[:length])
    assert valid(symbols)
    with pytest.raises(ValueError, match="not a code"):
        code.decode(symbols)
    told = refused(symbols)
    assert told.reason == f"{length + 6} symbols were read, a code has 22"
    assert told.proposal is None


# --- wrong symbols ------------------------------------------------------------------------------------------


def syndrome(place: int, difference: int) -> int:
    """What one wrong symbol adds to the checksum, by the other implementation. (BIP-173: it is linear over XOR)"""
    values = bytearray(22)
    nothing = theirs.bech32_polymod(bytes(values))
    values[place] = difference
    return int(theirs.bech32_polymod(bytes(values)) ^ nothing)


SYNDROMES = [[syndrome(place, difference) for difference in range(1, 32)] for place in range(22)]


@given(SECRETS, st.dictionaries(st.integers(0, 21), st.integers(1, 31), max_size=22))
def test_whether_errors_are_noticed_does_not_depend_on_the_code_but_on_the_errors(
    secret: bytes, errors: dict[int, int]
) -> None:
    """The premise of the next test, on codes of ours."""
    symbols = list(code.encode(secret))
    total = 0
    for place, difference in errors.items():
        symbols[place] = ALPHABET[ALPHABET.index(symbols[place]) ^ difference]
        total ^= SYNDROMES[place][difference - 1]
    assert code.fits("licd", "".join(symbols)) == (total == 0)


def test_any_four_wrong_symbols_are_noticed_and_two_or_three_are_never_one_symbol_away_from_a_code() -> None:
    """Exhaustive: no two patterns of at most two errors have one syndrome, so two codes differ in five symbols."""
    singles = [value for row in SYNDROMES for value in row]
    pairs = [a ^ b for one, other in combinations(SYNDROMES, 2) for a in one for b in other]
    assert len(pairs) == 231 * 31 * 31
    assert len({0, *singles, *pairs}) == 1 + len(singles) + len(pairs)


@pytest.mark.parametrize("place", range(22))
def test_every_single_wrong_symbol_is_located_and_the_right_one_proposed(place: int) -> None:
    written = code.encode(Random(place).randbytes(10))
    for symbol in set(ALPHABET) - {written[place]}:
        told = refused(written[:place] + symbol + written[place + 1 :])
        assert told.proposal == code.grouped(written)
        assert told.reason == f'one symbol is wrong: "{symbol.upper()}" {PRINTED[place]}'


@pytest.mark.parametrize("errors", [2, 3])
def test_two_or_three_wrong_symbols_are_told_and_nothing_is_proposed(errors: int) -> None:
    chance = Random(errors)
    for _ in range(200):
        written = code.encode(chance.randbytes(10))
        symbols = list(written)
        for place in chance.sample(range(22), errors):
            symbols[place] = chance.choice([symbol for symbol in ALPHABET if symbol != symbols[place]])
        told = refused("".join(symbols))
        assert told.proposal is None
        assert told.reason == "the symbols do not fit together: more than one is wrong"


@pytest.mark.parametrize("place", range(21))
def test_two_neighbours_that_changed_places_are_noticed(place: int) -> None:
    swapped = CODE[:place] + CODE[place + 1] + CODE[place] + CODE[place + 2 :]
    if swapped == CODE:
        pytest.fail("choose an example without doubled symbols")
    assert refused(swapped).proposal is None


@pytest.mark.parametrize("strange", ["b", "B", "?", "Ж", "é", "\x00", "٣"])
@pytest.mark.parametrize("place", [0, 7, 21])
def test_one_symbol_that_is_in_no_code_is_the_wrong_one_and_the_check_says_what_it_was(
    strange: str, place: int
) -> None:
    told = refused(CODE[:place] + strange + CODE[place + 1 :])
    assert told.proposal == code.grouped(CODE)
    assert told.reason.startswith("one symbol is wrong: ")
    assert told.reason.endswith(PRINTED[place])


def test_the_prefix_is_not_counted_where_a_wrong_symbol_is_named() -> None:
    told = refused("licd1 3e0mgnt3?tymfhnz rtnk6v")
    assert told.reason == 'one symbol is wrong: "?" (group 3, symbol 1)'
    assert told.proposal == code.grouped(CODE)


def test_a_b_is_not_taken_for_an_8_nor_for_a_6_without_asking() -> None:
    """Nor a Cyrillic one, which looks like it in capitals."""
    for symbol, typed in [("8", "B"), ("8", "В"), ("6", "b")]:
        data = f"3e0mgnt{symbol}qtymfhnz"
        written = data + code.checksum("licd", data)
        assert refused(written.replace(symbol, typed, 1)).proposal == code.grouped(written)


def test_a_strange_symbol_beside_a_wrong_one_proposes_nothing() -> None:
    told = refused("b" + CODE[1:-1] + "q")
    assert told.proposal is None
    assert told.reason == 'no code has "B" (group 1, symbol 1)'
