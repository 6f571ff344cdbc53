"""What may stand at the cursor of an unfinished command line, for the shells' completion (completion_shells).

The argument parser itself is walked, word for word as it will take them. So a command or an option that is added there
is offered here, and there is no list of them to keep. argparse has no public way to look into a parser; the names with
an underscore are those that it has had since it began.

Names of licenses, leases and so on come from licd (completion_names). Who gets no answer from it gets no names.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Iterator, Sequence

from licd.cli import completion_shells
from licd.cli.completion_names import NAMES, Asking, Given
from licd.cli.completion_shells import Offer, Row
from licd.cli.problems import DONE, USAGE

REQUEST = "__complete"  # the first word of a command line that a shell's completion makes; nobody types it
FILES = ("FILE", "PATH")  # what stands for a file in the usage: the shell knows files better
REPEATABLE = (argparse._AppendAction, argparse._CountAction)


def complete(parser: argparse.ArgumentParser, request: Sequence[str]) -> int:
    """The exit status. The candidates are on stdout, in the form that the shell's script takes."""
    shell = completion_shells.SHELLS.get(request[0]) if request else None
    typed = shell.read(request[1:]) if shell else None
    if shell is None or typed is None:
        return USAGE
    # No word of licd-cli's at all: the file of a redirection.
    offer = offered(parser, typed.words) if typed.words else Offer(files=True)
    for line in shell.write(offer, typed):
        print(line)
    return DONE


def offered(parser: argparse.ArgumentParser, words: Sequence[str]) -> Offer:
    """What may stand in the place of the last word, of which a part is typed."""
    *before, word = words
    line = _Line(parser)
    for each in before:
        line.take(each)
    if line.is_lost:
        return Offer()
    if line.option is not None:
        return _values(line, line.option, may_begin_with_dash=False)
    if word.startswith("-") and not line.only_words:
        name, equals, _ = word.partition("=")
        option = line.find(name)
        if not equals:
            return Offer([Row(text, _help(option)) for option in line.options() for text in option.option_strings])
        if option is None or _most(option) == 0 or not name.startswith("--"):
            return Offer()
        return _values(line, option, may_begin_with_dash=True)._replace(skip=len(name) + 1)
    action = line.positionals[0] if line.positionals else None
    if isinstance(action, argparse._SubParsersAction):
        return Offer() if line.only_words else Offer(list(_commands(action)))
    if action is not None:
        return _values(line, action, may_begin_with_dash=line.only_words)
    if line.only_words:
        return Offer()
    return Offer([Row(max(option.option_strings, key=len), _help(option)) for option in line.options()])


class _Line:
    """The words before the cursor. given: what each argument got, by its dest."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.given: Given = {}
        self.option: argparse.Action | None = None  # it waits for its value
        self.only_words = False  # after --
        self.is_lost = False  # no command has such a name
        self._enter(parser)

    def _enter(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self.positionals = [action for action in parser._actions if not action.option_strings]

    def take(self, word: str) -> None:
        if word == "-" or self.only_words or not word.startswith("-"):
            self._take_value(word)
            return
        self.option = None  # it has no value: argparse will complain
        if word == "--":
            self.only_words = True
            return
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            name, equals, value = word[:2], word[2:], word[2:]  # -oFILE
        option = self.find(name)
        if option is None:
            return
        values = self.given.setdefault(option.dest, [])
        if equals:
            values.append(value)
        elif _most(option) > 0:
            self.option, self._before = option, len(values)

    def _take_value(self, word: str) -> None:
        if self.option is not None:
            values = self.given[self.option.dest]
            values.append(word)
            if len(values) - self._before >= _most(self.option):
                self.option = None
        elif self.positionals:
            action = self.positionals[0]
            if isinstance(action, argparse._SubParsersAction):
                self.is_lost = self.is_lost or self.only_words or word not in action.choices
                if not self.is_lost:
                    self._enter(action.choices[word])
                return
            values = self.given.setdefault(action.dest, [])
            values.append(word)
            if len(values) >= _most(action):
                del self.positionals[0]

    def find(self, name: str) -> argparse.Action | None:
        return self._parser._option_string_actions.get(name)

    def options(self) -> Iterator[argparse.Action]:
        """Those that may still come: not given, and not excluded by one that is."""
        excluded = {
            action.dest
            for group in self._parser._mutually_exclusive_groups
            if any(action.dest in self.given for action in group._group_actions)
            for action in group._group_actions
        }
        for action in self._parser._actions:
            again = action.dest not in self.given or isinstance(action, REPEATABLE)
            if action.option_strings and again and action.dest not in excluded and action.help != argparse.SUPPRESS:
                yield action

    def asking(self) -> Asking:
        """licd, by the --socket of this line if it has one, which the shell has not looked into yet."""
        typed = self.given.get("socket")
        return Asking(os.path.expandvars(os.path.expanduser(typed[-1])) if typed else None)


def _most(action: argparse.Action) -> float:
    """How many words it takes at most."""
    if action.nargs is None or action.nargs == argparse.OPTIONAL:
        return 1
    return action.nargs if isinstance(action.nargs, int) else math.inf


def _help(action: argparse.Action) -> str:
    return (action.help or "") % vars(action)


def _commands(action: argparse._SubParsersAction[argparse.ArgumentParser]) -> Iterator[Row]:
    helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
    for name in action.choices:
        if helps.get(name) != argparse.SUPPRESS:
            yield Row(name, helps.get(name, ""))


def _values(line: _Line, action: argparse.Action, *, may_begin_with_dash: bool) -> Offer:
    """What may be the value of this argument. Elsewhere than after = or --, argparse takes a dash for an option."""
    if action.metavar in FILES:
        return Offer(files=True)
    rows: Iterable[Row] = ()
    if action.choices is not None:
        rows = [Row(str(choice), "") for choice in action.choices]
    elif action.dest in NAMES:
        rows = NAMES[action.dest](line.asking(), line.given, bool(action.option_strings))
    given = line.given.get(action.dest, ())
    return Offer([row for row in rows if row.word not in given and (may_begin_with_dash or row.word[0] != "-")])
