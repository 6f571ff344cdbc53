"""The manual's sources, as far as tests ask: sections, lists, literal displays, and text without its macros."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MAN = Path(__file__).resolve().parents[2] / "man"

_MACROS = frozenset(
    (
        *("Ar", "Cm", "Dq", "Dv", "Em", "Er", "Ev", "Fa", "Fl", "Ic", "Li", "Lk", "Nm", "No", "Ns"),
        *("Oc", "Oo", "Op", "Pa", "Pq", "Sq", "Sx", "Sy", "Ta", "Va", "Xr"),
    )
)
_ESCAPES = {r"\(dq": '"', r"\e": "\\", r"\&": "", r"\-": "-"}
_CLOSING = frozenset(".,:;)")


class Item(NamedTuple):
    """One entry of a list. `lines` is its body as it stands in the source."""

    macro: str  # of the head's first word, "" if it has none
    head: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return text(self.lines)


def source(page: str) -> list[str]:
    return (MAN / page).read_text("utf-8").splitlines()


def section(lines: Iterable[str], name: str) -> list[str]:
    """What stands below this heading (.Sh, or .Ss where `lines` are a section's)."""
    found: list[str] = []
    macro = ""
    for line in lines:
        if line in (f".Sh {name}", f".Ss {name}"):
            macro = line[:3]
            continue
        if macro and (line.startswith((macro, ".Sh "))):
            break
        if macro:
            found.append(line)
    if not macro:
        raise LookupError(f"there is no section {name}")
    return found


def subsections(lines: Iterable[str]) -> dict[str, list[str]]:
    """The lines below each .Ss heading."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith(".Ss "):
            found[line[4:]] = []
        elif found:
            found[next(reversed(found))].append(line)
    return found


def items(lines: Iterable[str]) -> list[Item]:
    """The entries of all lists, in order; those of a list inside an entry follow it and are part of its lines too."""
    found: list[tuple[str, list[str]]] = []
    open_items: list[int | None] = []
    for line in lines:
        if line.startswith(".Bl "):
            open_items.append(None)
        elif line == ".El":
            open_items.pop()
        elif line.startswith(".It"):
            open_items[-1] = len(found)
            found.append((line[4:], []))
            for outer in open_items[:-1]:
                if outer is not None:
                    found[outer][1].append(line)
            continue
        for number in open_items:
            if number is not None:
                found[number][1].append(line)
    return [Item(head.split(" ")[0] if head[:2] in _MACROS else "", plain(head), tuple(body)) for head, body in found]


def with_macro(lines: Iterable[str], macro: str) -> list[Item]:
    return [item for item in items(lines) if item.macro == macro]


def listed(item: Item) -> tuple[str, str]:
    """An entry's first two sentences: what the value is, and its default."""
    return unescaped(item.lines[0]), unescaped(item.lines[1])


def displays(lines: Iterable[str]) -> Iterator[str]:
    """The literal displays, as a reader sees them."""
    block: list[str] | None = None
    for line in lines:
        if line.startswith(".Bd -literal"):
            block = []
        elif line == ".Ed" and block is not None:
            yield "".join(f"{unescaped(each)}\n" for each in block)
            block = None
        elif block is not None:
            block.append(line)


def text(lines: Iterable[str]) -> str:
    """The running text, macros gone, on one line."""
    words = " ".join(plain(line[1:]) if line.startswith(".") else unescaped(line) for line in lines)
    return re.sub(r"\s+", " ", words).strip()


def unescaped(line: str) -> str:
    return re.sub(r"\\(\(dq|[e&-])", lambda match: _ESCAPES[match[0]], line)


def plain(line: str) -> str:
    """The words of a macro line: `Fl -json` is "--json", `Pq x` is "(x)", `Xr licd 8` is "licd(8)"."""
    words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)]
    if words and words[0] in ("Bl", "El", "Bd", "Ed", "Pp", "Sh", "Ss", "It", '\\"'):
        words = words[1:] if words[0] == "It" else []
    out: list[str] = []
    glue = False
    parenthesis = False
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "Ns":
            glue = True
        elif word == "Pq":
            parenthesis = True
        elif word == "Fl":
            while position < len(words) and words[position] not in _MACROS:
                if words[position] in _CLOSING:
                    out[-1] += words[position]
                else:
                    out.append(words[position] if words[position] == "|" else f"-{words[position]}")
                position += 1
        elif word == "Xr":
            out.append(f"{words[position]}({words[position + 1]})")
            position += 2
        elif word in _MACROS:
            continue
        elif out and (glue or word in _CLOSING):
            out[-1] += unescaped(word)
            glue = False
        else:
            out.append(("(" if parenthesis else "") + unescaped(word) + (")" if parenthesis else ""))
            parenthesis = False
    return " ".join(out)
