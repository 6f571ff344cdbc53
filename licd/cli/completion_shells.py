"""bash, zsh and fish: the script that each reads once, and how it and licd-cli understand each other.

A script knows nothing of licd-cli. At each TAB it runs `licd-cli __complete SHELL ...` and takes what that prints:
first "words N" or "files N", N being how many characters of the word come before the value (those of --license=), then
the candidates, one a line. What licd-cli says on stderr is not seen.

It runs the licd-cli of the PATH, whatever file the command line names: TAB starts no program that is only being typed.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from licd.cli.answers import Answer
from licd.rpc.client import Client


class Row(NamedTuple):
    word: str
    help: str


class Offer(NamedTuple):
    """skip: so many characters of the word come before the value"""

    rows: Sequence[Row] = ()
    files: bool = False
    skip: int = 0


class Typed(NamedTuple):
    """The words behind the command up to the cursor. The last is what is to be completed, and may be empty.

    No words at all: a file is to be completed that is none of licd-cli's arguments.

    The other members are bash's: see _read_bash.
    """

    words: Sequence[str]
    kept: str = ""
    quote: str = ""
    columns: int = 0


class Shell(NamedTuple):
    script: str
    read: Callable[[Sequence[str]], Typed | None]
    write: Callable[[Offer, Typed], Iterator[str]]


def _head(offer: Offer) -> str:
    return f"{'files' if offer.files else 'words'} {offer.skip}"


# --- zsh and fish: they tell the words without quotes, match and quote by themselves -------------------------


def _read_words(request: Sequence[str]) -> Typed | None:
    return Typed(request) if request else None


ZSH = r"""#compdef licd-cli
# Completion of licd-cli(1) for zsh, printed by licd-cli completion zsh.

_licd_cli() {
    local -a typed lines
    (( CURRENT > 2 )) && typed=("${(@Q)words[2,CURRENT-1]}")
    typed+=("${(Q)${:-$IPREFIX$PREFIX}}")
    lines=("${(@f)$(command licd-cli __complete zsh "${typed[@]}" </dev/null 2>/dev/null)}")
    [[ $lines[1] == (words|files)' '<-> ]] || return 1
    compset -p ${lines[1]#* }
    if [[ $lines[1] == files* ]]; then
        _files
    else
        shift lines
        (( $#lines )) && _describe -t words 'licd-cli' lines
    fi
}

if [[ $funcstack[1] == _licd-cli ]]; then
    _licd_cli "$@"
else
    compdef _licd_cli licd-cli
fi
"""


def _write_zsh(offer: Offer, typed: Typed) -> Iterator[str]:
    yield _head(offer)
    for word, help in offer.rows:
        escaped = word.replace("\\", "\\\\").replace(":", "\\:")
        yield f"{escaped}:{help}" if help else escaped


FISH = r"""# Completion of licd-cli(1) for fish, printed by licd-cli completion fish.

function __licd_cli_complete
    set -l before (commandline -opc)
    set -e before[1]
    set -l word (commandline -ct)
    set -l lines (command licd-cli __complete fish $before "$word" </dev/null 2>/dev/null)
    if string match -q 'files *' -- $lines[1]
        set -l skip (string replace 'files ' '' -- $lines[1])
        set -l start (string sub -l $skip -- $word)
        __fish_complete_path (string sub -s (math $skip + 1) -- $word) | string replace -r '^' -- $start
    else
        set -e lines[1]
        printf '%s\n' $lines
    end
end

complete -c licd-cli -f -a '(__licd_cli_complete)'
"""


def _write_fish(offer: Offer, typed: Typed) -> Iterator[str]:
    yield _head(offer)
    start = typed.words[-1][: offer.skip]
    for word, help in offer.rows:
        yield f"{start}{word}\t{help}" if help else f"{start}{word}"


# --- bash: it tells the line, and what it gets stands there as it is -----------------------------------------

BASH = r"""# Completion of licd-cli(1) for bash, printed by licd-cli completion bash.

_licd_cli() {
    local lines
    COMPREPLY=()
    mapfile -t lines < <(command licd-cli __complete bash "${COMP_LINE:0:COMP_POINT}" "$2" "${COMP_TYPE:-9}" \
        "${COLUMNS:-80}" </dev/null 2>/dev/null)
    if [[ ${lines[0]} == files* ]]; then
        compopt -o default
    else
        COMPREPLY=("${lines[@]:1}")
    fi
}

complete -F _licd_cli licd-cli
"""

LISTING = ("63", "33")  # ? and !: candidates are only shown, not put in the line: bash(1) COMP_TYPE
_PLAIN = re.compile(r"[\w@%+=:,./-]")
_REDIRECTION = re.compile(r"(?:\d*|&)(?:<>|>>|>\||[<>])&?(.*)", re.DOTALL)


def _read_bash(request: Sequence[str]) -> Typed | None:
    """From the line up to the cursor, the end of it that candidates take the place of, why bash asks, and its width.

    bash replaces only what stands behind the last quote or sign of COMP_WORDBREAKS, such as = and the colon.
    kept:  what stands before that and belongs to the word too, without quotes
    quote: the one that is open there
    """
    if len(request) != 4:
        return None
    line, end, why, columns = request
    pieces = list(_split(line))
    raw = pieces[-1].raw
    if end[:1] in ("'", '"') and end[:1] == pieces[-1].quote:
        end = end[1:]  # sudo's completion counts the quote in
    start = raw.removesuffix(end) if end else raw
    kept = list(_split(start))[-1]
    words = _without_redirections(pieces)
    width = int(columns) if why in LISTING and columns.isdecimal() else 0
    return Typed(words, kept.text, kept.quote, width)


def _write_bash(offer: Offer, typed: Typed) -> Iterator[str]:
    """Beside candidates that are only listed there is what they are."""
    yield _head(offer)
    word = typed.words[-1] if typed.words else ""
    rows = [(word[: offer.skip] + row.word, row.help) for row in offer.rows]
    rows = [row for row in rows if row[0].startswith(word)]
    for text, help in rows:
        quoted = _quoted(text[len(typed.kept) :], typed.quote)
        if typed.quote and quoted.endswith(typed.quote) and len(rows) == 1:
            quoted += typed.quote  # bash closes the quote, unless it believes that this last one does
        if typed.columns and help and len(rows) > 1:
            told = f"{quoted}  ({help})"
            quoted = told if len(told) < typed.columns else f"{told[: max(typed.columns - 5, len(quoted))]}..."
        yield quoted


def _quoted(text: str, quote: str) -> str:
    if quote == "'":
        return text.replace("'", "'\\''")
    if quote == '"':  # a backslash keeps ! from being the history only outside of quotes
        return re.sub(r'(["$`\\])', r"\\\1", text).replace("!", '"\\!"')
    return "".join(sign if _PLAIN.fullmatch(sign) else f"\\{sign}" for sign in text)


class _Piece(NamedTuple):
    """A word as it was typed and as it is meant, and the quote that is open at its end."""

    raw: str
    text: str
    quote: str


def _split(line: str) -> Iterator[_Piece]:
    """The words of a line that may end within one; the last is empty behind a blank. bash(1) QUOTING.

    shlex has this too, but says nothing of a line that ends in a quote.
    """
    start, text, quote, at = 0, "", "", 0
    while at < len(line):
        sign, following = line[at], line[at + 1 : at + 2]
        at += 1
        if sign == quote:
            quote = ""
        elif quote == "'":
            text += sign
        elif sign == "\\" and (not quote or following in ('"', "$", "`", "\\")):
            text += following
            at += 1
        elif quote:
            text += sign
        elif sign in ("'", '"'):
            quote = sign
        elif sign.isspace():
            if start < at - 1:
                yield _Piece(line[start : at - 1], text, "")
            start, text = at, ""
        else:
            text += sign
    yield _Piece(line[start:], text, quote)


def _without_redirections(pieces: Sequence[_Piece]) -> list[str]:
    """The words behind the command; none if the last is the file of a redirection."""
    words, last = [], pieces[-1]
    each = iter(pieces)
    for piece in each:
        redirected = _REDIRECTION.fullmatch(piece.raw)
        if redirected is None:
            words.append(piece.text)
        elif piece is last or (not redirected[1] and next(each) is last):
            return []
    return words[1:]


# -------------------------------------------------------------------------------------------------------------

SHELLS = {
    "bash": Shell(BASH, _read_bash, _write_bash),
    "zsh": Shell(ZSH, _read_words, _write_zsh),
    "fish": Shell(FISH, _read_words, _write_fish),
}


def ask_completion(licd: Client, args: Namespace) -> Answer:
    """The script. licd is not asked."""
    return {"shell": args.shell, "script": SHELLS[args.shell].script}


def show_completion(answer: Answer, args: Namespace) -> None:
    print(answer["script"], end="")
