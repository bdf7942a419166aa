"""`stretto check`: every fault of files on disk, with neither git nor a store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.doors.cli.conftest import Said

GOOD = "name: good\njobs:\n  a: {stage: test, script: make}\n"
BAD = "name: bad\njobs:\n  a: {stage: nope, scrip: make}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stretto: Callable[..., Said]) -> Path:
    """An empty current directory in no repository."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_counts_jobs_and_stages(stretto: Callable[..., Said]) -> None:
    """A file without faults is told in one line on stdout; --quiet leaves it out."""
    assert stretto("check") == Said(0, b"pipeline.yml: ok, 4 jobs in 3 stages\n", "")
    assert stretto("check", "-q") == Said(0, b"", "")


def test_check_tells_all_faults_of_all_files(stretto: Callable[..., Said], folder: Path) -> None:
    """Faults go to stderr, one to a line with its place; what is good goes to stdout; the exit code is 2."""
    for name, text in (("bad.yml", BAD), ("good.yml", GOOD), ("torn.yml", "name: [")):
        (folder / name).write_text(text)
    said = stretto("check", "bad.yml", "good.yml", "torn.yml")
    assert (said.code, said.text) == (2, "good.yml: ok, 1 job in 1 stage\n")
    assert "bad.yml:3:14: unknown-stage: there is no stage 'nope'" in said.err
    assert "bad.yml:3:20: unknown-key: a job has no key 'scrip' (did you mean 'script'?)" in said.err
    assert "torn.yml:2:1: syntax:" in said.err


def test_check_json_is_an_array_of_faults(stretto: Callable[..., Said], folder: Path) -> None:
    """With --json stdout has every fault and stderr nothing; without faults the array is empty."""
    (folder / "bad.yml").write_text(BAD)
    (folder / "good.yml").write_text(GOOD)
    said = stretto("check", "--json", "bad.yml")
    faults = json.loads(said.out)
    assert (said.code, said.err) == (2, "")
    assert {(fault["file"], fault["rule"]) for fault in faults} >= {("bad.yml", "unknown-stage")}
    assert set(faults[0]) == {"file", "line", "column", "rule", "message", "hint"}
    assert stretto("check", "--json", "good.yml") == Said(0, b"[]\n", "")


def test_check_takes_values_and_driver_into_account(stretto: Callable[..., Said]) -> None:
    """A --set value is checked like one of the file; the driver decides whether an image is needed."""
    said = stretto("check", "--set", "jobs.lint.retry=99")
    assert said.code == 2
    assert said.err.startswith("--set jobs.lint.retry: out-of-range:")
    assert stretto("check", "--driver", "docker").err.count("missing-image") == 4


def test_check_finds_the_files_of_the_working_tree(
    stretto: Callable[..., Said], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder within a working tree the files at its top are checked, all of .cicd-pipelines included."""
    (folder / ".git").mkdir()
    (folder / ".cicd-pipelines").mkdir()
    (folder / "deep/er").mkdir(parents=True)
    (folder / ".cicd-pipelines/a.yml").write_text(GOOD)
    (folder / ".cicd-pipelines/b.yaml").write_text(GOOD.replace("good", "other"))
    monkeypatch.chdir(folder / "deep/er")
    said = stretto("check")
    assert said.text.splitlines() == [
        f"../../.cicd-pipelines/{name}: ok, 1 job in 1 stage" for name in ("a.yml", "b.yaml")
    ]
    (folder / ".cicd-pipelines/b.yaml").write_text(GOOD)
    assert (stretto("check").code, "both have the name 'good'" in stretto("check").err) == (2, True)


@pytest.mark.parametrize("name", ["missing.yml", "."])
def test_check_of_what_can_not_be_read_is_an_input_error(stretto: Callable[..., Said], folder: Path, name: str) -> None:
    """A file that is missing or none ends with 2 and one message, as text or JSON, and stdout stays empty."""
    said = stretto("check", name)
    assert (said.code, said.out) == (2, b"")
    assert said.err.startswith(f"stretto: error: {name} can't be read: ")
    error = json.loads(stretto("check", "--json", name).err)["error"]
    assert error["message"].startswith(f"{name} can't be read: ")


def test_check_without_a_file_says_where_it_looked(stretto: Callable[..., Said], folder: Path) -> None:
    """An empty directory has nothing to check."""
    said = stretto("check")
    assert said.code == 2
    assert "no pipeline.yml" in said.err


def test_check_makes_foreign_text_harmless(stretto: Callable[..., Said], folder: Path) -> None:
    """A file's name and its faults can't move the cursor."""
    (folder / "\x1b[2J.yml").write_text(BAD.replace("nope", '"no\\e[2Jpe"'))
    said = stretto("check", "\x1b[2J.yml")
    assert said.code == 2
    assert "\x1b" not in said.err


def test_check_imports_nothing_heavy(folder: Path) -> None:
    """A check at every save of a file pays for no loop, store, driver or protocol."""
    (folder / "pipeline.yml").write_text(GOOD)
    code = (
        "import sys; from stretto.doors.cli.main import main; code = main(['check', '-q', '--driver', 'process']);"
        "print(code, *sorted({'asyncio', 'sqlite3', 'h11', 'rich', 'stretto.waist', 'stretto.wiring', 'stretto.sources'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
