"""Statuses, the transitions that are allowed between them, and how jobs roll up into stages and runs.

The words are the ones of `docs/states.md`, which a test compares with this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where a run, stage, job or attempt stands."""

    PENDING = "pending"
    """Not yet allowed to start. Entered at submission, or when a retry waits for its back-off; left by the engine."""
    QUEUED = "queued"
    """Allowed to start, waiting for a slot. Left by the engine when a slot is free."""
    RUNNING = "running"
    """An attempt is on record as starting. Left when its outcome is on record."""
    WAITING = "waiting"
    """A person or an outside event must act."""
    SUCCESS = "success"
    FAILED = "failed"
    CANCELED = "canceled"
    SKIPPED = "skipped"


FINAL: Final = frozenset({Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.SKIPPED})

TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    Status.PENDING: frozenset(
        {Status.QUEUED, Status.RUNNING, Status.WAITING, Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.SKIPPED}
    ),
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELED, Status.SKIPPED, Status.FAILED}),
    Status.RUNNING: frozenset({Status.PENDING, Status.WAITING, Status.SUCCESS, Status.FAILED, Status.CANCELED}),
    Status.WAITING: frozenset({Status.RUNNING, Status.SUCCESS, Status.FAILED, Status.CANCELED}),
    Status.SUCCESS: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
    Status.SKIPPED: frozenset(),
}
"""From a status to those it may become. `pending -> success` is a run without jobs; `running -> pending` a retry."""


class Reason(StrEnum):
    """The machine word that goes with a final status other than `success`."""

    # how an attempt ended
    EXIT_CODE = "exit_code"
    """The script ended with an exit code other than 0."""
    TIMEOUT = "timeout"
    """The job's or the run's time limit was reached."""
    OOM = "oom"
    """The job was killed for want of memory."""
    KILLED = "killed"
    """The job was killed from outside by a signal."""
    LOST = "lost"
    """The attempt can't be found any more: its host, process or container is gone and left no exit code."""
    IMAGE_MISSING = "image_missing"
    """The image does not exist or may not be read."""
    IMAGE_PULL = "image_pull"
    """The image could not be pulled."""
    ENGINE_UNAVAILABLE = "engine_unavailable"
    """The back-end of the driver did not answer."""
    START_FAILED = "start_failed"
    """The back-end refused to start the attempt (no shell in the image, wrong user, bad mount …)."""
    TREE_FAILED = "tree_failed"
    """The job's source tree could not be made."""
    ARTIFACTS_FAILED = "artifacts_failed"
    """The job's artifacts could not be stored."""
    DISK_FULL = "disk_full"
    """No room left on the disk."""
    ENGINE_FAULT = "engine_fault"
    """A bug of Stretto came between; the log of the orchestrator has the details."""
    # why a job did not run, or a run ended
    BAD_DEFINITION = "bad_definition"
    """Run: what was asked for has faults; the message has them all."""
    SOURCE_FAILED = "source_failed"
    """Run: its repository, branch or commit can't be had."""
    NEEDS_FAILED = "needs_failed"
    """A job that this one needs did not succeed."""
    RUN_STOPPED = "run_stopped"
    """The run was stopped by the failure of another job."""
    CANCEL_REQUESTED = "cancel_requested"
    """A person or a service asked for it."""
    CONDITION = "condition"
    """The job's `when` did not hold."""
    JOB_FAILED = "job_failed"
    """Run: at least one job failed that was not allowed to."""
    ALLOWED_FAILURE = "allowed_failure"
    """Run: the only failures were of jobs with `allow_failure`."""
    JOB_CANCELED = "job_canceled"
    """Run: a job was canceled, nothing failed."""


def roll_up(statuses: Iterable[Status]) -> Status:
    """Return the status of a group (a stage) whose members have these statuses; an empty group is `skipped`.

    A group runs as soon as one member runs or some, but not all, are over; it fails as soon as all are over and one failed.
    """
    seen = set(statuses)
    if not seen:
        return Status.SKIPPED
    if seen <= FINAL:
        for status in (Status.FAILED, Status.CANCELED, Status.SUCCESS):
            if status in seen:
                return status
        return Status.SKIPPED
    for status in (Status.RUNNING, Status.WAITING):
        if status in seen:
            return status
    if seen & FINAL - {Status.SKIPPED}:
        return Status.RUNNING
    return Status.QUEUED if Status.QUEUED in seen else Status.PENDING
