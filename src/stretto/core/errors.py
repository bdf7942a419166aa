"""The one exception tree of Stretto. Every error that a person may see is one of these.

    StrettoError                 exit 3   (a bug, unless a subclass says otherwise)
    ├── InputError               exit 2   what the caller gave can't be used
    │   ├── DefinitionError               one or more faults in a definition file
    │   ├── SourceError                   repository, branch, tag or commit can't be had
    │   ├── SettingsError                 stretto.toml or a STRETTO_* variable is wrong
    │   ├── AccessError                   no token, a wrong one, or one that does not allow it
    │   ├── TooLargeError                 what was sent has more bytes than is taken
    │   └── NotFoundError                 no such run, stage, job, attempt or artifact
    ├── StoreError               exit 3   the store can't do its work
    │   ├── SchemaError                   the store was written by an older or newer Stretto
    │   ├── DiskFullError                 no room left
    │   ├── FenceLostError                another conductor owns the run now
    │   └── RunBusyError         exit 2   a live conductor owns the run
    ├── ServerError              exit 1   a server can't be reached, or gives no answer that can be used
    ├── QueueError               exit 1   the message queue doesn't answer, or does not take a message
    ├── DriverError              exit 1   an attempt can't be started, watched or stopped; carries a `reason`
    │   └── EngineUnavailableError        the back-end doesn't answer; trying later may help
    └── TransitionError          exit 3   an event that the state of the run does not allow: a bug

A message says what, which object, and what to do. Text from outside is cut and has its secrets masked before it gets in.
"""

from __future__ import annotations

from collections.abc import Sequence

from stretto.core.frozen import frozen


class StrettoError(Exception):
    """Root of the tree; `exit_code` is what the CLI ends with, `hint` what the person may do."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(StrettoError):
    """What the caller gave can't be used; nothing was changed."""

    exit_code = 2


@frozen
class Fault:
    """One fault of a definition: where it is (line and column from 1), which rule, what is wrong and what to do."""

    line: int
    column: int
    rule: str
    message: str
    hint: str | None = None

    def text(self, file: str) -> str:
        """Return the fault in one line, as `file:line:column: rule: message (hint)`."""
        tail = f" ({self.hint})" if self.hint else ""
        return f"{file}:{self.line}:{self.column}: {self.rule}: {self.message}{tail}"


class DefinitionError(InputError):
    """A definition has faults; all of them are in `faults`, in the order of the file."""

    def __init__(self, file: str, faults: Sequence[Fault]) -> None:
        self.file = file
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.line, fault.column)))
        super().__init__("\n".join(fault.text(file) for fault in self.faults))


class SourceError(InputError):
    """The repository, branch, tag or commit can't be had."""


class SettingsError(InputError):
    """A setting is unknown, has the wrong type or contradicts another."""


class TooLargeError(InputError):
    """What was sent has more bytes than is taken; what had come of it is deleted."""


class NotFoundError(InputError):
    """No such run, stage, job, attempt or artifact."""


class AccessError(InputError):
    """There is no token, or it is not known, has expired, or does not allow what was asked."""


class StoreError(StrettoError):
    """The store can't do its work."""


class SchemaError(StoreError):
    """The store was written by another version of Stretto than this one."""


class DiskFullError(StoreError):
    """There is no room left where the state is kept."""

    exit_code = 1


class FenceLostError(StoreError):
    """Another conductor has taken the run over; what this one wanted to write was not written."""


class RunBusyError(StoreError):
    """A live conductor owns the run."""

    exit_code = 2


class ServerError(StrettoError):
    """A server can't be reached, or gives no answer that can be used; the same call may succeed later."""

    exit_code = 1


class QueueError(StrettoError):
    """The message queue does not answer or does not take a message; trying later may help."""

    exit_code = 1


class DriverError(StrettoError):
    """An attempt can't be started, watched or stopped; `reason` is one machine word of `states.Reason`."""

    exit_code = 1

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class EngineUnavailableError(DriverError):
    """The back-end does not answer; the same call may succeed later."""

    def __init__(self, message: str, *, reason: str = "engine_unavailable", hint: str | None = None) -> None:
        super().__init__(message, reason=reason, hint=hint)


class TransitionError(StrettoError):
    """An event that the state of the run does not allow. Always a bug."""
