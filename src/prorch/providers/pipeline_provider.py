"""Lives in `stretto.process.provider`."""

from stretto.process.provider import PipelineProvider as PipelineProvider
