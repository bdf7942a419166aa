"""Lives in `stretto.process.record`."""

from stretto.process.record import Record as BaseOrchestrator

__all__ = ["BaseOrchestrator"]
