"""Lives in `stretto.process.step`."""

from stretto.process.step import Step as Step
