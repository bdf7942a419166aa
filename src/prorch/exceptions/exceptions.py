"""Lives in `stretto.process.exception`."""

from stretto.process.exception import PipelineNameNotDefinedException as PipelineNameNotDefinedException
from stretto.process.exception import PipelineNotDefinedException as PipelineNotDefinedException
from stretto.process.exception import RepositoryNotDefinedException as RepositoryNotDefinedException
from stretto.process.exception import StepNameNotDefinedException as StepNameNotDefinedException
from stretto.process.exception import StepsNotDefinedException as StepsNotDefinedException
