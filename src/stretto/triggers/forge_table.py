"""Forges on record."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from stretto.core.errors import NotFoundError
from stretto.core.ports import Tables
from stretto.triggers.forge import Forge
from stretto.triggers.order import micros, moment

_COLUMNS: Final = "host, kind, api_url, token, token_env, token_file, every_run, created_at"


class ForgeTable:
    """The forges of a store."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def put(self, forge: Forge, *, now: datetime) -> None:
        """Store a forge that was checked, in place of what there was for its host."""
        values = (
            *(forge.host, forge.kind, forge.api_url, forge.token, forge.token_env, forge.token_file),
            *(int(forge.every_run), micros(now)),
        )
        changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[1:-1])
        sql = (
            f"INSERT INTO forge ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (host) DO UPDATE SET {changes}"
        )
        await self._tables.write((sql, values))

    async def read_all(self) -> list[Forge]:
        """Return all forges by host."""
        return [_read(row) for row in await self._tables.read(f"SELECT {_COLUMNS} FROM forge ORDER BY host")]

    async def delete(self, host: str) -> None:
        """Forget the forge and what was to be sent to it; NotFoundError."""
        if host not in {forge.host for forge in await self.read_all()}:
            raise NotFoundError(f"there is no forge {host!r}")
        await self._tables.write(
            ("DELETE FROM forge WHERE host = ?", (host,)),
            ("DELETE FROM status_outbox WHERE host = ?", (host,)),
            ("DELETE FROM status_run WHERE host = ?", (host,)),
        )


def _read(row: tuple[Any, ...]) -> Forge:
    host, kind, api_url, token, token_env, token_file, every_run, created_at = row
    return Forge(host, kind, api_url, token, token_env, token_file, bool(every_run), moment(created_at))
