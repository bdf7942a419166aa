"""Names of images, and what a pull may show."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stretto.core.errors import EngineUnavailableError
from stretto.drivers.docker.image import json_lines, mask, split_reference


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("busybox", ("busybox", "latest")),
        ("busybox:1.36", ("busybox", "1.36")),
        ("localhost:5000/app", ("localhost:5000/app", "latest")),
        ("localhost:5000/app:2", ("localhost:5000/app", "2")),
        ("app@sha256:00", ("app@sha256:00", "")),
    ],
)
def test_reference_is_split(name: str, parts: tuple[str, str]) -> None:
    """Without a tag it is `latest`, for the engine would pull them all; a port is no tag."""
    assert split_reference(name) == parts


def test_mask_hides_credentials() -> None:
    """Known secrets and those in URLs do not get into a message."""
    assert mask("get https://me:pw@r.example/v2 with s3cret", ["s3cret"]) == "get https://***@r.example/v2 with ***"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """Yield the parts."""
    for part in parts:
        yield part


async def test_progress_is_read_across_chunks() -> None:
    """A line may be cut anywhere, and the last may have no end."""
    lines = [step async for step in json_lines(chunks(b'{"a":', b'1}\r\n{"b":2}\n', b'{"c":3}'))]
    assert lines == [{"a": 1}, {"b": 2}, {"c": 3}]


async def test_progress_that_is_no_json_is_an_error_of_ours() -> None:
    """Garbage does not leave as a ValueError."""
    with pytest.raises(EngineUnavailableError):
        [step async for step in json_lines(chunks(b"<html>\n"))]
