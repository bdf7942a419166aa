"""What the texts of a definition may be: names of jobs, stages and pipelines, images, paths, variables.

Every pattern holds for Python and for JSON Schema alike, is anchored, and takes time linear in the text's length.
"""

from __future__ import annotations

from typing import Final

from stretto.definitions.record import MapOf
from stretto.definitions.shape import END, Check, Text

MAX_NAME_BYTES: Final = 255
"""Names become part of log and artifact paths; 255 bytes are what Linux file systems take."""
_MAX_PATH_BYTES: Final = 4_095
_MAX_IMAGE_BYTES: Final = 512

_NO_CONTROLS: Final = rf"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*{END}"
NAME: Final = Text(
    checks=(
        Check(rf"^[\s\S]+{END}", "bad-name", "is empty"),
        Check(_NO_CONTROLS, "bad-name", "has a line break or another control character in it"),
        Check(rf"^(?!\s)(?:[\s\S]*\S)?{END}", "bad-name", "begins or ends with white space"),
        Check(
            rf"^(?!(?:[\s\S]*/)?\.{{0,2}}(?:/|{END}))",
            "bad-name",
            "begins or ends with '/', or has '//', '.' or '..' between slashes",
            "names become part of paths: write test/unit, not test//unit or ../test",
        ),
    ),
    max_bytes=MAX_NAME_BYTES,
    rule="bad-name",
)

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_HOST: Final = r"(?:[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9][A-Za-z0-9-]*)*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_TAG: Final = r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST: Final = r"@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}"
IMAGE: Final = Text(
    checks=(
        Check(
            rf"^(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?:{_TAG})?(?:{_DIGEST})?{END}",
            "bad-image",
            "is not the name of an image",
            "write [HOST[:PORT]/]NAME[:TAG][@DIGEST] in lower case, like python:3.12-slim; variables are not expanded",
        ),
    ),
    max_bytes=_MAX_IMAGE_BYTES,
    rule="bad-image",
    strict=True,
)

PATH: Final = Text(
    checks=(
        Check(rf"^[\s\S]+{END}", "bad-path", "is empty"),
        Check(r"^(?!/)", "bad-path", "is absolute", "write it relative to the root of the repository"),
        Check(rf"^(?!(?:[\s\S]*/)?\.\.(?:/|{END}))", "bad-path", "has '..' in it", "paths may not leave the tree"),
        Check(_NO_CONTROLS, "bad-path", "has a line break or another control character in it"),
    ),
    max_bytes=_MAX_PATH_BYTES,
    rule="bad-path",
)

VARIABLE_NAME: Final = rf"^[A-Za-z_][A-Za-z0-9_]*{END}"
VARIABLES: Final = MapOf(
    key=Text(
        checks=(
            Check(
                VARIABLE_NAME,
                "bad-variable",
                "is not a variable name",
                "use letters, digits and '_', and begin with no digit",
            ),
        ),
        max_bytes=MAX_NAME_BYTES,
        rule="bad-variable",
    ),
    key_name="variable",
    value=Text(),
    words="a map of strings",
)
