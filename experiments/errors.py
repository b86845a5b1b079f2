"""What ends a program with one line for the user, and how other errors become such a line."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can put right. The text is one line: what was expected, what came, what to do."""


class Diverged(UserError):
    """A training whose losses or gradients ceased to be finite, and stayed so."""


class Interrupted(Exception):
    """A signal came; ``number`` is its own. The text is the line for the user."""

    def __init__(self, number: int, line: str = ""):
        super().__init__(line)
        self.number = number


def in_one_line(error: Exception) -> str:
    """What a user reads of an error: what was expected, what came, what to do, where it knows that."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}; nothing else was changed"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def printable(text: str) -> str:
    """The text without what a terminal would obey: files that are read may hold escape codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: Exception) -> str:
    """Of another library's error, what fits into a line of ours."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
