"""Lives in `stretto.process.data`, `.status`, `.pipeline` and `.step`."""

from stretto.process.data import Metadata as Metadata
from stretto.process.pipeline import PIPELINES as PIPELINES
from stretto.process.status import Status as Status
from stretto.process.step import STEPS as STEPS
