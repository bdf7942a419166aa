"""Reads the bytes of a definition into nodes: safely, within limits, and with every fault of the YAML itself.

It goes over the parser's events instead of letting PyYAML compose and construct: nothing of the file is ever turned into an
object, the limits hold while reading, nesting is a list and not the C stack, and faults that do not make the rest unreadable
(a key that is there twice, an unknown tag) do not hide the others. It does not know any keyword.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

import yaml

from stretto.definitions import syntax
from stretto.definitions.fault import Faults, Place
from stretto.definitions.node import Kind, Node, found, kind_of, quote

MAX_BYTES: Final = 1 << 20
"""The largest pipelines seen in the wild have a tenth of this."""
MAX_DEPTH: Final = 50
"""Our keywords nest six deep."""
MAX_NODES: Final = 100_000
"""Keys and values; some 4,000 ordinary jobs. A second's work for the parser at worst."""
MAX_EXPANDED: Final = 200_000
"""The same with everything behind an alias counted each time it is used."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it: ten times as fast, the same events."""

_CONTROLS: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_STRAYS: Final = ("\ufeff", "\ufffe", "\uffff")
"""With the controls: what YAML 1.2 (section 5.1) does not let a file contain, and a byte order mark that is not at its start.
Not one expression: a character class that reaches so far takes 5 ms to compile, a tenth of what `check` may cost."""
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")
"""What no command line, variable or file name can hold, and escapes in quotes can still write."""

_TAG: Final = "tag:yaml.org,2002:"
_SCALAR_TAGS: Final = {_TAG + name for name in ("int", "float", "bool", "null")}


def read(data: bytes, faults: Faults, *, argument: str | None = None) -> Node | None:
    """Return the root of the document, or None where it could not be read to its end; what is wrong goes to `faults`.

    `argument` is the command-line argument that the text comes from, where it does not come from the file.
    """
    try:
        root = _Reader(_decode(data, faults, argument), faults, argument).read()
    except _UnreadableError:
        return None
    if root is None or (root.kind is Kind.NULL and argument is None):
        faults.add(Place(1, 1, argument), "empty-file", "there is nothing in it")
        return None
    return root


class _UnreadableError(Exception):
    """The rest of the text can't be read; the fault is noted."""


def _decode(data: bytes, faults: Faults, argument: str | None) -> str:
    if len(data) > MAX_BYTES:
        faults.add(
            Place(1, 1, argument), "too-large", f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} are read"
        )
        raise _UnreadableError
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", errors="replace")
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        message = "the file is UTF-16, not UTF-8" if wide else f"byte 0x{data[error.start]:02x} is not valid UTF-8"
        faults.add(_end_of(before, argument), "encoding", message, "save the file as UTF-8")
        raise _UnreadableError from None
    control = _CONTROLS.search(text)
    places = [text.find(stray) for stray in _STRAYS] + ([control.start()] if control else [])
    first = min((place for place in places if place >= 0), default=None)
    if first is not None:
        message = f"the character U+{ord(text[first]):04X} may not be in a YAML file"
        faults.add(_end_of(text[:first], argument), "bad-character", message, "remove it, or write it as an escape")
        raise _UnreadableError
    return text


def _end_of(text: str, argument: str | None) -> Place:
    return Place(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1, argument)


@dataclass(slots=True)
class _Open:
    """A map or list whose end is still to come; a map's keys and values take turns in `children`."""

    node: Node
    anchor: str | None
    children: list[Node] = field(default_factory=list)


class _Reader:
    def __init__(self, text: str, faults: Faults, argument: str | None) -> None:
        self._text = text
        self._faults = faults
        self._argument = argument
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None
        self._nodes = 0
        self._expanded = 0

    def read(self) -> Node | None:
        documents = 0
        for event in self._events():
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    hint = "keep one document a file; remove the '---'"
                    self._fail(self._place(event), "several-documents", "a second YAML document begins here", hint)
            elif isinstance(event, yaml.ScalarEvent):
                self._add(self._scalar(event), event.anchor)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._begin(event)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._end()
            elif isinstance(event, yaml.AliasEvent):
                self._add_alias(event)
        return self._root

    def _events(self) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(self._text, Loader=_LOADER)
        except yaml.YAMLError as error:
            line, column, rule, message, hint = syntax.explain(error, self._text)
            self._fail(Place(line, column, self._argument), rule, message, hint)

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        kind = Kind.MAP if isinstance(event, yaml.MappingStartEvent) else Kind.LIST
        place = self._place(event)
        if event.tag not in (None, "!", _TAG + ("map" if kind is Kind.MAP else "seq")):
            self._refuse_tag(place, event.tag)
        if len(self._open) == MAX_DEPTH:
            self._fail(place, "too-deep", f"more than {MAX_DEPTH} maps and lists are nested here")
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)
        self._open.append(_Open(Node(kind, place.line, place.column, self._argument), event.anchor))

    def _end(self) -> None:
        opened = self._open.pop()
        node = opened.node
        node.size += sum(child.size for child in opened.children)
        if node.kind is Kind.LIST:
            node.items = opened.children
        else:
            node.entries = self._entries(opened.children)
        self._add(node, opened.anchor)

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        place, text = self._place(event), event.value
        plain = bool(event.implicit[0])
        kind = kind_of(text) if plain or event.tag in _SCALAR_TAGS else Kind.STRING
        if event.tag not in (None, "!", _TAG + "str") and event.tag not in _SCALAR_TAGS:
            self._refuse_tag(place, event.tag)
        if bad := _NO_TEXT.search(text):
            self._faults.add(
                place, "bad-character", f"the text holds the character U+{ord(bad.group()):04X}", "remove it"
            )
        return Node(kind, place.line, place.column, self._argument, text, plain)

    def _add(self, node: Node, anchor: str | None) -> None:
        self._nodes += 1
        self._expanded += 1
        if self._nodes > MAX_NODES:
            self._fail(node, "too-many-nodes", f"the file has more than {MAX_NODES:,} keys and values")
        if anchor is not None:
            self._anchors[anchor] = node
        self._place_in_parent(node)

    def _add_alias(self, event: yaml.AliasEvent) -> None:
        name, place = event.anchor or "", self._place(event)
        target = self._anchors.get(name)
        if target is None:
            if any(opened.anchor == name for opened in self._open):
                self._fail(place, "alias-cycle", f"the alias *{name} stands for something that holds this alias")
            self._fail(
                place,
                "unknown-alias",
                f"no anchor &{name} before this alias",
                self._faults.nearest(name, self._anchors),
            )
        self._expanded += target.size
        if self._expanded > MAX_EXPANDED:
            message = f"with its aliases written out the file has more than {MAX_EXPANDED:,} keys and values"
            self._fail(place, "alias-expansion", message)
        self._place_in_parent(replace(target, line=place.line, column=place.column))

    def _place_in_parent(self, node: Node) -> None:
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node

    def _entries(self, children: list[Node]) -> dict[str, tuple[Node, Node]]:
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not key.is_scalar or key.kind is Kind.NULL:
                self._faults.add(key, "bad-key", f"a key must be a string, found {found(key)}")
            elif key.text in own:
                first = own[key.text][0].line
                message = f"the key {quote(key.text)} is here a second time; the first is on line {first}"
                self._faults.add(key, "duplicate-key", message, "remove or rename one of them")
            else:
                own[key.text] = (key, value)
        if "<<" in own and own["<<"][0].plain:
            for source in self._merge_sources(own.pop("<<")[1]):
                for name, entry in source.entries.items():
                    merged.setdefault(name, entry)
        return {**merged, **own}

    def _merge_sources(self, value: Node) -> Iterator[Node]:
        for source in value.items if value.kind is Kind.LIST else [value]:
            if source.kind is Kind.MAP:
                yield source
            else:
                message = f"'<<' takes in a map or a list of maps, found {found(source)}"
                self._faults.add(source, "bad-merge", message, "write <<: *anchor")

    def _refuse_tag(self, place: Place, tag: str) -> None:
        written = f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
        self._faults.add(place, "unknown-tag", f"the tag {quote(written)} is not known here", "remove the tag")

    def _place(self, event: yaml.Event) -> Place:
        mark = event.start_mark
        assert mark is not None  # both parsers give every event its marks
        return Place(mark.line + 1, mark.column + 1, self._argument)

    def _fail(self, at: Place | Node, rule: str, message: str, hint: str | None = None) -> NoReturn:
        self._faults.add(at, rule, message, hint)
        raise _UnreadableError
