"""Is `stretto.process.active` itself, so that a name replaced here, as tests do, is replaced where it is used."""

import sys

from stretto.process import active
from stretto.process.active import get_active_pipelines as get_active_pipelines
from stretto.process.provider import PipelineProvider as PipelineProvider

sys.modules[__name__] = active
