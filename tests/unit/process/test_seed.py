"""The documented example, block by block as it is written (tests/golden/processes), with the steps it leaves out."""

from __future__ import annotations

import json
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest

BLOCKS = Path(__file__).resolve().parents[2] / "golden/processes"

MISSING_STEPS = """
@register_step
class BackupTransfer(OnStartMixin, Step):
    name = "BackupTransfer"

    def on_start(self):
        print("Transferring the backup.")
        self.finish()


@register_step
class ProcessCompletionNotification(OnStartMixin, OnContinueMixin, Step):
    name = "ProcessCompletionNotification"

    def on_start(self):
        print("Writing the mail.")

    def on_continue(self):
        print("Sending the mail.")
        self.finish()
"""
"""What the text leaves to the reader."""

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the documented repository closes no file


NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def block(name: str) -> str:
    """Return a block as it is documented, with plain spaces where some of them are no-break spaces, which Python refuses."""
    return (BLOCKS / f"{name}.txt").read_text("utf-8").replace(NO_BREAK_SPACE, " ")


def indent_class_body(text: str) -> str:
    """Return the block with the body of its one class indented by a tab: as printed it is not, and so is no Python."""
    head, line, body = text.partition("Step):\n")
    assert line
    with pytest.raises(IndentationError):
        compile(text, "block", "exec")
    return head + line + textwrap.indent(body, "\t")


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the blocks define, as a script run in an empty directory has them after the class definitions."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "backup"}
    for text in (indent_class_body(block("step")), MISSING_STEPS, block("pipeline"), block("repository")):
        exec(compile(text, "block", "exec"), names)
    module = types.ModuleType("your_repository_implementation")
    module.__dict__["TinyDBRepository"] = names["TinyDBRepository"]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return names


def test_seed_has_the_two_faults_that_are_mended_here() -> None:
    """The one block is indented by no-break spaces, the other's class body not at all: nothing else is changed to run them."""
    for name in ("pipeline", "step", "start", "repository", "orchestrator"):
        text = (BLOCKS / f"{name}.txt").read_text("utf-8")
        assert (NO_BREAK_SPACE in text) == (name == "repository")
        if name in ("repository", "step"):
            with pytest.raises(SyntaxError):
                compile(text, name, "exec")
        else:
            compile(text, name, "exec")


def test_seed_blocks_run_a_pipeline_to_its_end(
    names: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started by one block and carried on by another, the three steps run one per pass; the file has them all finished."""
    exec(block("start"), names)
    assert capsys.readouterr().out.splitlines() == [
        "Starting the backup generation process.",
        "Backup generation completed.",
    ]
    assert names["pipeline"].status == "pending"
    for lines in (["Transferring the backup."], ["Writing the mail.", "Sending the mail."], []):
        exec(block("orchestrator"), names)
        assert capsys.readouterr().out.splitlines() == lines
    tables = json.loads((tmp_path / "database.json").read_text("utf-8"))
    assert [record["status"] for record in tables["pipelines"].values()] == ["finished"]
    assert [(record["name"], record["status"]) for record in tables["pipeline_steps"].values()] == [
        ("BackupGeneration", "finished"),
        ("BackupTransfer", "finished"),
        ("ProcessCompletionNotification", "finished"),
    ]


def test_seed_repository_stores_the_documented_records(names: dict[str, Any], tmp_path: Path) -> None:
    """The fields are those that code of others reads; pipeline and steps are `created` before anything runs."""
    pipeline = names["BackupAutomationPipeline"](repository_class=names["TinyDBRepository"])
    tables = json.loads((tmp_path / "database.json").read_text("utf-8"))
    (stored,) = tables["pipelines"].values()
    assert set(stored) == {"uuid", "name", "metadata", "status"}
    assert (stored["uuid"], stored["name"], stored["status"]) == (pipeline.uuid, "BackupAutomationPipeline", "created")
    assert stored["metadata"]["current_step"] is None
    steps = list(tables["pipeline_steps"].values())
    assert all(set(step) == {"uuid", "name", "pipeline_uuid", "metadata", "status"} for step in steps)
    assert all((step["pipeline_uuid"], step["status"]) == (pipeline.uuid, "created") for step in steps)


def test_seed_orchestrator_sees_what_others_write_meanwhile(
    names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """One orchestrator kept over passes carries on a pipeline that was started between them: nothing stale is read."""
    exec(block("orchestrator"), names)
    exec(block("start"), names)
    capsys.readouterr()
    names["orchestrator"].execute_pipelines()
    assert capsys.readouterr().out == "Transferring the backup.\n"
