"""What all commands do with arguments and answers.

An older or newer licd may leave members out or add some: what is shown is taken with get().
"""

from __future__ import annotations

from typing import Any

from licd.cli.output import warn

Answer = dict[str, Any]

# What licd's warnings mean; one that is not known here is shown by its name.
WARNINGS = {"GRACE": "The license has ended and its grace is running; renew it before that ends too."}


def as_map(value: Any) -> Answer:
    """The value, which has to be a map; main() turns the TypeError into BAD_ANSWER."""
    if not isinstance(value, dict):
        raise TypeError(f"a map was expected, not {type(value).__name__}")
    return value


def given(**params: Any) -> Answer:
    """The arguments that were given: licd's own defaults stand for the others."""
    return {key: value for key, value in params.items() if value is not None}


def show_warnings(answer: Answer) -> None:
    for text in answer.get("warnings") or ():
        warn("{text}", text=WARNINGS.get(str(text), text))


def listed(values: Any) -> str | None:
    return ", ".join(map(str, values or ())) or None
