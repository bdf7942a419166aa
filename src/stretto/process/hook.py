"""Calls a step's hook, whether it is a plain method or `async def`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from stretto.process.exception import AsyncStepException


def call_hook(hook: Callable[[], Awaitable[None] | None]) -> None:
    """Return when the hook is done; an async one gets an event loop of its own. AsyncStepException where one runs already."""
    result = hook()
    if not inspect.isawaitable(result):
        return
    if _loop_runs():
        if inspect.iscoroutine(result):
            result.close()
        raise AsyncStepException(
            f"{getattr(hook, '__qualname__', hook)} is async, and this thread runs an event loop already",
            hint="call it by way of asyncio.to_thread: await asyncio.to_thread(orchestrator.execute_pipelines)",
        )
    asyncio.run(_wait(result))


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _wait(result: Awaitable[None]) -> None:
    await result
