"""What goes wrong with processes, as exceptions.

    ProcessException
    ├── PipelineNameNotDefinedException, StepNameNotDefinedException   a class without a name
    ├── StepsNotDefinedException            a pipeline class without steps, or with something else among them
    ├── NameTakenException                  two classes of one name
    ├── PipelineNotRegisteredException, StepNotRegisteredException     no class of that name
    ├── PipelineNotDefinedException         a step that belongs to no pipeline
    ├── PipelineNotFoundException, StepNotFoundException               the repository has no such record
    ├── StepsMissingException               a started pipeline has lost steps
    ├── MetadataException                   metadata that JSON can't hold
    ├── PassIncompleteException             some pipelines could not be carried on; the others were
    └── PassException                       a pipeline could not be carried on now; its record is as it was
        ├── RepositoryNotDefinedException
        ├── RepositoryIncompleteException   it lacks methods
        ├── RepositoryFailedException       it raised something
        ├── RepositoryAnswerException       it returned something else than it should
        ├── ClaimLostException              another orchestrator has taken the pipeline
        └── AsyncStepException              a step's coroutine can't be run from within a running event loop

The names end in `Exception` because those that came first do, in code that others have written.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stretto.core.errors import InputError


class ProcessException(InputError):
    """Root of what goes wrong with processes."""


class PipelineNameNotDefinedException(ProcessException):
    """A pipeline class has no `name`."""


class StepNameNotDefinedException(ProcessException):
    """A step class has no `name`."""


class StepsNotDefinedException(ProcessException):
    """A pipeline class has no `steps`, or something that is no step class among them."""


class NameTakenException(ProcessException):
    """Another class is registered under the name."""


class PipelineNotRegisteredException(ProcessException):
    """No pipeline class is registered under the name."""


class StepNotRegisteredException(ProcessException):
    """No step class is registered under the name."""


class PipelineNotDefinedException(ProcessException):
    """A step was made without the uuid of its pipeline."""


class PipelineNotFoundException(ProcessException):
    """The repository has no pipeline of that uuid and class."""


class StepNotFoundException(ProcessException):
    """The repository has no step of that uuid."""


class StepsMissingException(ProcessException):
    """A pipeline was started, and the repository lacks steps of it."""


class MetadataException(ProcessException):
    """Metadata holds what JSON can't; nothing was written."""


class PassIncompleteException(ProcessException):
    """Some pipelines could not be carried on; all others were. `errors` has the cause by uuid."""

    def __init__(self, errors: Mapping[str, Exception]) -> None:
        self.errors = MappingProxyType(dict(errors))
        causes = "; ".join(f"{uuid}: {error}" for uuid, error in self.errors.items())
        super().__init__(f"{len(self.errors)} pipeline(s) could not be carried on: {causes}")


class PassException(ProcessException):
    """A pipeline could not be carried on now, through no fault of its steps; the next pass tries again."""


class RepositoryNotDefinedException(PassException):
    """No repository class was given."""


class RepositoryIncompleteException(PassException):
    """The repository lacks methods."""


class RepositoryFailedException(PassException):
    """A method of the repository, or its constructor, raised an exception, which is the `__cause__`."""


class RepositoryAnswerException(PassException):
    """A method of the repository returned something of another shape than it should."""


class ClaimLostException(PassException):
    """The claim ran out, and another orchestrator may have taken the pipeline; nothing more was written."""


class AsyncStepException(PassException):
    """A coroutine of a step can't be run, because this thread runs an event loop already."""
