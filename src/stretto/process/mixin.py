"""What a step class inherits to have its hooks called: from either or both of these, before `Step`."""

from __future__ import annotations

from collections.abc import Awaitable


class OnStartMixin:
    """A step that does something when its turn comes."""

    def on_start(self) -> Awaitable[None] | None:
        """Do the first of the step's work; may be `async def`."""
        raise NotImplementedError(f"{type(self).__name__} has OnStartMixin and no on_start")


class OnContinueMixin:
    """A step that is carried on by every pass until it calls `finish()`, `fail()` or `cancel()`."""

    def on_continue(self) -> Awaitable[None] | None:
        """Do the next of the step's work, or look whether it is done; may be `async def`."""
        raise NotImplementedError(f"{type(self).__name__} has OnContinueMixin and no on_continue")
