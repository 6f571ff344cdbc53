"""What the code accepts, in the words in which the manual says it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest


def phrase(check: Callable[[Any], Any]) -> str:
    """What the check says a value must be, as the manual begins an entry: bounds and all."""
    with pytest.raises(ValueError, match=r"must be|names a group") as raised:
        check(object())
    words = str(raised.value).removeprefix("must be ").removeprefix("must ")
    return words[:1].upper() + words[1:]


def member_is(check: Callable[[Any], Any]) -> str:
    """The same of a document's member, as a sentence; with "or null" where it may be."""
    try:
        check(None)
    except ValueError:
        null = ""
    else:
        null = "; or null"
    try:
        check(object())
    except ValueError:
        words = phrase(check)
    else:
        return ""
    return f"{words}{null}."


def value_of(action: argparse.Action) -> str:
    """What follows an option or stands for an operand: "FILE", "p256 | rsa", "NAME ...", or nothing."""
    if action.nargs == 0:
        return ""
    words = action.metavar or (" | ".join(action.choices) if action.choices else action.dest.upper())
    return f"{words} ..." if action.nargs == "+" else str(words)


def head(action: argparse.Action) -> str:
    """An option as the manual lists it: "-o, --output FILE"."""
    return f"{', '.join(action.option_strings)} {value_of(action)}".strip()


def brief(action: argparse.Action) -> str:
    """An option as a synopsis has it: "-o FILE"."""
    return f"{action.option_strings[0]} {value_of(action)}".strip()


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by the command's words."""
    found: dict[str, argparse.ArgumentParser] = {}

    def walk(parser: argparse.ArgumentParser, words: str) -> None:
        groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        for group in groups:
            for name, each in group.choices.items():
                walk(each, f"{words} {name}".strip())
        if not any(group.required for group in groups):
            found[words] = parser

    walk(parser, "")
    return found
