"""From the bytes of a `pipeline.yml` to its definition, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

from stretto.definitions.definition import Definition, build
from stretto.definitions.document import read
from stretto.definitions.fault import Faults
from stretto.definitions.lint import lint
from stretto.definitions.node import Kind
from stretto.definitions.override import override
from stretto.definitions.pipeline import PIPELINE
from stretto.definitions.shape import INVALID


def load(file_name: str, data: bytes, *, overrides: Sequence[str] = ()) -> Definition:
    """Return the definition in `data`, with the values of `--set` in `overrides` (`KEY=VALUE`) over those of the file.

    DefinitionError with every fault of the file; InputError where an override does not fit the file.
    """
    faults = Faults()
    root = read(data, faults)
    if root is None:
        raise faults.error(file_name)
    if overrides and root.kind is Kind.MAP:
        root = override(root, overrides)
    pipeline = PIPELINE.read(root, faults, "the pipeline")
    if pipeline is not INVALID:
        lint(root, pipeline, faults)
    if faults:
        raise faults.error(file_name)
    return build(file_name, pipeline)
