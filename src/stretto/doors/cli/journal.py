"""What the engine has to say beside the run itself: warnings, one line each, on stderr."""

from __future__ import annotations

import logging
import sys

from stretto.doors.cli.text import harmless

FIELDS = ("attempt", "driver", "owner", "job", "error")
"""The fields of our own log calls that tell which object a message is about."""


class OneLine(logging.Formatter):
    """A record as one line for a person; with `verbose` its traceback follows."""

    def __init__(self, *, verbose: bool) -> None:
        super().__init__()
        self._verbose = verbose

    def format(self, record: logging.LogRecord) -> str:
        """Return `stretto: warning: message: object: what happened`."""
        told = [f"stretto: {record.levelname.lower()}", record.getMessage()]
        told += [str(value) for name in FIELDS if (value := getattr(record, name, None))]
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            told.append(str(error) or type(error).__name__)
        line = harmless(": ".join(told))
        if self._verbose and record.exc_info:
            return f"{line}\n{self.formatException(record.exc_info)}"
        return line


def listen(*, quiet: bool, verbose: bool) -> None:
    """Send our own warnings to stderr (errors only if `quiet`, everything if `verbose`); once a process."""
    log = logging.getLogger("stretto")
    if log.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(verbose=verbose))
    log.addHandler(handler)
    log.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    log.propagate = False
