"""The activation code 16 + 6: ten secret bytes <-> 22 symbols that people read out and type. Pure; no randomness.

Bech32m (BIP-350) with the human-readable part "licd", which is neither printed nor counted: 16 symbols carry the
secret, 6 guard it. At this length any two codes differ in at least five symbols. So up to four wrong ones are always
noticed, one wrong symbol has one correction, and two or three never look like one: what is proposed is the code that
was meant, unless more than three symbols were wrong.

What a person typed is read as a whole in two ways, which come to the same where nothing is Cyrillic: every Cyrillic
letter stands for the Latin letter that it looks like, or for the one on its key. A letter never decides for itself: 22
of them with two meanings each would be four million readings. Latin letters and digits are themselves in both, because
who sees P types a Russian Р, but has to switch for the Z behind it.

The check decides which reading was meant: a wrong one fits by chance once in 2^30, and is one symbol away from fitting
once in a million and a half. Between two that both do is never chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

SECRET_BYTES = 10  # 80 bits in 16 symbols of 5: nothing is left over, so nothing is padded
DATA, CHECK = 16, 6
LENGTH = DATA + CHECK
MAX_TYPED = 256  # characters: a code with a blank around every symbol, several times over

_PART = "licd"
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # BIP-173; without 1, b, i, o
_VALUE = {symbol: value for value, symbol in enumerate(_ALPHABET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)  # BIP-173
_BECH32M = 0x2BC830A3  # BIP-350; Bech32 has 1 here

# No group is longer than four, which is what one says in a breath; dashes inside the halves and one blank between
# them, so that it is two words in a shell too.
_GROUPS = (4, 4, 4, 4, 3, 3)


class Unreadable(ValueError):
    """What was typed is no code: why, and the one code that is one symbol away, if there is one."""

    def __init__(self, reason: str, proposal: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.proposal = proposal


# --- the checksum ---------------------------------------------------------------------------------------


def _remainders() -> Iterable[int]:
    for top in range(32):
        remainder = 0
        for bit, generator in enumerate(_GENERATOR):
            remainder ^= generator if top >> bit & 1 else 0
        yield remainder


_REMAINDER = tuple(_remainders())


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        check = (check & 0x1FFFFFF) << 5 ^ value ^ _REMAINDER[check >> 25]
    return check


def _expanded(part: str) -> list[int]:
    return [*(ord(letter) >> 5 for letter in part), 0, *(ord(letter) & 31 for letter in part)]


def checksum(part: str, data: str) -> str:
    """The six symbols that follow `data` under the human-readable part `part`. (BIP-350)"""
    values = [*_expanded(part), *(_VALUE[symbol] for symbol in data), *[0] * CHECK]
    check = _polymod(values) ^ _BECH32M
    return "".join(_ALPHABET[check >> 5 * (CHECK - 1 - i) & 31] for i in range(CHECK))


def fits(part: str, symbols: str) -> bool:
    """Whether `symbols` are of the alphabet and end in their checksum. What BIP-173 asks of `part` is not checked."""
    if not _VALUE.keys() >= set(symbols):
        return False
    return _polymod([*_expanded(part), *(_VALUE[symbol] for symbol in symbols)]) == _BECH32M


# --- a code and its secret ------------------------------------------------------------------------------


def encode(secret: bytes) -> str:
    """The code of ten bytes: 22 symbols in lower case, the form in which programs pass it on."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
    bits = int.from_bytes(secret, "big")
    data = "".join(_ALPHABET[bits >> 5 * (DATA - 1 - i) & 31] for i in range(DATA))
    return data + checksum(_PART, data)


def decode(code: str) -> bytes:
    """The secret of a code exactly as `encode` writes it.

    Errors: ValueError
    """
    if not _is_code(code):
        raise ValueError("not a code of 22 symbols in lower case that fit together")
    bits = 0
    for symbol in code[:DATA]:
        bits = bits << 5 | _VALUE[symbol]
    return bits.to_bytes(SECRET_BYTES, "big")


def grouped(code: str) -> str:
    """A code for people: XXXX-XXXX-XXXX-XXXX CCC-CCC."""
    data, check = code[:DATA].upper(), code[DATA:].upper()
    return "-".join(data[i : i + 4] for i in range(0, DATA, 4)) + f" {check[:3]}-{check[3:]}"


def _is_code(symbols: str) -> bool:
    return len(symbols) == LENGTH and fits(_PART, symbols)


# --- what people type -----------------------------------------------------------------------------------

_CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюяё"
_LATIN = "abcdefghijklmnopqrstuvwxyz"
# Hyphens and dashes, minus signs, the hyphen as a bullet, small and wide ones; and what shift makes of the key.
_DASHES = [*range(0x2010, 0x2016), 0x02D7, 0x2212, 0x2043, 0xFE58, 0xFE63, 0xFF0D, ord("_")]
# What chats, PDF and phone books put into copied text: soft hyphen, zero width, marks and brackets of direction, BOM.
_INVISIBLE = [0x00AD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]

# Not str.lower(): it makes a k of the Kelvin sign, and two characters of a dotted I.
_FOLD: dict[int, int | str | None] = {
    **str.maketrans(_LATIN.upper() + _CYRILLIC.upper(), _LATIN + _CYRILLIC),
    **dict.fromkeys(_DASHES, "-"),
    **dict.fromkeys(_INVISIBLE, None),
}
# Letters that look the same in both cases and in print. "в" leads to b, and so nowhere; "б" looks like 6 and like 5.
_LOOKS = str.maketrans("авеёзкмнорстух", "abee3kmhopctyx")
# ж, х, ъ, э, б, ю and ё are on keys of punctuation, which no code has.
_KEYS = str.maketrans("йцукенгшщзфывапролдячсмить", "qwertyuiopasdfghjklzxcvbnm")
# Of the four that the alphabet lacks, each of these looks like one symbol only. B does not: 8 in capitals, 6 (b) in
# small letters. It is left standing, as a wrong symbol at a known place, and the check says which it was.
_ALIKE = str.maketrans("oi1", "0ll")


class _Reading(NamedTuple):
    """One way to read it. `typed` are the same characters before the reading, place by place."""

    symbols: str
    typed: str
    halves: tuple[int, int] | None  # symbols in each, where blanks or dashes show them

    @property
    def strange(self) -> list[int]:
        """The places of what is in no code."""
        return [place for place, symbol in enumerate(self.symbols) if symbol not in _VALUE]

    def corrected(self) -> Iterable[tuple[str, int]]:
        """Each code that differs in one symbol, and in which place."""
        if len(self.symbols) != LENGTH:
            return
        for place in range(LENGTH):
            for symbol in _ALPHABET:
                code = self.symbols[:place] + symbol + self.symbols[place + 1 :]
                if _is_code(code):
                    yield code, place


def read(text: str) -> str:
    """The code that a person typed or pasted, in one word or more, as the 22 symbols of `encode`.

    Blanks, dashes, case, and "licd1" in front say nothing. Nothing is corrected, only proposed.

    Errors: Unreadable
    """
    if len(text) > MAX_TYPED:
        raise Unreadable(f"{len(text)} characters are too many: a code has {LENGTH} symbols")
    readings = _readings(text)
    codes = [each.symbols for each in readings if _is_code(each.symbols)]
    if len(codes) == 1:
        return codes[0]
    if codes:
        raise Unreadable("it can be read as two codes: switch the keyboard to Latin letters and type it again")
    # Two readings may lead to one code: where the wrong symbol is the only one that they read differently.
    proposals = {code: (each, place) for each in readings for code, place in each.corrected()}
    if len(proposals) == 1:
        ((code, (reading, place)),) = proposals.items()
        raise Unreadable(f"one symbol is wrong: {_symbol(reading.typed[place], place)}", grouped(code))
    raise Unreadable(_why(readings))


def _readings(text: str) -> list[_Reading]:
    folded = " ".join(text.translate(_FOLD).split())
    readings: dict[str, _Reading] = {}
    for table in (_LOOKS, _KEYS):
        said = folded.translate(table).removeprefix(f"{_PART}1")
        symbols = _together(said.translate(_ALIKE))
        typed = _together(folded[len(folded) - len(said) :])
        readings.setdefault(symbols, _Reading(symbols, typed, _halves(said)))
    return list(readings.values())


def _together(said: str) -> str:
    return said.replace(" ", "").replace("-", "")


def _halves(said: str) -> tuple[int, int] | None:
    words = [word for word in map(_together, said.split()) if word]
    if len(words) != 2:
        words = said.replace("-", " ").split()
        if len(words) not in (5, 6):  # four groups and the check, in one group or two
            return None
        words = ["".join(words[:4]), "".join(words[4:])]
    return len(words[0]), len(words[1])


# --- why not --------------------------------------------------------------------------------------------


def _why(readings: list[_Reading]) -> str:
    reading = min(readings, key=lambda each: len(each.strange))
    if not reading.symbols:
        return f"nothing was typed: a code has {LENGTH} symbols"
    reasons = []
    if len(reading.symbols) != LENGTH:
        reasons.append(_wrong_length(reading))
    if strange := reading.strange:
        first = _symbol(reading.typed[strange[0]], strange[0])
        more = f", and {len(strange) - 1} more" if strange[1:] else ""
        reasons.append(f"no code has {first}{more}")
    if not reasons:
        reasons.append("the symbols do not fit together: more than one is wrong")
    if len(readings) > 1:
        reasons.append("the keyboard should be switched to Latin letters")
    return "; ".join(reasons)


def _wrong_length(reading: _Reading) -> str:
    count = len(reading.symbols)
    said = f"{count} {'symbol was' if count == 1 else 'symbols were'} read, a code has {LENGTH}"
    if reading.halves is None:
        return f"{said}: the last {CHECK}, the check, are missing" if count == DATA else said
    wrong = [
        f"the {which} half has {found} of its {due}"
        for which, found, due in zip(("first", "second"), reading.halves, (DATA, CHECK), strict=True)
        if found != due
    ]
    return f"{said}: {' and '.join(wrong)}"


def _symbol(typed: str, place: int) -> str:
    """What stands where, in words; of foreign characters only the number, because they can play with a terminal."""
    if typed in _CYRILLIC:
        name = f'the Cyrillic "{typed.upper()}"'
    elif typed.isascii() and typed.isprintable():
        name = f'"{typed.upper()}"'
    else:
        name = f"U+{ord(typed):04X}"
    for group, size in enumerate(_GROUPS, 1):
        if place < size:
            return f"{name} (group {group}, symbol {place + 1})"
        place -= size
    return f"{name} (behind the last group)"
