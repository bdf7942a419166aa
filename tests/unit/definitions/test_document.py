"""Reading bytes into nodes: limits, places, and whatever a person or a machine may feed it."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stretto.core.errors import DefinitionError, InputError
from stretto.definitions import document, load
from stretto.definitions.fault import MAX_FAULTS, Faults
from stretto.definitions.node import Kind, Node, kind_of

LONGEST_S = 10.0
"""Far above what any input takes here (2 s), far below what an input without limits would."""


def read(text: str) -> Node:
    """Return the root of a document that has no fault."""
    faults = Faults()
    root = document.read(text.encode(), faults)
    assert root is not None
    assert not faults
    return root


def rules(data: bytes) -> list[str]:
    """Return the rules that the file breaks."""
    with pytest.raises(DefinitionError) as caught:
        load("pipeline.yml", data)
    return [fault.rule for fault in caught.value.faults]


def test_nodes_know_their_places() -> None:
    """Keys and values have the line and column an editor shows, also behind wide characters and CRLF."""
    root = read("a: 1\r\n'ä€😀': [x,\r\n  y]\r\n")
    key, value = root.entries["ä€😀"]
    assert (key.line, key.column, value.line, value.column) == (2, 1, 2, 8)
    assert [(item.line, item.column) for item in value.items] == [(2, 9), (3, 3)]


def test_alias_stands_where_it_is_used() -> None:
    """An alias has its own place, what is inside it that of its anchor."""
    root = read("a: &x [1]\nb: *x\n")
    value = root.entries["b"][1]
    assert (value.line, value.column) == (2, 4)
    assert (value.items[0].line, value.items[0].column) == (1, 8)


def test_merge_prefers_own_then_earlier() -> None:
    """Own keys win over merged ones wherever '<<' stands, and an earlier map over a later one; a quoted '<<' is a key."""
    root = read("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {x: 0, <<: [*a, *b]}\n")
    merged = {name: value.text for name, (_, value) in root.entries["c"][1].entries.items()}
    assert merged == {"x": "0", "y": "1", "z": "2"}
    assert "<<" in read("'<<': 1\n").entries


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *[(text, Kind.NULL) for text in ("", "~", "null", "Null")],
        *[(text, Kind.BOOLEAN) for text in ("true", "No", "on", "OFF")],
        *[(text, Kind.INTEGER) for text in ("0", "-1", "+12")],
        *[(text, Kind.NUMBER) for text in ("1.", ".5", "1e3", "-1.5E-3", ".inf", "-.INF", ".nan")],
        *[
            (text, Kind.STRING)
            for text in ("010", "1:30", "1_000", "0x1F", "2024-01-02", "y", "nUll", "1.2.3", "-", "<<")
        ],
    ],
)
def test_plain_scalar_has_kind(text: str, kind: Kind) -> None:
    """A scalar without quotes is what the YAML 1.2 core schema says, yes/no/on/off apart."""
    assert kind_of(text) is kind


def test_byte_order_mark_is_passed_over() -> None:
    """A UTF-8 byte order mark at the start, as editors on Windows write it, does no harm; elsewhere it is a fault."""
    assert load("p", b"\xef\xbb\xbfname: a\njobs: {a: {stage: test, script: x}}\n").name == "a"
    assert rules(b"name: a\n\xef\xbb\xbfjobs: {}\n") == ["bad-character"]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"a" * (document.MAX_BYTES + 1), "too-large"),
        (b"[" * 500_000, "too-deep"),
        (b"{a: " * 250_000, "too-deep"),
        (b"- " * 500_000, "too-deep"),
        (b"- a\n" * 200_000, "too-many-nodes"),
        (b"[" + b"a," * 500_000, "too-many-nodes"),
        (b"x: &x [" + b"a," * 1_000 + b"]\ny: [" + b"*x," * 1_000 + b"]\n", "alias-expansion"),
        (b"name: '" + b"a\n" * 500_000, "syntax"),
        (b"jobs: {" + b"a: 1, " * 40_000 + b"}", "duplicate-key"),
        (b"jobs: {" + b"".join(b"j%d: {scirpt: 1}, " % i for i in range(10_000)) + b"}", "unknown-key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_file_is_refused_in_time(data: bytes, rule: str) -> None:
    """Large, deep, wide and multiplying files are refused by name, without being worked through."""
    started = time.perf_counter()
    assert rule in rules(data)
    assert time.perf_counter() - started < LONGEST_S


def test_faults_are_capped_in_the_open() -> None:
    """A file with more faults than anyone reads says that some are left out."""
    found = rules(b"name: a\njobs: {" + b", ".join(b"j%d: 1" % i for i in range(3_000)) + b"}")
    assert len(found) == MAX_FAULTS + 1
    assert "too-many-faults" in found


def test_python_parser_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML has no libyaml, its own parser gives the same definition and a place for a fault."""
    data = b"name: a\n.b: &b {image: alpine}\njobs: {a: {<<: *b, stage: test, script: 'x: y'}}\n"
    fast = load("p", data)
    monkeypatch.setattr(document, "_LOADER", yaml.SafeLoader)
    assert load("p", data) == fast
    assert rules(b"name: a\njobs: {a: [1, 2}\n") == ["syntax"]
    assert rules(b'name: a\njobs: {a: {stage: test, script: "\\ud800"}}\n') == ["bad-character"]


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            *(
                "name: a\n",
                "jobs:\n",
                "  a:\n",
                "    stage: build\n",
                "    script: x\n",
                "    needs: [a]\n",
                "stages: ",
            ),
            *(
                "- ",
                "&a ",
                "*a",
                "<<: ",
                "{",
                "}",
                "[",
                "]",
                ": ",
                ",",
                "'",
                '"',
                "|\n",
                "\t",
                "# c\n",
                "? ",
                "\n",
                "  ",
            ),
            *("!!str ", "!x ", "---\n", "...\n", "%YAML 1.1\n", "\0", "é", "default: ", "variables: ", "~", "1e999"),
            *("9" * 5_000, "retry: .INF\n", ".inf", "\ufeff", "\u2028"),
        ]
    ),
    max_size=25,
).map(lambda parts: "".join(parts).encode())


@settings(max_examples=500, deadline=5_000)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")) | FRAGMENTS)
def test_any_bytes_give_a_definition_or_faults(data: bytes) -> None:
    """Whatever the bytes, nothing but a DefinitionError with printable lines comes out, and soon."""
    lines = ["pipeline.yml:"]
    try:
        load("pipeline.yml", data)
    except DefinitionError as error:
        lines = error.message.split("\n")
    assert all(line.startswith("pipeline.yml:") and line.isprintable() for line in lines)


@settings(max_examples=200, deadline=5_000)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_override_gives_a_definition_or_an_error(key: str, value: str) -> None:
    """Whatever is given to --set, nothing but an InputError comes out."""
    try:
        load(
            "p",
            b"name: a\njobs: {a: {stage: test, script: [x]}}\n",
            overrides=[f"{key}={value}", f"jobs.a.script.0={value}"],
        )
    except InputError:
        pass
