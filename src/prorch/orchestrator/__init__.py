"""Lives in `stretto.process.orchestrator`."""

from stretto.process.orchestrator import Orchestrator as Orchestrator
