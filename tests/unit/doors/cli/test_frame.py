"""What holds for every command: help, streams, schemas, completion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from stretto.doors.cli import db, forge, hook, queue, schedule, token
from stretto.doors.cli.command import LazyGroup
from stretto.doors.cli.main import COMMANDS
from stretto.reports import schema
from tests.support.cli import PROGRAM, environment
from tests.unit.doors.cli.conftest import PIPELINE, Place, Said

GROUPS: dict[str, LazyGroup] = {
    "db": db.command,
    "forge": forge.command,
    "hook": hook.command,
    "queue": queue.command,
    "queue dead": queue.dead,
    "schedule": schedule.command,
    "token": token.command,
}
"""Commands that only have others below them."""
NAMES = [*COMMANDS, *(f"{group} {name}" for group, made in GROUPS.items() for name in made.modules)]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in GROUPS])
def test_help_of_each_command(stretto: Callable[..., Said], name: str) -> None:
    """--help goes to stdout and has what the table says first, the options of every command and an example."""
    said = stretto(*name.split(), "--help")
    assert (said.code, said.err) == (0, "")
    assert said.text.startswith(f"Usage: stretto {name} ")
    assert "Options of every command:" in said.text
    assert "Example:" in said.text


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["plan"],
        ["runs"],
        ["report"],
        ["report", "1"],
        ["artifacts", "1"],
        ["gc", "--dry-run"],
        ["schema"],
        ["version"],
    ],
    ids=" ".join,
)
def test_json_is_all_there_is_on_stdout(stretto: Callable[..., Said], arguments: list[str]) -> None:
    """With --json stdout is one JSON document and stderr has nothing."""
    said = stretto(*arguments, "--json")
    assert (said.code, said.err) == (0, "")
    json.loads(said.out)


@pytest.mark.parametrize(
    "arguments", [["runs"], ["report", "1"], ["logs", "1", "compile"], ["artifacts", "1"]], ids=str
)
def test_reader_that_went_away_is_no_error(made: Place, arguments: list[str]) -> None:
    """Where nobody reads stdout any more, the program ends with 141 and complains to nobody."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [PROGRAM, *arguments], env=environment(made.home), stdout=writer, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_schemas_are_printed(stretto: Callable[..., Said]) -> None:
    """`schema` prints what a good file follows; `schema --report` that of reports."""
    jsonschema.validate(yaml.safe_load(PIPELINE), json.loads(stretto("schema").out))
    assert json.loads(stretto("schema", "--report").out) == schema.load()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(stretto: Callable[..., Said], shell: str) -> None:
    """Each shell gets its script; another shell is bad input."""
    said = stretto("completion", shell)
    assert (said.code, said.err) == (0, "")
    assert f"_STRETTO_COMPLETE={shell}_complete" in said.text
    assert stretto("completion", "cmd").code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("stretto re", {"report", "resume", "retry"}),
        ("stretto report --fo", {"--format"}),
        ("stretto runs --status f", {"failed"}),
    ],
)
def test_completion_works_when_evaluated(made: Place, tmp_path: Path, words: str, expected: set[str]) -> None:
    """In a bash that evaluated the script, commands, options and values are completed."""
    script = (
        'eval "$(stretto completion bash)"; read -ra COMP_WORDS <<< "$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1));'
        ' _stretto_completion stretto; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = {**environment(made.home), "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script, "bash", words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert (set(done.stdout.split()), done.stderr) == (expected, "")
