"""The program in docs/processes.md runs, prints what the page says, and its tables are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stretto.process import InMemoryRepository, Reason
from stretto.process import testing as suite
from stretto.process.metadata import MARKS
from stretto.process.session import LEASE_S
from stretto.process.status import STATUSES
from tests.support.process import own_registry

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/processes.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.S | re.M)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the documented repository closes no file
def test_program_of_the_page_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All blocks in order, in an empty directory; then the conformance suite on the page's repository."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    with own_registry():
        for block in BLOCKS:
            exec(compile(block, "docs/processes.md", "exec"), names)
        assert capsys.readouterr().out == "".join(re.findall(r"^```text\n(.*?)^```$", PAGE, re.S | re.M))
        statuses = [record["status"] for record in InMemoryRepository._database.tables["PIPELINE"].all()]
        assert statuses == ["finished", "failed", "cancelled"]
        checked = names["TestTinyDBRepository"]()
        for number, name in enumerate(name for name in dir(suite.RepositoryConformance) if name.startswith("test_")):
            directory = tmp_path / str(number)
            directory.mkdir()
            monkeypatch.chdir(directory)
            getattr(checked, name)(names["TinyDBRepository"])


def test_program_of_the_page_has_no_type_error(tmp_path: Path) -> None:
    """mypy --strict accepts all of it but the test, whose fixtures come from pytest without types."""
    blocks = [block for block in BLOCKS if "import pytest" not in block]
    assert len(blocks) == len(BLOCKS) - 1
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks), "utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_tables_of_the_page_are_those_of_the_code() -> None:
    """Every status and every reason is there, and nothing else; so are the reserved key and the lease."""
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    assert sorted(listed) == sorted([*STATUSES, *(reason.value for reason in Reason)])
    assert f'metadata["{MARKS}"]' in PAGE
    assert f"{LEASE_S:.0f} seconds" in PAGE


@pytest.fixture(autouse=True)
def _empty_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InMemoryRepository, "_database", type(InMemoryRepository._database)())
