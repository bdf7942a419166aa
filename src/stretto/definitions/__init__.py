"""Text or classes to spec: read, check (all faults at once), compile. Nothing here runs anything or touches a store.

For `pipeline.yml`, in the order they are used:

* `check_file(file)` refuses a path that can't be in a repository, before one is looked at,
* `locate(listing, file=…)` finds the definition files of a repository,
* `load(file_name, data, overrides=…)` reads one and gives a `Definition`, or a DefinitionError with all its faults,
* `choose(definitions, names)` picks the pipelines a person asked for,
* `compile_pipeline(definition, driver=…, variables=…, source=…)` gives the `RunSpec`,
* `read_variables(arguments)` reads `--var NAME=VALUE`, `schema()` is the JSON Schema for editors.
"""

from stretto.definitions.compile import compile_pipeline
from stretto.definitions.definition import Definition, JobDefinition
from stretto.definitions.load import load
from stretto.definitions.locate import check_file, choose, locate
from stretto.definitions.override import read_variables
from stretto.definitions.pipeline import schema

__all__ = [
    "Definition",
    "JobDefinition",
    "check_file",
    "choose",
    "compile_pipeline",
    "load",
    "locate",
    "read_variables",
    "schema",
]
