"""A YAML document as a tree whose every key and value knows where it stands and how it was written.

A scalar keeps its own text: `3.10`, `yes` and `010` stay what they are where a string is wanted. What a scalar would be of
itself is its `kind`, told by the YAML 1.2 core schema, plus the yes/no/on/off that files in the wild use for true and false.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a node is; the value is how messages call it."""

    MAP = "a map"
    LIST = "a list"
    STRING = "a string"
    INTEGER = "an integer"
    NUMBER = "a number"
    BOOLEAN = "a boolean"
    NULL = "nothing"


@dataclass(slots=True, eq=False)
class Node:
    """A map, list or scalar. Not changed once it is read: an alias shares the children of what it stands for.

    `text` is a scalar's own text, `plain` whether it was written without quotes. `entries` are a map's, by the text of the
    key, as key and value. `size` counts the nodes in it and below, those behind aliases each time they are used.
    """

    kind: Kind
    line: int
    column: int
    argument: str | None = None
    text: str = ""
    plain: bool = False
    items: Sequence[Node] = ()
    entries: Mapping[str, tuple[Node, Node]] = field(default_factory=dict)
    size: int = 1

    @property
    def is_scalar(self) -> bool:
        """Whether the node is neither a map nor a list."""
        return self.kind is not Kind.MAP and self.kind is not Kind.LIST

    @property
    def number(self) -> float:
        """The value of an integer or number; infinity where it is too large for a float."""
        return float(self.text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def kind_of(text: str) -> Kind:
    """Return what a scalar that is written without quotes is."""
    first = text[:1]
    if first not in _SPECIAL_STARTS:
        return Kind.STRING
    if text in _NULLS:
        return Kind.NULL
    if text in TRUE or text in FALSE:
        return Kind.BOOLEAN
    if _INTEGER.fullmatch(text):
        return Kind.INTEGER
    return Kind.NUMBER if _NUMBER.fullmatch(text) else Kind.STRING


def found(node: Node) -> str:
    """Return what the node is, in words for a message."""
    if node.kind is Kind.STRING:
        return f"the string {quote(node.text)}"
    if node.kind in (Kind.INTEGER, Kind.NUMBER):
        return f"the number {cut(node.text)}"
    return node.text if node.kind is Kind.BOOLEAN else node.kind.value


def cut(text: str, limit: int = 60) -> str:
    """Return the start of `text`, with an ellipsis where something was left out."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quote(text: str) -> str:
    """Return `text` in quotes, cut, and with everything escaped that a terminal must not get."""
    return repr(cut(text))


TRUE: Final = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
FALSE: Final = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_SPECIAL_STARTS: Final = frozenset("0123456789+-.~tTfFyYnNoO") | {""}
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
