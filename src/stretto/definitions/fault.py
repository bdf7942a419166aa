"""Collects the faults of a definition, so that a person sees all of them at once and each only once.

It knows where faults are and how they are hinted at, not what is a fault; that is for the modules that read and check.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from stretto.core.errors import DefinitionError, Fault
from stretto.core.frozen import frozen

MAX_FAULTS = 1_000
"""More than a person reads; a file with more says so in its last fault."""

_MAX_COMPARISONS = 20_000
"""How many words are compared for hints per file: each costs some 10 µs, and a hint is not worth waiting for."""

_MAX_WORD = 64
"""Longer words get no hint: comparing two costs the product of their lengths."""


class Located(Protocol):
    """Something read from the file at `line` and `column` (from 1), or from the command-line argument `argument`."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...

    @property
    def argument(self) -> str | None: ...


class Place(NamedTuple):
    """Where something stands, kept when the node that stood there is not."""

    line: int
    column: int
    argument: str | None = None


@frozen
class OverrideFault(Fault):
    """A fault of a value that was given as `argument` (`--set KEY`), not in the file: line and column are 0."""

    argument: str = ""

    def text(self, file: str) -> str:
        """Return the fault in one line, as `--set KEY: rule: message (hint)`."""
        tail = f" ({self.hint})" if self.hint else ""
        return f"{self.argument}: {self.rule}: {self.message}{tail}"


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return `did you mean …?` for the one of `words` that is most like `word`, None if none is."""
    if len(word) > _MAX_WORD:
        return None
    close = difflib.get_close_matches(word, [known for known in words if len(known) <= _MAX_WORD], n=1)
    return f"did you mean {close[0]!r}?" if close else None


class Faults:
    """The faults found so far. False while there are none."""

    def __init__(self) -> None:
        self._found: dict[Fault, None] = {}
        self._comparisons_left = _MAX_COMPARISONS

    def add(self, at: Located, rule: str, message: str, hint: str | None = None) -> None:
        """Note a fault. The same fault at the same place (of an alias that is used twice) counts once."""
        if len(self._found) > MAX_FAULTS:
            return
        if len(self._found) == MAX_FAULTS:
            rule, message, hint = (
                "too-many-faults",
                f"there are more than {MAX_FAULTS} faults; the rest is left out",
                None,
            )
        if at.argument is None:
            self._found[Fault(at.line, at.column, rule, message, hint)] = None
        else:
            self._found[OverrideFault(0, 0, rule, message, hint, at.argument)] = None

    def nearest(self, word: str, words: Collection[str]) -> str | None:
        """Return the hint of `nearest`, as long as there are not too many hints to work out."""
        if len(words) > self._comparisons_left:
            return None
        self._comparisons_left -= len(words)
        return nearest(word, words)

    def __bool__(self) -> bool:
        return bool(self._found)

    def first(self) -> Fault | None:
        """Return the fault that was found first, if any."""
        return next(iter(self._found), None)

    def error(self, file: str) -> DefinitionError:
        """Return the error that tells all faults of `file`."""
        return DefinitionError(file, tuple(self._found))
