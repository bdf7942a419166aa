"""The image that stands for `python:3.12-slim` where no registry can be reached."""

from __future__ import annotations

from functools import cache

from scripts import image
from tests.support.services import find_docker


@cache
def python_image() -> str:
    """Make the image once and return its tag; for tests marked `docker`."""
    address = find_docker()
    assert address is not None, "the test lacks the marker `docker`"
    return image.make("python", address)
