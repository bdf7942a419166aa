"""Hooks and their deliveries on record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from stretto.core.errors import NotFoundError
from stretto.core.ports import Tables
from stretto.triggers.delivery import Delivery, Trigger
from stretto.triggers.hook import Hook
from stretto.triggers.order import from_text, is_identity, micros, moment, read_order, to_text

KEEP: Final = timedelta(days=7)
"""How long a delivery is remembered; after that the key of the run it started still tells a repeated one."""

_HOOK: Final = (
    "id, kind, secret, events, branches, paths, enabled, created_by, created_at, "
    "repository, pipelines, file, variables, driver, priority"
)
_DELIVERY: Final = "key, id, event, branch, commit_id, sender, ignored, runs, received_at"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery on record: what it was, and either the ids of the runs it started or why it was ignored."""

    key: str
    id: str
    event: str
    branch: str | None
    commit: str | None
    sender: str
    ignored: str | None
    runs: tuple[str, ...]
    received_at: datetime


def receipt_of(delivery: Delivery, *, key: str, identity: str, ignored: str | None, now: datetime) -> Receipt:
    """Return the receipt of a delivery that has started no run yet."""
    return Receipt(
        key, identity, delivery.event, delivery.branch, delivery.commit, delivery.sender, ignored, (), received_at=now
    )


class HookTable:
    """The hooks of a store."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, hook: Hook, *, now: datetime) -> None:
        """Store a new hook that was checked."""
        values = (
            *(hook.id, hook.kind, hook.secret, to_text(hook.events), to_text(hook.branches), to_text(hook.paths)),
            *(int(hook.enabled), hook.created_by, micros(now), hook.order.repository, *hook.order.values()),
        )
        await self._tables.write((f"INSERT INTO hook ({_HOOK}) VALUES ({', '.join('?' * len(values))})", values))

    async def read_all(self) -> list[Hook]:
        """Return all hooks, oldest first."""
        return [_read(row) for row in await self._tables.read(f"SELECT {_HOOK} FROM hook ORDER BY created_at, id")]

    async def find(self, hook_id: str) -> Hook:
        """Return the hook; NotFoundError."""
        rows = (
            await self._tables.read(f"SELECT {_HOOK} FROM hook WHERE id = ?", hook_id) if is_identity(hook_id) else []
        )
        if not rows:
            raise _no_hook(hook_id)
        return _read(rows[0])

    async def enable(self, hook_id: str, enabled: bool) -> Hook:
        """Let the hook start runs or not; NotFoundError."""
        hook = await self.find(hook_id)
        await self._tables.write(("UPDATE hook SET enabled = ? WHERE id = ?", (int(enabled), hook_id)))
        return replace(hook, enabled=enabled)

    async def delete(self, hook_id: str) -> None:
        """Delete the hook and its deliveries; NotFoundError."""
        await self.find(hook_id)
        await self._tables.write(
            ("DELETE FROM hook WHERE id = ?", (hook_id,)), ("DELETE FROM delivery WHERE hook = ?", (hook_id,))
        )

    async def find_receipt(self, hook_id: str, key: str) -> Receipt | None:
        """Return the delivery of this key, if it came before."""
        sql = f"SELECT {_DELIVERY} FROM delivery WHERE hook = ? AND key = ?"
        rows = await self._tables.read(sql, hook_id, key)
        return _read_receipt(rows[0]) if rows else None

    async def add_receipt(self, hook_id: str, receipt: Receipt) -> None:
        """Remember a delivery, unless it is remembered already, and forget those of long ago."""
        it = receipt
        values = (
            *(hook_id, it.key, it.id, it.event, it.branch, it.commit, it.sender, it.ignored, to_text(it.runs)),
            micros(it.received_at),
        )
        await self._tables.write(
            (
                f"INSERT INTO delivery (hook, {_DELIVERY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                values,
            ),
            ("DELETE FROM delivery WHERE received_at < ?", (micros(it.received_at - KEEP),)),
        )

    async def receipts(self, hook_id: str, limit: int) -> list[Receipt]:
        """Return the hook's deliveries, newest first; NotFoundError."""
        await self.find(hook_id)
        sql = f"SELECT {_DELIVERY} FROM delivery WHERE hook = ? ORDER BY received_at DESC, key LIMIT ?"
        return [_read_receipt(row) for row in await self._tables.read(sql, hook_id, limit)]


def _no_hook(hook_id: str) -> NotFoundError:
    return NotFoundError(f"there is no hook {hook_id!r}")


def _read(row: tuple[Any, ...]) -> Hook:
    id_, kind, secret, events, branches, paths, enabled, by, created_at, *order = row
    return Hook(
        id=id_,
        kind=kind,
        secret=secret,
        order=read_order(*order),
        events=tuple(map(Trigger, from_text(events))),
        branches=from_text(branches),
        paths=from_text(paths),
        enabled=bool(enabled),
        created_by=by,
        created_at=moment(created_at),
    )


def _read_receipt(row: tuple[Any, ...]) -> Receipt:
    key, id_, event, branch, commit, sender, ignored, runs, received_at = row
    return Receipt(key, id_, event, branch, commit, sender, ignored, from_text(runs), moment(received_at))
