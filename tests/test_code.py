"""The activation code: BIP-350's own vectors, another implementation, every slip of the finger, every reading."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import combinations
from random import Random

import pytest
from bech32m import codecs as theirs  # type: ignore[import-untyped]  # it is annotated, but has no py.typed
from hypothesis import assume, given, settings
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
    for written in (CODE, code.encode(Random(place).randbytes(10))):
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


# --- as it stands -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        CODE.upper(),
        CODE.title(),
        "3e0mgnt3qtymfhnz rtnk6v",
        "3E0M GNT3 QTYM FHNZ RTNK6V",
        "3E0M-GNT3-QTYM-FHNZ-RTN-K6V",
        "  3e0m‐gnt3‑qtym‒fhnz–rtn—k6v―\n",
        "3e0m−gnt3－qtym_fhnz\trtn\r\nk6v",
        "3 e 0 m g n t 3 q t y m f h n z r t n k 6 v",
        "3e0m\u00a0gnt3\u2003qtym\u3000fhnz rtnk6v",
        "\ufeff3e0mgnt3\u200bqtymfhnz rt\u00adnk6v",
        "\u2068\u202a3e0mgnt3qtymfhnz\u202c rtnk6v\u2069",
        "licd1" + CODE,
        "LICD1" + CODE.upper(),
        " licd1 " + code.grouped(CODE),
        "LICD1-" + code.grouped(CODE),
        "3eomgnt3qtymfhnzrtnk6v",
        "3EOMGNT3QTYMFHNZRTNK6V",
    ],
)
def test_blanks_dashes_case_prefix_and_an_o_for_a_zero_do_not_matter(text: str) -> None:
    assert code.read(text) == CODE


@pytest.mark.parametrize("typed", ["i", "I", "1"])
def test_an_i_or_a_one_is_read_as_the_only_symbol_that_looks_like_it(typed: str) -> None:
    written = "l" * 16 + code.checksum("licd", "l" * 16)
    assert code.read(typed * 16 + written[16:]) == written


@pytest.mark.parametrize("start", ["llcdl", "licd"])
def test_a_code_that_begins_like_the_prefix_is_still_a_code(start: str) -> None:
    data = start.replace("i", "l").ljust(16, "q")
    written = data + code.checksum("licd", data)
    assert code.read(start + written[len(start) :]) == written
    assert code.read("licd1" + written) == written


@given(SECRETS, st.data())
def test_however_blanks_dashes_and_capitals_are_strewn_in_it_is_the_same_code(
    secret: bytes, data: st.DataObject
) -> None:
    written = code.encode(secret)
    gaps = data.draw(st.lists(st.text(" -\t\u2013\u200b", max_size=2), min_size=22, max_size=22))
    capitals = data.draw(st.lists(st.booleans(), min_size=22, max_size=22))
    assert (
        code.read(
            "".join(
                gap + (symbol.upper() if capital else symbol)
                for gap, symbol, capital in zip(gaps, written, capitals, strict=True)
            )
        )
        == written
    )


# --- in Cyrillic --------------------------------------------------------------------------------------------

# The rows of a keyboard, as they lie above each other.
ENGLISH = "qwertyuiop[]asdfghjkl;'zxcvbnm,.`"
RUSSIAN = "йцукенгшщзхъфывапролджэячсмитьбюё"
ON_THE_RUSSIAN_LAYOUT = str.maketrans(ENGLISH, RUSSIAN)
IN_LOOK_ALIKES = str.maketrans("3aekmhptyxc0", "заекмнртухсо")


@pytest.mark.parametrize("case", [str.lower, str.upper])
@given(SECRETS)
def test_a_code_typed_with_the_russian_layout_switched_on_is_read(case: Callable[[str], str], secret: bytes) -> None:
    written = code.encode(secret)
    assert code.read(case(written.translate(ON_THE_RUSSIAN_LAYOUT))) == written


@pytest.mark.parametrize("case", [str.lower, str.upper])
@given(SECRETS)
def test_a_code_typed_in_cyrillic_wherever_a_letter_looks_alike_is_read(
    case: Callable[[str], str], secret: bytes
) -> None:
    written = code.encode(secret)
    assert code.read(case(code.grouped(written).lower().translate(IN_LOOK_ALIKES))) == written


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        pytest.param("3У0Ь-ПТЕ3-ЙЕНЬ-АРТЯ КЕТ-Л6М", CODE, id="all on the Russian layout"),
        pytest.param("дшсв13у0ьпте3йеньартякетл6м", CODE, id="the prefix too"),
        pytest.param("3E0M-GNT3-йень-артя кет-л6м", CODE, id="the layout changed on the way"),
        pytest.param("ЗЕОМ-GNТЗ-QТУМ-FНNZ RТN-К6V", CODE, id="Cyrillic where a letter looks alike"),
        pytest.param("ЗЕ0M-GNT3-QTYM-FHNZ RTN-K6V", CODE, id="Cyrillic at the start only"),
        pytest.param("licd1зё0mgnt3qtymfhnzrtnk6v", CODE, id="a Latin prefix before it, and Ё for E"),
    ],
)
def test_cyrillic_is_read_by_its_looks_or_by_its_keys_and_latin_stays_as_it_is(text: str, meaning: str) -> None:
    assert code.read(text) == meaning


def test_a_letter_does_not_decide_for_itself_how_it_is_read() -> None:
    """У is the key of E here, and М looks like M: no reading of the whole says both."""
    told = refused("3УОМ-ПТЕЗ-QTYM-FHNZ RTN-K6V")
    assert told.proposal is None
    assert told.reason.endswith("; the keyboard should be switched to Latin letters")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        pytest.param("3У0Ь-ПТЕ4-ЙЕНЬ-АРТЯ КЕТ-Л6М", '"4" (group 2, symbol 4)', id="a digit, Russian layout"),
        pytest.param("3У0Ь-ПТЕ3-ЙЕНЬ-АРТЯ КЕТ-Л6Ф", 'the Cyrillic "Ф" (group 6, symbol 3)', id="a letter, layout"),
        pytest.param("ЗЕОМ-GNТЗ-QТХМ-FНNZ RТN-К6V", 'the Cyrillic "Х" (group 3, symbol 3)', id="a letter, looks"),
        pytest.param("3E0M-GNT3-QTВM-FHNZ RTN-K6V", 'the Cyrillic "В" (group 3, symbol 3)', id="one letter, both ways"),
        pytest.param("3E0M-GNT3-QTЖM-FHNZ RTN-K6V", 'the Cyrillic "Ж" (group 3, symbol 3)', id="one letter, no way"),
    ],
)
def test_one_wrong_symbol_is_located_in_cyrillic_too(text: str, wrong: str) -> None:
    told = refused(text)
    assert told.proposal == code.grouped(CODE)
    assert told.reason == f"one symbol is wrong: {wrong}"


# Found by search: its sixteen Cyrillic letters are one code by their looks and another by their keys.
TWO_CODES = "ЗКАК-СУОМ-ММТН-СТСО 48L-LNU"
BY_LOOKS, BY_KEYS = "3kakcy0mmmthctc048llnu", "prfrcejvvvnycncj48llnu"


def test_a_text_that_is_two_codes_is_never_guessed() -> None:
    assert valid(BY_LOOKS)
    assert valid(BY_KEYS)
    told = refused(TWO_CODES)
    assert told.proposal is None
    assert told.reason == "it can be read as two codes: switch the keyboard to Latin letters and type it again"


def test_a_text_that_is_one_symbol_away_from_two_codes_proposes_neither() -> None:
    assert refused(BY_LOOKS.replace("48", "58")).proposal == code.grouped(BY_LOOKS)
    assert refused(BY_KEYS.replace("48", "58")).proposal == code.grouped(BY_KEYS)
    assert refused(TWO_CODES.replace("48", "58")).proposal is None


def test_an_exact_reading_wins_over_one_that_would_need_a_correction() -> None:
    """The first letter as typed in Latin is right by its looks only; by the keys one symbol is wrong."""
    assert code.read(TWO_CODES.replace("З", "3", 1)) == BY_LOOKS
    assert code.read(TWO_CODES.replace("З", "P", 1)) == BY_KEYS


# --- what is no code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "nothing was typed: a code has 22 symbols"),
        (" - \u200b\n", "nothing was typed: a code has 22 symbols"),
        ("licd1", "nothing was typed: a code has 22 symbols"),
        ("k", "1 symbol was read, a code has 22"),
        (CODE[:21], "21 symbols were read, a code has 22"),
        (CODE + "q", "23 symbols were read, a code has 22"),
        (CODE[:16], "16 symbols were read, a code has 22: the last 6, the check, are missing"),
        ("3E0M-GNT3-QTYM-FHNZ", "16 symbols were read, a code has 22: the last 6, the check, are missing"),
        ("3e0mgnt3qtymfhn rtnk6v", "21 symbols were read, a code has 22: the first half has 15 of its 16"),
        ("3e0mgnt3qtymfhn - rtnk6v", "21 symbols were read, a code has 22: the first half has 15 of its 16"),
        ("3E0M-GNT3-QTYM-FHNZ RTN-K6", "21 symbols were read, a code has 22: the second half has 5 of its 6"),
        ("3E0M-GNT3-QTY-FHNZ-RTN-K6V", "21 symbols were read, a code has 22: the first half has 15 of its 16"),
        ("3E0M GNT3 QTYM FHNZ RTNK6VS", "23 symbols were read, a code has 22: the second half has 7 of its 6"),
        (
            "licd13e0mgnt3qtymfh rtnk6",
            "19 symbols were read, a code has 22: the first half has 14 of its 16 and the second half has 5 of its 6",
        ),
        (
            "ЗУ0Ь-ПТЕЗ",
            "8 symbols were read, a code has 22; the keyboard should be switched to Latin letters",
        ),
        ("3e0m?gnt3qtymfhnzrtnk6v", '23 symbols were read, a code has 22; no code has "?" (group 2, symbol 1)'),
        (CODE + ".", '23 symbols were read, a code has 22; no code has "." (behind the last group)'),
        ("b" + CODE[1:10] + "B" + CODE[11:], 'no code has "B" (group 1, symbol 1), and 1 more'),
        (
            "\x1b[D" + CODE[2:],
            "23 symbols were read, a code has 22; no code has U+001B (group 1, symbol 1), and 1 more",
        ),
    ],
)
def test_what_is_no_code_is_told_by_number_half_and_place(text: str, reason: str) -> None:
    told = refused(text)
    assert told.reason == reason
    assert told.proposal is None


@pytest.mark.parametrize(
    ("strange", "number"),
    [
        pytest.param("٣٣", "U+0663", id="Arabic digits"),
        pytest.param("३३", "U+0969", id="Devanagari digits"),
        pytest.param("３３", "U+FF13", id="wide digits"),
        pytest.param("²²", "U+00B2", id="superscripts"),
        pytest.param("\u212a\u212a", "U+212A", id="the Kelvin sign, a k to str.lower"),
        pytest.param("\u0130\u0130", "U+0130", id="a dotted I, two characters to str.lower"),
        pytest.param("\u017f\u017f", "U+017F", id="a long s, an S to str.upper"),
        pytest.param("\U0001d7d1\U0001d7d1", "U+1D7D1", id="a mathematical three"),
        pytest.param("\ud800\ud800", "U+D800", id="a lone surrogate"),
        pytest.param("\x00\x00", "U+0000", id="NUL"),
        pytest.param("\x07\x07", "U+0007", id="bell"),
        pytest.param("\u0663\u0301", "U+0663", id="a combining accent"),
    ],
)
def test_foreign_digits_letters_and_control_characters_are_no_symbols_and_named_by_number(
    strange: str, number: str
) -> None:
    told = refused(strange + CODE[2:])
    assert told.proposal is None
    assert told.reason == f"no code has {number} (group 1, symbol 1), and 1 more"


def test_what_runs_from_right_to_left_is_read_in_the_order_it_was_stored_in() -> None:
    assert code.read("\u202e" + code.grouped(CODE) + "\u202c") == CODE
    assert refused("\u202e" + CODE[::-1]).proposal is None


@pytest.mark.parametrize("piece", ["q", "-", "\u200b", "З", "licd1", CODE + " "])
def test_a_mebibyte_is_refused_at_once(piece: str) -> None:
    text = piece * (2**20 // len(piece))
    began = time.process_time()
    told = refused(text)
    assert time.process_time() - began < 0.01
    assert told.reason == f"{len(text)} characters are too many: a code has 22 symbols"


@settings(max_examples=200)
@given(st.text(max_size=40) | st.text(ENGLISH + RUSSIAN + "0123456789 -", min_size=20, max_size=24))
def test_any_other_text_is_unreadable_and_the_reason_can_be_shown_on_any_terminal(text: str) -> None:
    told = refused(text)
    assert told.reason.isprintable()
    assert set(told.reason) - set(RUSSIAN.upper()) <= set(map(chr, range(0x20, 0x7F)))


@given(SECRETS, SECRETS)
def test_a_data_half_with_the_check_of_another_code_is_unreadable(one: bytes, other: bytes) -> None:
    assume(code.encode(one)[16:] != code.encode(other)[16:])
    refused(code.encode(one)[:16] + " " + code.encode(other)[16:])
