"""Lives in `stretto.process.data` and `stretto.process.orchestrator`."""

from stretto.process.data import SavedItem as SavedItem
from stretto.process.orchestrator import OrchestratorConfig as OrchestratorConfig
