"""The JSON Schema (2020-12) of a report, for those who read reports with other programs.

The schema is open: keys may be added without a new version, and a reader must pass over what it does not know. Our own tests
close it, so that nothing gets into a report that is not described.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def text() -> str:
    """Return the schema as the text of its file."""
    return resources.files("stretto.reports").joinpath("report.schema.json").read_text(encoding="utf-8")


def load() -> dict[str, Any]:
    """Return the schema as JSON data."""
    schema: dict[str, Any] = json.loads(text())
    return schema
