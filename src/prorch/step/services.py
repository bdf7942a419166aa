"""Lives in `stretto.process.step`."""

from stretto.process.step import get_step_instance as get_step_instance
from stretto.process.step import search_steps_by_pipeline_uuid as search_steps_by_pipeline_uuid
