"""Lives in `stretto.process.data`."""

from stretto.process.data import PipelineData as PipelineData
