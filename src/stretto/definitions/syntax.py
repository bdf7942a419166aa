"""Says in plain words what the YAML parser could not read, and where.

The parser's own sentences ("could not find expected ':'") name what it wanted, not what the person did. Sentences are those of
libyaml 0.2.5 and of PyYAML 6, which agree but for details; a sentence that is not known here is passed on as it is.
"""

from __future__ import annotations

import yaml

from stretto.definitions.node import cut

_INDENT = "align it with its neighbours; use spaces"
_QUOTE = "put the whole value in quotes"


def explain(error: yaml.YAMLError, text: str) -> tuple[int, int, str, str, str | None]:
    """Return line and column (from 1), rule, message and hint for what the parser said about `text`."""
    mark = error.problem_mark or error.context_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return 1, 1, "syntax", cut(str(error), 200), None
    line, column = mark.line + 1, mark.column + 1
    since = f"on line {error.context_mark.line + 1}" if error.context_mark is not None else "before"
    problem = f"{error.problem}"
    character = _character(text, mark.line, mark.column)
    if "cannot start any token" in problem and character == "\t":
        return line, column, "tab", "a tab is used to indent", "YAML indents with spaces only"
    if "cannot start any token" in problem:
        return line, column, "syntax", f"a value can't begin with {character!r}", _QUOTE
    if "undefined tag handle" in problem:
        return line, column, "unknown-tag", "the tag is not known here", "remove the tag"
    for words, message, hint in _SENTENCES:
        if words in f"{error.context}: {problem}":
            return line, column, "syntax", message.format(since=since), hint
    return line, column, "syntax", cut(problem, 200), None


def _character(text: str, line: int, column: int) -> str:
    lines = text.split("\n", line + 1)
    return lines[line][column : column + 1] if line < len(lines) else ""


_SENTENCES: tuple[tuple[str, str, str | None], ...] = (
    (
        "mapping values are not allowed",
        "a ':' that makes no sense here",
        f"quote a value that has ': ' in it, or {_INDENT}",
    ),
    ("quoted scalar: found unexpected end", "the quote that is opened {since} is never closed", None),
    ("document indicator", "the quote that is opened {since} is never closed", None),
    (
        "unknown escape character",
        "an unknown escape in double quotes",
        r"write \\ for a backslash, or use single quotes",
    ),
    ("invalid Unicode character escape", "an escape that stands for no character", None),
    ("expected ',' or ']'", "the list that is opened with [ {since} has no ',' or ']' here", None),
    ("expected ',' or '}'", "the map that is opened with {{ {since} has no ',' or '}}' here", None),
    (
        "block collection: did not find",
        "this does not fit into the list that begins {since}",
        f"a '- ' is missing, or {_INDENT}",
    ),
    (
        "block mapping: did not find",
        "this does not fit into the map that begins {since}",
        f"quote the value, or {_INDENT}",
    ),
    ("expected <block end>", "this does not fit into what begins {since}", f"quote the value, or {_INDENT}"),
    ("could not find expected ':'", "a key without its ':'", "write key: value"),
    ("expected node content", "a value is missing here", None),
    ("while scanning an alias", "a '*' begins an alias, and this is no name of one", _QUOTE),
    ("while scanning an anchor", "a '&' begins an anchor, and this is no name of one", _QUOTE),
    (
        "block scalar",
        "a block of text ('|' or '>') that can't be read",
        "write | or > alone, the text indented below it",
    ),
    ("<document start>", "text after the end of the document", "remove the '...'"),
    ("incompatible YAML document", "a version of YAML that is not read here", "remove the %YAML line"),
)
