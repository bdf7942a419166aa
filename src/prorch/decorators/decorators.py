"""Lives in `stretto.process.pipeline` and `stretto.process.step`."""

from stretto.process.pipeline import PIPELINES as PIPELINES
from stretto.process.pipeline import register_pipeline as register_pipeline
from stretto.process.step import STEPS as STEPS
from stretto.process.step import register_step as register_step
