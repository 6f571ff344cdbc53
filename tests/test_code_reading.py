"""The activation code as people type it: with blanks, in Cyrillic, and what is none."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from licd.license import code
from tests.support.coded import CODE, SECRETS, refused, valid

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
