"""Who imports whom: the contracts in pyproject.toml, the table of the design, and a core of nothing but the standard library."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from importlinter import cli

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/stretto"

DOORS = {"doors.rest", "doors.grpc", "doors.amqp", "doors.web"}
ALLOWED = {
    "access": {"core", "sources"},
    "core": set(),
    "definitions": {"core"},
    "engine": {"core"},
    "sources": {"core"},
    "store": {"core"},
    "drivers": {"core", "sources"},
    "reports": {"core"},
    "settings": {"core"},
    "process": {"core"},
    "waist": {"core", "reports"},
    "triggers": {"core", "waist"},
    "compilation": {"core", "definitions", "waist"},
    "service": {"compilation", "core", "engine", "reports", "waist"},
    "client": {"compilation", "core", "reports", "sources", "waist"},
    **{door: {"core", "definitions", "reports", "waist"} for door in DOORS - {"doors.rest"}},
    "doors.rest": {"access", "core", "definitions", "reports", "settings", "triggers", "waist"},
}
"""What a package may import of the house, besides itself. Those not named here (UPPER) may import all but each other's tops."""

UPPER = {"wiring", "doors.cli", "doors.server"}


def package_of(module: str) -> str | None:
    """Return the name in ALLOWED or UPPER that `module` belongs to; None for `stretto` and `stretto.doors` themselves."""
    parts = module.split(".")[1:]
    name = ".".join(parts[:2]) if parts[:1] == ["doors"] else "".join(parts[:1])
    return None if name in ("", "doors", "__main__") else name


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """The imports of all modules."""
    return grimp.build_graph("stretto", cache_dir=None)


def test_contracts_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """import-linter finds no broken contract."""
    monkeypatch.chdir(ROOT)
    assert cli.lint_imports(config_filename="pyproject.toml", no_cache=True) == 0, "run: uv run lint-imports"


def test_imports_follow_the_table(graph: grimp.ImportGraph) -> None:
    """No package imports another that the design's table does not allow, and none is missing from the table."""
    wrong = []
    for module in sorted(graph.modules):
        package = package_of(module)
        if package is None or package in UPPER:
            continue
        assert package in ALLOWED, f"{package} is not in the table"
        for imported in graph.find_modules_directly_imported_by(module):
            other = package_of(imported)
            if other is not None and other != package and other not in ALLOWED[package]:
                wrong.append(f"{module} imports {imported}")
    assert not wrong


def test_house_has_no_import_cycle(graph: grimp.ImportGraph) -> None:
    """No module imports itself by way of others."""
    TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    ).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("path", sorted((SOURCE / "core").glob("*.py")), ids=lambda path: path.name)
def test_core_imports_the_standard_library_only(path: Path) -> None:
    """The core needs nothing to be installed, and does nothing that reaches outside."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] in sys.stdlib_module_names or name.startswith("stretto.core"), name
            assert name.split(".")[0] not in OUTSIDE, f"{path.name} imports {name}"


OUTSIDE = {"asyncio", "os", "random", "shutil", "socket", "sqlite3", "subprocess", "threading", "time", "urllib"}
"""Of the standard library: what does I/O, tells the time or throws dice."""
