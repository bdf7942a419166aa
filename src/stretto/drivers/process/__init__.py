"""The driver `process`: each attempt is a shell script on this host, in a session of its own, that survives the orchestrator."""

from stretto.drivers.process.driver import ProcessDriver
from stretto.drivers.process.settings import ProcessSettings

__all__ = ["ProcessDriver", "ProcessSettings"]
