"""What a value may look like: shapes that read a node, say what is wrong with it, and describe themselves as JSON Schema.

Here are those of scalars; record.py has those that are made of others.

One shape is the single source of the check and of the schema, so that the two can't disagree. Shapes look at one value at a
time; what concerns several values (an unknown stage, a cycle) is for lint.py. A fault's place is that of the value, so its
message need not say in which job it stands.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from stretto.core.frozen import frozen
from stretto.definitions.fault import Faults
from stretto.definitions.node import TRUE, Kind, Node, found, quote

INVALID: Final = object()
"""What `read` returns where it noted a fault."""

END: Final = r"(?![\s\S])"
"""The end of the text, in a way that Python and the regular expressions of JSON Schema (ECMA 262) agree on: `$` is not."""


class Shape(Protocol):
    """What a value may look like; `words` is how messages and the reference call it."""

    @property
    def words(self) -> str: ...

    def read(self, node: Node, faults: Faults, name: str) -> Any:
        """Return the value, or INVALID after noting what is wrong; `name` is what the value is called in messages."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of such a value."""


def refuse(node: Node, faults: Faults, name: str, words: str, hint: str | None = None) -> Any:
    """Note that the node has the wrong type; return INVALID."""
    faults.add(node, "wrong-type", f"{name} must be {words}, found {found(node)}", hint)
    return INVALID


@frozen
class Check:
    """A text must match `pattern` (searched for, so anchored where it matters), or it breaks `rule`."""

    pattern: str
    rule: str
    problem: str
    hint: str | None = None


@frozen
class Text:
    """A string. Where not `strict`, a number or boolean is taken as it is written: `3.10` is "3.10"."""

    checks: tuple[Check, ...] = ()
    max_bytes: int | None = None
    rule: str = "too-long"
    strict: bool = False
    words: str = "a string"

    def read(self, node: Node, faults: Faults, name: str) -> Any:
        if not node.is_scalar or node.kind is Kind.NULL:
            return refuse(node, faults, name, self.words, _string_hint(node))
        if self.strict and node.kind is not Kind.STRING:
            return refuse(node, faults, name, self.words, "put it in quotes")
        return node.text if self.accepts(node, faults, name) else INVALID

    def accepts(self, node: Node, faults: Faults, name: str) -> bool:
        """Check the node's own text, of a value or of a key."""
        if self.max_bytes is not None and len(node.text.encode("utf-8", "surrogatepass")) > self.max_bytes:
            faults.add(node, self.rule, f"{name} is longer than {self.max_bytes} bytes")
            return False
        for check in self.checks:
            if not re.search(check.pattern, node.text):
                faults.add(node, check.rule, f"{name} {quote(node.text)} {check.problem}", check.hint)
                return False
        return True

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string" if self.strict else ["string", "number", "boolean"]}
        if self.max_bytes is not None:
            schema["maxLength"] = self.max_bytes
        if self.checks:
            schema["allOf"] = [{"pattern": check.pattern} for check in self.checks]
        return schema


@frozen
class Flag:
    """True or false; yes, no, on and off are read as well."""

    words: str = "true or false"

    def read(self, node: Node, faults: Faults, name: str) -> Any:
        if node.kind is Kind.BOOLEAN:
            return node.text in TRUE
        hint = "remove the quotes" if node.text.lower() in ("true", "false") else None
        return refuse(node, faults, name, self.words, hint)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@frozen
class Count:
    """A whole number from `low` to `high`."""

    low: int
    high: int

    @property
    def words(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def read(self, node: Node, faults: Faults, name: str) -> Any:
        if node.kind not in (Kind.INTEGER, Kind.NUMBER):
            return refuse(node, faults, name, self.words)
        value = node.number
        if not value.is_integer():
            return refuse(node, faults, name, self.words)
        if not self.low <= value <= self.high:
            faults.add(node, "out-of-range", f"{name} must be {self.words}, found {found(node)}")
            return INVALID
        return int(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@frozen
class Duration:
    """A length of time, as a number of seconds or as text like `1h 30m`; read as seconds."""

    words: str = "a duration (seconds, or like 90s, 15m, 2h, 1h 30m, 1d)"

    def read(self, node: Node, faults: Faults, name: str) -> Any:
        hint = "write seconds as a number, or units from large to small: 1d 2h 30m 15s"
        if not node.is_scalar or node.kind in (Kind.NULL, Kind.BOOLEAN):
            return refuse(node, faults, name, self.words, hint)
        seconds = _seconds(node)
        if seconds is None:
            faults.add(node, "bad-duration", f"{name} must be {self.words}, found {found(node)}", hint)
            return INVALID
        if not 0 < seconds <= MAX_DURATION_S:
            message = f"{name} must be more than 0 and at most {MAX_DURATION_S // 86_400} days, found {found(node)}"
            faults.add(node, "out-of-range", message)
            return INVALID
        return seconds

    def schema(self) -> dict[str, Any]:
        number = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DURATION_S}
        return {"anyOf": [number, {"type": "string", "pattern": _DURATION}]}


MAX_DURATION_S: Final = 365 * 86_400
_AMOUNT: Final = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DURATION: Final = rf"^(?=.*[1-9])(?:{_AMOUNT}d)? ?(?:{_AMOUNT}h)? ?(?:{_AMOUNT}m)? ?(?:{_AMOUNT}s)?{END}"
_UNITS_S: Final = (86_400, 3_600, 60, 1)


def _seconds(node: Node) -> float | None:
    if node.kind is not Kind.STRING:
        return node.number
    match = re.search(_DURATION, node.text)
    if match is None:
        return None
    return sum(float(amount) * unit for amount, unit in zip(match.groups(), _UNITS_S, strict=True) if amount)


@frozen
class Choice:
    """One of a few words."""

    options: tuple[str, ...]

    @property
    def words(self) -> str:
        return f"one of {', '.join(self.options)}"

    def read(self, node: Node, faults: Faults, name: str) -> Any:
        if not node.is_scalar or node.kind is Kind.NULL:
            return refuse(node, faults, name, self.words)
        if node.text not in self.options:
            message = f"{name} must be {self.words}, found {found(node)}"
            faults.add(node, "bad-choice", message, faults.nearest(node.text, self.options))
            return INVALID
        return node.text

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.options)}


def _string_hint(node: Node) -> str | None:
    if node.kind is Kind.NULL:
        return "write '' for the empty string" if node.text == "" else "put it in quotes"
    if node.kind is Kind.MAP:
        return "a value that has ': ' in it must be in quotes"
    return None
