"""Definitions with the specs they compile to, and with the faults they have, word for word.

Set UPDATE_GOLDEN=1 to write what comes out now, then read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stretto.core import graph, spec
from stretto.core.errors import DefinitionError
from stretto.definitions import compile_pipeline, load

GOLDEN = Path(__file__).parents[2] / "golden"
GOOD = sorted(GOLDEN.glob("*.yml"))
FAULTY = sorted((GOLDEN / "faults").glob("*.yml"))


def expected(path: Path, actual: str) -> str:
    """Return what the file holds, after writing `actual` to it if that was asked for."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(actual)
    return path.read_text()


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_file_compiles_to_its_spec(path: Path) -> None:
    """A definition gives exactly the spec beside it, which survives JSON and is a graph the engine takes."""
    definition = load("pipeline.yml", path.read_bytes())
    driver = "process" if path.stem == "smallest" else "docker"
    compiled = compile_pipeline(definition, driver=driver)
    data = spec.to_json(compiled)
    assert json.dumps(data, indent=2, ensure_ascii=False) + "\n" == expected(
        path.with_suffix(".json"), json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    )
    assert spec.from_json(data) == compiled
    graph.build(compiled)


@pytest.mark.parametrize("path", FAULTY, ids=lambda path: path.stem)
def test_faulty_file_reports_its_faults(path: Path) -> None:
    """A faulty definition gives exactly the faults beside it, all at once."""
    with pytest.raises(DefinitionError) as caught:
        compile_pipeline(load("pipeline.yml", path.read_bytes()), driver="docker")
    assert caught.value.message + "\n" == expected(path.with_suffix(".txt"), caught.value.message + "\n")
    assert caught.value.exit_code == 2


def test_golden_folder_is_complete() -> None:
    """No file of results is left without the definition it came from."""
    assert {path.stem for path in GOLDEN.glob("*.json")} == {path.stem for path in GOOD}
    assert {path.stem for path in (GOLDEN / "faults").glob("*.txt")} == {path.stem for path in FAULTY}
