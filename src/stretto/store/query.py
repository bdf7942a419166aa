"""SQL lives in `queries/*.sql`, where it can be read and tried as SQL. Here it is only found by its name."""

from __future__ import annotations

import re
from pathlib import Path

_HEADING = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def read_queries(dialect: str) -> dict[str, str]:
    """Return the statements of `queries/<dialect>.sql` by name, without their comments."""
    text = (Path(__file__).parent / "queries" / f"{dialect}.sql").read_text(encoding="utf-8")
    _, *parts = _HEADING.split(text)
    return {name: _bare(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _bare(body: str) -> str:
    lines = (line for line in body.splitlines() if not line.startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
