"""Foreign text made fit to stand among our own. Only `stretto logs` shows bytes as they are."""

from __future__ import annotations

import re
from typing import Final

from stretto.reports.terminal import plain

_TERMINAL_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")


def harmless(text: str) -> str:
    """Return the text with control characters spelled out; line ends stay."""
    return "\n".join(plain(line) for line in text.split("\n"))


def output_line(line: bytes) -> str:
    """Return a line of a job's output without its colours and, of a progress bar, with its last state only."""
    text = _TERMINAL_SEQUENCE.sub("", line.decode("utf-8", "replace"))
    return plain(text.rstrip("\r\n").rpartition("\r")[2].expandtabs())
