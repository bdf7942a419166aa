"""The faults of a definition as JSON data: one shape for the command line and the API."""

from __future__ import annotations

from typing import Any

from stretto.core.errors import DefinitionError


def faults_to_json(error: DefinitionError) -> list[dict[str, Any]]:
    """Return the faults, in the order of the file."""
    return [
        {
            "file": error.file,
            "line": fault.line,
            "column": fault.column,
            "rule": fault.rule,
            "message": fault.message,
            "hint": fault.hint,
        }
        for fault in error.faults
    ]
