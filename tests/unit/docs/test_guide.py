"""What the guide and its neighbours tell people to write and to type is understood; and no reason is without advice."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stretto.core.states import Reason
from stretto.definitions import compile_pipeline, load
from stretto.doors.cli.main import COMMANDS, stretto
from stretto.doors.cli.options import Options
from stretto.engine import conductor
from stretto.settings import load as load_settings

ROOT = Path(__file__).resolve().parents[3]
PAGES = (
    "README.md",
    "docs/guide.md",
    "docs/engine.md",
    "docs/settings.md",
    "docs/server.md",
    "docs/deploy.md",
    "docs/queue.md",
    "docs/triggers.md",
    "examples/README.md",
    "CONTRIBUTING.md",
)
ENDS_A_COMMAND = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "2>"})
GUIDE = (ROOT / "docs/guide.md").read_text("utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.S | re.M)


def command_lines(page: str) -> Iterator[str]:
    """Yield the page's command lines of ours: in blocks, fenced or indented, and, with arguments, between backticks."""
    text = (ROOT / page).read_text("utf-8")
    shell = "\n".join(blocks(page, "sh") + re.findall(r"^    (.*)$", text, re.M))
    yield from re.findall(r"^stretto .*$", shell, re.M)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    yield from re.findall(r"`(stretto [a-z]+ [^`…]*)`", prose)


def words(line: str) -> list[str]:
    """Return the arguments of a command line, up to where the shell takes over."""
    lexer = shlex.shlex(line.replace("$(", "$"), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    found: list[str] = []
    for word in lexer:
        if word in ENDS_A_COMMAND:
            break
        found.append(word)
    return found[1:]


LINES = [(page, line) for page in PAGES for line in command_lines(page)]
DEFINITIONS = [(page, block) for page in PAGES for block in blocks(page, "yaml")]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}: {line}" for page, line in LINES])
def test_docs_command_lines_are_understood(page: str, line: str) -> None:
    """The command exists and takes these options and arguments. Nothing is run."""
    name, *rest = words(line)
    command = stretto.get_command(click.Context(stretto), name)
    assert command is not None, f"{page}: no command {name!r}"
    command.make_context(f"stretto {name}", rest, parent=click.Context(stretto, obj=Options()))


@pytest.mark.parametrize("page", PAGES)
def test_docs_name_commands_that_exist(page: str) -> None:
    """A command that is only mentioned exists too."""
    named = set(re.findall(r"`stretto ([a-z]+)`", (ROOT / page).read_text("utf-8")))
    assert named <= set(COMMANDS)


def test_docs_use_every_command() -> None:
    """The guide shows each command but `version` at least once."""
    shown = {words(line)[0] for line in command_lines("docs/guide.md")}
    assert set(COMMANDS) - {"version"} <= shown


@pytest.mark.parametrize(("page", "block"), DEFINITIONS, ids=[f"{page}: {block[:20]!r}" for page, block in DEFINITIONS])
def test_docs_pipelines_can_be_run_in_containers(page: str, block: str) -> None:
    """Each YAML block is a whole definition without a fault."""
    assert compile_pipeline(load(page, block.encode()), driver="docker").jobs


def test_guide_settings_are_settings(tmp_path: Path) -> None:
    """Each TOML block of the guide is a settings file that changes something."""
    found = blocks("docs/guide.md", "toml")
    assert found
    for block in found:
        (tmp_path / "stretto.toml").write_text(block, "utf-8")
        assert tomllib.loads(block)
        assert load_settings({}, tmp_path) != load_settings({}, tmp_path / "none")


def test_guide_has_advice_for_every_reason() -> None:
    """The troubleshooting table has each reason once, in the order of the code, with a cause and what to do."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+\w[^|]*) \| ([^|]+\w[^|]*) \|$", GUIDE, re.M)
    listed = [word for word, _, _ in rows if word in set(Reason)]
    assert listed == [reason.value for reason in Reason]


def test_reference_lists_every_variable_that_scripts_get() -> None:
    """The table in docs/pipeline-yml.md has the variables that the conductor sets and no other."""
    source = Path(conductor.__file__).read_text("utf-8")
    page = (ROOT / "docs/pipeline-yml.md").read_text("utf-8")
    section = page.split("## What a script finds\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", section, re.M))
    assert listed == set(re.findall(r'"(CI|STRETTO(?:_[A-Z_]+)?)"', source))
