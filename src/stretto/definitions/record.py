"""Shapes made of other shapes: lists, maps from names to values, records with known keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

from stretto.core.frozen import frozen
from stretto.definitions.fault import Faults
from stretto.definitions.node import Kind, Node, quote
from stretto.definitions.shape import INVALID, Shape, Text, refuse


class Item(NamedTuple):
    """A member of a list: its value and where it stands."""

    value: Any
    node: Node


@frozen
class ListOf:
    """A list of one shape, read as a tuple of `Item`. Where `or_one`, a single value stands for a list of it."""

    item: Shape
    item_name: str
    words: str
    min_items: int = 0
    rule: str = "empty-list"
    unique: bool = False
    or_one: bool = False

    def read(self, node: Node, faults: Faults, name: str) -> Any:
        if self.min_items and node.kind is Kind.NULL:
            members: Sequence[Node] = ()
        elif self.or_one and node.is_scalar and node.kind is not Kind.NULL:
            members = [node]
        elif node.kind is Kind.LIST:
            members = node.items
        else:
            hint = f"write {name.strip(chr(39))}: [{node.text}]" if node.kind is Kind.STRING else None
            return refuse(node, faults, name, self.words, hint)
        if len(members) < self.min_items:
            faults.add(node, self.rule, f"{name} is empty")
            return INVALID
        items = [Item(self.item.read(member, faults, self.item_name), member) for member in members]
        return tuple(item for item in items if item.value is not INVALID)

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array", "items": self.item.schema()}
        if self.min_items:
            schema["minItems"] = self.min_items
        if self.unique:
            schema["uniqueItems"] = True
        return {"anyOf": [self.item.schema(), schema]} if self.or_one else schema


class Entry(NamedTuple):
    """A member of a map or record: its value, and where its key and value stand."""

    value: Any
    key: Node
    node: Node


Entries = Mapping[str, Entry]


@frozen
class MapOf:
    """A map from names to one shape, read as `Entries`. Entries with a bad name or value are left out."""

    key: Text
    key_name: str
    value: Shape
    words: str
    min_entries: int = 0
    rule: str = "wrong-type"
    null_rule: str | None = None

    def read(self, node: Node, faults: Faults, name: str) -> Any:
        empty = self.min_entries > 0 and node.kind is Kind.NULL
        if node.kind is not Kind.MAP and not empty:
            return refuse(node, faults, name, self.words)
        if len(node.entries) < self.min_entries:
            faults.add(node, self.rule, f"{name} is empty")
            return INVALID
        entries = {}
        for text, (key, child) in node.entries.items():
            valid = self.key.accepts(key, faults, self.key_name)
            if child.kind is Kind.NULL and self.null_rule is not None:
                faults.add(key, self.null_rule, f"{self.key_name} {quote(text)} is empty")
                continue
            value = self.value.read(child, faults, f"{self.key_name} {quote(text)}")
            if valid and value is not INVALID:
                entries[text] = Entry(value, key, child)
        return entries

    def schema(self) -> dict[str, Any]:
        names = {name: value for name, value in self.key.schema().items() if name != "type"}
        schema: dict[str, Any] = {"type": "object", "additionalProperties": self.value.schema()}
        if names:
            schema["propertyNames"] = names
        if self.min_entries:
            schema["minProperties"] = self.min_entries
        return schema


@frozen
class Keyword:
    """A key that a record knows. `default` is what its absence means, as JSON data, None where that has no value."""

    name: str
    shape: Shape
    description: str
    required: bool = False
    default: Any = None


@frozen
class Record:
    """A map with known keys, read as `Entries` of those that are there and valid.

    `hints` are for keys that other systems have. With `open_prefix`, keys that begin with it are the person's own.
    """

    title: str
    keywords: tuple[Keyword, ...]
    hints: Mapping[str, str] = field(default_factory=dict)
    open_prefix: str | None = None
    words: str = "a map"

    def read(self, node: Node, faults: Faults, name: str) -> Any:
        if node.kind is not Kind.MAP:
            return refuse(node, faults, name, self.words)
        known = {keyword.name: keyword for keyword in self.keywords}
        entries = {}
        for text, (key, child) in node.entries.items():
            keyword = known.get(text)
            if keyword is not None:
                value = keyword.shape.read(child, faults, f"'{text}'")
                entries[text] = Entry(value, key, child)
            elif self.open_prefix is None or not text.startswith(self.open_prefix):
                hint = self.hints.get(text) or faults.nearest(text, known)
                faults.add(key, "unknown-key", f"{self.title} has no key {quote(text)}", hint)
        for keyword in self.keywords:
            if keyword.required and keyword.name not in node.entries:
                faults.add(node, "missing-key", f"{name} has no '{keyword.name}'")
        return {text: entry for text, entry in entries.items() if entry.value is not INVALID}

    def schema(self) -> dict[str, Any]:
        properties = {}
        for keyword in self.keywords:
            properties[keyword.name] = {**keyword.shape.schema(), "description": keyword.description}
            if keyword.default is not None:
                properties[keyword.name]["default"] = keyword.default
        schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required := [keyword.name for keyword in self.keywords if keyword.required]:
            schema["required"] = required
        if self.open_prefix is not None:
            schema["patternProperties"] = {f"^{re.escape(self.open_prefix)}": {}}
        return schema


@frozen
class TextOrRecord:
    """A string, or a map that says more; a string is read as the record with only `keyword`."""

    text: Text
    keyword: str
    record: Record
    words: str

    def read(self, node: Node, faults: Faults, name: str) -> Any:
        if node.kind is Kind.MAP:
            return self.record.read(node, faults, name)
        if not node.is_scalar or node.kind is Kind.NULL:
            return refuse(node, faults, name, self.words)
        value = self.text.read(node, faults, name)
        return INVALID if value is INVALID else {self.keyword: Entry(value, node, node)}

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.text.schema(), self.record.schema()]}
