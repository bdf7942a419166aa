"""Parts of a path as routes take them. `%2F` is a slash within a name, not one between segments (`frame` keeps it so far)."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Path
from pydantic import AfterValidator

PREFIX: Final = "/api/v1"
"""Where a version of the API begins."""
_KEPT: Final = re.compile(r"%(2[Ff]|25)")


def _plain(text: str) -> str:
    return _KEPT.sub(lambda found: "%" if found[1] == "25" else "/", text)


RunRef = Annotated[
    str, Path(pattern=r"^[0-9A-Za-z]{1,26}$", description="A run's number, id, or unambiguous start of an id.")
]
Name = Annotated[str, Path(min_length=1, max_length=1000), AfterValidator(_plain)]
"""The name of a stage or job; a slash in it is written `%2F`."""
FilePath = Annotated[str, Path(min_length=1, max_length=8000), AfterValidator(_plain)]
TokenId = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")]
Number = Annotated[int, Path(ge=1, le=1_000_000)]
