"""What docs/cli.md says is what the program has, command by command and option by option."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from stretto.doors.cli import db, failure, forge, hook, queue, schedule, token
from stretto.doors.cli.command import Command, LazyGroup
from stretto.doors.cli.main import COMMANDS, stretto

PAGE = (Path(__file__).parents[4] / "docs" / "cli.md").read_text()
SECTIONS = {part.split("\n", 1)[0]: part for part in PAGE.split("\n## ")}


GROUPS: dict[str, LazyGroup] = {
    "db": db.command,
    "queue": queue.command,
    "queue.dead": queue.dead,
    "forge": forge.command,
    "hook": hook.command,
    "schedule": schedule.command,
    "token": token.command,
}
SUMMARIES = {
    **{name: summary for name, (_, summary) in COMMANDS.items()},
    **{f"{group}.{name}": row[1] for group, made in GROUPS.items() for name, row in made.modules.items()},
}
"""What the lists of commands say of each, those of a group as `group.name`."""
PLAIN = [name for name in SUMMARIES if name not in GROUPS]


def _command(name: str) -> Command:
    found = _find(name)
    assert isinstance(found, Command)
    return found


def _find(name: str) -> click.Command:
    group, _, last = name.rpartition(".")
    parent = GROUPS[group] if group else stretto
    found = parent.get_command(click.Context(parent), last)
    assert found is not None
    return found


def _section(name: str) -> str:
    return SECTIONS[f"stretto {name.replace('.', ' ')}"]


@pytest.mark.parametrize("name", PLAIN)
def test_docs_have_every_option_of_the_command(name: str) -> None:
    """Each option stands in the command's own section, with its help, its example and nothing that is gone."""
    command, section = _command(name), _section(name)
    documented = {
        word for line in section.splitlines() if line.startswith("| `") for word in line.split("`")[1].split(", ")
    }
    for param in command.params:
        if isinstance(param, click.Option) and param not in command.shared:
            assert set(param.opts) <= {word.split(" ")[0] for word in documented}
            assert param.help is not None
            assert param.help in section
    known = {opt for param in command.params for opt in param.opts}
    assert {word.split(" ")[0] for word in documented if word.startswith("-")} <= known
    assert command.example in section


@pytest.mark.parametrize("name", SUMMARIES)
def test_docs_say_what_the_help_says(name: str) -> None:
    """Each paragraph of a command's help stands in its section, however it is wrapped."""
    section = " ".join(_section(name).split())
    for paragraph in (_find(name).help or "").split("\n\n"):
        assert " ".join(paragraph.split()) in section


def test_docs_have_the_exit_codes() -> None:
    """The table is the one at the boundary that turns errors into codes."""
    codes = [line.split("|")[1].strip() for line in (failure.__doc__ or "").splitlines() if line.startswith("| ")]
    section = SECTIONS["Exit codes"]
    assert [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")] == codes


def test_docs_have_every_shared_option() -> None:
    """The options of every command, help and version stand in one section."""
    section = SECTIONS["Options of every command"]
    for param in [*_command("runs").shared, *stretto.params]:
        for opt in param.opts:
            assert opt in section


@pytest.mark.parametrize("name", SUMMARIES)
def test_summary_in_the_list_is_the_first_line_of_the_help(name: str) -> None:
    """The table of commands, which saves importing them, says what they say themselves."""
    help_text = _find(name).help or ""
    assert SUMMARIES[name] == help_text.splitlines()[0]
