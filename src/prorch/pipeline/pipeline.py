"""Lives in `stretto.process.pipeline`."""

from stretto.process.pipeline import Pipeline as Pipeline
