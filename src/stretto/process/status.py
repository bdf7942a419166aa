"""The words a repository stores: where a pipeline or a step stands, and why one that did not finish ended.

They are plain text, as every repository can store that. They are not the words of Stretto's own runs (`core.states`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status:
    """Where a pipeline or a step stands. The last three are final: nothing changes them any more."""

    CREATED: Final = "created"
    """On record, never started. A pipeline leaves it by `start()`, a step when its turn comes."""
    PENDING: Final = "pending"
    """Started and not over; every pass carries it on."""
    FINISHED: Final = "finished"
    CANCELLED: Final = "cancelled"
    FAILED: Final = "failed"


STATUSES: Final = frozenset({Status.CREATED, Status.PENDING, Status.FINISHED, Status.CANCELLED, Status.FAILED})
FINAL: Final = frozenset({Status.FINISHED, Status.CANCELLED, Status.FAILED})


class Reason(StrEnum):
    """The machine word beside the sentence that `explain` returns."""

    REQUESTED = "requested"
    """`fail()` or `cancel()` was called."""
    STEP_RAISED = "step_raised"
    """`on_start` or `on_continue` raised an exception."""
    STEP_FAILED = "step_failed"
    """Pipeline: one of its steps is failed."""
    STEP_CANCELLED = "step_cancelled"
    """Pipeline: one of its steps is cancelled."""
    STEP_NOT_REGISTERED = "step_not_registered"
    """Pipeline: no class is registered under the name of the step that is next."""
    STEPS_MISSING = "steps_missing"
    """Pipeline: it was started, and the repository lacks steps of it."""
    PIPELINE_NOT_REGISTERED = "pipeline_not_registered"
    """Pipeline: no class is registered under its name."""
    METADATA_NOT_JSON = "metadata_not_json"
    """A step left something in its metadata that JSON can't hold."""
    NO_ON_CONTINUE = "no_on_continue"
    """Step, while pending: it has no `on_continue`, so only a call of `finish()`, `fail()` or `cancel()` from outside ends it."""
