"""A run's row as JSON data: one shape for the command line and the API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from stretto.core.ports import RunRow
from stretto.core.states import Status
from stretto.reports.model import format_time


def row_to_json(row: RunRow) -> dict[str, Any]:
    """Return the row as JSON data, with the keys of a report's `run`."""
    took_s = (row.ended_at - row.started_at).total_seconds() if row.started_at and row.ended_at else None
    return {
        "number": row.number,
        "id": row.id,
        "kind": row.kind,
        "name": row.name,
        "status": row.status.value,
        "reason": row.reason,
        "message": row.message,
        "repository": row.repository,
        "branch": row.branch,
        "commit": row.commit,
        "commit_message": row.commit_message,
        "created_at": _time(row.created_at),
        "started_at": _time(row.started_at),
        "ended_at": _time(row.ended_at),
        "duration_s": took_s,
        "priority": row.priority,
        "by": row.by,
        "retry_of": row.retry_of,
    }


def row_from_json(data: Mapping[str, Any]) -> RunRow:
    """Return the row that `row_to_json` made `data` from, its times in whole milliseconds; `owner` is not told."""
    texts = {name: data[name] for name in ("id", "kind", "name", "reason", "message", "repository", "branch", "commit")}
    return RunRow(
        **texts,
        number=data["number"],
        status=Status(data["status"]),
        commit_message=data["commit_message"],
        created_at=datetime.fromisoformat(data["created_at"]),
        started_at=_moment(data["started_at"]),
        ended_at=_moment(data["ended_at"]),
        priority=data["priority"],
        by=data["by"],
        retry_of=data["retry_of"],
    )


def _time(at: datetime | None) -> str | None:
    return None if at is None else format_time(at.astimezone(UTC))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
