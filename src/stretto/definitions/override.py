"""Values given on the command line: `--set KEY=VALUE` over any value of the file, `--var NAME=VALUE` over its variables.

A key is a path of names and list positions with dots between; a name that has a dot of its own is quoted:
`jobs."a.b".image`, `jobs.test.script.0`. A value is read as YAML. An argument that can't be applied is an InputError that names
it; one that can, but gives a value that is not allowed there, becomes a fault of the definition at `--set KEY`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from stretto.core.errors import InputError
from stretto.definitions.document import read
from stretto.definitions.fault import Faults, nearest
from stretto.definitions.name import VARIABLE_NAME
from stretto.definitions.node import Kind, Node, found, quote
from stretto.definitions.pipeline import JOBS, PIPELINE
from stretto.definitions.record import ListOf, MapOf, Record, TextOrRecord
from stretto.definitions.shape import Shape

_SEGMENT: Final = re.compile(r"""(?:"(?P<double>[^"]+)"|'(?P<single>[^']+)'|(?P<bare>[^."'=]+))(?P<end>\.|=|$)""")


def override(root: Node, arguments: Sequence[str]) -> Node:
    """Return the document with the values of `arguments` (`KEY=VALUE`, later ones over earlier ones); InputError."""
    for argument in arguments:
        path, value = _parse(argument)
        root = _replace(root, PIPELINE, path, value, 0, argument)
    return root


def read_variables(arguments: Iterable[str]) -> dict[str, str]:
    """Return the variables that `--var NAME=VALUE` arguments give, later ones over earlier ones; InputError."""
    variables = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not re.search(VARIABLE_NAME, name):
            hint = "write --var NAME=VALUE; a name has letters, digits and '_', and begins with no digit"
            raise InputError(f"--var {quote(argument)}: {quote(name)} is not a variable name with a value", hint=hint)
        if "\0" in value:
            raise InputError(f"--var {quote(argument)}: the value holds a NUL character")
        variables[name] = value
    return variables


def _parse(argument: str) -> tuple[list[str], Node]:
    """Return path and value of `KEY=VALUE`."""
    path: list[str] = []
    position = 0
    while match := _SEGMENT.match(argument, position):
        path.append(match["double"] or match["single"] or match["bare"])
        position = match.end()
        if match["end"] != ".":
            break
    if match is None or match["end"] != "=":
        hint = "write --set KEY=VALUE, like --set jobs.test.image=python:3.12; quote names with dots"
        raise InputError(f"--set {quote(argument)}: this is no KEY=VALUE", hint=hint)
    return path, _value(argument, argument[: position - 1], argument[position:])


def _value(argument: str, key: str, text: str) -> Node:
    if not text.strip():
        return Node(Kind.STRING, 0, 0, f"--set {key}", text)
    faults = Faults()
    node = read(text.encode("utf-8", "surrogateescape"), faults, argument=f"--set {key}")
    if first := faults.first():
        raise InputError(f"--set {quote(argument)}: the value can't be read: {first.message}", hint=first.hint)
    assert node is not None  # read gives None only with a fault
    return node


def _replace(node: Node, shape: Shape | None, path: Sequence[str], value: Node, at: int, argument: str) -> Node:
    """Return `node` with `value` at the rest of `path` (from `at`); what lies beside the path is shared, not copied."""
    if at == len(path):
        return value
    name = path[at]
    if node.kind is Kind.LIST:
        if not re.fullmatch(r"[0-9]{1,6}", name) or int(name) >= len(node.items):
            last = len(node.items) - 1
            raise _unknown(
                argument, path, at, f"the list has the positions 0 to {last}" if last >= 0 else "the list is empty"
            )
        items = list(node.items)
        items[int(name)] = _replace(items[int(name)], _child(shape, name), path, value, at + 1, argument)
        return replace(node, items=items)
    if node.kind is not Kind.MAP:
        raise _unknown(argument, path, at, f"what is there is {found(node)}")
    if name not in node.entries and (shape is JOBS or _child(shape, name) is None):
        raise _unknown(argument, path, at, nearest(name, [*node.entries, *_names(shape)]))
    empty = Node(Kind.MAP, 0, 0, value.argument)
    key, old = node.entries.get(name, (Node(Kind.STRING, 0, 0, value.argument, name), empty))
    if old.kind is Kind.NULL:
        old = empty
    new = _replace(old, _child(shape, name), path, value, at + 1, argument)
    return replace(node, entries={**node.entries, name: (key, new)})


def _child(shape: Shape | None, name: str) -> Shape | None:
    """Return the shape of what a value of `shape` may have under `name`, None if it can't have it."""
    match shape:
        case Record():
            return next((keyword.shape for keyword in shape.keywords if keyword.name == name), None)
        case MapOf():
            return shape.value
        case ListOf():
            return shape.item
        case TextOrRecord():
            return _child(shape.record, name)
    return None


def _names(shape: Shape | None) -> list[str]:
    return [keyword.name for keyword in shape.keywords] if isinstance(shape, Record) else []


def _unknown(argument: str, path: Sequence[str], at: int, hint: str | None) -> InputError:
    where = f"in {'.'.join(path[:at])}" if at else "in the file"
    return InputError(f"--set {quote(argument)}: there is no {quote(path[at])} {where}", hint=hint)
