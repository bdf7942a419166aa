"""Lives in `stretto.process.pipeline` and `stretto.process.step`."""

from stretto.process.pipeline import get_pipeline_class as get_pipeline_class
from stretto.process.step import get_step_class as get_step_class
