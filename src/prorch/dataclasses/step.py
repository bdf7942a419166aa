"""Lives in `stretto.process.data`."""

from stretto.process.data import StepData as StepData
