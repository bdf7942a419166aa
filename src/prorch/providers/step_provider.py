"""Lives in `stretto.process.provider`."""

from stretto.process.provider import StepProvider as StepProvider
